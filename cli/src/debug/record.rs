//! Keeping a transcript of a session: whatever passes is written down before it passes.
//!
//! What cannot be written down is not done: an error of the file ends the session, and the application goes on. So what a transcript does not have
//! was not asked of the device, and a transcript that has no end was left by a process that was killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use noise::PublicKey;
use prost_types::Timestamp;
use proto::debug::v1::transcript_record::Event;
use proto::debug::v1::{
    TranscriptBegin, TranscriptEnd, TranscriptGdbCame, TranscriptGdbLeft, TranscriptRecord,
};
use tokio::sync::{mpsc, oneshot};
use wire::DeviceId;

use crate::debug::keys;
use crate::debug::link::{self, Gone, Link};
use crate::debug::server::{Gdb, PIECES_MAX};
use crate::debug::transcript::{RECORD_BYTES_MAX, WriteError, Writer};
use crate::failure::{Failure, input};

/// Bytes of gdb's protocol in one record.
const GDB_BYTES_MAX: usize = RECORD_BYTES_MAX / 2;
/// Characters of the words that say why something ended.
const REASON_CHARS_MAX: usize = 1024;
/// How long the last words to a gdb that has left, and the last call for it, may take on their way.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Where transcripts are kept, unless somebody says otherwise: in a folder of this user's alone.
pub(crate) fn place(home: &Path, device: DeviceId, now: &Timestamp) -> Result<PathBuf> {
    let folder = keys::folder(home)?.join("transcripts");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot create {}", folder.display()))?;
    let second = Timestamp { seconds: now.seconds, nanos: 0 }.to_string().replace(':', "-");
    Ok(folder.join(format!("{second}-{device}.hft")))
}

/// A transcript before there is a session; the file is gone again if there comes none.
#[derive(Debug)]
pub(crate) struct Blank {
    path: PathBuf,
    writer: Option<Writer<File>>,
}

impl Blank {
    /// Makes the file, readable by its owner alone; an existing one is an error.
    pub(crate) fn create(path: &Path, owner: &PublicKey) -> Result<Blank> {
        let made = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(input(format!(
                    "{} is there already, and a transcript is never written over: name another file with --record=FILE",
                    path.display()
                )));
            }
            made => made.with_context(|| format!("cannot create the transcript {}", path.display()))?,
        };
        match Writer::begin(file, owner) {
            Ok(writer) => Ok(Blank { path: path.to_owned(), writer: Some(writer) }),
            Err(error) => {
                // Nobody else made it, and nothing is in it.
                let _ = std::fs::remove_file(path);
                Err(match error {
                    WriteError::Key => {
                        input("the key that the transcript is to be sealed to is no X25519 key")
                    }
                    error => anyhow::Error::from(error)
                        .context(format!("cannot write the transcript {}", path.display())),
                })
            }
        }
    }

    /// There is a session. If its beginning cannot be written down it ends before anything is said.
    pub(crate) fn begin(mut self, begin: TranscriptBegin) -> Recorder {
        let writing = Writing {
            path: self.path.clone(),
            writer: self.writer.take(),
            began: Instant::now(),
            calls: 0,
            failed: None,
        };
        let recorder = Recorder(Arc::new((Mutex::new(writing), Condvar::new())));
        // It is remembered, and said when something is to be done.
        let _ = recorder.record(Event::Begin(begin));
        recorder
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // An empty transcript is nobody's loss, nor is one that stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug)]
struct Writing {
    path: PathBuf,
    /// None: nothing more is written.
    writer: Option<Writer<File>>,
    began: Instant,
    /// Written down so far.
    calls: u64,
    failed: Option<String>,
}

/// Writes a transcript; its clones write the same one.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(Arc<(Mutex<Writing>, Condvar)>);

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many calls are written down, by the thread that they pass; or nothing more is.
    pub(crate) fn wait_for_calls(&self, count: u64) {
        let is_due = |writing: &mut Writing| {
            writing.calls < count && writing.failed.is_none() && writing.writer.is_some()
        };
        // One that was given up is not waited for.
        drop(self.0.1.wait_timeout_while(self.lock(), DRAIN_MAX, is_due));
    }

    /// When it returns without an error, this is in the file.
    pub(crate) fn record(&self, event: Event) -> Result<(), Gone> {
        let is_call = matches!(event, Event::Call(_));
        let mut writing = self.lock();
        let written = writing.write(event, false);
        if is_call {
            writing.calls += 1;
            self.0.1.notify_all();
        }
        written
    }

    /// The session is over, as it ended. What could not be written down is the greater failure.
    pub(crate) fn finish(&self, ended: Result<()>) -> Result<()> {
        let mut writing = self.lock();
        let reason = ended.as_ref().err().map(|error| cut(&format!("{error:#}"))).unwrap_or_default();
        // What failed before is not said twice.
        let _ = writing.write(Event::End(TranscriptEnd { reason }), true);
        writing.sync();
        writing.writer = None;
        match &writing.failed {
            Some(failed) => Err(Failure::Over(failed.clone()).into()),
            None => ended,
        }
    }

    /// What passes between here and the device, written down before it passes.
    pub(crate) fn between(&self, link: Link) -> io::Result<Link> {
        let Link { calls: to_device, answers: mut from_device } = link;
        let (near, link::Far { calls: mut asked, answers }) = link::link();
        let (recorder, telling) = (self.clone(), answers.clone());
        thread("recorded calls", move || {
            while let Some(call) = asked.blocking_recv() {
                if let Err(gone) = recorder.record(Event::Call(call.clone())) {
                    let _ = telling.blocking_send(Err(gone));
                    return;
                }
                if to_device.blocking_send(call).is_err() {
                    return;
                }
            }
        })?;
        let recorder = self.clone();
        thread("recorded answers", move || {
            loop {
                let answer = from_device.blocking_recv().unwrap_or_else(|| Err(Link::lost()));
                let answer = answer.and_then(|answer| {
                    recorder.record(Event::Answer(answer.clone()))?;
                    Ok(answer)
                });
                let is_last = answer.is_err();
                if answers.blocking_send(answer).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(near)
    }

    /// What is said with a gdb, written down before it is heard.
    pub(crate) fn gdb(&self, gdb: Gdb) -> Result<(Gdb, Served)> {
        self.record(Event::GdbCame(TranscriptGdbCame {})).map_err(link::failure)?;
        let Gdb { from: mut saying, to: hearing } = gdb;
        let (said, from) = mpsc::channel(PIECES_MAX);
        let (to, mut told) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
        let recorder = self.clone();
        thread("recorded from gdb", move || {
            while let Some(bytes) = saying.blocking_recv() {
                if recorder.pieces(&bytes, Event::GdbSaid).is_err() || said.blocking_send(bytes).is_err() {
                    return;
                }
            }
        })?;
        let (telling, is_told) = oneshot::channel::<()>();
        let recorder = self.clone();
        thread("recorded to gdb", move || {
            let _dropped_when_all_is_told = telling;
            while let Some(bytes) = told.blocking_recv() {
                if recorder.pieces(&bytes, Event::GdbTold).is_err() || hearing.blocking_send(bytes).is_err() {
                    return;
                }
            }
        })?;
        Ok((Gdb { from, to }, Served { recorder: self.clone(), is_told, has_left: false }))
    }

    fn pieces(&self, bytes: &[u8], event: fn(Vec<u8>) -> Event) -> Result<(), Gone> {
        bytes.chunks(GDB_BYTES_MAX).try_for_each(|piece| self.record(event(piece.to_vec())))
    }
}

/// A gdb that is recorded.
#[derive(Debug)]
pub(crate) struct Served {
    recorder: Recorder,
    /// Ends when all that it was told is written down.
    is_told: oneshot::Receiver<()>,
    has_left: bool,
}

impl Served {
    /// It has left; in words.
    pub(crate) async fn left(mut self, how: &str) -> Result<()> {
        // One that does not read what it is told is not waited for.
        let _ = tokio::time::timeout(DRAIN_MAX, &mut self.is_told).await;
        self.write(how).map_err(link::failure)
    }

    fn write(&mut self, how: &str) -> Result<(), Gone> {
        self.has_left = true;
        self.recorder.record(Event::GdbLeft(TranscriptGdbLeft { how: cut(how) }))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.has_left {
            // What failed is said by what is to be done next, or at the end.
            let _ = self.write("the session is over");
        }
    }
}

impl Writing {
    fn write(&mut self, event: Event, is_last: bool) -> Result<(), Gone> {
        if let Some(failed) = &self.failed {
            return Err(Gone::Ended(failed.clone()));
        }
        let Some(writer) = &mut self.writer else { return Err(Link::lost()) };
        let at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let written = writer.write(&TranscriptRecord { at_us, event: Some(event) }, is_last);
        written.map_err(|error| self.fail(&error))
    }

    fn sync(&mut self) {
        if let (Some(writer), None) = (&self.writer, &self.failed)
            && let Err(error) = writer.file().sync_all()
        {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) -> Gone {
        let failed = format!(
            "the transcript {} cannot be written ({error}): the session is over, since what cannot be written down is not done",
            self.path.display()
        );
        self.failed = Some(failed.clone());
        Gone::Ended(failed)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

/// Of its own, since a file may take its time and the runtime has none.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use crate::debug::transcript::tests::{owner, read};
    use proto::device::v1::{DebugAnswer, DebugCall};

    pub(crate) fn recorder(path: &Path) -> Recorder {
        Blank::create(path, &owner().public()).unwrap().begin(TranscriptBegin::default())
    }

    /// One whose file takes what it is given until the other end is dropped.
    fn on_a_file_that_breaks() -> (Recorder, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let writer = Writer::begin(File::from(OwnedFd::from(near)), &owner().public()).unwrap();
        let path = PathBuf::from("session.hft");
        (Blank { path, writer: Some(writer) }.begin(TranscriptBegin::default()), far)
    }

    fn call(number: u32) -> DebugCall {
        DebugCall { number, ..DebugCall::default() }
    }

    #[test]
    fn a_transcript_is_its_owners_alone_never_written_over_and_gone_without_a_session() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.hft");
        let blank = Blank::create(&path, &owner().public()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(blank);
        assert!(!path.exists());
        std::fs::write(&path, "what was there").unwrap();
        let error = Blank::create(&path, &owner().public()).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Failure::Input(why)) if why.contains("--record=FILE")),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
        let other = folder.path().join("other.hft");
        assert!(Blank::create(&other, &[0; 32]).unwrap_err().to_string().contains("no X25519 key"));
        assert!(!other.exists());
    }

    #[test]
    fn the_place_of_a_transcript_is_this_users_and_named_by_time_and_device() {
        let home = tempfile::tempdir().unwrap();
        let now = Timestamp { seconds: 1_790_000_000, nanos: 5 };
        let device = DeviceId::new([0xab; 16]);
        let path = place(home.path(), device, &now).unwrap();
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("2026-09-21T14-13-20Z-{device}.hft"));
        let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_session_is_written_down_with_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        for (name, ended, expected) in
            [("a", Ok(()), ""), ("b", Err(anyhow::anyhow!("why").context("it is over")), "it is over: why")]
        {
            let path = folder.path().join(name);
            let recorder = recorder(&path);
            recorder.record(Event::Call(call(1))).unwrap();
            let is_error = ended.is_err();
            assert_eq!(recorder.finish(ended).is_err(), is_error);
            assert!(recorder.record(Event::Call(call(2))).is_err(), "it is over");
            let (records, end) = read(&std::fs::read(&path).unwrap(), &owner());
            assert!(end.is_ok());
            let events: Vec<_> = records.into_iter().map(|record| record.event.unwrap()).collect();
            assert!(
                matches!(&events[..], [Event::Begin(_), Event::Call(_), Event::End(end)] if end.reason == expected)
            );
        }
    }

    #[test]
    fn a_process_that_is_killed_leaves_what_was_done_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.hft");
        let recorder = recorder(&path);
        recorder.record(Event::Call(call(1))).unwrap();
        let (records, end) = read(&std::fs::read(&path).unwrap(), &owner());
        assert_eq!(records.len(), 2);
        assert!(end.unwrap_err().to_string().contains("after record 2"));
    }

    #[test]
    fn what_cannot_be_written_down_is_not_done_and_ends_the_session_in_words() {
        let (recorder, file) = on_a_file_that_breaks();
        let (link, mut far) = link::link();
        let mut near = recorder.between(link).unwrap();
        near.calls.blocking_send(call(1)).unwrap();
        assert_eq!(far.calls.blocking_recv(), Some(call(1)));
        far.answers.blocking_send(Ok(DebugAnswer { call: 1, ..DebugAnswer::default() })).unwrap();
        assert_eq!(near.answers.blocking_recv().unwrap().unwrap().call, 1);
        // From here on the disk is full.
        drop(file);
        near.calls.blocking_send(call(2)).unwrap();
        let gone = near.answers.blocking_recv().unwrap().unwrap_err();
        assert!(gone.to_string().contains("session.hft cannot be written"), "{gone}");
        assert_eq!(far.calls.blocking_recv(), None, "the device is asked nothing more");
        let ended = recorder.finish(Ok(())).unwrap_err();
        assert_eq!(ended.to_string(), gone.to_string());
        assert!(matches!(ended.downcast_ref(), Some(Failure::Over(_))));
    }

    #[test]
    fn an_answer_that_cannot_be_written_down_is_not_given() {
        let (recorder, file) = on_a_file_that_breaks();
        let (link, far) = link::link();
        let mut near = recorder.between(link).unwrap();
        drop(file);
        far.answers.blocking_send(Ok(DebugAnswer::default())).unwrap();
        assert!(near.answers.blocking_recv().unwrap().unwrap_err().to_string().contains("cannot be written"));
    }

    #[test]
    fn what_gdb_says_and_is_told_passes_when_it_is_written_down_and_not_otherwise() {
        let (recorder, file) = on_a_file_that_breaks();
        let (said, from) = mpsc::channel(PIECES_MAX);
        let (to, mut told) = mpsc::channel(PIECES_MAX);
        let (mut gdb, served) = recorder.gdb(Gdb { from, to }).unwrap();
        said.blocking_send(b"$g#67".to_vec()).unwrap();
        assert_eq!(gdb.from.blocking_recv(), Some(b"$g#67".to_vec()));
        gdb.to.blocking_send(b"$OK#9a".to_vec()).unwrap();
        assert_eq!(told.blocking_recv(), Some(b"$OK#9a".to_vec()));
        drop(file);
        said.blocking_send(b"$g#67".to_vec()).unwrap();
        assert_eq!(gdb.from.blocking_recv(), None);
        gdb.to.blocking_send(b"$OK#9a".to_vec()).unwrap();
        assert_eq!(told.blocking_recv(), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        assert!(runtime.block_on(served.left("it is gone")).is_err());
    }

    #[test]
    fn that_a_gdb_left_comes_behind_the_calls_that_were_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.hft");
        let recorder = recorder(&path);
        let (link, mut far) = link::link();
        let near = recorder.between(link).unwrap();
        for number in 1..=8 {
            near.calls.blocking_send(call(number)).unwrap();
        }
        recorder.wait_for_calls(8);
        recorder.record(Event::GdbLeft(TranscriptGdbLeft::default())).unwrap();
        recorder.finish(Ok(())).unwrap();
        // Of what is over nothing is waited for.
        recorder.wait_for_calls(9);
        let (records, _) = read(&std::fs::read(&path).unwrap(), &owner());
        let events: Vec<_> = records.into_iter().filter_map(|record| record.event).collect();
        assert!(
            matches!(&events[1..], [.., Event::Call(last), Event::GdbLeft(_), Event::End(_)] if last.number == 8)
        );
        assert_eq!(far.calls.blocking_recv(), Some(call(1)));
    }

    #[test]
    fn what_gdb_is_told_at_once_may_be_longer_than_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.hft");
        let recorder = recorder(&path);
        let long: Vec<u8> = (0..RECORD_BYTES_MAX + 1).map(|n| n as u8).collect();
        recorder.pieces(&long, Event::GdbTold).unwrap();
        recorder.finish(Ok(())).unwrap();
        let (records, end) = read(&std::fs::read(&path).unwrap(), &owner());
        assert!(end.is_ok());
        let told = records.into_iter().filter_map(|record| match record.event {
            Some(Event::GdbTold(bytes)) => Some(bytes),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>().concat(), long);
    }

    #[test]
    fn a_beginning_that_cannot_be_written_down_lets_nothing_begin() {
        let (near, far) = UnixStream::pair().unwrap();
        let writer = Writer::begin(File::from(OwnedFd::from(near)), &owner().public()).unwrap();
        drop(far);
        let blank = Blank { path: "session.hft".into(), writer: Some(writer) };
        let recorder = blank.begin(TranscriptBegin::default());
        let (link, mut far) = link::link();
        let near = recorder.between(link).unwrap();
        near.calls.blocking_send(call(1)).unwrap();
        assert_eq!(far.calls.blocking_recv(), None);
    }

    #[test]
    fn a_session_that_is_lost_is_told_as_without_a_transcript() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = recorder(&folder.path().join("session.hft"));
        let (link, far) = link::link();
        let mut near = recorder.between(link).unwrap();
        drop(far);
        assert_eq!(near.answers.blocking_recv(), Some(Err(Link::lost())));
        assert!(recorder.finish(Ok(())).is_ok());
    }
}
