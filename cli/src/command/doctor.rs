//! `holdfast doctor`: from this machine, with this context, would everything work? Each check says what is the case and, when
//! something is wrong, what to do. Changes nothing anywhere.

mod server;

use std::time::Duration;

use anyhow::Result;
use proto::ota::v1::GetDirectorKeyRequest;
use proto::registry::v1::{GetKeysetRequest, ListClaimsRequest};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::args::Global;
use crate::config::{Config, Context};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// How long one check may take.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// Check that this machine, its context and the installation work together.
///
/// Exits 0 when nothing failed (warnings do not count) and 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  holdfast doctor\n  holdfast doctor --json | jq 'select(.result != \"ok\")'"
)]
pub(crate) struct Args {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// What one check found.
#[derive(Debug)]
struct Finding {
    check: String,
    verdict: Verdict,
    detail: String,
    /// What to do; empty when nothing is wrong.
    advice: String,
}

impl Finding {
    fn ok(check: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { check: check.into(), verdict: Verdict::Ok, detail: detail.into(), advice: String::new() }
    }

    fn warning(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            check: check.into(),
            verdict: Verdict::Warning,
            detail: detail.into(),
            advice: advice.into(),
        }
    }

    fn failed(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            check: check.into(),
            verdict: Verdict::Failed,
            detail: detail.into(),
            advice: advice.into(),
        }
    }

    fn tell(&self, global: &Global) -> Result<()> {
        let result = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        if global.json {
            let line = json!({
                "check": self.check, "result": result, "detail": self.detail, "advice": self.advice
            });
            return output::line(&line.to_string());
        }
        output::line(&output::printable(&format!("{result:8} {:16} {}", self.check, self.detail)))?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => output::line(&output::printable(&format!("{:25} -> {advice}", ""))),
        }
    }
}

pub(crate) async fn run(global: &Global, _: &Args) -> Result<()> {
    let mut failed = 0;
    let mut tell = |finding: Finding| {
        failed += usize::from(finding.verdict == Verdict::Failed);
        finding.tell(global)
    };
    let config = Config::load(&global.home()?)?;
    let (name, context) = config.context(global.context.as_deref())?;
    tell(Finding::ok("context", format!("{name}, {}", context.tenant)))?;
    tell(key_file(context))?;
    let services =
        [("svc-registry", &context.registry), ("svc-ota", &context.ota), ("svc-logs", &context.logs)];
    let relay = context.debug.iter().map(|url| ("svc-debug-relay", url));
    for (service, url) in services.into_iter().chain(relay) {
        let findings = timeout(CHECK_MAX, server::check(service, url, &context.ca)).await;
        let late =
            || vec![Finding::failed(service, format!("{url} did not answer in time"), server::UNREACHED)];
        findings.unwrap_or_else(|_| late()).into_iter().try_for_each(&mut tell)?;
    }
    match Session::open(global).await {
        Err(error) => tell(Finding::failed(
            "sign-in",
            format!("{error:#}"),
            "is the key registered (`holdfast key list` by an administrator), and the clock right?",
        ))?,
        Ok(session) => {
            tell(Finding::ok("sign-in", context.key.clone()))?;
            for finding in [keyset(&session).await, enrolment(&session).await] {
                tell(finding)?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        count => Err(Failure::Unwell(format!("{count} checks failed")).into()),
    }
}

/// The private key is there, and for nobody else to read.
fn key_file(context: &Context) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    let path = context.key_file.display();
    match std::fs::metadata(&context.key_file) {
        Err(error) => Finding::failed(
            "key file",
            format!("{path}: {error}"),
            "bring the file back, or `holdfast context add`",
        ),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            Finding::warning("key file", format!("{path} can be read by others"), format!("chmod 600 {path}"))
        }
        Ok(_) => Finding::ok("key file", path.to_string()),
    }
}

/// Devices obey directives that a key of the keyset signs.
async fn keyset(session: &Session) -> Finding {
    const CHECK: &str = "keyset";
    let found = async {
        let name = session.name("keysets", "latest");
        let keyset = session.keysets().await?.get_keyset(GetKeysetRequest { name }).await?.into_inner();
        let request = GetDirectorKeyRequest { parent: session.tenant() };
        let director = session.deployments().await?.get_director_key(request).await?.into_inner();
        anyhow::Ok((keyset, director))
    };
    match found.await {
        Err(error) => {
            Finding::failed(CHECK, format!("{error:#}"), "make the first one with `holdfast keyset init`")
        }
        Ok((keyset, director)) => match wire::keyset::read(&keyset.signed) {
            Err(_) => Finding::failed(CHECK, "the newest keyset cannot be read", "publish another"),
            Ok(read)
                if wire::PublicKey::from_spki_der(&director.public_key).ok() != Some(read.director_key) =>
            {
                Finding::failed(
                    CHECK,
                    format!("version {} does not name the key that signs directives", keyset.version),
                    "put another in its place: `holdfast keys rotate --director`",
                )
            }
            Ok(_) => Finding::ok(CHECK, format!("version {}", keyset.version)),
        },
    }
}

/// Where boards enrol, as the newest claim says.
async fn enrolment(session: &Session) -> Finding {
    const CHECK: &str = "enrolment";
    let claims = async {
        let request = ListClaimsRequest { parent: session.tenant(), page_size: 1, page_token: String::new() };
        anyhow::Ok(session.claims().await?.list_claims(request).await?.into_inner().claims)
    };
    let address = match claims.await {
        Err(error) => return Finding::failed(CHECK, format!("{error:#}"), ""),
        Ok(claims) => match claims.into_iter().next() {
            Some(claim) => claim.enroll_address,
            None => {
                let advice = "`holdfast claim create` makes one when boards are to enrol";
                return Finding::warning(CHECK, "there is no claim, so no board can enrol", advice);
            }
        },
    };
    match timeout(CHECK_MAX, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => Finding::ok(CHECK, format!("{address} answers")),
        Ok(Err(error)) => Finding::failed(
            CHECK,
            format!("{address}: {error}"),
            "is the broker up, and may this machine reach it?",
        ),
        Err(_) => Finding::failed(CHECK, format!("{address} did not answer in time"), server::UNREACHED),
    }
}
