//! One conversation, spoken to a broker.
//!
//! Holds: the broker may end it at any byte, but not keep it after its client has closed; nothing of it waits longer
//! than `SOON`; and whatever comes back, the secret of those in order is not in it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::client::Stream;
use super::super::rig::SOON;
use super::conversation::{Conversation, Door, End, Step};

const READ_BYTES: usize = 4096;

/// Where conversations are played, and as whom.
#[derive(Debug)]
pub(super) struct Stage {
    /// Device, enrolment, service.
    pub(super) listeners: [String; 3],
    /// Of each of the cast: its listener, and TLS in its name.
    pub(super) cast: Vec<(usize, Arc<ClientConfig>)>,
    pub(super) untrusted: Arc<ClientConfig>,
    /// What only those in order say to each other.
    pub(super) secret: String,
}

/// A connection that lingers, and what it will say last.
#[derive(Debug)]
pub(super) struct Lingering {
    stream: Stream,
    rest: Vec<u8>,
    reset: bool,
}

/// The connection, if it is to linger.
pub(super) async fn play(stage: &Stage, conversation: &Conversation) -> Result<Option<Lingering>> {
    let (listener, config) = match conversation.door {
        Door::Member(member) => stage.cast[member].clone(),
        Door::Wrong(member) => ((stage.cast[member].0 + 1) % 3, stage.cast[member].1.clone()),
        Door::Untrusted => (0, stage.untrusted.clone()),
        Door::Plain => return plain(&stage.listeners[0], conversation).await.map(|()| None),
    };
    let socket = connected(&stage.listeners[listener]).await?;
    let name = ServerName::try_from("localhost").context("a name")?;
    let connecting = TlsConnector::from(config).connect(name, socket);
    let Ok(stream) = timeout(SOON, connecting).await.context("the TLS handshake takes too long")? else {
        return Ok(None);
    };
    let Some(stream) = speak(stage, conversation, stream).await? else { return Ok(None) };
    end(stage, conversation, stream).await
}

/// All that waits for its last words, and then goes.
pub(super) async fn leave(lingering: Lingering) {
    let Lingering { mut stream, rest, reset } = lingering;
    // The broker may have closed it long ago.
    let _ = timeout(SOON, async {
        stream.write_all(&rest).await?;
        stream.flush().await
    })
    .await;
    if reset {
        let _ = stream.get_ref().0.set_zero_linger();
    }
}

async fn connected(address: &str) -> Result<TcpStream> {
    let socket = timeout(SOON, TcpStream::connect(address)).await.context("nobody accepts")??;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn plain(address: &str, conversation: &Conversation) -> Result<()> {
    let mut socket = connected(address).await?;
    for step in &conversation.steps {
        if let Step::Write(bytes) = step
            && socket.write_all(bytes).await.is_err()
        {
            return Ok(());
        }
    }
    if conversation.end == End::Reset {
        let _ = socket.set_zero_linger();
    }
    Ok(())
}

/// Says everything while it listens; the connection, unless the broker has ended it.
async fn speak(stage: &Stage, conversation: &Conversation, stream: Stream) -> Result<Option<Stream>> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (answered, answer) = watch::channel(false);
    let said = if conversation.reads {
        tokio::select! {
            heard = hear(&mut from, &stage.secret, &answered) => return heard.map(|()| None),
            said = timeout(SOON, say(&mut to, &conversation.steps, answer)) => said,
        }
    } else {
        timeout(SOON, say(&mut to, &conversation.steps, answer)).await
    };
    let is_open = said.context("the broker takes no byte and does not close")?;
    Ok(is_open.then(|| from.unsplit(to)))
}

/// Until the end of the stream.
async fn hear<R: AsyncRead + Unpin>(
    from: &mut R,
    secret: &str,
    answered: &watch::Sender<bool>,
) -> Result<()> {
    let mut heard = Vec::with_capacity(READ_BYTES);
    while from.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
        answered.send_replace(true);
        if heard.windows(secret.len()).any(|window| window == secret.as_bytes()) {
            bail!("it heard what is not meant for it");
        }
        let seen = heard.len().saturating_sub(secret.len());
        heard.drain(..seen);
    }
    Ok(())
}

/// False: it was closed meanwhile.
async fn say<W: AsyncWrite + Unpin>(to: &mut W, steps: &[Step], mut answer: watch::Receiver<bool>) -> bool {
    for step in steps {
        match step {
            Step::Write(bytes) => {
                if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
                    return false;
                }
            }
            Step::Answer => {
                if answer.wait_for(|answered| *answered).await.is_err() {
                    return false;
                }
            }
            Step::Yield => tokio::task::yield_now().await,
        }
    }
    true
}

async fn end(stage: &Stage, conversation: &Conversation, mut stream: Stream) -> Result<Option<Lingering>> {
    match conversation.end {
        End::Close => {
            let _ = timeout(SOON, stream.shutdown()).await.context("the broker takes no close")?;
        }
        End::HalfClose => {
            let _ = stream.get_mut().0.shutdown().await;
        }
        End::Drop => return Ok(None),
        End::Reset => {
            let _ = stream.get_ref().0.set_zero_linger();
            return Ok(None);
        }
        End::Linger { reset } => {
            return Ok(Some(Lingering { stream, rest: conversation.rest.clone(), reset }));
        }
    }
    let (answered, _) = watch::channel(false);
    timeout(SOON, hear(&mut stream, &stage.secret, &answered))
        .await
        .context("the broker keeps a connection that its client has closed")??;
    Ok(None)
}
