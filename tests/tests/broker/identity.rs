//! Who gets in, and as whom.

use scenarios::broker::client::{self, Client, Connect};
use scenarios::broker::pki::Authority;
use scenarios::broker::rig::{Rig, device_id};

const NONCE: &str = "00112233445566778899aabbccddeeff";
const OTHER_NONCE: &str = "ffeeddccbbaa99887766554433221100";

#[tokio::test]
async fn a_connack_is_the_first_packet_and_tells_the_truth() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let client = rig.connect(&device, Connect::v5(&device.name)).await.unwrap();
    for property in [
        &[0x24, 1][..],         // maximum QoS 1
        &[0x25, 0],             // nothing is retained
        &[0x22, 0, 0],          // no topic alias
        &[0x27, 0, 0, 0x80, 0], // 32 KiB packets
        &[0x29, 0],             // no subscription identifiers
        &[0x2a, 0],             // no shared subscriptions for devices
        &[0x13, 0, 60],         // the keepalive that holds
        &[0x11, 0, 0, 0, 0],    // the session ends with the connection
    ] {
        assert!(client.welcome.windows(property.len()).any(|window| window == property), "{property:x?}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused() {
    let rig = Rig::start().await;
    let evil = Authority::root("Holdfast device root").intermediate("Device CA").client(&device_id(1));
    rig.registry.admit(&evil);
    assert_eq!(rig.connect(&evil, Connect::v5(&evil.name)).await.err(), Some(0xff));
    let nobody = client::tls(&rig.device, &rig.server_ca, None).await;
    if let Ok(mut stream) = nobody {
        // TLS 1.3: the client learns only by reading that it had to show a certificate.
        assert_eq!(client::read_packet(&mut stream).await, None);
    }
    assert!(rig.metric("holdfast_broker_handshakes_total", "untrusted").await >= 1.0);
    assert!(rig.metric("holdfast_broker_handshakes_total", "no_certificate").await >= 1.0);
}

#[tokio::test]
async fn the_watchdogs_own_name_is_no_devices() {
    let rig = Rig::start().await;
    let nobody = rig.device(0);
    assert_eq!(rig.connect(&nobody, Connect::v5(&nobody.name)).await.err(), Some(0xff));
    assert_eq!(rig.connect(&nobody, Connect::v4(&nobody.name)).await.err(), Some(0xff));
}

#[tokio::test]
async fn a_device_leaf_cannot_act_as_a_ca() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let issued = device.issue_as_ca(&device_id(2));
    rig.registry.admit(&issued);
    assert_eq!(rig.connect(&issued, Connect::v5(&issued.name)).await.err(), Some(0xff));
}

#[tokio::test]
async fn each_listener_refuses_the_certificates_of_the_others() {
    let rig = Rig::start().await;
    let (device, claim, service) = (rig.device(1), rig.claim(1), rig.service_ca.client("svc-ota"));
    let server = rig.server_ca.server("svc-broker");
    for (address, who, id) in [
        (&rig.service, &device, device.name.as_str()),
        (&rig.service, &claim, NONCE),
        (&rig.enroll, &device, NONCE),
        (&rig.enroll, &service, NONCE),
        (&rig.device, &service, "svc-ota"),
        (&rig.device, &claim, NONCE),
        (&rig.device, &server, "svc-broker"),
    ] {
        let refused = Client::connect(address, &rig.server_ca, who, Connect::v5(id)).await;
        assert_eq!(refused.err(), Some(0xff), "{} at {address}", who.name);
    }
    // The service CA's own, but no MQTT service.
    let broker = rig.service_ca.client("svc-broker");
    let refused = Client::connect(&rig.service, &rig.server_ca, &broker, Connect::v5("x")).await;
    assert_eq!(refused.err(), Some(0xff));
}

#[tokio::test]
async fn two_tenants_cas_with_one_name_are_told_apart() {
    let rig = Rig::start().await;
    let theirs = rig.device_root.intermediate("Device CA");
    let victim = rig.device(1);
    let forged = theirs.client(&victim.name);
    assert_eq!(rig.connect(&forged, Connect::v5(&victim.name)).await.err(), Some(0x87));
    // The real tenant's CA sent along in front does not make it the issuer.
    let mut dressed = theirs.client(&victim.name);
    dressed.chain.insert(1, rig.tenant.der.clone());
    assert_eq!(rig.connect(&dressed, Connect::v5(&victim.name)).await.err(), Some(0x87));
    assert!(rig.connect(&victim, Connect::v5(&victim.name)).await.is_ok());
}

#[tokio::test]
async fn a_no_and_no_answer_of_the_registry_are_both_no() {
    let rig = Rig::start().await;
    let (known, stranger) = (rig.device(1), rig.tenant.client(&device_id(2)));
    assert_eq!(rig.connect(&stranger, Connect::v5(&stranger.name)).await.err(), Some(0x87));
    assert_eq!(rig.connect(&stranger, Connect::v4(&stranger.name)).await.err(), Some(5));
    rig.registry.go_away(true);
    assert_eq!(rig.connect(&known, Connect::v5(&known.name)).await.err(), Some(0x88));
    assert_eq!(rig.connect(&known, Connect::v4(&known.name)).await.err(), Some(3));
    rig.registry.go_away(false);
    rig.registry.hold(&known.name);
    assert_eq!(rig.connect(&known, Connect::v5(&known.name)).await.err(), Some(0x88), "silence is no answer");
    rig.registry.release();
    assert!(rig.connect(&known, Connect::v5(&known.name)).await.is_ok());
}

#[tokio::test]
async fn an_enrolment_hears_and_says_only_what_its_own_client_id_names() {
    let rig = Rig::start().await;
    let claim = rig.claim(1);
    let enroll = |id: &str| Client::connect(&rig.enroll, &rig.server_ca, &claim, Connect::v5(id));
    let mut one = enroll(NONCE).await.unwrap();
    let mut two = enroll(OTHER_NONCE).await.unwrap();
    let (own, foreign) = (format!("hf/1/{NONCE}/dn/enroll"), format!("hf/1/{OTHER_NONCE}/dn/enroll"));
    let asked =
        [(own.as_str(), 1), (foreign.as_str(), 1), ("hf/1/+/dn/enroll", 1), ("#", 0), ("hf/1/+/dn/#", 0)];
    assert_eq!(one.subscribe(&asked).await, [1, 0x87, 0x87, 0x87, 0x87]);
    assert_eq!(two.subscribe(&[(&foreign, 1)]).await, [1]);

    let mut registry = rig.service("svc-registry", "one", &["$share/registry-enroll/hf/1/+/up/enroll"]).await;
    assert_eq!(one.publish1(&format!("hf/1/{OTHER_NONCE}/up/enroll"), "spoof").await, 0x87);
    assert_eq!(one.publish1(&format!("hf/1/{}/up/hello", device_id(1)), "spoof").await, 0x87);
    assert_eq!(one.publish1(&format!("hf/1/{NONCE}/up/enroll"), "csr").await, 0);
    assert_eq!(registry.message().await, (format!("hf/1/{NONCE}/up/enroll"), b"csr".to_vec()));
    assert_eq!(registry.publish1(&own, "certificate").await, 0);
    assert_eq!(one.message().await, (own, b"certificate".to_vec()));
    assert!(two.ping().await.is_empty(), "the other board sees nothing");
    assert_eq!(enroll("not-a-nonce").await.err(), Some(0x85));
}

#[tokio::test]
async fn a_connect_that_asks_for_what_is_not_offered_is_refused_with_its_reason() {
    let rig = Rig::start().await;
    let device = rig.device(1);
    let connect = |connect| rig.connect(&device, connect);
    let authentication = Connect { properties: b"\x15\x00\x01x".to_vec(), ..Connect::v5(&device.name) };
    assert_eq!(connect(authentication).await.err(), Some(0x8c));
    assert_eq!(connect(Connect { level: 3, ..Connect::v4(&device.name) }).await.err(), Some(1));
    assert_eq!(connect(Connect { level: 6, ..Connect::v4(&device.name) }).await.err(), Some(1));
    let zero_window = Connect { properties: b"\x21\x00\x00".to_vec(), ..Connect::v5(&device.name) };
    assert_eq!(connect(zero_window).await.err(), Some(0xff));
}

#[tokio::test]
async fn the_control_interface_is_for_services_only() {
    let rig = Rig::start().await;
    assert_eq!(rig.disconnect_as_stranger(&device_id(1)).await, tonic::Code::Unauthenticated);
    let device = rig.device(1);
    let _client = rig.connected(&device).await;
    assert_eq!(rig.list().await, [device.name]);
}
