//! The board's place in the network: Ethernet, an address by DHCP, names by DNS, and the one TCP socket.
//!
//! The address can change or go at any time; what was connected through it ends, which a connection sees by the
//! generation. Work in one call is bounded by [`FRAMES_PER_POLL_MAX`], memory by what was lent.

use core::fmt;
use core::net::Ipv4Addr;

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::Device;
use smoltcp::socket::dns::{DnsQuery, GetQueryResultError, QueryHandle};
use smoltcp::socket::{dhcpv4, dns, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{DnsQueryType, EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Cidr};

use crate::address::Host;
use crate::connection::{IDLE_PROBE_US, SILENCE_TIMEOUT_US};

/// Frames taken from the device in one call: a flood takes its share of time and no more.
pub const FRAMES_PER_POLL_MAX: usize = 16;
/// What the other side may send unasked. A controller drops what its FIFO cannot hold, and the LAN9118's is 10 KiB.
pub const TCP_RECEIVE_BYTES_MAX: usize = 8 * 1024;
/// No lease is believed for longer, whatever its server says: a wrong one heals by itself.
pub const LEASE_MAX_US: u64 = 3600 * 1_000_000;
/// A lease that is over so soon was none: the next is asked for after [`DHCP_PAUSE_US`], or a server whose leases last no time
/// would have us ask it without end.
pub const LEASE_MIN_US: u64 = 10 * 1_000_000;
/// See [`LEASE_MIN_US`].
pub const DHCP_PAUSE_US: u64 = 30 * 1_000_000;
/// Addresses of one name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 4;
/// RFC 6335 §6: dynamic ports.
const PORT_MIN: u16 = 49152;

pub(crate) type Addresses = heapless::Vec<Ipv4Addr, ADDRESSES_MAX>;

/// Places for the sockets and the one question to DNS.
#[derive(Debug, Default)]
pub struct Storage<'a> {
    sockets: [SocketStorage<'a>; 3],
    query: [Option<DnsQuery>; 1],
}

/// Memory of a network.
#[derive(Debug)]
pub struct Buffers<'a> {
    pub storage: &'a mut Storage<'a>,
    /// At most [`TCP_RECEIVE_BYTES_MAX`] of it are used.
    pub receive: &'a mut [u8],
    pub send: &'a mut [u8],
}

/// What DHCP gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lease {
    address: Ipv4Cidr,
    router: Option<Ipv4Addr>,
    servers: heapless::Vec<IpAddress, 3>,
}

/// The DHCP client.
#[derive(Debug, Clone, Copy)]
enum Dhcp {
    Asking {
        socket: SocketHandle,
        /// When there last was a lease.
        leased_us: Option<u64>,
    },
    Pausing {
        until_us: u64,
    },
}

/// The interface and its sockets.
pub struct Network<'a, D: Device> {
    device: D,
    interface: Interface,
    sockets: SocketSet<'a>,
    tcp: SocketHandle,
    dhcp: Dhcp,
    dns: SocketHandle,
    hosts: &'a [Host<'a>],
    lease: Option<Lease>,
    generation: u32,
    port: u16,
    hurried: bool,
}

impl<'a, D: Device> Network<'a, D> {
    /// `seed` makes sequence numbers and transaction ids; `hosts` are names that DNS is not asked for.
    pub fn new(
        mut device: D,
        mac: [u8; 6],
        seed: u64,
        hosts: &'a [Host<'a>],
        buffers: Buffers<'a>,
        now_us: u64,
    ) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut device, instant(now_us));
        let Buffers { storage, receive, send } = buffers;
        let mut sockets = SocketSet::new(&mut storage.sockets[..]);
        let tcp = sockets.add(socket(receive, send));
        let dhcp = Dhcp::begin(&mut sockets);
        let dns = sockets.add(dns::Socket::new(&[], &mut storage.query[..]));
        Self {
            device,
            interface,
            sockets,
            tcp,
            dhcp,
            dns,
            hosts,
            lease: None,
            generation: 0,
            port: 0,
            hurried: false,
        }
    }

    /// Takes frames that came and sends what is due.
    pub fn poll(&mut self, now_us: u64) {
        let now = instant(now_us);
        self.interface.poll_maintenance(now);
        self.hurried = true;
        for _ in 0..FRAMES_PER_POLL_MAX {
            let taken = self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
            if taken == PollIngressSingleResult::None {
                self.hurried = false;
                break;
            }
        }
        self.follow_lease(now_us);
        self.flush(now_us);
    }

    /// Sends what is due.
    pub(crate) fn flush(&mut self, now_us: u64) {
        self.interface.poll_egress(instant(now_us), &mut self.device, &mut self.sockets);
    }

    /// When `poll` wants to be called again at the latest, but for frames that come.
    pub fn deadline_us(&mut self, now_us: u64) -> Option<u64> {
        if self.hurried {
            return Some(now_us);
        }
        let at = self.interface.poll_at(instant(now_us), &self.sockets);
        let at_us = at.map(|at| u64::try_from(at.total_micros()).unwrap_or(0));
        let until_us = match self.dhcp {
            Dhcp::Pausing { until_us } => Some(until_us),
            Dhcp::Asking { .. } => None,
        };
        at_us.into_iter().chain(until_us).min().map(|at_us| at_us.max(now_us))
    }

    /// It has an address.
    pub fn is_up(&self) -> bool {
        self.lease.is_some()
    }

    /// The address it has.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.lease.as_ref().map(|lease| lease.address.address())
    }

    pub fn device(&self) -> &D {
        &self.device
    }

    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Changes whenever what was connected is not any more.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn hosts(&self) -> &'a [Host<'a>] {
        self.hosts
    }

    pub(crate) fn tcp(&mut self) -> &mut tcp::Socket<'a> {
        self.sockets.get_mut(self.tcp)
    }

    /// Opens the socket towards an address, whatever it did before.
    pub(crate) fn dial(&mut self, address: Ipv4Addr, port: u16) -> Option<()> {
        let local = self.next_port()?;
        let socket = self.sockets.get_mut::<tcp::Socket<'a>>(self.tcp);
        socket.abort();
        socket.connect(self.interface.context(), (IpAddress::Ipv4(address), port), local).ok()
    }

    /// Asks for the addresses of a name; `answer` then.
    pub(crate) fn ask(&mut self, name: &str) -> Option<Query> {
        let socket = self.sockets.get_mut::<dns::Socket<'a>>(self.dns);
        socket.start_query(self.interface.context(), name, DnsQueryType::A).ok().map(Query)
    }

    /// What became of a query: given back while there is no answer.
    pub(crate) fn answer(&mut self, query: Query) -> Result<Option<Addresses>, Query> {
        let socket = self.sockets.get_mut::<dns::Socket<'a>>(self.dns);
        match socket.get_query_result(query.0) {
            Err(GetQueryResultError::Pending) => Err(query),
            Err(GetQueryResultError::Failed) => Ok(None),
            Ok(found) => Ok(Some(found.iter().map(|IpAddress::Ipv4(address)| *address).collect())),
        }
    }

    /// Forgets a query.
    pub(crate) fn cancel(&mut self, query: Query) {
        self.sockets.get_mut::<dns::Socket<'a>>(self.dns).cancel_query(query.0);
    }

    /// A port that a stranger cannot guess, and not the one before: the server may remember that.
    fn next_port(&mut self) -> Option<u16> {
        let drawn = crate::random::word()?.to_le_bytes();
        let port = PORT_MIN | u16::from_le_bytes([drawn[0], drawn[1]]);
        self.port = if port == self.port { port ^ 1 } else { port };
        Some(self.port)
    }

    fn follow_lease(&mut self, now_us: u64) {
        let (socket, leased_us) = match self.dhcp {
            Dhcp::Asking { socket, leased_us } => (socket, leased_us),
            Dhcp::Pausing { until_us } => {
                if now_us >= until_us {
                    self.dhcp = Dhcp::begin(&mut self.sockets);
                }
                return;
            }
        };
        let lease = match self.sockets.get_mut::<dhcpv4::Socket<'a>>(socket).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(given)) => Some(Lease {
                address: given.address,
                router: given.router,
                servers: given.dns_servers.iter().map(|server| IpAddress::Ipv4(*server)).collect(),
            }),
        };
        if lease.is_some() {
            self.dhcp = Dhcp::Asking { socket, leased_us: Some(now_us) };
        } else if leased_us.is_some_and(|leased_us| now_us.saturating_sub(leased_us) < LEASE_MIN_US) {
            self.sockets.remove(socket);
            self.dhcp = Dhcp::Pausing { until_us: now_us.saturating_add(DHCP_PAUSE_US) };
        }
        if lease != self.lease {
            self.apply(lease);
        }
    }

    fn apply(&mut self, lease: Option<Lease>) {
        let address = lease.as_ref().map(|lease| lease.address);
        if address != self.lease.as_ref().map(|lease| lease.address) {
            self.generation = self.generation.wrapping_add(1);
            self.interface.update_ip_addrs(|addresses| {
                addresses.clear();
                // The list has room for one.
                let _ = addresses.extend_from_slice(address.map(IpCidr::Ipv4).as_slice());
            });
        }
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(router) = lease.as_ref().and_then(|lease| lease.router) {
            // The table has room for the one just removed.
            let _ = routes.add_default_ipv4_route(router);
        }
        let servers = lease.as_ref().map_or(&[][..], |lease| &lease.servers);
        self.sockets.get_mut::<dns::Socket<'a>>(self.dns).update_servers(servers);
        self.lease = lease;
    }
}

impl Dhcp {
    fn begin(sockets: &mut SocketSet<'_>) -> Self {
        let mut socket = dhcpv4::Socket::new();
        socket.set_max_lease_duration(Some(Duration::from_micros(LEASE_MAX_US)));
        Self::Asking { socket: sockets.add(socket), leased_us: None }
    }
}

/// A question to DNS; there is one at a time.
pub(crate) struct Query(QueryHandle);

impl fmt::Debug for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Query")
    }
}

fn socket<'a>(receive: &'a mut [u8], send: &'a mut [u8]) -> tcp::Socket<'a> {
    let bytes = receive.len().min(TCP_RECEIVE_BYTES_MAX);
    let mut socket =
        tcp::Socket::new(tcp::SocketBuffer::new(&mut receive[..bytes]), tcp::SocketBuffer::new(send));
    socket.set_nagle_enabled(false);
    socket.set_timeout(Some(Duration::from_micros(SILENCE_TIMEOUT_US)));
    socket.set_keep_alive(Some(Duration::from_micros(IDLE_PROBE_US)));
    socket
}

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

impl<D: Device> fmt::Debug for Network<'_, D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Network")
            .field("lease", &self.lease)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
