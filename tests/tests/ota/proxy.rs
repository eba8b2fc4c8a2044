//! A TCP relay that counts what a client sends and cuts the wire after a given number of bytes: the client is killed
//! as far as the server can tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    sent: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Relays one connection to `target`; after `cut_after` bytes of the client's both ends are dropped.
    pub(crate) async fn start(target: String, cut_after: u64) -> Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let task = tokio::spawn(async move {
            if let Ok((client, _)) = listener.accept().await
                && let Ok(server) = TcpStream::connect(target).await
            {
                relay(client, server, cut_after, &counter).await;
            }
        });
        Ok(Proxy { port, sent, task })
    }

    /// Bytes that went to the server.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until the wire is cut.
    pub(crate) async fn cut(&mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, cut_after: u64, sent: &AtomicU64) {
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        let room = (cut_after - sent.load(Ordering::SeqCst)).min(up.len() as u64) as usize;
        if room == 0 {
            return;
        }
        tokio::select! {
            read = client.read(&mut up[..room]) => match read {
                Ok(count) if count > 0 => {
                    if server.write_all(&up[..count]).await.is_err() {
                        return;
                    }
                    sent.fetch_add(count as u64, Ordering::SeqCst);
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(count) if count > 0 => {
                    if client.write_all(&down[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
