//! Who waits for a deployment to change. Hints come from Postgres (NOTIFY); every waiter also looks by itself now and
//! then, so that a lost hint costs time only.

use std::time::Duration;

use kit::pg::Hint;
use tokio::sync::{broadcast, mpsc};
use wire::{DeploymentId, DeviceId};

use super::App;
use crate::model::state::State;

/// Deployments watched at once.
pub(crate) const WATCHES_MAX: usize = 1024;
/// Those of one tenant.
pub(crate) const WATCHES_OF_TENANT_MAX: usize = 256;
/// Hints a slow waiter may lag behind; more tell it to look anyway.
const HINTS_MAX: usize = 256;
/// How often a waiter looks without a hint.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Changes {
    /// `None`: any may have changed.
    hints: broadcast::Sender<Option<DeploymentId>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { hints: broadcast::channel(HINTS_MAX).0 }
    }
}

/// One waiter.
#[derive(Debug)]
pub(crate) struct Waiter {
    deployment: DeploymentId,
    hints: broadcast::Receiver<Option<DeploymentId>>,
}

impl Changes {
    pub(crate) fn waiter(&self, deployment: DeploymentId) -> Waiter {
        Waiter { deployment, hints: self.hints.subscribe() }
    }
}

impl Waiter {
    /// Returns when it is worth looking. May be dropped at any time.
    pub(crate) async fn worth_a_look(&mut self) {
        let hinted = async {
            loop {
                match self.hints.recv().await {
                    Ok(Some(other)) if other != self.deployment => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = tokio::time::timeout(LOOK_ANYWAY, hinted).await;
    }
}

/// Hands hints on until the channel ends; also forgets what was cached about the device.
pub(crate) async fn spread(app: &App, mut hints: mpsc::Receiver<Hint>) {
    while let Some(hint) = hints.recv().await {
        let changed = match &hint {
            Hint::Notified(payload) => parse(payload),
            Hint::Missed => None,
        };
        match changed {
            Some((_, device, state)) if state == State::Pending || state.is_final() => {
                app.directed.forget(device)
            }
            // Progress: the device may have what it might have before.
            Some(_) => {}
            None => app.directed.forget_all(),
        }
        // No waiter is no fault.
        let _ = app.changes.hints.send(changed.map(|(deployment, ..)| deployment));
    }
}

/// `{deployment} {device} {state}`
fn parse(payload: &str) -> Option<(DeploymentId, DeviceId, State)> {
    let mut words = payload.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, State::parse(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_waiter_wakes_for_its_deployment_and_looks_anyway_without() {
        let changes = Changes::default();
        let (mine, other) = (DeploymentId::new([1; 16]), DeploymentId::new([2; 16]));
        let mut waiter = changes.waiter(mine);
        let start = tokio::time::Instant::now();
        changes.hints.send(Some(other)).unwrap();
        changes.hints.send(Some(mine)).unwrap();
        waiter.worth_a_look().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        waiter.worth_a_look().await;
        assert_eq!(start.elapsed(), LOOK_ANYWAY);
        for _ in 0..HINTS_MAX * 2 {
            changes.hints.send(Some(other)).unwrap();
        }
        waiter.worth_a_look().await;
        assert_eq!(start.elapsed(), LOOK_ANYWAY);
    }

    #[test]
    fn a_hint_names_deployment_device_and_state() {
        let (deployment, device) = (DeploymentId::new([1; 16]), DeviceId::new([2; 16]));
        let hint = format!("{deployment} {device} ready");
        assert_eq!(parse(&hint), Some((deployment, device, State::Ready)));
        for other in ["", "x y z", &format!("{device} {deployment} ready"), &format!("{deployment} {device}")]
        {
            assert_eq!(parse(other), None);
        }
    }
}
