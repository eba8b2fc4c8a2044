//! Which of a device's unfinished deployments it is told about now.
//!
//! A device has one update under way at a time, of whichever component; what it is told about another meanwhile it puts off. So it is told
//! about one, and the others wait untold: tellings that nobody heeds would be counted against them.

use std::time::SystemTime;

use wire::manifest::Component;

use super::deployment::Deployment;
use super::state::State;

/// How far the device is with an unfinished one; what is further goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Untold,
    /// The device may be about to take it up.
    Told,
    UnderWay,
    /// `go` was granted.
    Started,
}

/// Whether `one` goes before `other`, of the same device: what is further goes on, and of what nobody was told of a microvisor comes first,
/// since an application may need it.
pub(crate) fn goes_before(one: &Deployment, other: &Deployment) -> bool {
    matches!((rank(one), rank(other)), (Some(one), Some(other)) if one > other)
}

fn rank(it: &Deployment) -> Option<(Stage, Option<SystemTime>, bool)> {
    let stage = stage(it)?;
    // Two are told only when one took the place of what the device was at work on: the later one is that.
    let told_at = it.sent_at.filter(|_| stage == Stage::Told);
    Some((stage, told_at, it.component == Component::Microvisor))
}

fn stage(it: &Deployment) -> Option<Stage> {
    match it.state {
        State::Pending if it.sent_at.is_none() => Some(Stage::Untold),
        State::Pending => Some(Stage::Told),
        State::Fetching | State::Verified | State::Polite | State::Ready => Some(Stage::UnderWay),
        State::Granted | State::Installing | State::Trial => Some(Stage::Started),
        // What is left to say of these starts nothing.
        State::Confirmed | State::Reverted | State::Refused | State::Cancelled | State::Superseded => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::{BundleId, DeploymentId, DeviceId, Digest, TenantId};

    use super::*;
    use crate::model::report::Moment;

    fn deployment(component: Component, state: State, told: bool) -> Deployment {
        Deployment {
            tenant: TenantId::new([1; 16]),
            id: DeploymentId::new([component as u8; 16]),
            device: DeviceId::new([1; 16]),
            bundle: BundleId::new([1; 16]),
            manifest: Digest([1; 32]),
            component,
            version: "1.0.0".to_owned(),
            security_counter: 1,
            bytes_total: 1,
            state,
            reason: String::new(),
            bytes_done: 0,
            attempts: 0,
            committed: false,
            stopped: false,
            latest: Moment::default(),
            sent_at: told.then_some(SystemTime::UNIX_EPOCH),
            sends: 0,
            next_send_at: None,
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
            trace: String::new(),
            revision: 1,
        }
    }

    /// Every state, as told; and `pending` as nobody was told of it.
    fn all(component: Component) -> Vec<Deployment> {
        let told = State::ALL.into_iter().map(|state| deployment(component, state, true));
        told.chain([deployment(component, State::Pending, false)]).collect()
    }

    #[test]
    fn the_device_is_told_about_one_of_two_as_the_table_says() {
        use Component::{App, Microvisor};
        use State::*;
        // The application's, whether it was told; the microvisor's; who goes first.
        let table = [
            ((Pending, false), (Pending, false), Microvisor),
            ((Pending, false), (Pending, true), Microvisor),
            ((Pending, false), (Fetching, true), Microvisor),
            ((Pending, false), (Trial, true), Microvisor),
            ((Pending, true), (Pending, false), App),
            ((Pending, true), (Pending, true), Microvisor),
            ((Pending, true), (Ready, true), Microvisor),
            ((Fetching, true), (Pending, false), App),
            ((Fetching, true), (Pending, true), App),
            ((Polite, true), (Pending, true), App),
            ((Ready, true), (Pending, true), App),
            ((Ready, true), (Fetching, true), Microvisor),
            ((Ready, true), (Granted, true), Microvisor),
            ((Granted, true), (Ready, true), App),
            ((Trial, true), (Pending, false), App),
            ((Trial, true), (Ready, true), App),
        ];
        for ((app, app_told), (microvisor, told), first) in table {
            let app = deployment(App, app, app_told);
            let microvisor = deployment(Microvisor, microvisor, told);
            assert_eq!(goes_before(&app, &microvisor), first == App, "{app:?}\n{microvisor:?}");
            assert_eq!(goes_before(&microvisor, &app), first == Microvisor, "{app:?}\n{microvisor:?}");
        }
    }

    #[test]
    fn of_two_that_were_told_the_later_one_is_what_the_device_is_at_work_on() {
        let mut app = deployment(Component::App, State::Pending, true);
        let microvisor = deployment(Component::Microvisor, State::Pending, true);
        app.sent_at = app.sent_at.map(|at| at + Duration::from_secs(1));
        assert!(goes_before(&app, &microvisor));
        app.sent_at = microvisor.sent_at;
        assert!(goes_before(&microvisor, &app));
    }

    #[test]
    fn of_two_unfinished_ones_exactly_one_waits_and_nobody_waits_for_what_is_over() {
        for app in all(Component::App) {
            for microvisor in all(Component::Microvisor) {
                let waiting = [goes_before(&app, &microvisor), goes_before(&microvisor, &app)];
                let unfinished = !app.state.is_final() && !microvisor.state.is_final();
                let count = waiting.into_iter().filter(|waits| *waits).count();
                assert_eq!(count, usize::from(unfinished), "{app:?}\n{microvisor:?}");
            }
        }
    }
}
