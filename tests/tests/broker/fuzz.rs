//! What nobody should send, from clients whose certificates are good: a short run of what `cargo dev soak broker` does for long.

use scenarios::broker::fuzz::{self, Plan};
use scenarios::broker::rig::Rig;
use tokio::sync::watch;

const SEED: u64 = 0x5eed_0001;
const CONNECTIONS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_conversation_of_a_certified_client_panics_the_broker_or_disturbs_or_reaches_another() {
    let rig = Rig::start().await;
    let plan = Plan { seed: SEED, first: 0, connections: CONNECTIONS, workers: 8 };
    let report = fuzz::run(&rig, plan, watch::Sender::new(0)).await.unwrap();
    assert!(report.admitted > CONNECTIONS / 4, "it must get past CONNECT to say anything: {report:?}");
    assert!(report.judged > CONNECTIONS / 4, "some of it must be such as is delivered: {report:?}");
    assert!(report.turns > 1, "{report:?}");
}
