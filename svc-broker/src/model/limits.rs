//! Every bound of the broker, by name.
//!
//! Holds: nothing in this service grows past what these constants (times `connections_max`) allow, whoever connects
//! and whatever they send. A bound that is reached is counted under the reason named in docs/brokers.md.

use std::time::Duration;

/// What an operator may change: `HOLDFAST_` and the name in [`Bounds::named`], at its default unless configured.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Connections on all listeners together, past the TLS handshake.
    pub(crate) connections_max: usize,
    /// Of them, connections on the enrolment listener: whoever has one claim must not keep out devices and services.
    pub(crate) enrollees_max: usize,
    /// Of them, connections of one device's certificate: the one it has, and newcomers that wait for its end.
    pub(crate) device_connections_max: usize,
    /// TLS handshakes under way a listener; one more ends the oldest, so that silent sockets cost nobody else.
    pub(crate) handshakes_max: usize,
    /// TLS handshakes begun a second, a listener; more wait in the kernel's queue.
    pub(crate) handshakes_per_s: usize,
    /// Bytes a peer may send before its handshake is done: a chain of certificates and some slack.
    pub(crate) handshake_bytes_max: usize,
    /// From accept to the end of the TLS handshake.
    pub(crate) handshake_ms_max: usize,
    /// Bytes of a CONNECT, will included.
    pub(crate) connect_bytes_max: usize,
    /// From the end of the TLS handshake to a whole CONNECT.
    pub(crate) connect_ms_max: usize,
    /// CONNECTs svc-registry is asked about at once; more are told that the server is busy, and come again.
    pub(crate) authorizations_max: usize,
    /// For svc-registry's answer to "may it connect?"; without one the answer is no.
    pub(crate) authorize_ms_max: usize,
    /// A peer that takes no byte for this long is gone.
    pub(crate) write_ms_max: usize,
    /// Longest keepalive granted, seconds; also what a client that asked for none is told.
    pub(crate) keepalive_s_max: usize,
    /// Refused publishes and subscriptions before a connection is closed.
    pub(crate) denials_max: usize,
    /// Without a message of its own that got through for so long, the process aborts.
    pub(crate) watchdog_ms_max: usize,
    pub(crate) device: Limits,
    pub(crate) enrollee: Limits,
    pub(crate) service: Limits,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            enrollees_max: 4_096,
            device_connections_max: 8,
            handshakes_max: 1_024,
            handshakes_per_s: 2_000,
            handshake_bytes_max: 32 * 1024,
            handshake_ms_max: 10_000,
            connect_bytes_max: 8 * 1024,
            connect_ms_max: 5_000,
            authorizations_max: 1_024,
            authorize_ms_max: 3_000,
            write_ms_max: 20_000,
            keepalive_s_max: 300,
            denials_max: 64,
            watchdog_ms_max: 10_000,
            device: DEVICE,
            enrollee: ENROLLEE,
            service: SERVICE,
        }
    }
}

impl Bounds {
    /// Each by its name, with the least that makes sense.
    pub(crate) fn named(&mut self) -> Vec<(String, usize, &mut usize)> {
        let own = [
            ("connections_max", 1, &mut self.connections_max),
            ("enrollees_max", 1, &mut self.enrollees_max),
            ("device_connections_max", 2, &mut self.device_connections_max),
            ("handshakes_max", 1, &mut self.handshakes_max),
            ("handshakes_per_s", 1, &mut self.handshakes_per_s),
            ("handshake_bytes_max", 4 * 1024, &mut self.handshake_bytes_max),
            ("handshake_ms_max", 1, &mut self.handshake_ms_max),
            ("connect_bytes_max", 64, &mut self.connect_bytes_max),
            ("connect_ms_max", 1, &mut self.connect_ms_max),
            ("authorizations_max", 1, &mut self.authorizations_max),
            ("authorize_ms_max", 1, &mut self.authorize_ms_max),
            ("write_ms_max", 1, &mut self.write_ms_max),
            ("keepalive_s_max", 1, &mut self.keepalive_s_max),
            ("denials_max", 1, &mut self.denials_max),
            // It sends one message a second.
            ("watchdog_ms_max", 3_000, &mut self.watchdog_ms_max),
        ];
        let mut named: Vec<_> =
            own.into_iter().map(|(name, least, bound)| (name.to_owned(), least, bound)).collect();
        for (whose, limits) in
            [("device", &mut self.device), ("enrollee", &mut self.enrollee), ("service", &mut self.service)]
        {
            named
                .extend(limits.named().map(|(name, least, bound)| (format!("{whose}_{name}"), least, bound)));
        }
        named
    }
}

/// A connection that was told to end is gone after this, flushed or not.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A newcomer waits this long for the connection it replaces; longer than any close.
pub(crate) const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Messages published a second, and their bytes; who sends more is read more slowly.
    pub(crate) publishes_per_s: usize,
    pub(crate) publish_bytes_per_s: usize,
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

impl Limits {
    fn named(&mut self) -> [(&'static str, usize, &mut usize); 7] {
        [
            // A smaller one would cut off layers.
            ("packet_bytes_max", wire::limits::PACKET_BYTES_MAX, &mut self.packet_bytes_max),
            ("publishes_per_s", 1, &mut self.publishes_per_s),
            ("publish_bytes_per_s", 1, &mut self.publish_bytes_per_s),
            ("subscriptions_max", 1, &mut self.subscriptions_max),
            ("inflight_max", 1, &mut self.inflight_max),
            ("mailbox_messages_max", 1, &mut self.mailbox_messages_max),
            ("mailbox_bytes_max", wire::limits::PACKET_BYTES_MAX, &mut self.mailbox_bytes_max),
        ]
    }
}

/// Twice the layer window (128 KiB), so that credit is never lost to the mailbox.
pub(crate) const DEVICE: Limits = Limits {
    packet_bytes_max: wire::limits::PACKET_BYTES_MAX,
    publishes_per_s: 1_000,
    publish_bytes_per_s: 2 * 1024 * 1024,
    subscriptions_max: 16,
    inflight_max: 16,
    mailbox_messages_max: 256,
    mailbox_bytes_max: 256 * 1024,
    read_bytes: 1024,
    // None: a read larger than the buffer goes past it.
    read_ahead_bytes: 1,
};

pub(crate) const ENROLLEE: Limits = Limits {
    publishes_per_s: 8,
    publish_bytes_per_s: 64 * 1024,
    subscriptions_max: 4,
    inflight_max: 4,
    mailbox_messages_max: 16,
    mailbox_bytes_max: 64 * 1024,
    ..DEVICE
};

pub(crate) const SERVICE: Limits = Limits {
    packet_bytes_max: wire::limits::PACKET_BYTES_MAX,
    // Services are ours: their credit is their bound.
    publishes_per_s: 10_000_000,
    publish_bytes_per_s: 1024 * 1024 * 1024,
    subscriptions_max: 64,
    inflight_max: 4_096,
    mailbox_messages_max: 65_536,
    mailbox_bytes_max: 32 * 1024 * 1024,
    read_bytes: 64 * 1024,
    read_ahead_bytes: 64 * 1024,
};

/// Descriptors kept for everything that is not a connection.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 256;
