//! Every bound of the broker, by name.
//!
//! Holds: nothing in this service grows past what these constants (times `connections_max`) allow, whoever connects
//! and whatever they send. A bound that is reached is counted under the reason named in docs/brokers.md.

use std::time::Duration;

/// Connections on all listeners together, past the TLS handshake, unless configured.
pub(crate) const CONNECTIONS_MAX: usize = 20_000;
/// Of them, connections on the enrolment listener: whoever has one claim must not keep out devices and services.
pub(crate) const ENROLLEES_MAX: usize = 4_096;
/// Of them, connections of one device's certificate: the one it has, and newcomers that wait for its end.
pub(crate) const DEVICE_CONNECTIONS_MAX: usize = 8;
/// TLS handshakes under way a listener; one more ends the oldest, so that silent sockets cost nobody else.
pub(crate) const HANDSHAKES_MAX: usize = 1_024;
/// From accept to the end of the TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of the TLS handshake to a whole CONNECT.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a CONNECT, will included.
pub(crate) const CONNECT_BYTES_MAX: usize = 8 * 1024;
/// svc-registry's answer to "may it connect?"; without one the answer is no.
pub(crate) const AUTHORIZE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that was told to end is gone after this, flushed or not.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A newcomer waits this long for the connection it replaces; longer than any close.
pub(crate) const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that takes no byte for this long is gone.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest keepalive granted, seconds; also what a client that asked for none is told.
pub(crate) const KEEPALIVE_S_MAX: u16 = 300;

/// Refused publishes and subscriptions before a connection is closed.
pub(crate) const DENIALS_MAX: u32 = 64;
/// Encoded acknowledgements waiting to be written; the broker reads no further from a peer that reads none.
pub(crate) const REPLY_BYTES_MAX: usize = 16 * 1024;
/// PUBLISHes one client may have unacknowledged here (they are acknowledged as they are read).
pub(crate) const RECEIVE_MAX: u16 = 256;
/// Bytes given to one write.
pub(crate) const BATCH_BYTES_MAX: usize = 128 * 1024;
/// Roots of one listener svc-registry may name.
pub(crate) const ROOTS_MAX: usize = 64;
/// Certificates a client may present: leaf, intermediate and some slack for a changing root.
pub(crate) const CHAIN_MAX: usize = 4;

/// What one connection may hold, by kind of listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) packet_bytes_max: usize,
    pub(crate) subscriptions_max: usize,
    /// QoS 1 messages sent and not acknowledged.
    pub(crate) inflight_max: usize,
    /// Messages and bytes waiting to be written.
    pub(crate) mailbox_messages_max: usize,
    pub(crate) mailbox_bytes_max: usize,
    /// Room for one read of plaintext; a larger frame gets room of its own.
    pub(crate) read_bytes: usize,
    /// Read from the socket ahead of rustls, which takes 4 KiB at a time: fewer system calls for a stream.
    pub(crate) read_ahead_bytes: usize,
}

/// Twice the layer window (128 KiB), so that credit is never lost to the mailbox.
pub(crate) const DEVICE: Limits = Limits {
    packet_bytes_max: wire::limits::PACKET_BYTES_MAX,
    subscriptions_max: 16,
    inflight_max: 16,
    mailbox_messages_max: 256,
    mailbox_bytes_max: 256 * 1024,
    read_bytes: 1024,
    // None: a read larger than the buffer goes past it.
    read_ahead_bytes: 1,
};

pub(crate) const ENROLLEE: Limits = Limits {
    subscriptions_max: 4,
    inflight_max: 4,
    mailbox_messages_max: 16,
    mailbox_bytes_max: 64 * 1024,
    ..DEVICE
};

pub(crate) const SERVICE: Limits = Limits {
    packet_bytes_max: wire::limits::PACKET_BYTES_MAX,
    subscriptions_max: 64,
    inflight_max: 4_096,
    mailbox_messages_max: 65_536,
    mailbox_bytes_max: 32 * 1024 * 1024,
    read_bytes: 64 * 1024,
    read_ahead_bytes: 64 * 1024,
};

/// Descriptors kept for everything that is not a connection.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 256;
