//! A mosquitto of the system under the generated rules, trusting what the rig's svc-broker trusts.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use dev::{Process, Ready, Spec};
use wire::acl::mosquitto as rules;

use scenarios::broker::rig::{Rig, SOON};

/// Where Debian puts it; elsewhere it is found in PATH.
const PROGRAM: &str = "/usr/sbin/mosquitto";
/// Somebody else may take a free port before mosquitto does.
const STARTS_MAX: u32 = 5;

pub(crate) struct Mosquitto {
    pub(crate) device: String,
    pub(crate) enroll: String,
    pub(crate) service: String,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Mosquitto {
    pub(crate) async fn start(rig: &Rig) -> Mosquitto {
        let dir = tempfile::tempdir().unwrap();
        let server = rig.server_ca.server("mosquitto");
        for (name, text) in [
            ("device-roots.pem", &rig.device_root.pem),
            ("enroll-roots.pem", &rig.enroll_root.pem),
            ("service-ca.pem", &rig.service_ca.pem),
            ("server.pem", &server.pem),
            ("server.key", &server.key_pem),
            ("device.acl", &rules::device()),
            ("enroll.acl", &rules::enroll()),
            ("service.acl", &rules::service()),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut starts = 0;
        loop {
            starts += 1;
            let ports = free_ports();
            let process = spawn(dir.path(), ports);
            match process.ready(SOON).await {
                Ok(_) => {
                    let [device, enroll, service] = ports.map(|port| format!("127.0.0.1:{port}"));
                    return Mosquitto { device, enroll, service, process, _dir: dir };
                }
                Err(error) => assert!(starts < STARTS_MAX, "{error:#}"),
            }
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.tail());
        }
    }
}

fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The printed configuration; as root mosquitto would become a user who may not read the folder.
fn spawn(dir: &Path, ports: [u16; 3]) -> Process {
    let [device, enroll, service] = ports;
    let listeners = rules::Listeners { bind: Some("127.0.0.1"), device, enroll, service };
    let conf = rules::conf(&dir.display().to_string(), &listeners);
    let path = dir.join("mosquitto.conf");
    std::fs::write(&path, format!("user root\nlog_dest stderr\nconnection_messages false\n{conf}")).unwrap();
    let program = if Path::new(PROGRAM).exists() { PROGRAM } else { "mosquitto" };
    let spec = Spec::new("mosquitto", program, dir.join("mosquitto.log")).ready(Ready::Stderr("running"));
    Process::spawn(spec.arg("-c").arg(path)).unwrap()
}
