//! Configuration that is wrong or missing, and descriptors that run out: closed, never open.

use std::collections::BTreeSet;

use scenarios::broker::client::{Client, Connect};
use scenarios::broker::rig::{Rig, device_id, soon};
use tokio::net::TcpStream;

use super::{NONCE, Someone};

/// mosquitto: an empty list of rights allows everything.
#[tokio::test]
async fn cve_2018_12550_without_roots_every_connection_is_refused() {
    let rig = Rig::start().await;
    let garbage = b"no certificate".to_vec();
    for roots in [&[][..], &[garbage]] {
        rig.registry.name_roots(roots, roots);
        let bare = rig.another(&[]).await.unwrap();
        for someone in &Someone::of_every_kind(&bare)[..2] {
            let refused = someone.connect(&bare, Connect::v5(&someone.client_id)).await;
            assert_eq!(refused.err(), Some(0xff), "{:?}", someone.identity);
        }
        assert_eq!(bare.metric("holdfast_broker_handshakes_total", "no_roots").await, 2.0);
        rig.registry.name_roots(&[rig.device_root.der.to_vec()], &[rig.enroll_root.der.to_vec()]);
        let device = bare.device(1);
        let healed = async {
            while bare.connect(&device, Connect::v5(&device.name)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        soon(healed).await;
    }
}

/// The same of files and addresses.
#[tokio::test]
async fn cve_2018_12550_a_broken_configuration_starts_nothing() {
    let rig = Rig::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (empty, garbage) = (file("empty", ""), file("garbage", "-----BEGIN CERTIFICATE-----\nno\n"));
    let missing = dir.path().join("missing").display().to_string();
    for key in ["SERVICE_CA", "SERVER_CA", "TLS_CERT", "TLS_KEY", "SERVICE_CERT", "SERVICE_KEY"] {
        for value in [None, Some(""), Some(&*empty), Some(&*garbage), Some(&*missing)] {
            assert!(rig.another(&[(key, value)]).await.is_err(), "{key}={value:?}");
        }
    }
    let another_key = file("another.key", &rig.device(1).key_pem);
    assert!(rig.another(&[("TLS_KEY", Some(&another_key))]).await.is_err(), "a key of another certificate");
    for (key, value) in [
        ("DEVICE_LISTEN", None),
        ("DEVICE_LISTEN", Some("everywhere")),
        ("DEVICE_LISTEN", Some(&*rig.device)),
        ("ENROLL_LISTEN", None),
        ("SERVICE_LISTEN", None),
        ("GRPC_LISTEN", None),
        ("METRICS_LISTEN", None),
        ("REGISTRY_URL", None),
        ("REGISTRY_URL", Some("")),
        // Whoever is on the way could answer it.
        ("REGISTRY_URL", Some("http://localhost:1")),
        ("CONNECTIONS_MAX", Some("0")),
        ("CONNECTIONS_MAX", Some("-1")),
    ] {
        assert!(rig.another(&[(key, value)]).await.is_err(), "{key}={value:?}");
    }
}

/// mosquitto: a blank line of the password file lets in who gives no password.
#[tokio::test]
async fn cve_2018_12551_a_blank_name_is_nobodys() {
    let rig = Rig::start().await;
    for (listener, blank) in [
        (&rig.device, rig.tenant.client("")),
        (&rig.enroll, rig.enroll_root.client("")),
        (&rig.service, rig.service_ca.client("")),
        (&rig.device, rig.tenant.client(" ")),
        (&rig.service, rig.service_ca.client("svc-ota ")),
    ] {
        rig.registry.admit(&blank);
        for id in ["", " ", NONCE] {
            let refused = Client::connect(listener, &rig.server_ca, &blank, Connect::v5(id)).await;
            assert_eq!(refused.err(), Some(0xff), "{:?} at {listener} as {id:?}", blank.name);
        }
    }
}

/// mosquitto: a reload without descriptors resets what protects it.
#[tokio::test]
async fn cve_2017_7652_out_of_descriptors_nobody_gets_in_who_may_not_and_all_is_as_before_afterwards() {
    const DESCRIPTORS: u32 = 64;
    let rig = Rig::start().await;
    let tight = rig.another_with_descriptors(DESCRIPTORS).await.unwrap();
    let device = tight.device(1);
    let mut held = tight.connected(&device).await;
    let mut sockets = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        sockets.push(TcpStream::connect(&tight.device).await.unwrap());
    }
    let open = format!("/proc/{}/fd", tight.broker.pid());
    let exhausted = async {
        while std::fs::read_dir(&open).unwrap().count() < DESCRIPTORS as usize {
            tokio::task::yield_now().await;
        }
    };
    soon(exhausted).await;
    assert!(held.ping().await.is_empty(), "who is in stays in");
    drop(sockets);
    let untrusted = rig.service_ca.client(&device_id(2));
    let unknown = tight.tenant.client(&device_id(3));
    tight.registry.admit(&untrusted);
    assert_eq!(tight.connect(&untrusted, Connect::v5(&untrusted.name)).await.err(), Some(0xff));
    assert_eq!(tight.connect(&unknown, Connect::v5(&unknown.name)).await.err(), Some(0x87));
    assert!(held.ping().await.is_empty());
    let other = tight.device(4);
    assert!(tight.connected(&other).await.ping().await.is_empty());
}

/// mosquitto: a TLS option opened a listener more, open to all.
#[tokio::test]
async fn mosquitto_extra_listener_the_broker_listens_where_it_says_and_nowhere_else() {
    let rig = Rig::start().await;
    let port = |address: &&str| address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let said: BTreeSet<u16> = rig.addresses().iter().map(port).collect();
    assert_eq!(listening(rig.broker.pid()), said);
}

/// The TCP ports a process listens at (proc(5)).
fn listening(pid: u32) -> BTreeSet<u16> {
    let own: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap());
    let sockets = tables.iter().flat_map(|table| table.lines().skip(1));
    let ports = sockets.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields[1].rsplit_once(':').unwrap().1;
        (fields[3] == "0A" && own.contains(fields[9])).then(|| u16::from_str_radix(port, 16).unwrap())
    });
    ports.collect()
}
