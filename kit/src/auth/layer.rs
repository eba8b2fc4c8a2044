//! The gate before every method: access by `proto::METHODS`, and a deadline: of calls that do not stream their own, of
//! streams the token's.
//!
//! Nothing reaches a handler without a [`Caller`] in its extensions. What is not in the table and not one of the two
//! infrastructure services is answered UNIMPLEMENTED, as an unknown method is.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Buf;
use http_body::Body as _;
use proto::Method;
use proto::auth::v1::Access;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::keys::{refused, unix_now_s};
use super::lease::Leased;
use super::measured::{self, Measured};
use super::token::TokenError;
use super::{Authenticator, Caller, Peer, unauthenticated};
use crate::status;
use crate::trace::{Span, TRACEPARENT, Trace};

/// How long a call that does not stream may take.
pub const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What is still heard of a request that is refused: one message as it is commonly sent.
pub const REFUSED_BYTES_MAX: usize = 64 * 1024;
/// How long for.
pub const REFUSED_MAX: Duration = Duration::from_secs(1);

/// Health checks and reflection: they tell nothing that is not in the published .proto files.
const INFRASTRUCTURE: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Puts a [`Guard`] before a service.
#[derive(Clone, Debug)]
pub struct GuardLayer {
    authenticator: Arc<Authenticator>,
}

/// The gate.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    authenticator: Arc<Authenticator>,
}

impl GuardLayer {
    pub fn new(authenticator: Arc<Authenticator>) -> Self {
        Self { authenticator }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, authenticator: self.authenticator.clone() }
    }
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The clone takes our place; the instance that was polled ready serves this call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let authenticator = self.authenticator.clone();
        Box::pin(async move {
            if INFRASTRUCTURE.iter().any(|prefix| request.uri().path().starts_with(prefix)) {
                request.extensions_mut().insert(Caller::Anonymous);
                return inner.call(request).await;
            }
            let Some(method) = proto::method(request.uri().path()) else {
                return Ok(Status::new(Code::Unimplemented, "no such method").into_http());
            };
            let started = Instant::now();
            let mut span = Span::server(method.path, traceparent(&request));
            let logged = tracing::info_span!("rpc", method = method.path, trace_id = %span.trace().id());
            let answer = async {
                match admit(&authenticator, method, Presented::by(&request)).await {
                    Err(refusal) => {
                        if !method.streaming {
                            hear_out(request.into_body()).await;
                        }
                        Ok(refusal.into_http())
                    }
                    Ok(caller) => {
                        let life = life(&caller);
                        request.extensions_mut().insert(caller);
                        serve(&mut inner, method, request, life).await
                    }
                }
            };
            let response = span.scope(answer.instrument(logged)).await?;
            Ok(measure(method, response, started, &mut span))
        })
    }
}

/// What the caller brought; taken out of the request, whose body cannot be shared between threads.
struct Presented {
    token: Result<Option<String>, TokenError>,
    peer: Option<Peer>,
}

impl Presented {
    fn by(request: &Request<Body>) -> Self {
        Self { token: bearer(request), peer: peer(request) }
    }
}

async fn admit(
    authenticator: &Authenticator,
    method: &Method,
    presented: Presented,
) -> Result<Caller, Status> {
    match method.access {
        Access::Public => Ok(Caller::Anonymous),
        Access::Service => presented.peer.map(Caller::Peer).ok_or_else(|| {
            unauthenticated("SERVICE_CERTIFICATE_MISSING", "this method needs a service certificate")
        }),
        Access::Unspecified => Err(Status::new(Code::Unimplemented, "no such method")),
        Access::Viewer | Access::Operator | Access::Developer | Access::Admin | Access::Installation => {
            let missing = || unauthenticated("TOKEN_MISSING", "this method needs a bearer token");
            let person =
                authenticator.person(&presented.token.map_err(refused)?.ok_or_else(missing)?).await?;
            if person.may(method.access) {
                Ok(Caller::Person(person))
            } else {
                let needed = format!("{:?}", method.access).to_lowercase();
                let message = format!("this method needs the role {needed}");
                Err(status::status(Code::PermissionDenied, "ROLE_INSUFFICIENT", message))
            }
        }
    }
}

/// Takes the rest of a request that is refused, within bounds. An answer before its end is a reset of its stream; enough of them and
/// HTTP/2's own guard against floods ends the connection, with the calls of everybody who shares it (a proxy).
async fn hear_out(mut body: Body) {
    let rest = async {
        let mut bytes = 0;
        while bytes <= REFUSED_BYTES_MAX {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Buf::remaining),
                Some(Err(_)) | None => return,
            }
        }
    };
    // Whoever sends nothing more is answered all the same.
    let _ = tokio::time::timeout(REFUSED_MAX, rest).await;
}

/// Where the caller is in its trace; what is not well-formed is as good as none.
fn traceparent(request: &Request<Body>) -> Option<Trace> {
    request.headers().get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// The bearer token. Two headers are one too many (RFC 9110 §5.3): the next program on the way might believe the other one.
fn bearer(request: &Request<Body>) -> Result<Option<String>, TokenError> {
    let mut headers = request.headers().get_all("authorization").iter();
    let Some(header) = headers.next() else { return Ok(None) };
    let (None, Ok(header)) = (headers.next(), header.to_str()) else { return Err(TokenError::Malformed) };
    let Some((scheme, token)) = header.split_once(' ') else { return Ok(None) };
    let token = token.trim();
    Ok((scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned()))
}

/// The service whose certificate the caller presented; TLS has checked that the service CA issued it.
fn peer(request: &Request<Body>) -> Option<Peer> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    let certificates = connection.peer_certs()?;
    common_name(certificates.first()?).and_then(|name| Peer::from_common_name(&name))
}

/// The subject's only common name; none if there are several.
fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// How long the caller's token is still good; services need none.
fn life(caller: &Caller) -> Option<Duration> {
    match caller {
        Caller::Person(person) => Some(Duration::from_secs(person.until_s.saturating_sub(unix_now_s()))),
        Caller::Anonymous | Caller::Peer(_) => None,
    }
}

async fn serve<S>(
    inner: &mut S,
    method: &Method,
    request: Request<Body>,
    life: Option<Duration>,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let answer = inner.call(request);
    if method.streaming {
        let answer = answer.await?;
        return Ok(match life {
            Some(life) => answer.map(|body| Body::new(Leased::new(body, life))),
            None => answer,
        });
    }
    match tokio::time::timeout(REQUEST_MAX, answer).await {
        Ok(response) => response,
        Err(_) => Ok(Status::new(Code::DeadlineExceeded, "the call took too long").into_http()),
    }
}

/// Counts the call when its answer has ended; the span ends with what the headers say.
fn measure(
    method: &'static Method,
    response: Response<Body>,
    started: Instant,
    span: &mut Span,
) -> Response<Body> {
    let code = measured::code(response.headers());
    let so_far = code.unwrap_or(Code::Ok);
    span.set("rpc.grpc.status_code", i64::from(i32::from(so_far)));
    if so_far != Code::Ok {
        span.failed(format!("{so_far:?}"));
    }
    let trace = span.trace().id().to_string();
    response.map(|body| Body::new(Measured::new(body, method.path, trace, started, code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::token::tests::{Signer, claims};
    use crate::auth::{KeySource, Role};
    use std::time::{SystemTime, UNIX_EPOCH};
    use tokio::sync::watch;

    /// Answers with the caller it saw as the response's extension.
    #[derive(Clone)]
    struct Echo;

    impl Service<Request<Body>> for Echo {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(request.extensions().get::<Caller>().cloned().unwrap());
            std::future::ready(Ok(response))
        }
    }

    async fn call(signer: &Signer, path: &str, token: Option<&str>) -> Result<Caller, Code> {
        let (_keep, receiver) = watch::channel(signer.jwks.clone());
        let auth = Arc::new(Authenticator::new(KeySource::Local(receiver)));
        let mut request = Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut guard = GuardLayer::new(auth).layer(Echo);
        let response = guard.call(request.body(Body::empty()).unwrap()).await.unwrap();
        match response.headers().get("grpc-status") {
            Some(code) => Err(Code::from_bytes(code.as_bytes())),
            None => Ok(response.extensions().get::<Caller>().cloned().unwrap()),
        }
    }

    fn token(signer: &Signer, role: Role, installation: bool) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = claims(now_s);
        claims.role = role;
        claims.installation = installation;
        signer.sign(&claims)
    }

    #[tokio::test]
    async fn every_method_of_the_table_asks_for_what_it_declares() {
        let signer = Signer::new("k");
        for method in proto::METHODS {
            let anonymous = call(&signer, method.path, None).await;
            match method.access {
                Access::Public => assert_eq!(anonymous, Ok(Caller::Anonymous), "{}", method.path),
                _ => assert_eq!(anonymous, Err(Code::Unauthenticated), "{}", method.path),
            }
            for role in [Role::Viewer, Role::Operator, Role::Developer, Role::Admin] {
                for installation in [false, true] {
                    let answer = call(&signer, method.path, Some(&token(&signer, role, installation))).await;
                    let expected = match method.access {
                        Access::Public => Ok(()),
                        Access::Service => Err(Code::Unauthenticated),
                        Access::Installation if installation => Ok(()),
                        Access::Installation => Err(Code::PermissionDenied),
                        access if role.includes(access) => Ok(()),
                        _ => Err(Code::PermissionDenied),
                    };
                    assert_eq!(answer.map(drop), expected, "{} {role:?} {installation}", method.path);
                }
            }
        }
    }

    #[tokio::test]
    async fn unknown_paths_are_unimplemented_even_for_an_admin() {
        let signer = Signer::new("k");
        let token = token(&signer, Role::Admin, true);
        for path in
            ["/", "/holdfast.ota.v1.BundleService/Nothing", "/holdfast.ota.v1.BundleService/GetBundle/x"]
        {
            assert_eq!(call(&signer, path, Some(&token)).await, Err(Code::Unimplemented), "{path}");
        }
    }

    #[tokio::test]
    async fn health_needs_nobody_and_malformed_headers_are_nobody() {
        let signer = Signer::new("k");
        assert_eq!(call(&signer, "/grpc.health.v1.Health/Check", None).await, Ok(Caller::Anonymous));
        let path = "/holdfast.ota.v1.BundleService/GetBundle";
        for bad in ["", " ", "x", "a.b.c"] {
            assert_eq!(call(&signer, path, Some(bad)).await, Err(Code::Unauthenticated), "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_must_have_exactly_one_common_name() {
        let certificate = |names: &[&str]| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for name in names {
                params.distinguished_name.push(rcgen::DnType::CommonName, *name);
            }
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            params.self_signed(&key).unwrap().der().to_vec()
        };
        assert_eq!(common_name(&certificate(&["svc-ota"])).as_deref(), Some("svc-ota"));
        assert_eq!(common_name(&certificate(&[])), None);
        assert_eq!(common_name(b"not a certificate"), None);
    }
}
