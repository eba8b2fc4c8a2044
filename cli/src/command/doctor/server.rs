//! One server: name, port, TLS, the life of its certificate, health, and its clock beside ours.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Finding;
use crate::session::connect;

pub(super) const UNREACHED: &str = "is it up, is the address right, may this machine reach it?";
/// A certificate that ends sooner is warned of.
const CERTIFICATE_DAYS_MIN: i64 = 14;
/// Tokens and assertions tolerate little more.
const SKEW_MAX: Duration = Duration::from_secs(60);
const DAY_S: i64 = 24 * 3600;

/// Stops at the first failure: what comes after would say the same again.
pub(super) async fn check(service: &str, url: &str, ca: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match certificate_days(url, ca).await {
        Err(error) => {
            findings.push(Finding::failed(service, format!("{url}: {error:#}"), advice(&error)));
            return findings;
        }
        Ok(days) if days < CERTIFICATE_DAYS_MIN => findings.push(Finding::warning(
            service,
            format!("its certificate ends in {days} days"),
            "give the server another certificate and restart it",
        )),
        Ok(days) => findings.push(Finding::ok(service, format!("{url}, certificate good for {days} days"))),
    }
    match health(url, ca).await {
        Err(error) => findings.push(Finding::failed(service, format!("{error:#}"), "look at its log")),
        Ok((status, date)) => {
            if status != ServingStatus::Serving {
                findings.push(Finding::failed(
                    service,
                    format!("it says {status:?}"),
                    "it is stopping, or its log says why",
                ));
            }
            findings.extend(date.and_then(|theirs| skew(service, theirs, SystemTime::now())));
        }
    }
    findings
}

/// By what stood in the way.
fn advice(error: &anyhow::Error) -> &'static str {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    let tls = io.and_then(|error| error.get_ref()).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (io.map(std::io::Error::kind), tls) {
        (_, Some(rustls::Error::InvalidCertificate(why))) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "give the server another certificate and restart it"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "is the address the one the server's certificate was made for?"
            }
            _ => "is the context's CA the one that signs this server?",
        },
        // Reading the CA is the only thing here that can find nothing.
        (Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied), _) => {
            "bring the CA's file back, or `holdfast context add`"
        }
        _ => UNREACHED,
    }
}

/// Days until the server's certificate ends; below zero is refused by the handshake already.
async fn certificate_days(url: &str, ca: &Path) -> Result<i64> {
    let address = url.strip_prefix("https://").context("not an https URL")?.trim_end_matches('/');
    let (host, _) = address.rsplit_once(':').context("no port in the URL")?;
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(ca).with_context(|| format!("cannot read the server CA {}", ca.display()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
        roots.add(certificate)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (_, session) = stream.get_ref();
    let leaf =
        session.peer_certificates().and_then(|chain| chain.first()).context("it showed no certificate")?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| anyhow!("its certificate: {error}"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    Ok((leaf.validity().not_after.timestamp() - i64::try_from(now)?) / DAY_S)
}

/// What it says of itself, and its time.
async fn health(url: &str, ca: &Path) -> Result<(ServingStatus, Option<SystemTime>)> {
    let channel = connect(url, ca).await?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    let date = answer.metadata().get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Ok((answer.get_ref().status(), date))
}

/// A clock that is apart from ours; the server's time has whole seconds.
fn skew(service: &str, theirs: SystemTime, ours: SystemTime) -> Option<Finding> {
    let (apart, which) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    (apart > SKEW_MAX).then(|| {
        let detail = format!("this machine's clock is {} s {which} the server's", apart.as_secs());
        Finding::failed(service, detail, "set the clock (NTP): signing in depends on it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_about_what_stood_in_the_way() {
        let io = |error: rustls::Error| {
            anyhow::Error::new(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        };
        let certificate = |why| advice(&io(rustls::Error::InvalidCertificate(why)));
        assert!(certificate(CertificateError::Expired).contains("another certificate"));
        assert!(certificate(CertificateError::NotValidForName).contains("address"));
        assert!(certificate(CertificateError::UnknownIssuer).contains("CA"));
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert!(advice(&anyhow::Error::new(missing).context("cannot read the server CA")).contains("file"));
        assert_eq!(advice(&anyhow!("something else")), UNREACHED);
    }

    #[test]
    fn a_clock_that_is_apart_is_told_which_way() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(skew("x", now, now + SKEW_MAX).is_none());
        let ahead = skew("x", now, now + SKEW_MAX * 2).unwrap().detail;
        assert_eq!(ahead, "this machine's clock is 120 s ahead of the server's");
        assert!(skew("x", now + SKEW_MAX * 2, now).unwrap().detail.contains("behind"));
    }
}
