//! `kit::broker` before a server that answers as the management API of EMQX 5 does (its OpenAPI document, `/api/v5`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kit::Secret;
use kit::broker::{ANSWER_BYTES_MAX, BrokerControl, ControlError, Ended};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wire::DeviceId;

use crate::pki::{By, Pki};

const KEY: &str = "4f33d24d7b8e448d:gwtbmFJZrnzUu8";

/// Who is connected, and what was asked.
#[derive(Clone, Default)]
struct Emqx {
    clients: Arc<Mutex<BTreeSet<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Emqx {
    async fn start(&self, pki: &Pki) -> String {
        let (cert, key) = pki.leaf(By::Server, "localhost");
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("emqx+https://localhost:{}", listener.local_addr().unwrap().port());
        let emqx = self.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (emqx, acceptor) = (emqx.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let (status, body) = emqx.answer(std::str::from_utf8(&head).unwrap());
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                });
            }
        });
        url
    }

    fn answer(&self, head: &str) -> (&'static str, String) {
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        self.asked.lock().unwrap().push(line.clone());
        if !head.contains(&format!("authorization: Basic {}\r\n", STANDARD.encode(KEY))) {
            return ("401 Unauthorized", r#"{"code":"BAD_API_KEY_OR_SECRET","message":"no"}"#.into());
        }
        let mut clients = self.clients.lock().unwrap();
        if let Some(id) = line.strip_prefix("DELETE /api/v5/clients/") {
            return match clients.remove(id) {
                true => ("204 No Content", String::new()),
                false => (
                    "404 Not Found",
                    r#"{"code":"CLIENTID_NOT_FOUND","message":"Client ID not found"}"#.into(),
                ),
            };
        }
        let page: usize = line.rsplit_once("page=").unwrap().1.parse().unwrap();
        // Pages of two, whatever was asked for: paging is what is tested.
        let rows: Vec<String> = clients
            .iter()
            .skip((page - 1) * 2)
            .take(2)
            .map(|id| format!(r#"{{"clientid":"{id}","username":"{id}","connected":true}}"#))
            .collect();
        let more = clients.len() > page * 2;
        let meta = format!(r#"{{"count":{},"hasnext":{more},"limit":2,"page":{page}}}"#, clients.len());
        ("200 OK", format!(r#"{{"data":[{}],"meta":{meta}}}"#, rows.join(",")))
    }
}

fn control(pki: &Pki, url: &str, key: &str) -> Result<BrokerControl, ControlError> {
    let key = Secret::new(key.to_owned());
    BrokerControl::new(&pki.tls("svc-registry"), &[url.to_owned()], Some(&key))
}

#[tokio::test]
async fn a_device_at_an_emqx_is_disconnected_and_who_is_connected_is_read_page_by_page() {
    let (pki, emqx) = (Pki::new(), Emqx::default());
    let devices: Vec<DeviceId> = (1..=5).map(|n| DeviceId::new([n; 16])).collect();
    emqx.clients.lock().unwrap().extend(devices.iter().map(ToString::to_string));
    emqx.clients.lock().unwrap().insert("svc-ota-1".into());
    let control = control(&pki, &emqx.start(&pki).await, KEY).unwrap();

    assert_eq!(control.connected(&[]).await.unwrap(), devices.iter().copied().collect());
    let stranger = DeviceId::new([9; 16]);
    assert_eq!(control.connected(&[devices[4], stranger]).await.unwrap(), [devices[4]].into());
    assert_eq!(control.disconnect(&devices[4].to_string()).await.unwrap(), Ended::Closed(1));
    assert_eq!(control.disconnect(&devices[4].to_string()).await.unwrap(), Ended::Closed(0));
    assert!(control.connected(&[devices[4]]).await.unwrap().is_empty());
    // Boards that enrol have a client id of their own choice; and no text from outside becomes a path.
    for other in ["cl00000000000000000000000000000001", "../banned", "dv/x"] {
        assert_eq!(control.disconnect(other).await.unwrap(), Ended::NotOnDemand);
    }
    assert!(emqx.asked.lock().unwrap().iter().all(|line| !line.contains("banned")));
}

#[tokio::test]
async fn an_emqx_that_refuses_or_answers_nonsense_is_an_error_that_names_it_without_the_secret() {
    let (pki, emqx) = (Pki::new(), Emqx::default());
    let url = emqx.start(&pki).await;
    let device = DeviceId::new([1; 16]).to_string();
    let refused = control(&pki, &url, "other:secret-word").unwrap();
    let error = kit::status::chain(&refused.disconnect(&device).await.unwrap_err());
    assert!(error.contains(&url) && error.contains("401") && !error.contains("secret-word"), "{error}");
    assert!(!format!("{refused:?}").contains("secret-word"));

    emqx.clients.lock().unwrap().insert("x".repeat(ANSWER_BYTES_MAX));
    let error = control(&pki, &url, KEY).unwrap().connected(&[]).await.unwrap_err();
    assert!(kit::status::chain(&error).contains("not what the API of EMQX 5 gives"));
    // Another CA's server is nobody.
    assert!(control(&Pki::new(), &url, KEY).unwrap().disconnect(&device).await.is_err());
}

#[test]
fn addresses_of_no_known_broker_and_an_emqx_without_its_key_are_refused_at_start() {
    let pki = Pki::new();
    let tls = pki.tls("svc-registry");
    let new = |url: &str, key: Option<&str>| {
        let key = key.map(|key| Secret::new(key.to_owned()));
        BrokerControl::new(&tls, &[url.to_owned()], key.as_ref()).map(drop)
    };
    for url in ["http://h:1", "emqx+http://h:1", "mqtt://h:1", "h:1", ""] {
        assert!(matches!(new(url, Some(KEY)), Err(ControlError::Scheme { .. })), "{url}");
    }
    for url in [
        "mqtts://h",
        "mqtts://:1",
        "emqx+https://",
        "emqx+https://user:word@h:1",
        "https://user:word@h:1",
        "mqtts://user:word@h:1",
    ] {
        assert!(matches!(new(url, Some(KEY)), Err(ControlError::Address { .. })), "{url}");
    }
    for key in [None, Some("no-colon"), Some("")] {
        assert!(matches!(new("emqx+https://h:1", key), Err(ControlError::Key { .. })), "{key:?}");
    }
}
