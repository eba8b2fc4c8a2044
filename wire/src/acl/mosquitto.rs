//! mosquitto 2.0: one `acl_file` a listener, and the `mosquitto.conf` that gives each listener its own.
//!
//! One file for all listeners would let a device write `up/enroll` under its own id. mosquitto grants every
//! subscription and asks the file again for each message it delivers, `$share` included, by the message's topic.

use crate::limits::PACKET_BYTES_MAX;
use crate::rule::{End, Row, TABLE};
use crate::service::Service;
use crate::topic::Direction;
use alloc::format;
use alloc::string::String;

/// The devices' listener: `%u` is the certificate's common name.
pub fn device() -> String {
    patterns(
        "# Devices. %u is the common name of the certificate (use_identity_as_username).\n",
        End::Device,
        "%u",
    )
}

/// The enrolment listener: `%c` is the client id, 32 random hex digits.
pub fn enroll() -> String {
    patterns("# Enrolment. %c is the client id: 32 random hex digits.\n", End::Claimant, "%c")
}

/// The services' listener: a block of each service, by the common name of its certificate.
pub fn service() -> String {
    let mut text = String::from(
        "# Services. The user is the common name of the certificate; shared groups need no line.\n",
    );
    for service in Service::ALL {
        text += &format!("\nuser {}\n", service.common_name());
        for row in TABLE.iter().filter(|row| row.up.contains(&service)) {
            text += &format!("topic read {}\n", super::topic(row, Direction::Up, "+"));
        }
        for row in TABLE.iter().filter(|row| row.down.contains(&service)) {
            text += &format!("topic write {}\n", super::topic(row, Direction::Down, "+"));
        }
    }
    text
}

fn patterns(header: &str, end: End, id: &str) -> String {
    let lines = |row: &Row| {
        let up = format!("pattern write {}\n", super::topic(row, Direction::Up, id));
        let down = format!("pattern read {}\n", super::topic(row, Direction::Down, id));
        if row.down.is_empty() { up } else { up + &down }
    };
    let rows = TABLE.iter().filter(|row| row.end == end).map(lines);
    core::iter::once(String::from(header)).chain(rows).collect()
}

/// Where mosquitto listens.
#[derive(Debug, Clone, Copy)]
pub struct Listeners<'a> {
    /// An address of this machine; all of them when there is none.
    pub bind: Option<&'a str>,
    /// Port for devices.
    pub device: u16,
    /// Port for boards that enrol.
    pub enroll: u16,
    /// Port for the services.
    pub service: u16,
}

impl Default for Listeners<'_> {
    fn default() -> Self {
        Self { bind: None, device: 8883, enroll: 8884, service: 8885 }
    }
}

/// `mosquitto.conf`: three listeners under mutual TLS, with certificates and rule files in `dir`.
pub fn conf(dir: &str, listeners: &Listeners<'_>) -> String {
    let mut text = format!(
        "\
# mosquitto 2.0 as the broker of a Holdfast installation (docs/brokers.md).
# device-roots.pem and enroll-roots.pem are what `svc-registry trust` writes; service-ca.pem is SERVICE_CA.
per_listener_settings true
persistence false
persistent_client_expiration 1h
retain_available false
max_packet_size {PACKET_BYTES_MAX}
max_keepalive 300
# Of each client, services included; mosquitto has no bounds by listener.
max_inflight_messages 1024
max_queued_messages 8192
max_queued_bytes 4194304
sys_interval 0
set_tcp_nodelay true
"
    );
    let at = |port: u16| match listeners.bind {
        Some(address) => format!("{port} {address}"),
        None => format!("{port}"),
    };
    let by_name = "use_username_as_clientid true\n";
    text += &listener(dir, &at(listeners.device), "device", "device-roots.pem", by_name);
    text += &listener(dir, &at(listeners.enroll), "enroll", "enroll-roots.pem", "");
    text += &listener(dir, &at(listeners.service), "service", "service-ca.pem", "");
    text
}

fn listener(dir: &str, at: &str, name: &str, roots: &str, more: &str) -> String {
    format!(
        "\n\
listener {at}
cafile {dir}/{roots}
certfile {dir}/server.pem
keyfile {dir}/server.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {dir}/{name}.acl
max_topic_alias 0
{more}max_qos 1
"
    )
}
