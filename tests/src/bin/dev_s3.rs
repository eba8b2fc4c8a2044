//! The S3 server of the harness: s3s-fs over a folder, with signature checks, on a loopback port.
//!
//! It stands in for a managed object store in development and tests; objects are plain files, so a test can look at them.
//! The credentials come by environment, never by argument. It prints one JSON line when it listens and ends on SIGTERM.

#![expect(clippy::print_stdout, reason = "the ready line is this program's interface")]

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// signal(7) on Linux, every architecture we run on.
const SIGXFSZ: i32 = 25;

#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 chooses one.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the objects lie: one folder a bucket.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, env = "DEV_S3_ACCESS_KEY", hide_env_values = true)]
    access_key: String,
    #[arg(long, env = "DEV_S3_SECRET_KEY", hide_env_values = true)]
    secret_key: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let files = FileSystem::new(&arguments.dir)
        .map_err(|error| anyhow!("{error:?}"))
        .with_context(|| format!("opening {}", arguments.dir.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(arguments.access_key, arguments.secret_key));
    let service = service.build();

    let mut terminate = signal(SignalKind::terminate())?;
    // A file that may not grow further is an error of that request, not the end of the process: tests of a full disk.
    let _too_long = signal(SignalKind::from_raw(SIGXFSZ))?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listening on {}", arguments.listen))?;
    println!("{{\"ready\":\"dev-s3\",\"http\":\"{}\"}}", listener.local_addr()?);
    let server = Builder::new(TokioExecutor::new());
    loop {
        let (socket, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(()),
        };
        // Half-packets of a signed chunked upload would wait for delayed acknowledgements otherwise.
        let _ = socket.set_nodelay(true);
        let connection = server.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}
