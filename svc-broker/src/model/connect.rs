//! What a CONNECT is answered, before svc-registry is asked: client id, will, keepalive; and the codes of every no.

use std::time::Duration;

use wire::rule::{Action, Identity, Verdict, verdict};

use super::limits::Bounds;
use super::peer::Peer;

/// What a CONNECT asks for, whatever its version.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) keep_alive_s: u16,
    pub(crate) will: Option<WillAsk<'a>>,
    /// MQTT 5 extended authentication: not spoken here.
    pub(crate) authentication: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct WillAsk<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) identity: Identity,
    pub(crate) keep_alive_s: u16,
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    Version,
    ClientId,
    Authentication,
    WillTopic,
    WillRetained,
    WillQos,
    /// svc-registry said no.
    Registry,
    /// svc-registry said nothing.
    Unavailable,
    /// `connections_max`.
    Full,
    /// `authorizations_max`: too many ask at once, as after a restart.
    Busy,
    /// The connection with this client id did not end in time, or is another certificate's.
    InUse,
    /// Stopped while it was being decided.
    Stopped,
}

impl Refusal {
    /// CONNACK codes: (MQTT 5 §3.2.2.2, MQTT 3.1.1 §3.2.2.3).
    pub(crate) const fn codes(self) -> (u8, u8) {
        match self {
            Refusal::Version => (0x84, 1),
            Refusal::ClientId => (0x85, 2),
            Refusal::Authentication => (0x8c, 5),
            Refusal::WillTopic | Refusal::Registry => (0x87, 5),
            Refusal::WillRetained => (0x9a, 5),
            Refusal::WillQos => (0x9b, 5),
            Refusal::Unavailable => (0x88, 3),
            Refusal::Full | Refusal::Busy => (0x89, 3),
            Refusal::InUse | Refusal::Stopped => (0x87, 2),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Refusal::Version => "version",
            Refusal::ClientId => "client_id",
            Refusal::Authentication => "authentication_method",
            Refusal::WillTopic => "will_topic",
            Refusal::WillRetained => "will_retained",
            Refusal::WillQos => "will_qos",
            Refusal::Registry => "registry_refused",
            Refusal::Unavailable => "registry_unavailable",
            Refusal::Full => "connections_max",
            Refusal::Busy => "server_busy",
            Refusal::InUse => "client_id_in_use",
            Refusal::Stopped => "stopped",
        }
    }
}

pub(crate) fn decide(peer: &Peer, ask: &Ask<'_>, bounds: &Bounds) -> Result<Grant, Refusal> {
    let identity = peer.identity(ask.client_id).ok_or(Refusal::ClientId)?;
    if ask.authentication {
        return Err(Refusal::Authentication);
    }
    if let Some(will) = &ask.will {
        decide_will(identity, will)?;
    }
    Ok(Grant { identity, keep_alive_s: keep_alive(ask.keep_alive_s, bounds.keepalive_s_max) })
}

fn decide_will(identity: Identity, will: &WillAsk<'_>) -> Result<(), Refusal> {
    if will.retain {
        return Err(Refusal::WillRetained);
    }
    if will.qos > 1 {
        return Err(Refusal::WillQos);
    }
    let topic = std::str::from_utf8(will.topic).map_err(|_| Refusal::WillTopic)?;
    match verdict(identity, Action::Will, topic) {
        Verdict::Allow => Ok(()),
        Verdict::Deny(_) => Err(Refusal::WillTopic),
    }
}

/// Asked for none, or for more than we grant: the maximum.
fn keep_alive(asked: u16, max: usize) -> u16 {
    let max = u16::try_from(max).unwrap_or(u16::MAX);
    if asked == 0 || asked > max { max } else { asked }
}

/// How long a client may be silent (MQTT 5 §3.1.2.10: one and a half times the keepalive).
pub(crate) fn silence_max(keep_alive_s: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive_s) * 1_500)
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Digests, Listener};
    use super::*;

    /// As in production.
    fn decide(peer: &Peer, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        super::decide(peer, ask, &Bounds::default())
    }

    const DEVICE: &str = "dv00000000000000000000000000000001";

    fn peer(listener: Listener, name: &str) -> Peer {
        let digests = Digests { public_key: [0; 32], issuer_key: [0; 32], certificate: [0; 32] };
        Peer::new(listener, name, digests).unwrap()
    }

    fn ask(will: Option<WillAsk<'_>>) -> Ask<'_> {
        Ask { client_id: DEVICE, keep_alive_s: 60, will, authentication: false }
    }

    fn will(topic: &str) -> WillAsk<'_> {
        WillAsk { topic: topic.as_bytes(), qos: 1, retain: false }
    }

    #[test]
    fn a_will_is_ruled_like_a_publish_at_connect() {
        let device = peer(Listener::Device, DEVICE);
        let own = format!("hf/1/{DEVICE}/up/hello");
        assert!(decide(&device, &ask(Some(will(&own)))).is_ok());
        for foreign in ["hf/1/dv00000000000000000000000000000002/up/hello", "", "#", "é", "$SYS/x"] {
            assert_eq!(decide(&device, &ask(Some(will(foreign)))), Err(Refusal::WillTopic), "{foreign}");
        }
        let down = format!("hf/1/{DEVICE}/dn/hello");
        assert_eq!(decide(&device, &ask(Some(will(&down)))), Err(Refusal::WillTopic));
        assert_eq!(
            decide(&device, &ask(Some(WillAsk { retain: true, ..will(&own) }))),
            Err(Refusal::WillRetained)
        );
        assert_eq!(decide(&device, &ask(Some(WillAsk { qos: 2, ..will(&own) }))), Err(Refusal::WillQos));
        let raw = WillAsk { topic: b"hf/1/\xff", qos: 0, retain: false };
        assert_eq!(decide(&device, &ask(Some(raw))), Err(Refusal::WillTopic));
    }

    #[test]
    fn a_client_id_that_is_not_the_certificates_is_refused() {
        let other = peer(Listener::Device, "dv00000000000000000000000000000002");
        assert_eq!(decide(&other, &ask(None)), Err(Refusal::ClientId));
    }

    #[test]
    fn keepalive_is_granted_up_to_its_maximum_and_never_switched_off() {
        let device = peer(Listener::Device, DEVICE);
        let granted =
            |keep_alive_s| decide(&device, &Ask { keep_alive_s, ..ask(None) }).unwrap().keep_alive_s;
        assert_eq!([0, 1, 300, 301, u16::MAX].map(granted), [300, 1, 300, 300, 300]);
        assert_eq!(silence_max(2), Duration::from_secs(3));
    }

    #[test]
    fn every_refusal_has_codes_both_versions_know() {
        use Refusal::*;
        let all = [
            Version,
            ClientId,
            Authentication,
            WillTopic,
            WillRetained,
            WillQos,
            Registry,
            Unavailable,
            Full,
            Busy,
            InUse,
            Stopped,
        ];
        for refusal in all {
            let (v5, v4) = refusal.codes();
            assert!(v5 >= 0x80 && (1..=5).contains(&v4), "{refusal:?}");
        }
    }
}
