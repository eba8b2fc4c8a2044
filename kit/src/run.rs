//! The life of a process: a signal to stop, named tasks, and a bounded drain.
//!
//! Tasks are spawned in one place, [`Tasks`]. One that ends or panics before the signal is a fault: everything stops
//! and the process exits with an error, to be started again by whoever runs it.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How long tasks may take to finish after the signal.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Tells tasks and handlers that the process is to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

/// The named tasks of a service.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    shutdown: Shutdown,
    drain_max: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("signals cannot be received")]
    Signal(#[from] std::io::Error),
    #[error("task {task} ended on its own")]
    Ended { task: &'static str },
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
    #[error("tasks were still running {}s after the signal", DRAIN_MAX.as_secs())]
    Drain,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to stop. Idempotent.
    pub fn begin(&self) {
        self.0.cancel();
    }

    pub fn begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until everything is to stop.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// The future's value, or `None` when everything is to stop first.
    pub async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(future).await
    }
}

impl Tasks {
    pub fn new(shutdown: Shutdown) -> Self {
        Self { set: JoinSet::new(), shutdown, drain_max: DRAIN_MAX }
    }

    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs a task until it ends; it is expected to end soon after the shutdown begins.
    pub fn spawn(&mut self, task: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::info_span!("task", task);
        self.set.spawn(
            async move {
                future.await;
                task
            }
            .instrument(span),
        );
    }

    /// Runs until SIGTERM or SIGINT (or [`Shutdown::begin`]), then drains.
    pub async fn run(mut self) -> Result<(), RunError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let early = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            () = self.shutdown.wait() => None,
            Some(ended) = self.set.join_next() => Some(ended),
        };
        let early = early.filter(|_| !self.shutdown.begun());
        tracing::info!("draining");
        self.shutdown.begin();
        let drained = self.drain().await;
        crate::trace::flush();
        match early {
            Some(Ok(task)) => Err(RunError::Ended { task }),
            Some(Err(panicked)) => Err(RunError::Panicked(panicked)),
            None => drained,
        }
    }

    async fn drain(&mut self) -> Result<(), RunError> {
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                ended.map_err(RunError::Panicked)?;
            }
            Ok(())
        };
        let result = tokio::time::timeout(self.drain_max, all).await.unwrap_or(Err(RunError::Drain));
        self.set.abort_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_stops_everything_and_is_named() {
        let mut tasks = Tasks::new(Shutdown::new());
        let shutdown = tasks.shutdown();
        tasks.spawn("waits", {
            let s = shutdown.clone();
            async move { s.wait().await }
        });
        tasks.spawn("quits", async {});
        let error = tasks.run().await.unwrap_err();
        assert!(matches!(error, RunError::Ended { task: "quits" }), "{error}");
        assert!(shutdown.begun());
    }

    #[tokio::test]
    async fn a_panicking_task_is_an_error() {
        let mut tasks = Tasks::new(Shutdown::new());
        tasks.spawn("panics", async { panic!("on purpose") });
        assert!(matches!(tasks.run().await, Err(RunError::Panicked(_))));
    }

    #[tokio::test]
    async fn a_shutdown_drains_and_ends_well() {
        let mut tasks = Tasks::new(Shutdown::new());
        let shutdown = tasks.shutdown();
        tasks.spawn("waits", {
            let s = shutdown.clone();
            async move { s.wait().await }
        });
        shutdown.begin();
        tasks.run().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_left_behind_after_the_bound() {
        let mut tasks = Tasks::new(Shutdown::new());
        tasks.spawn("never", std::future::pending());
        tasks.shutdown().begin();
        assert!(matches!(tasks.run().await, Err(RunError::Drain)));
    }
}
