//! `kit::broker` before a real mosquitto: what it has is enough to end a device's connection.

use std::path::Path;

use kit::broker::{BrokerControl, Ended};
use kit::config::TlsFiles;
use kit::tls::Tls;
use scenarios::broker::client::{Client, Connect};
use scenarios::broker::rig::{Rig, soon};
use wire::DeviceId;

use crate::mosquitto::Mosquitto;

/// svc-registry's own certificates, as files.
fn registry(rig: &Rig, dir: &Path) -> Tls {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (server, client) = (rig.server_ca.server("svc-registry"), rig.service_ca.client("svc-registry"));
    let files = TlsFiles {
        cert: write("server.pem", &server.pem),
        key: write("server.key", &server.key_pem),
        service_ca: write("service-ca.pem", &rig.service_ca.pem),
        service_cert: write("client.pem", &client.pem),
        service_key: write("client.key", &client.key_pem),
        server_ca: write("server-ca.pem", &rig.server_ca.pem),
    };
    Tls::load(&files).unwrap()
}

#[tokio::test]
async fn a_device_at_a_mosquitto_is_disconnected_and_no_other() {
    let rig = Rig::start().await;
    let mosquitto = Mosquitto::start(&rig).await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("mqtts://localhost:{}", mosquitto.service.rsplit_once(':').unwrap().1);
    let control = BrokerControl::new(&registry(&rig, dir.path()), &[url], None).unwrap();

    let (one, two) = (rig.device(1), rig.device(2));
    let join = async |level: u8, identity| {
        let connect = Connect { level, ..Connect::v5("any") };
        Client::connect(&mosquitto.device, &rig.server_ca, identity, connect).await.unwrap()
    };
    let mut neighbour = join(5, &two).await;
    for level in [4, 5] {
        let mut device = join(level, &one).await;
        assert_eq!(soon(control.disconnect(&one.name)).await.unwrap(), Ended::Uncounted);
        // The reason (MQTT 5: session taken over) is not always written before mosquitto closes.
        assert!(matches!(soon(device.closed()).await, None | Some(0x8e)));
    }
    neighbour.ping().await;
    // Nobody there: nothing to end, and it is no error.
    assert_eq!(soon(control.disconnect(&rig.device(3).name)).await.unwrap(), Ended::Uncounted);
    neighbour.ping().await;

    // What mosquitto does not know is said, not guessed.
    let claim = rig.claim(1);
    assert_eq!(soon(control.disconnect(&claim.name)).await.unwrap(), Ended::NotOnDemand);
    let error = soon(control.connected(&[DeviceId::new([1; 16])])).await.unwrap_err();
    assert!(kit::status::chain(&error).contains("does not tell who is connected"));
}
