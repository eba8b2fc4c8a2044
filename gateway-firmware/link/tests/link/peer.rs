//! The host at the other end: DHCP and DNS servers, and TLS servers that send back what they hear.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint,
};

use crate::cable::Plug;

pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PORT: u16 = 8883;
const DHCP_PORT: u16 = 67;
const DNS_PORT: u16 = 53;
const SERVERS: usize = 4;

/// What the servers say.
#[derive(Debug, Clone)]
pub(crate) struct Says {
    pub(crate) address: Ipv4Addr,
    pub(crate) lease_s: u32,
    pub(crate) dhcp: bool,
    /// `None`: DNS says nothing at all.
    pub(crate) dns: Option<Vec<Ipv4Addr>>,
    /// DNS servers that DHCP tells of.
    pub(crate) dns_servers: Vec<Ipv4Addr>,
    /// Instead of an answer's records: what comes after the question.
    pub(crate) dns_bytes: Option<&'static [u8]>,
    /// Behind the option that says what kind of DHCP message it is, instead of the other options.
    pub(crate) dhcp_bytes: Option<&'static [u8]>,
}

impl Default for Says {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(10, 0, 0, 9),
            lease_s: 3600,
            dhcp: true,
            dns: Some(vec![PEER]),
            dns_servers: vec![PEER],
            dns_bytes: None,
            dhcp_bytes: None,
        }
    }
}

struct Tls {
    socket: SocketHandle,
    connection: Option<ServerConnection>,
    /// Heard, and not yet said back.
    echo: Vec<u8>,
}

pub(crate) struct Peer {
    plug: Plug,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    dns: SocketHandle,
    servers: Vec<Tls>,
    config: Arc<ServerConfig>,
    pub(crate) says: Says,
    /// DHCP requests answered.
    pub(crate) leases: usize,
}

impl Peer {
    pub(crate) fn new(mut plug: Plug, config: Arc<ServerConfig>) -> Self {
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut interface = Interface::new(Config::new(mac), &mut plug, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(PEER), 24)).unwrap();
        });
        let mut sockets = SocketSet::new(Vec::from_iter((0..SERVERS + 2).map(|_| Default::default())).leak());
        let (dhcp, dns) = (datagrams(&mut sockets, DHCP_PORT), datagrams(&mut sockets, DNS_PORT));
        let servers = (0..SERVERS)
            .map(|_| {
                let buffer = || tcp::SocketBuffer::new(vec![0; 16 * 1024].leak());
                let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
                Tls { socket, connection: None, echo: Vec::new() }
            })
            .collect();
        Self { plug, interface, sockets, dhcp, dns, servers, config, says: Says::default(), leases: 0 }
    }

    pub(crate) fn poll(&mut self, now_us: u64) {
        let now = Instant::from_micros(now_us as i64);
        self.interface.poll(now, &mut self.plug, &mut self.sockets);
        self.lease();
        self.resolve();
        for at in 0..self.servers.len() {
            self.serve(at);
        }
        self.interface.poll(now, &mut self.plug, &mut self.sockets);
    }

    pub(crate) fn deadline_us(&mut self, now_us: u64) -> Option<u64> {
        let at = self.interface.poll_at(Instant::from_micros(now_us as i64), &self.sockets)?;
        Some(at.total_micros() as u64)
    }

    /// Drops all connections.
    pub(crate) fn reset(&mut self) {
        for server in &mut self.servers {
            self.sockets.get_mut::<tcp::Socket<'_>>(server.socket).abort();
        }
    }

    fn lease(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.dhcp);
        while let Ok((bytes, _)) = socket.recv() {
            let packet = DhcpPacket::new_unchecked(bytes);
            let Ok(asked) = DhcpRepr::parse(&packet) else { continue };
            if !self.says.dhcp {
                continue;
            }
            let wanted = asked.requested_ip.unwrap_or(asked.client_ip);
            let message_type = match asked.message_type {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                _ if wanted != self.says.address => DhcpMessageType::Nak,
                _ => DhcpMessageType::Ack,
            };
            self.leases += usize::from(message_type == DhcpMessageType::Ack);
            let servers = self.says.dns_servers.iter().copied().collect();
            let answer = DhcpRepr {
                message_type,
                transaction_id: asked.transaction_id,
                client_hardware_address: asked.client_hardware_address,
                secs: 0,
                client_ip: Ipv4Addr::UNSPECIFIED,
                your_ip: self.says.address,
                server_ip: PEER,
                router: Some(PEER),
                subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
                relay_agent_ip: Ipv4Addr::UNSPECIFIED,
                broadcast: true,
                requested_ip: None,
                client_identifier: None,
                server_identifier: Some(PEER),
                parameter_request_list: None,
                dns_servers: Some(servers),
                max_size: None,
                lease_duration: Some(self.says.lease_s),
                renew_duration: None,
                rebind_duration: None,
                additional_options: &[],
            };
            let mut bytes = vec![0; answer.buffer_len()];
            answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
            if let Some(options) = self.says.dhcp_bytes {
                // 236 bytes of fields, the cookie, three of the message's kind.
                bytes.truncate(243);
                bytes.extend_from_slice(options);
            }
            let everyone = IpEndpoint::new(IpAddress::Ipv4(Ipv4Addr::BROADCAST), 68);
            socket.send_slice(&bytes, everyone).unwrap();
        }
    }

    fn resolve(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.dns);
        while let Ok((question, from)) = socket.recv() {
            let Some(addresses) = &self.says.dns else { continue };
            let mut answer = question.to_vec();
            if let Some(records) = self.says.dns_bytes {
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[6..8].copy_from_slice(&[0, 1]);
                answer.extend_from_slice(records);
                socket.send_slice(&answer, from.endpoint).unwrap();
                continue;
            }
            let code = if addresses.is_empty() { 3 } else { 0 };
            answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
            answer[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
            for address in addresses {
                // RFC 1035 §4.1.3: the name of the question, A, IN, a minute, four bytes.
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend_from_slice(&address.octets());
            }
            socket.send_slice(&answer, from.endpoint).unwrap();
        }
    }

    fn serve(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(server.socket);
        if !socket.is_open() {
            server.connection = None;
            server.echo.clear();
            socket.listen(PORT).unwrap();
        }
        if !socket.may_recv() && socket.state() != tcp::State::Listen && socket.may_send() {
            socket.close();
        }
        if !socket.may_send() {
            return;
        }
        let connection =
            server.connection.get_or_insert_with(|| ServerConnection::new(self.config.clone()).unwrap());
        while socket.can_recv() && connection.wants_read() {
            let taken = socket.recv(|bytes| {
                let count = connection.read_tls(&mut &bytes[..]).unwrap_or(0);
                (count, count)
            });
            let failed = connection.process_new_packets().is_err();
            if failed && !connection.wants_write() {
                socket.abort();
            }
            let mut heard = [0; 4096];
            while let Ok(count @ 1..) = connection.reader().read(&mut heard) {
                server.echo.extend_from_slice(&heard[..count]);
            }
            if failed || taken == Ok(0) {
                break;
            }
        }
        if !connection.is_handshaking() {
            let count = connection.writer().write(&server.echo).unwrap_or(0);
            server.echo.drain(..count);
        }
        while connection.wants_write() && socket.can_send() {
            let given = socket.send(|mut room| {
                let length = room.len();
                let mut bytes = Vec::new();
                let _ = connection.write_tls(&mut Few(&mut bytes, length));
                room.write_all(&bytes).unwrap();
                (bytes.len(), bytes.len())
            });
            if given == Ok(0) {
                break;
            }
        }
    }
}

/// Takes no more than so many bytes.
struct Few<'a>(&'a mut Vec<u8>, usize);

impl std::io::Write for Few<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.1 - self.0.len());
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn datagrams(sockets: &mut SocketSet<'static>, port: u16) -> SocketHandle {
    let buffer = || {
        udp::PacketBuffer::new(
            Vec::from_iter((0..16).map(|_| udp::PacketMetadata::EMPTY)).leak(),
            &mut vec![0; 8192].leak()[..],
        )
    };
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(port).unwrap();
    sockets.add(socket)
}
