//! Rights that outlive their revocation.

use scenarios::broker::client::{Connect, publish};
use scenarios::broker::rig::{Rig, soon};
use tokio::io::AsyncWriteExt;

use super::{BOTH_VERSIONS, hello};

/// mosquitto: what a revoked client had retained is delivered after its revocation.
#[tokio::test]
async fn cve_2018_12546_nothing_of_a_revoked_device_is_delivered_once_disconnect_has_returned() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello"]).await;
    let device = rig.device(1);
    let topic = hello(&device.name);
    let client = rig.connect(&device, Connect::v5(&device.name).will(&topic, "will")).await.unwrap();
    let (_from, mut to) = tokio::io::split(client.stream);
    let said = topic.clone();
    let flood = tokio::spawn(async move {
        let packet = publish(5, 0x30, said.as_bytes(), None, b"x");
        while to.write_all(&packet).await.is_ok() {}
    });
    assert_eq!(ota.message().await.1, b"x");
    rig.registry.revoke(&device.name);
    assert_eq!(rig.disconnect(&device.name).await, 1);
    ota.settled().await;
    soon(flood).await.unwrap();
    assert!(ota.settled().await.is_empty(), "neither a message that was on its way nor the will");

    let mut late = rig.service("svc-ota", "two", &["hf/1/+/up/hello"]).await;
    assert!(late.settled().await.is_empty(), "nothing was kept");
    let other = rig.device(2);
    let mut retains = rig.connect(&other, Connect::v5(&other.name)).await.unwrap();
    retains.send(&publish(5, 0x31, hello(&other.name).as_bytes(), None, b"x")).await;
    assert_eq!(retains.closed().await, Some(0x9a));
    assert!(ota.settled().await.is_empty());
}

/// mosquitto: a durable client's subscription outlives the right to it.
#[tokio::test]
async fn cve_2021_34434_no_subscription_outlives_its_connection() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &[]).await;
    let device = rig.device(1);
    let (filter, topic) = (format!("hf/1/{}/dn/#", device.name), format!("hf/1/{}/dn/hello", device.name));
    for version in BOTH_VERSIONS {
        // A session that is asked to last for ever.
        let mut durable = Connect { clean: false, ..version(&device.name) };
        if durable.level == 5 {
            durable.properties = b"\x11\xff\xff\xff\xff".to_vec();
        }
        let mut client = rig.connect(&device, durable.clone()).await.unwrap();
        assert_eq!(client.subscribe(&[(&filter, 1)]).await, [1]);
        assert_eq!(ota.publish1(&topic, "before").await, 0);
        rig.registry.revoke(&device.name);
        assert_eq!(rig.disconnect(&device.name).await, 1);
        assert_eq!(ota.publish1(&topic, "while revoked").await, 0x10);
        assert!(rig.connect(&device, durable.clone()).await.is_err());
        rig.registry.admit(&device);
        let mut client = rig.connect(&device, durable.clone()).await.unwrap();
        assert_eq!(ota.publish1(&topic, "after").await, 0x10, "nobody is subscribed");
        assert!(client.settled().await.is_empty(), "nor is what was not acknowledged sent again");
        // Nor does a takeover inherit.
        assert_eq!(client.subscribe(&[(&filter, 1)]).await, [1]);
        let mut newer = rig.connect(&device, durable).await.unwrap();
        assert_eq!(ota.publish1(&topic, "after").await, 0x10);
        assert!(newer.settled().await.is_empty());
    }
}

/// Burglars' IoT Paradise: who was a user once leaves a will, a message or a session that acts later.
#[tokio::test]
async fn burglars_iot_paradise_no_will_waits_until_its_author_is_revoked() {
    let rig = Rig::start().await;
    let mut ota = rig.service("svc-ota", "one", &["hf/1/+/up/hello"]).await;
    let device = rig.device(1);
    // An hour of delay, in a session that is asked to last for ever.
    let connect = || Connect {
        clean: false,
        properties: b"\x11\xff\xff\xff\xff".to_vec(),
        will_properties: vec![5, 0x18, 0, 0, 0x0e, 0x10],
        ..Connect::v5(&device.name).will(&hello(&device.name), "will")
    };
    drop(rig.connect(&device, connect()).await.unwrap());
    assert_eq!(
        ota.message().await.1,
        b"will",
        "it is published at the end of the connection: nothing is put off"
    );
    let mut revoked = rig.connect(&device, connect()).await.unwrap();
    rig.registry.revoke(&device.name);
    assert_eq!(rig.disconnect(&device.name).await, 1);
    assert_eq!(revoked.closed().await, Some(0x98));
    assert!(rig.connect(&device, connect()).await.is_err());
    assert!(ota.settled().await.is_empty(), "neither then nor for the connection that was refused");
}
