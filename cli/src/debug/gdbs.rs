//! gdbs come and go: over a port of this machine, or over stdin and stdout, one at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::debug::link::{Gone, Link, failure};
use crate::debug::record::Recorder;
use crate::debug::server::{Gdb, Left, PIECES_MAX, serve, wait_idly};
use crate::debug::target::Debugged;

/// Bytes taken from gdb at once.
const PIECE_BYTES: usize = 4096;
/// How long gdb may take to read why it is served no more.
pub(crate) const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// A port for gdb that only this machine can reach; 0: one that is free.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(at).await.with_context(|| format!("cannot listen at {at}"))
}

/// The thread that serves gdb, one after the other.
#[derive(Debug)]
pub(crate) struct Server {
    gdbs: mpsc::Sender<Gdb>,
    left: mpsc::Receiver<Result<Left, Gone>>,
    recorder: Option<Recorder>,
}

impl Server {
    pub(crate) fn start(mut debugged: Debugged, keep: bool, recorder: Option<Recorder>) -> Result<Server> {
        let (gdbs, mut next) = mpsc::channel::<Gdb>(1);
        let (leaving, left) = mpsc::channel(1);
        let runtime = tokio::runtime::Handle::current();
        let recording = recorder.clone();
        let serving = move || {
            loop {
                let outcome = match wait_idly(&mut debugged.machine, &mut next, &runtime) {
                    Ok(Some(gdb)) => serve(&mut debugged, gdb, &runtime, keep),
                    Ok(None) => return,
                    Err(gone) => Err(gone),
                };
                let is_gone = outcome.is_err();
                if let Some(recorder) = recording.as_ref().filter(|_| !is_gone) {
                    // That it was let go comes before that gdb left.
                    recorder.wait_for_calls(debugged.machine.cost().calls);
                }
                if leaving.blocking_send(outcome).is_err() || is_gone {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("gdb".into()).spawn(serving).context("cannot start a thread")?;
        Ok(Server { gdbs, left, recorder })
    }

    /// Why no gdb can be served any more, while none is.
    async fn gone(&mut self) -> anyhow::Error {
        match self.left.recv().await {
            Some(Err(gone)) => failure(gone),
            Some(Ok(_)) | None => failure(Link::lost()),
        }
    }

    async fn serve(&mut self, gdb: Gdb) -> Result<()> {
        let Some(recorder) = &self.recorder else { return self.serve_one(gdb).await.map(drop) };
        let (gdb, served) = recorder.gdb(gdb)?;
        let left = self.serve_one(gdb).await;
        let how = match &left {
            Ok(Left::Detached) => "it let go of the application".to_owned(),
            Ok(Left::Disconnected) => "its connection is gone".to_owned(),
            Ok(Left::Confused(why)) => format!("it said what cannot be understood: {why}"),
            Err(error) => format!("{error:#}"),
        };
        let written = served.left(&how).await;
        left.and(written)
    }

    async fn serve_one(&mut self, gdb: Gdb) -> Result<Left> {
        let gone = || failure(Link::lost());
        self.gdbs.send(gdb).await.map_err(|_| gone())?;
        let left = self.left.recv().await.ok_or_else(gone)?.map_err(failure)?;
        if let Left::Confused(why) = &left {
            eprintln!("warning: gdb said what cannot be understood: {why}");
        }
        Ok(left)
    }
}

pub(crate) async fn over_tcp(mut server: Server, listener: &TcpListener, keep: bool) -> Result<()> {
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.context("cannot accept gdb")?,
            gone = server.gone() => return Err(gone),
        };
        let (gdb, written) = pump(stream)?;
        let served = tokio::select! {
            served = server.serve(gdb) => served,
            // A second one would wait for ever.
            never = turn_away(listener) => return never,
        };
        let _ = tokio::time::timeout(LAST_WORDS_MAX, written).await;
        served?;
        if !keep {
            return Ok(());
        }
    }
}

async fn turn_away(listener: &TcpListener) -> Result<()> {
    loop {
        drop(listener.accept().await.context("cannot accept gdb")?);
        eprintln!("warning: another gdb was turned away: one is connected");
    }
}

/// And what ends when gdb was told all there is.
fn pump(stream: TcpStream) -> Result<(Gdb, JoinHandle<()>)> {
    stream.set_nodelay(true)?;
    let (mut reading, mut writing) = stream.into_split();
    let (sender, from) = mpsc::channel(PIECES_MAX);
    let (to, mut receiver) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    tokio::spawn(async move {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(bytes @ 1..) = reading.read(&mut piece).await {
            if sender.send(piece[..bytes].to_vec()).await.is_err() {
                return;
            }
        }
    });
    let written = tokio::spawn(async move {
        while let Some(bytes) = receiver.recv().await {
            if writing.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    Ok((Gdb { from, to }, written))
}

pub(crate) async fn over_stdio(mut server: Server) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let (sender, from) = mpsc::channel(PIECES_MAX);
    let (to, mut receiver) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(bytes @ 1..) = std::io::stdin().lock().read(&mut piece) {
            if sender.blocking_send(piece[..bytes].to_vec()).is_err() {
                return;
            }
        }
    });
    let (all, written) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Gone when this ends, which is all it says.
        let _all = all;
        while let Some(bytes) = receiver.blocking_recv() {
            let mut stdout = std::io::stdout().lock();
            if stdout.write_all(&bytes).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    let served = server.serve(Gdb { from, to }).await;
    let _ = tokio::time::timeout(LAST_WORDS_MAX, written).await;
    served
}
