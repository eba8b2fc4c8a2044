//! The peer: a tonic service that does nothing, behind TLS with the same kind of certificate, as a process of its own.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use proto::registry::v1::token_service_server::{TokenService, TokenServiceServer};
use proto::registry::v1::{
    BootstrapRequest, BootstrapResponse, ExchangeTokenRequest, ExchangeTokenResponse, GetJwksRequest,
    GetJwksResponse,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::load::Call;
use crate::world::World;

/// As figures name it.
pub const NAME: &str = "empty tonic service";

/// The running peer; it ends when this is dropped.
#[derive(Debug)]
pub struct Empty {
    _process: Child,
    pub url: String,
}

impl Empty {
    /// Starts this same program with `--serve-empty FOLDER`.
    pub async fn start(world: &World) -> Result<Empty> {
        let folder = world.path("empty");
        std::fs::create_dir_all(&folder)?;
        let (certificate, key) = world.stack.server_identity("svc-registry")?;
        std::fs::write(folder.join("cert.pem"), certificate)?;
        std::fs::write(folder.join("key.pem"), key)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve-empty").arg(&folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().context("starting the empty service")?;
        let mut lines = BufReader::new(process.stdout.take().context("no stdout")?).lines();
        let port = lines.next_line().await?.context("the empty service ended")?;
        Ok(Empty { _process: process, url: format!("https://localhost:{port}") })
    }

    /// Nothing in, nothing out.
    pub fn call() -> Call {
        let path = "/holdfast.registry.v1.TokenService/GetJwks";
        Call { path, messages: vec![Vec::new()], token: None }
    }
}

/// Serves until the process is ended; prints the port.
#[expect(clippy::print_stdout, reason = "how the process that started this one learns the port")]
pub async fn serve(folder: &Path) -> Result<()> {
    kit::tls::install_provider();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).context("reading the certificate");
    let identity = Identity::from_pem(read("cert.pem")?, read("key.pem")?);
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?.port());
    let mut server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
    let serving = server.add_service(TokenServiceServer::new(Nothing)).serve_with_incoming(incoming);
    serving.await.context("the empty service")
}

struct Nothing;

#[tonic::async_trait]
impl TokenService for Nothing {
    async fn bootstrap(&self, _: Request<BootstrapRequest>) -> Result<Response<BootstrapResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn exchange_token(
        &self,
        _: Request<ExchangeTokenRequest>,
    ) -> Result<Response<ExchangeTokenResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}
