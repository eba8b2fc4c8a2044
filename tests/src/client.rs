//! How a scenario talks to a stack: as people and tools do (a key, an assertion, a token), or in a service's name.
//!
//! Everything here goes over the public gRPC API. A [`Person`] holds a private key made in the test and the resource
//! name its public half was registered under; [`Client`] is a channel that carries a fresh token of that person.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use dev::{Service, Stack};
use proto::registry::v1::tenant_service_client::TenantServiceClient;
use proto::registry::v1::token_service_client::TokenServiceClient;
use proto::registry::v1::{
    BootstrapRequest, CreateKeyRequest, CreateTenantRequest, ExchangeTokenRequest, Key, Role,
};
use rcgen::{KeyPair, PublicKeyData};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

/// How long a connection may take to open.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A channel that says who is calling.
pub type Client = InterceptedService<Channel, Bearer>;

/// Adds `authorization: Bearer` to every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

/// Somebody with a registered key.
pub struct Person {
    /// `tenants/{tenant}`
    pub tenant: String,
    /// `tenants/{tenant}/keys/{key}`
    pub key: String,
    pub private: KeyPair,
}

/// A channel to a service as anybody may open one.
pub async fn channel(stack: &Stack, service: Service) -> Result<Channel> {
    connect(&stack.grpc_url(service), tls(stack)?).await
}

/// The same to a server that is not the stack's own, but has a certificate of it.
pub async fn channel_to(stack: &Stack, url: &str) -> Result<Channel> {
    connect(url, tls(stack)?).await
}

/// A channel to a service that presents the certificate of another ("svc-broker").
pub async fn service_channel(stack: &Stack, to: Service, name: &str) -> Result<Channel> {
    let (certificate, key) = stack.service_identity(name)?;
    connect(&stack.grpc_url(to), tls(stack)?.identity(Identity::from_pem(certificate, key))).await
}

/// The installation's first administrator, who is also the first tenant's.
pub async fn bootstrap(stack: &Stack) -> Result<Person> {
    let code = stack.bootstrap_code().await?;
    let private = KeyPair::generate()?;
    let request = BootstrapRequest {
        code,
        tenant_display_name: "First".into(),
        public_key: private.subject_public_key_info(),
    };
    let mut service = TokenServiceClient::new(channel(stack, Service::Registry).await?);
    let made = service.bootstrap(request).await?.into_inner();
    Ok(Person { tenant: made.tenant, key: made.key, private })
}

/// Another tenant and its first administrator.
pub async fn new_tenant(stack: &Stack, installer: &Person, display_name: &str) -> Result<Person> {
    let private = KeyPair::generate()?;
    let mut service = TenantServiceClient::new(installer.client(stack, Service::Registry).await?);
    let request = CreateTenantRequest {
        display_name: display_name.into(),
        admin_public_key: private.subject_public_key_info(),
        ..Default::default()
    };
    let tenant = service.create_tenant(request).await?.into_inner();
    Ok(Person { tenant: tenant.name, key: tenant.admin_key, private })
}

impl Person {
    /// Somebody else of the same tenant, whose key this administrator registers.
    pub async fn colleague(&self, stack: &Stack, role: Role) -> Result<Person> {
        let private = KeyPair::generate()?;
        let mut service = TenantServiceClient::new(self.client(stack, Service::Registry).await?);
        let key = Key {
            display_name: format!("{role:?}"),
            role: role.into(),
            public_key: private.subject_public_key_info(),
            ..Key::default()
        };
        let key = service
            .create_key(CreateKeyRequest {
                parent: self.tenant.clone(),
                key: Some(key),
                ..Default::default()
            })
            .await?;
        Ok(Person { tenant: self.tenant.clone(), key: key.into_inner().name, private })
    }

    /// A fresh access token.
    pub async fn token(&self, stack: &Stack) -> Result<String> {
        let mut service = TokenServiceClient::new(channel(stack, Service::Registry).await?);
        let assertion = self.assertion()?;
        Ok(service.exchange_token(ExchangeTokenRequest { assertion }).await?.into_inner().access_token)
    }

    /// A channel to a service with a fresh token of this person.
    pub async fn client(&self, stack: &Stack, service: Service) -> Result<Client> {
        let token = self.token(stack).await?;
        with_token(channel(stack, service).await?, &token)
    }

    /// A good assertion: one minute, never used before.
    pub fn assertion(&self) -> Result<String> {
        let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + 60;
        self.assertion_of(&serde_json::json!({
            "iss": self.key, "sub": self.key, "aud": "holdfast/token", "exp": exp, "jti": unique(),
        }))
    }

    /// An assertion with these claims, whatever they say.
    pub fn assertion_of(&self, claims: &serde_json::Value) -> Result<String> {
        let key = jsonwebtoken::EncodingKey::from_ec_der(self.private.serialized_der());
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        Ok(jsonwebtoken::encode(&header, claims, &key)?)
    }
}

/// A channel with this text as bearer token.
pub fn with_token(channel: Channel, token: &str) -> Result<Client> {
    let bearer = format!("Bearer {token}").parse().context("a token is ASCII")?;
    Ok(InterceptedService::new(channel, Bearer(bearer)))
}

/// Does a call twice under one request id, and another one under the same id, which must be refused. The two answers.
pub async fn twice<R: Clone, A>(
    call: impl AsyncFn(R) -> Result<A, Status>,
    request: R,
    other: R,
) -> Result<(A, A)> {
    let first = call(request.clone()).await?;
    let again = call(request).await?;
    let refused = call(other).await.err().context("another request under the same id is no error")?;
    let why = (refused.code(), kit::status::reason(&refused));
    ensure!(why == (Code::AlreadyExists, Some("REQUEST_ID_REUSED".into())), "{refused:?}");
    Ok((first, again))
}

/// Text that no other call returns.
pub fn unique() -> String {
    let key = KeyPair::generate().expect("the random source works");
    key.public_key_raw()[1..17].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

fn tls(stack: &Stack) -> Result<ClientTlsConfig> {
    kit::tls::install_provider();
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(stack.server_ca_pem()?)))
}

async fn connect(url: &str, tls: ClientTlsConfig) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tls_config(tls)?.connect_timeout(CONNECT_MAX);
    // A call during which the server is stopped must not hang a test.
    let endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(5)).keep_alive_while_idle(true);
    endpoint.connect().await.with_context(|| format!("connecting to {url}"))
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({})", self.key)
    }
}
