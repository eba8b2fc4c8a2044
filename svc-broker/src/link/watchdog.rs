//! Whether messages still get through: one a second, from here to here.
//!
//! Holds: a process whose runtime or hub has stopped does not linger as if alive; it aborts, is started again, and
//! devices connect anew. The judge is a thread of its own, since a stuck runtime judges nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use wire::topic::TopicId;
use wire::{Channel, Topic};

use super::connection::Front;
use super::hub::Outcome;
use super::input::Version;
use super::mailbox::{Batch, Mailbox, Message};
use crate::model::filter::Filter;
use crate::model::limits::DEVICE;
use crate::model::peer::PROBE;

const PERIOD: Duration = Duration::from_secs(1);

/// Sends a message a second through the hub until shutdown; aborts the process when they stop arriving.
pub(crate) async fn watch(front: Arc<Front>) {
    let (beat, beats) = sync_channel(1);
    let patience = Duration::from_millis(front.bounds.watchdog_ms_max as u64);
    let judge =
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || judge(&beats, patience));
    if let Err(error) = judge {
        return tracing::error!(%error, "no watchdog");
    }
    let _ = front.shutdown.or(probe(&front, &beat)).await;
}

/// Until the beats end in order; aborts the process when one is missing.
fn judge(beats: &Receiver<()>, patience: Duration) {
    loop {
        match beats.recv_timeout(patience) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("no message got through for {patience:?}: aborting");
                std::process::abort();
            }
        }
    }
}

async fn probe(front: &Front, beat: &SyncSender<()>) {
    let message = message();
    let mailbox = Arc::new(Mailbox::new(Version::V5, DEVICE, None, None));
    if let Some(filter) = Filter::parse(&message.name.to_string()) {
        mailbox.subscribe(&filter, 0);
    }
    front.hub.attach(TopicId::Device(PROBE), &mailbox);
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        front.hub.measure();
        let routed = front.hub.route(&message) == Outcome::Delivered;
        let arrived = timeout(PERIOD, mailbox.next(&mut Batch::default())).await.is_ok();
        if routed && arrived {
            // Full: the last beat is not yet heard, which is a beat too.
            let _ = beat.try_send(());
        }
    }
}

fn message() -> Message {
    let name = Topic::down(PROBE, Channel::Hello);
    Message { name, topic: name.to_string().into(), payload: Bytes::new(), properties: Bytes::new(), qos: 0 }
}

#[cfg(test)]
mod tests {
    use super::super::hub::Hub;
    use super::super::metrics::Metrics;
    use super::*;
    use crate::app::Connections;
    use crate::grpc::Authority;

    /// Set for the process that is to be ended.
    const VICTIM: &str = "HOLDFAST_TEST_WATCHDOG_VICTIM";

    #[test]
    fn without_a_beat_the_process_is_ended_and_an_orderly_end_is_none() {
        use std::os::unix::process::ExitStatusExt as _;
        let (beat, beats) = sync_channel(1);
        if std::env::var_os(VICTIM).is_some() {
            beat.send(()).expect("the judge is there");
            return judge(&beats, Duration::from_millis(10));
        }
        let name = "link::watchdog::tests::without_a_beat_the_process_is_ended_and_an_orderly_end_is_none";
        let victim = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env(VICTIM, "1")
            .output()
            .expect("started again");
        assert_eq!(victim.status.signal(), Some(6), "SIGABRT: {victim:?}");
        drop(beat);
        judge(&beats, Duration::from_secs(60));
    }

    #[tokio::test]
    async fn the_heart_beats_while_messages_get_through() {
        let nowhere = tonic::transport::Endpoint::from_static("http://localhost:1").connect_lazy();
        let metrics = Metrics::new();
        let front = Front {
            bounds: Arc::default(),
            connections: Connections::new(Arc::default()),
            deciding: tokio::sync::Semaphore::new(1),
            hub: Hub::new(metrics.clone()),
            authority: Authority::new(nowhere),
            metrics,
            shutdown: kit::Shutdown::new(),
        };
        let (beat, beats) = sync_channel(1);
        let alive = async {
            while beats.try_recv().is_err() {
                tokio::task::yield_now().await
            }
        };
        tokio::select! {
            () = probe(&front, &beat) => unreachable!("it never ends"),
            alive = timeout(Duration::from_secs(30), alive) => alive.expect("no beat"),
        }
    }
}
