//! A signed-in connection to an installation: channels by service, a bearer token on every call.
//!
//! Each command signs in anew with the context's key (one round trip); no token is kept on disk.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use proto::debug::v1::debug_session_service_client::DebugSessionServiceClient;
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::ota::v1::{
    bundle_service_client::BundleServiceClient, deployment_service_client::DeploymentServiceClient,
};
use proto::registry::v1::{
    ExchangeTokenRequest, ExchangeTokenResponse, claim_service_client::ClaimServiceClient,
    debugging_service_client::DebuggingServiceClient, device_service_client::DeviceServiceClient,
    keyset_service_client::KeysetServiceClient, root_service_client::RootServiceClient,
    tenant_service_client::TenantServiceClient, token_service_client::TokenServiceClient,
};
use serde::Serialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::args::Global;
use crate::config::{Config, Context};
use crate::failure::{Failure, input};
use crate::keyfile::KeyFile;
use crate::trace;

/// How long a connection attempt may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Life of the assertion exchanged for a token; the server accepts at most 5 minutes.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);
/// Largest message accepted from a server: a page of 1,000 devices with all their labels.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        request.metadata_mut().insert("traceparent", trace::parent());
        Ok(request)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    context: Context,
    bearer: Bearer,
}

impl Session {
    /// Signs in with the context that `global` chooses.
    pub(crate) async fn open(global: &Global) -> Result<Session> {
        let config = Config::load(&global.home()?)?;
        let (_, context) = config.context(global.context.as_deref())?;
        let token = exchange(context).await?;
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.access_token)
            .parse()
            .context("the server sent a token that is not ASCII")?;
        value.set_sensitive(true);
        Ok(Session { context: context.clone(), bearer: Bearer(value) })
    }

    /// tenants/{tenant}
    pub(crate) fn tenant(&self) -> String {
        self.context.tenant.clone()
    }

    /// The full resource name for an id; a full name stays as it is.
    pub(crate) fn name(&self, collection: &str, id: &str) -> String {
        if id.contains('/') { id.to_owned() } else { format!("{}/{collection}/{id}", self.context.tenant) }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) async fn tenants(&self) -> Result<TenantServiceClient<Authorized>> {
        Ok(TenantServiceClient::new(self.service(&self.context.registry).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn roots(&self) -> Result<RootServiceClient<Authorized>> {
        Ok(RootServiceClient::new(self.service(&self.context.registry).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn claims(&self) -> Result<ClaimServiceClient<Authorized>> {
        Ok(ClaimServiceClient::new(self.service(&self.context.registry).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn debugging(&self) -> Result<DebuggingServiceClient<Authorized>> {
        Ok(DebuggingServiceClient::new(self.service(&self.context.registry).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn devices(&self) -> Result<DeviceServiceClient<Authorized>> {
        Ok(DeviceServiceClient::new(self.service(&self.context.registry).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn keysets(&self) -> Result<KeysetServiceClient<Authorized>> {
        Ok(KeysetServiceClient::new(self.service(&self.context.registry).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn bundles(&self) -> Result<BundleServiceClient<Authorized>> {
        Ok(BundleServiceClient::new(self.service(&self.context.ota).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn deployments(&self) -> Result<DeploymentServiceClient<Authorized>> {
        Ok(DeploymentServiceClient::new(self.service(&self.context.ota).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn logs(&self) -> Result<LogServiceClient<Authorized>> {
        Ok(LogServiceClient::new(self.service(&self.context.logs).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) async fn debug_sessions(&self) -> Result<DebugSessionServiceClient<Authorized>> {
        let url = self.context.debug.as_deref().ok_or_else(|| {
            input("this context does not say where svc-debug-relay is: add it again with --debug URL")
        })?;
        Ok(DebugSessionServiceClient::new(self.service(url).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    async fn service(&self, url: &str) -> Result<Authorized> {
        let channel = connect(url, &self.context.ca).await?;
        Ok(InterceptedService::new(channel, self.bearer.clone()))
    }
}

/// A TLS channel to `url` that trusts only the CA in `ca`.
pub(crate) async fn connect(url: &str, ca: &std::path::Path) -> Result<Channel> {
    let pem = std::fs::read(ca).with_context(|| format!("cannot read the server CA {}", ca.display()))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("`{url}` is not an https URL"))?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .tls_config(tls)
        .with_context(|| format!("the CA in {} cannot be used", ca.display()))?;
    endpoint
        .connect()
        .await
        .map_err(|error| Failure::Unreachable { url: url.to_owned(), why: root_cause(&error) }.into())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// RFC 7523: the claims of the assertion.
#[derive(Debug, Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'static str,
    iat: u64,
    exp: u64,
    jti: String,
}

/// A fresh access token for the context's key.
pub(crate) async fn exchange(context: &Context) -> Result<ExchangeTokenResponse> {
    let assertion = assertion(&context.key, &KeyFile::load(&context.key_file)?)?;
    let channel = connect(&context.registry, &context.ca).await?;
    let mut request = Request::new(ExchangeTokenRequest { assertion });
    request.metadata_mut().insert("traceparent", trace::parent());
    let reply = TokenServiceClient::new(channel).exchange_token(request).await;
    Ok(reply.context("cannot sign in")?.into_inner())
}

fn assertion(key_name: &str, key: &KeyFile) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
    let claims = Assertion {
        iss: key_name,
        sub: key_name,
        aud: "holdfast/token",
        iat: now,
        exp: now + ASSERTION_LIFE.as_secs(),
        jti: hex::encode(rand::random::<[u8; 16]>()),
    };
    let signer = jsonwebtoken::EncodingKey::from_ec_pem(key.pem()?.as_bytes())
        .context("the sign-in key cannot sign")?;
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256), &claims, &signer)?)
}
