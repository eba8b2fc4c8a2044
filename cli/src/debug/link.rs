//! Between the thread that serves gdb and the session with the device: calls one way, answers the other.
//!
//! Whoever stands behind it, the relay's stream or a test's device, takes calls in order and gives answers as docs/protocol.md has them.

use proto::device::v1::{DebugAnswer, DebugCall};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Calls on their way at once: the thread never makes more before it waits. And answers that nobody has taken yet.
pub(crate) const CALLS_MAX: usize = 8;
pub(crate) const ANSWERS_MAX: usize = 64;

/// Why there is nothing more to be had in this session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Gone {
    /// The session is over; in words.
    #[error("{0}")]
    Ended(String),
    /// The device may not be debugged by us; in words.
    #[error("{0}")]
    Refused(String),
    #[error("the device said what cannot be ({0}): the session is over")]
    Nonsense(&'static str),
}

/// Of a session in which nothing is said.
pub(crate) const IDLE: &str =
    "nothing was said for too long: the session is over, and the application goes on (see --idle)";

/// The end of the thread that serves gdb.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) calls: mpsc::Sender<DebugCall>,
    pub(crate) answers: mpsc::Receiver<Result<DebugAnswer, Gone>>,
}

/// The device's end.
#[derive(Debug)]
pub(crate) struct Far {
    pub(crate) calls: mpsc::Receiver<DebugCall>,
    pub(crate) answers: mpsc::Sender<Result<DebugAnswer, Gone>>,
}

pub(crate) fn link() -> (Link, Far) {
    let (calls, far_calls) = mpsc::channel(CALLS_MAX);
    let (far_answers, answers) = mpsc::channel(ANSWERS_MAX);
    (Link { calls, answers }, Far { calls: far_calls, answers: far_answers })
}

impl Far {
    /// Whether one more answer can be handed on. If not, no more is taken from the device: what it says waits at the relay, and then at the device.
    pub(crate) fn has_place(&self) -> bool {
        self.answers.capacity() > 0 || self.answers.is_closed()
    }
}

/// Waits for a place, or until nobody makes any.
pub(crate) async fn place(answers: &mpsc::Sender<Result<DebugAnswer, Gone>>) {
    drop(answers.reserve().await);
}

impl Link {
    /// What to say when the other end left without a word.
    pub(crate) fn lost() -> Gone {
        Gone::Ended("the session is over".into())
    }
}

/// Why a session is over, as this program's failure.
pub(crate) fn failure(gone: Gone) -> anyhow::Error {
    match gone {
        Gone::Refused(why) => Failure::Refused(why).into(),
        gone => Failure::Over(gone.to_string()).into(),
    }
}
