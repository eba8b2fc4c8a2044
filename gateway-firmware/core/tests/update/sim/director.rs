//! svc-ota in small: compares what a device says with what it should run, and acts on the difference. It keeps nothing
//! but the results it stored, so a device may reboot under it at any time.

use gateway_core::device::{Heard, Next, Progress};
use gateway_core::update::{Outcome, State, UpdateResult};
use wire::directive::Order;
use wire::manifest::Component;
use wire::msg::SlotStatus;
use wire::{DeploymentId, Nonce};

use super::{Bench, Bundle, Device, Maker};

/// Steps after which a test is stuck.
const STEPS_MAX: usize = 2000;

/// Until when to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The bundle is confirmed and its result acknowledged.
    Confirmed,
    /// The bundle waits for `go`, which is not given.
    Ready,
    /// The deployment ended, however.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Director<'a> {
    pub maker: &'a Maker,
    pub bench: &'a Bench,
    /// Results stored so far.
    pub stored: Vec<UpdateResult>,
    /// Blocks sent so far.
    pub blocks_sent: usize,
    /// Hellos of a microvisor on trial stay unanswered.
    pub is_silent: bool,
    nonces: u8,
}

impl<'a> Director<'a> {
    pub(crate) fn new(maker: &'a Maker, bench: &'a Bench) -> Director<'a> {
        Director { maker, bench, stored: Vec::new(), blocks_sent: 0, is_silent: false, nonces: 0 }
    }

    /// The same service with another board.
    pub(crate) fn moved_to(&self, bench: &'a Bench) -> Director<'a> {
        Director { bench, stored: self.stored.clone(), ..*self }
    }

    /// The device says hello; the nonce its directives must name.
    pub(crate) fn hello(&mut self, device: &mut Device) -> Nonce {
        self.nonces = self.nonces.wrapping_add(1);
        let nonce = Nonce([self.nonces; 16]);
        device.hello_sent(nonce);
        nonce
    }

    /// Sends one order in answer to a new hello.
    pub(crate) fn order(
        &mut self,
        device: &mut Device,
        order: Order,
        envelope: &[u8],
    ) -> Result<Heard, gateway_core::device::DirectiveRefused> {
        let nonce = self.hello(device);
        device.hear(&self.maker.directive(order, nonce), envelope)
    }

    pub(crate) fn install(&mut self, device: &mut Device, bundle: &Bundle, deployment: u8) -> Heard {
        self.order(device, Order::Install(bundle.target(deployment)), &bundle.envelope).unwrap()
    }

    /// Drives the device to the goal; false when the power went before it was reached.
    pub(crate) fn drive(&mut self, device: &mut Device, bundle: &Bundle, deployment: u8, goal: Goal) -> bool {
        for _ in 0..STEPS_MAX {
            if self.bench.flash.is_dead() {
                return false;
            }
            self.bench.guard(device);
            let next = device.poll();
            if self.bench.takes_restart() {
                match self.bench.boot_with_a_cut_to_come() {
                    Ok(anew) if !self.bench.flash.is_dead() => *device = anew,
                    _ => return false,
                }
                continue;
            }
            if self.is_reached(device, bundle, deployment, goal) {
                return !self.bench.flash.is_dead();
            }
            let acted = self.store_results(device)
                || self.send_block(device, bundle)
                || self.acknowledge(device)
                || self.direct(device, bundle, deployment, goal);
            match next {
                Next::At(at_ms) if !acted => self.bench.now_ms.set(at_ms.max(self.bench.now_ms.get())),
                Next::Never if !acted => self.bench.advance_ms(1000),
                _ => {}
            }
        }
        panic!("stuck: {:?} {:?} {:?}", device.progress(), device.slots(), device.results());
    }

    /// Polls until nothing is left to do at once.
    pub(crate) fn settle(&self, device: &mut Device) -> Next {
        for _ in 0..STEPS_MAX {
            match device.poll() {
                Next::Now => {}
                next => return next,
            }
        }
        panic!("never settles: {:?}", device.progress());
    }

    /// How this deployment ended, as the service knows it.
    pub(crate) fn result(&self, deployment: u8) -> Option<UpdateResult> {
        let deployment = DeploymentId::new([deployment; 16]);
        self.stored.iter().rev().find(|result| result.deployment == deployment).copied()
    }

    /// Stores and acknowledges what the device reports.
    pub(crate) fn store_results(&mut self, device: &mut Device) -> bool {
        let Some(result) = device.results().first().copied() else { return false };
        if !self.stored.contains(&result) {
            self.stored.push(result);
        }
        let _ = device.acknowledge(result.boot, result.sequence);
        true
    }

    /// Sends the next wanted block.
    pub(crate) fn send_block(&mut self, device: &mut Device, bundle: &Bundle) -> bool {
        let Some(wanted) = device.wanted() else { return false };
        let Some(layer) = bundle.layers.get(&wanted.layer) else { return false };
        let end = layer.len().min(wanted.offset as usize + wire::limits::BLOCK_BYTES);
        assert!(wanted.end > wanted.offset && wanted.end as usize <= layer.len());
        let taken = device.take_block(&wanted.layer, wanted.offset, &layer[wanted.offset as usize..end]);
        assert!(taken.is_ok() || self.bench.flash.is_dead(), "{taken:?}");
        self.blocks_sent += 1;
        true
    }

    /// Answers the hello of a microvisor on trial.
    fn acknowledge(&mut self, device: &mut Device) -> bool {
        let on_trial = device.slots().iter().any(|slot| {
            slot.component == Component::Microvisor && slot.status == SlotStatus::Trial && slot.running
        });
        on_trial && !self.is_silent && self.order(device, Order::Time, &[]).is_ok()
    }

    fn is_reached(&self, device: &Device, bundle: &Bundle, deployment: u8, goal: Goal) -> bool {
        let progress = progress_of(device, bundle, deployment);
        match goal {
            Goal::Ready => progress.is_some_and(|progress| progress.state == State::Ready),
            Goal::Ended => self.result(deployment).is_some() && device.results().is_empty(),
            Goal::Confirmed => {
                let running = device.slots().iter().any(|slot| {
                    slot.running
                        && slot.manifest == Some(bundle.digest)
                        && slot.status == wire::msg::SlotStatus::Confirmed
                });
                let told = self.result(deployment).is_some_and(|result| result.outcome == Outcome::Confirmed);
                running && told && device.results().is_empty()
            }
        }
    }

    /// Directs the device to the bundle, and lets it go when it is ready.
    fn direct(&mut self, device: &mut Device, bundle: &Bundle, deployment: u8, goal: Goal) -> bool {
        let target = bundle.target(deployment);
        let order = match progress_of(device, bundle, deployment).map(|progress| progress.state) {
            None if self.result(deployment).is_none() => Order::Install(target),
            Some(State::Ready) if goal != Goal::Ready => Order::Go(target),
            _ => return false,
        };
        matches!(self.order(device, order, &bundle.envelope), Ok(Heard::Acted))
    }
}

/// The device's progress with this bundle for this deployment.
fn progress_of(device: &Device, bundle: &Bundle, deployment: u8) -> Option<Progress> {
    let target = bundle.target(deployment);
    device.progress().filter(|it| it.manifest == target.manifest && it.deployment == target.deployment)
}
