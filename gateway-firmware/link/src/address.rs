//! Addresses as the core names them, `host:port`, and the names a board was provisioned with.
//!
//! A name of the static list wins over DNS: it is for networks that have none.

use core::net::Ipv4Addr;

use gateway_core::net::link::End;

/// A name that DNS is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    pub name: &'a str,
    pub address: Ipv4Addr,
}

/// Host and port of an address; both are needed.
pub(crate) fn split(address: &str) -> Result<(&str, u16), End> {
    let (host, port) = address.rsplit_once(':').ok_or(End::Unreachable)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(End::Unreachable)?;
    if host.is_empty() { Err(End::Unreachable) } else { Ok((host, port)) }
}

/// The address of a host for which nobody needs to be asked.
pub(crate) fn known(host: &str, hosts: &[Host<'_>]) -> Option<Ipv4Addr> {
    let listed = || hosts.iter().find(|listed| listed.name.eq_ignore_ascii_case(host));
    host.parse().ok().or_else(|| listed().map(|listed| listed.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [Host<'static>; 1] = [Host { name: "Broker.test", address: Ipv4Addr::new(10, 0, 2, 2) }];

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split("broker.test:8883"), Ok(("broker.test", 8883)));
        for bad in ["", ":", "broker.test", "broker.test:", ":8883", "a:0", "a:65536", "a:x"] {
            assert_eq!(split(bad), Err(End::Unreachable), "{bad}");
        }
    }

    #[test]
    fn literals_and_listed_names_need_no_dns() {
        assert_eq!(known("192.0.2.7", &HOSTS), Some(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(known("broker.TEST", &HOSTS), Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(known("other.test", &HOSTS), None);
        assert_eq!(known("[::1]", &HOSTS), None);
    }
}
