//! Bytes nobody should send, before anybody is asked who sends them.

use scenarios::broker::client;
use scenarios::broker::rig::{Rig, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn what_is_not_tls_ends_at_once_and_a_huge_connect_before_it_is_read() {
    let rig = Rig::start().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02dv", &[0; 64]]
    {
        let mut socket = tokio::net::TcpStream::connect(&rig.device).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(socket.read_to_end(&mut rest)).await;
    }
    let device = rig.device(1);
    let mut stream = client::tls(&rig.device, &rig.server_ca, Some(&device)).await.unwrap();
    stream.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    assert_eq!(client::read_packet(&mut stream).await, None);
    assert!(rig.metric("holdfast_broker_connects_total", "packet_too_large").await >= 1.0);
}
