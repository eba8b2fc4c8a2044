//! Every service's gRPC socket, and every token that must not be believed there.
//!
//! A refusal is UNAUTHENTICATED with a reason that does not change; it repeats nothing of the token, and neither does the log, whatever
//! level it is at; and the service goes on. A token of another tenant is a good one, and sees nothing: `foreign_tenant` is about that.
//! A service that is added to [`Service`] is attacked from then on.

mod forge;

use std::time::SystemTime;

use anyhow::{Result, ensure};
use dev::{Options, Service, Stack};
use kit::auth::token::TOKEN_BYTES_MAX;
use proto::Method;
use proto::auth::v1::Access;
use scenarios::client;
use scenarios::raw::Raw;
use scenarios::world::PATIENCE;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::forge::{Case, Forger};

#[tokio::test]
async fn no_service_believes_a_token_it_must_not_or_repeats_it() -> Result<()> {
    let loud = Service::ALL
        .into_iter()
        .fold(Options::all(), |options, service| options.env(service, "HOLDFAST_LOG", "debug"));
    let stack = Stack::start(loud).await?;
    let person = client::bootstrap(&stack).await?;
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let forger = Forger::new(&stack, &person.token(&stack).await?, now_s)?;
    let cases = forger.cases(&person)?;
    ensure!(cases.len() > 50, "only {} cases", cases.len());
    let good = [bearer(&forger.good()?), bearer(&forger.good_of(TOKEN_BYTES_MAX)?)];

    let mut attacked = 0;
    for service in Service::ALL {
        let channel = client::channel(&stack, service).await?;
        let process = stack.process(service).unwrap().pid();
        let served = served(&channel, &good[0]).await?;
        for method in &served {
            // One a method: a stream that is refused before its end is reset, and a connection may have 64 of those (kit::serve).
            let channel = client::channel(&stack, service).await?;
            for case in &cases {
                let status = refused(&channel, method, &case.headers, case.name).await?;
                let reason = kit::status::reason(&status);
                ensure!(reason.as_deref() == Some(case.reason), "{} {}: {status:?}", method.path, case.name);
                ensure!(!repeats(case, &format!("{status:?}")), "{} {}: {status:?}", method.path, case.name);
            }
            for header in &good {
                let status = call(&channel, method, std::slice::from_ref(header)).await?;
                ensure!(status.code() != Code::Unauthenticated, "{}: {status:?}", method.path);
            }
            attacked += 1;
        }
        // What is for services asks for their certificate, and no token stands for one.
        for method in proto::METHODS.iter().filter(|method| method.access == Access::Service) {
            for headers in [&good[..1], &cases[0].headers, &[]] {
                let status = refused(&channel, method, headers, "no certificate").await?;
                let reason = kit::status::reason(&status);
                ensure!(reason.as_deref() == Some("SERVICE_CERTIFICATE_MISSING"), "{status:?}");
            }
        }
        ensure!(stack.process(service).unwrap().pid() == process, "{} is another process", service.name());
    }
    ensure!(attacked >= 30, "only {attacked} methods");
    for service in Service::ALL {
        let log = std::fs::read_to_string(stack.log(service))?;
        ensure!(!log.contains("panicked"), "{} panicked", service.name());
        for case in &cases {
            ensure!(!repeats(case, &log), "the log of {} repeats the token {}", service.name(), case.name);
        }
    }
    Ok(())
}

/// The methods for people that are answered here.
async fn served(channel: &Channel, good: &[u8]) -> Result<Vec<&'static Method>> {
    let mut served = Vec::new();
    let for_people = |access| !matches!(access, Access::Public | Access::Service);
    for method in proto::METHODS.iter().filter(|method| for_people(method.access)) {
        let status = call(channel, method, &[good.to_vec()]).await?;
        served.extend((status.code() != Code::Unimplemented).then_some(method));
    }
    Ok(served)
}

async fn refused(channel: &Channel, method: &Method, headers: &[Vec<u8>], what: &str) -> Result<Status> {
    let status = call(channel, method, headers).await?;
    ensure!(status.code() == Code::Unauthenticated, "{} {what}: {status:?}", method.path);
    Ok(status)
}

/// An empty request with these headers; what came back, be it that there is nothing to refuse.
async fn call(channel: &Channel, method: &Method, headers: &[Vec<u8>]) -> Result<Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await?;
    let mut request = Request::new(tokio_stream::once(Vec::new()));
    for header in headers {
        request.metadata_mut().append("authorization", MetadataValue::<Ascii>::try_from(&header[..])?);
    }
    let answer = grpc.streaming(request, PathAndQuery::from_static(method.path), Raw);
    let answer = tokio::time::timeout(PATIENCE, answer).await?;
    Ok(answer.map_or_else(|status| status, |_| Status::new(Code::Ok, "")))
}

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

/// Whether a text says what only the bearer should: claims or signature of a token.
fn repeats(case: &Case, text: &str) -> bool {
    const TELLING: usize = 16;
    let texts = case.headers.iter().map(|header| String::from_utf8_lossy(header).into_owned());
    texts.into_iter().any(|header| {
        let parts = header.split(['.', ' ', ',']).filter(|part| part.len() >= TELLING);
        parts.skip(usize::from(header.contains('.'))).any(|part| text.contains(part))
    })
}
