//! The part of the harness that lives in this package: its S3 server.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result};
use dev::{Options, Part, Stack};

#[tokio::test]
async fn the_s3_server_refuses_strangers_and_keeps_its_objects_over_a_restart() -> Result<()> {
    let stack = Stack::start(Options::only([Part::S3])).await?;
    let s3 = stack.s3();
    std::fs::write(s3.dir.join(&s3.bucket).join("object"), "kept")?;
    let address = s3.endpoint.trim_start_matches("http://");
    let request =
        format!("GET /{}/object HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n", s3.bucket);
    assert!(ask(address, &request)?.starts_with("HTTP/1.1 403"), "no credentials, no object");

    stack.stop(Part::S3).await?;
    assert!(ask(address, &request).is_err(), "a stopped server does not answer");
    stack.start_service(Part::S3).await?;
    assert!(ask(address, &request)?.starts_with("HTTP/1.1 403"));
    assert_eq!(std::fs::read_to_string(s3.dir.join(&s3.bucket).join("object"))?, "kept");
    Ok(())
}

fn ask(address: &str, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading the answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
