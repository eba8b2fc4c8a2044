//! Published cases of other brokers and backends, each tried here; a name begins with the case's identifier.
//!
//! What a case needs and we do not offer (retained messages, QoS 2, sessions) is shown to be refused.

mod configuration;
mod exhaustion;
mod revocation;

use scenarios::broker::client::{Client, Connect, publish};
use scenarios::broker::pki::Identity as Certificate;
use scenarios::broker::rig::{Rig, device_id};
use wire::Service;
use wire::rule::{Action, Identity, verdict};

const NONCE: &str = "00112233445566778899aabbccddeeff";
const BOTH_VERSIONS: [fn(&str) -> Connect; 2] = [Connect::v4, Connect::v5];

fn hello(name: &str) -> String {
    format!("hf/1/{name}/up/hello")
}

/// Listener, certificate, client id, and who that is.
struct Someone {
    listener: String,
    certificate: Certificate,
    client_id: String,
    identity: Identity,
}

impl Someone {
    /// A device, an enrolment and a service.
    fn of_every_kind(rig: &Rig) -> [Someone; 3] {
        let device = rig.device(1);
        let someone = |listener: &String, certificate: Certificate, client_id: &str, identity| Someone {
            listener: listener.clone(),
            certificate,
            client_id: client_id.to_owned(),
            identity,
        };
        let (name, id) = (device.name.clone(), Identity::Device(device.name.parse().unwrap()));
        let enrolment = Identity::Claimant(NONCE.parse().unwrap());
        let ota = rig.service_ca.client("svc-ota");
        [
            someone(&rig.device, device, &name, id),
            someone(&rig.enroll, rig.claim(1), NONCE, enrolment),
            someone(&rig.service, ota, "one", Identity::Service(Service::Ota)),
        ]
    }

    async fn connect(&self, rig: &Rig, connect: Connect) -> Result<Client, u8> {
        Client::connect(&self.listener, &rig.server_ca, &self.certificate, connect).await
    }

    fn may(&self, action: Action, topic: &str) -> bool {
        verdict(self.identity, action, topic).allowed()
    }
}

/// Own and foreign ones of every kind of client, and what is no topic.
fn topics() -> Vec<String> {
    let mut topics: Vec<String> = ["$MQTT/x", "$SYS/x", "#", "+", "hf/1", ""].map(str::to_owned).into();
    for id in [&*device_id(1), &device_id(2), NONCE, "+"] {
        for end in ["up/hello", "up/enroll", "dn/hello", "dn/enroll", "dn/#"] {
            topics.push(format!("hf/1/{id}/{end}"));
        }
    }
    topics
}

/// NATS: what another protocol maps into the topics goes past the permissions.
#[tokio::test]
async fn cve_2026_33217_every_version_and_every_way_in_gets_the_verdict_of_one_rule() {
    let rig = Rig::start().await;
    for someone in Someone::of_every_kind(&rig) {
        for version in BOTH_VERSIONS {
            let connect = version(&someone.client_id);
            let level = connect.level;
            let mut subscriber = someone.connect(&rig, connect.clone()).await.unwrap();
            for topic in topics() {
                let granted = subscriber.subscribe(&[(&topic, 1)]).await[0] < 0x80;
                subscriber.unsubscribe(&topic).await;
                assert_eq!(granted, someone.may(Action::Subscribe, &topic), "{level} subscribes {topic}");
            }
            for topic in topics() {
                let mut publisher = someone.connect(&rig, connect.clone()).await.unwrap();
                publisher.send(&publish(level, 0x32, topic.as_bytes(), Some(1), b"x")).await;
                // MQTT 3.1.1 is closed, MQTT 5 told; what is no topic's name is malformed in both.
                let answer = publisher.read().await;
                let allowed = answer.is_some_and(|ack| ack.first == 0x40 && ack.body.get(2) != Some(&0x87));
                assert_eq!(allowed, someone.may(Action::Publish, &topic), "{level} publishes {topic}");
                let willed = someone.connect(&rig, connect.clone().will(&topic, "x")).await.is_ok();
                assert_eq!(willed, someone.may(Action::Will, &topic), "{level} leaves a will on {topic}");
            }
        }
    }
}

/// NATS advisory 2026-18: a queue subscription overrides a deny.
#[tokio::test]
async fn ghsa_jx8g_9g95_6322_a_shared_filter_is_never_granted_what_its_plain_filter_is_not() {
    let rig = Rig::start().await;
    for someone in Someone::of_every_kind(&rig) {
        for version in BOTH_VERSIONS {
            let mut client = someone.connect(&rig, version(&someone.client_id)).await.unwrap();
            for plain in [&*hello("+"), &hello(&device_id(2)), "hf/1/+/up/log", "hf/1/+/dn/hello", "#"] {
                let asked =
                    ["", "$share/ota-hello/", "$share/g/", "$queue/"].map(|way| format!("{way}{plain}"));
                let codes = client.subscribe(&asked.each_ref().map(|filter| (filter.as_str(), 1))).await;
                let granted: Vec<bool> = codes.iter().map(|code| *code < 0x80).collect();
                assert!(granted[0] || !granted[1], "{asked:?}: {codes:?}");
                assert!(!granted[2] && !granted[3], "{asked:?}: {codes:?}");
            }
        }
    }
    let (liar, other) = (rig.device(3), rig.device(2));
    let mut liar = rig.connect(&liar, Connect::v5(&liar.name)).await.unwrap();
    liar.subscribe(&[("$share/ota-hello/hf/1/+/up/hello", 1), ("$queue/hf/1/+/up/hello", 1)]).await;
    let mut ota = rig.service("svc-ota", "two", &["$share/ota-hello/hf/1/+/up/hello"]).await;
    let mut other_client = rig.connected(&other).await;
    for _ in 0..8 {
        assert_eq!(other_client.publish1(&hello(&other.name), "x").await, 0);
    }
    assert_eq!(ota.settled().await.len(), 8, "who may not be a member takes no share");
    assert!(liar.settled().await.is_empty());
}

/// mosquitto: `+` or `#` in a client id or user name fits every pattern.
#[tokio::test]
async fn cve_2017_7650_a_client_id_with_wildcards_reaches_nothing() {
    let rig = Rig::start().await;
    let [device, claim, ota] = Someone::of_every_kind(&rig);
    let deeper = format!("{}/#", device.client_id);
    for id in ["+", "#", "+/up", &deeper, "", "$SYS", &device_id(2), "svc-ota", NONCE] {
        assert_eq!(device.connect(&rig, Connect::v5(id)).await.err(), Some(0x85), "{id}");
        assert_eq!(device.connect(&rig, Connect::v4(id)).await.err(), Some(2), "{id}");
    }
    for id in ["+", "#", "a/b", "$SYS", "", &"x".repeat(65)] {
        assert_eq!(claim.connect(&rig, Connect::v5(id)).await.err(), Some(0x85), "{id}");
        assert_eq!(ota.connect(&rig, Connect::v5(id)).await.err(), Some(0x85), "{id}");
    }
    assert!(rig.list().await.is_empty());
    for version in BOTH_VERSIONS {
        for user in ["+", "#", "svc-ota", ""] {
            let connect = Connect { user: Some(user.into()), ..version(&device.client_id) };
            let mut named = device.connect(&rig, connect).await.unwrap();
            let codes = named.subscribe(&[("#", 1), ("hf/1/+/dn/hello", 1), (&hello("+"), 1)]).await;
            assert!(codes.iter().all(|code| *code >= 0x80), "a user name is nobody: {codes:?}");
        }
    }
}

/// EMQX: a client takes over the session of another user.
#[tokio::test]
async fn cve_2026_6564_a_client_id_is_taken_over_with_the_same_identity_only() {
    let rig = Rig::start().await;
    let (claim, other) = (rig.claim(1), rig.claim(2));
    let enroll = |who: Certificate| {
        let (address, ca) = (rig.enroll.clone(), rig.server_ca.clone());
        async move { Client::connect(&address, &ca, &who, Connect::v5(NONCE)).await }
    };
    let mut first = enroll(claim.clone()).await.unwrap();
    assert_eq!(enroll(other).await.err(), Some(0x87));
    assert!(first.ping().await.is_empty());
    let mut second = enroll(claim).await.unwrap();
    assert_eq!(first.closed().await, Some(0x8e));
    assert!(second.ping().await.is_empty());

    // The same name with a key the registry does not know, and another device.
    let (device, thief) = (rig.device(1), rig.device(2));
    let mut victim = rig.connected(&device).await;
    let forged = rig.tenant.client(&device.name);
    assert_eq!(rig.connect(&forged, Connect::v5(&device.name)).await.err(), Some(0x87));
    assert_eq!(rig.connect(&thief, Connect::v5(&device.name)).await.err(), Some(0x85));
    assert!(victim.ping().await.is_empty());

    // Services have a room each.
    let mut ota = rig.service("svc-ota", "one", &[]).await;
    let mut logs = rig.service("svc-logs", "one", &[]).await;
    assert!(ota.ping().await.is_empty() && logs.ping().await.is_empty());
}

/// EMQX: a QoS 2 message is delivered again when the connection is lost between its steps.
#[tokio::test]
async fn cve_2026_8741_qos_2_is_not_delivered_once_nor_twice_wherever_it_is_cut() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello"]).await;
    let device = rig.device(1);
    let topic = hello(&device.name);
    let steps = [
        publish(5, 0x34, topic.as_bytes(), Some(7), b"unlock"),
        publish(5, 0x3c, topic.as_bytes(), Some(7), b"unlock"),
        vec![0x62, 2, 0, 7],
    ];
    for cut in 0..=steps.len() {
        for step in &steps[..cut] {
            let durable = Connect { clean: false, ..Connect::v5(&device.name) };
            let mut client = rig.connect(&device, durable).await.unwrap();
            client.send(step).await;
            assert!(matches!(client.closed().await, Some(0x9b | 0x82)));
        }
    }
    assert!(ota.settled().await.is_empty());
}

/// mosquitto 2.0.16: wills on control topics.
#[tokio::test]
async fn mosquitto_2_0_16_a_will_outside_its_own_subtree_is_refused_at_connect() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    for topic in [
        hello(&device_id(2)),
        format!("hf/1/{}/dn/hello", device.name),
        "$CONTROL/dynamic-security/v1".into(),
        "\u{e9}".into(),
        hello("+"),
    ] {
        let connect = Connect::v5(&device.name).will(&topic, "x");
        assert_eq!(rig.connect(&device, connect).await.err(), Some(0x87), "{topic}");
        let connect = Connect::v4(&device.name).will(&topic, "x");
        assert_eq!(rig.connect(&device, connect).await.err(), Some(5), "{topic}");
    }
    let retained =
        Connect { will: Some((hello(&device.name), "x".into(), 0, true)), ..Connect::v5(&device.name) };
    assert_eq!(rig.connect(&device, retained).await.err(), Some(0x9a));
}
