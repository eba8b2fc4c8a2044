//! Hellos, in batches: the newest of each device counts; one that says nothing new writes nothing; a device behind in
//! keysets gets the next, one whose certificate is of an authority that issues no more is told to renew it. Two boards that are one
//! device are put into quarantine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use wire::{DeviceId, TenantId};

use super::{App, Effect, micros};
use crate::error::Error;
use crate::model::hello::{Heard, Order, Report, newest};
use crate::model::lives::{self, CHALLENGE_BYTES, Challenge, Lives, Place, Sign};
use crate::model::roots;
use crate::store::devices::{self, Change};
use crate::store::hello::{self as rows, Greeted, News};
use crate::store::lives::{self as kept, Following};
use crate::store::presence::Renewal;
use crate::store::{Tx, authority, upkeep};

/// Hellos taken together.
pub(crate) const HELLO_BATCH_MAX: usize = 128;

/// Who is noted as having put devices into quarantine.
const ACTOR: &str = "svc-registry";

/// What a device is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The next keyset, for one that is behind.
    pub keyset: Option<Vec<u8>>,
    pub challenge: Option<Challenge>,
    pub renew: bool,
}

/// What comes of a batch.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub told: BTreeMap<DeviceId, Told>,
    pub effects: Vec<Effect>,
}

/// What a batch says of one device's boots.
#[derive(Debug)]
struct Living {
    tenant: TenantId,
    /// Kept before.
    before: Option<Lives>,
    lives: Option<Lives>,
    ask: bool,
    twice: bool,
}

/// What a batch brought, of each in the order it came; ordered by id, as every transaction of theirs.
#[derive(Debug, Default)]
struct Batch {
    reports: BTreeMap<DeviceId, Vec<Report>>,
    wills: BTreeMap<DeviceId, Order>,
}

impl App {
    pub(crate) async fn hello(
        &self,
        heard: Vec<(DeviceId, Heard)>,
        now: SystemTime,
    ) -> Result<Answers, Error> {
        let now = micros(now);
        let said: Vec<_> = heard.iter().filter_map(said_when).collect();
        let batch = Batch::of(heard);
        let held: Vec<(DeviceId, i32)> = batch
            .wills
            .keys()
            .filter(|device| !batch.reports.contains_key(device))
            .map(|device| (*device, i32::MAX))
            .chain(batch.reports.iter().filter_map(|(device, reports)| {
                // The last one to come says best what it holds now.
                Some((*device, reports.last()?.keyset_version))
            }))
            .collect();
        let tx = self.store.every().await?;
        let known = rows::greeted(&tx, &held).await?;
        let roots = authority::device_roots(&tx).await?;
        tx.commit().await?;
        let living = live(&known, &said);

        let tenant_of = |device: &DeviceId| {
            let known = known.get(device).filter(|known| !known.revoked && !known.quarantined);
            known.filter(|_| !living.get(device).is_some_and(|one| one.twice)).map(|known| known.tenant)
        };
        // What this batch proved counts already.
        let place = |device: &DeviceId, report: &Report| {
            let lives = living.get(device).and_then(|one| one.lives.as_ref());
            lives.map_or(Place::Counted, |lives| lives.place(report.order.boot()))
        };
        let reports: BTreeMap<DeviceId, Report> = batch
            .reports
            .into_iter()
            .filter_map(|(device, reports)| Some((device, newest(reports, |report| place(&device, report))?)))
            .collect();
        let welcome: Vec<(DeviceId, TenantId, &Report)> = reports
            .iter()
            .filter_map(|(device, report)| Some((*device, tenant_of(device)?, report)))
            .collect();
        let renewals: Vec<(Renewal, &Report)> = welcome
            .iter()
            .map(|(device, tenant, report)| {
                let place = place(device, report);
                (Renewal { tenant: *tenant, device: *device, order: report.order, place }, *report)
            })
            .filter(|(renewal, _)| renewal.place.may_be_newest())
            .collect();
        let (leases, reports): (Vec<Renewal>, Vec<&Report>) = renewals.into_iter().unzip();
        let older = if leases.is_empty() { vec![] } else { self.leases.renew(&leases, now).await };

        let news: Vec<News<'_>> = leases
            .iter()
            .zip(reports)
            .zip(&older)
            .filter(|((lease, report), older)| {
                let stored = known.get(&lease.device).and_then(|k| k.report.as_ref());
                let newer = |s: &Report| report.order.newer_than(&s.order, lease.place);
                !**older && stored.is_none_or(|s| newer(s) && !report.says_the_same_as(s))
            })
            .map(|((lease, report), _)| News {
                device: lease.device,
                tenant: lease.tenant,
                report,
                place: lease.place,
            })
            .collect();
        let (asked, effects) = self.write(&news, &living, now).await?;
        for (device, order) in &batch.wills {
            if let Some(tenant) = tenant_of(device) {
                self.leases.will(tenant, *device, order).await;
            }
        }
        let issuing = roots::issuing(&roots, now);
        let told = welcome.iter().filter_map(|(device, ..)| {
            let known = known.get(device)?;
            let told = Told {
                keyset: known.next_keyset.clone(),
                challenge: asked.get(device).copied(),
                renew: known.root.is_some_and(|root| {
                    issuing.is_some_and(|issuing| {
                        root != issuing.key_digest
                            && issuing.calls(*device, self.settings.device_certificate, now)
                    })
                }),
            };
            (told != Told::default()).then_some((*device, told))
        });
        Ok(Answers { told: told.collect(), effects })
    }

    /// Writes what is new; nothing, if nothing is. What each device is to be asked, and what is to be done outside.
    async fn write(
        &self,
        news: &[News<'_>],
        living: &BTreeMap<DeviceId, Living>,
        now: SystemTime,
    ) -> Result<(BTreeMap<DeviceId, Challenge>, Vec<Effect>), Error> {
        let follow = living.iter().filter(|(_, one)| !one.twice && one.lives != one.before);
        let follow: Vec<Following> = follow
            .filter_map(|(device, one)| {
                let before = one.before.as_ref().map(|before| before.challenge);
                Some(Following { device: *device, tenant: one.tenant, lives: one.lives.clone()?, before })
            })
            .collect();
        let twice: Vec<(DeviceId, &Living)> =
            living.iter().filter(|(_, one)| one.twice).map(|(device, one)| (*device, one)).collect();
        let (mut followed, mut effects) = (BTreeSet::new(), Vec::new());
        if !(news.is_empty() && follow.is_empty() && twice.is_empty()) {
            let tx = self.store.every().await?;
            let written = if news.is_empty() { 0 } else { rows::save(&tx, news, now).await? };
            let ahead = if news.is_empty() { Vec::new() } else { rows::ahead_of_keysets(&tx, news).await? };
            if !follow.is_empty() {
                followed = kept::save(&tx, &follow).await?;
            }
            for (device, living) in twice {
                effects.extend(quarantine(&tx, device, living, now).await?);
            }
            tx.commit().await?;
            tell_ahead(&ahead);
            metrics::counter!("registry_reports_written_total").increment(written);
            metrics::counter!("registry_clones_noticed_total").increment(effects.len() as u64);
        }
        let ask = living.iter().filter(|(_, one)| one.ask && !one.twice).filter_map(|(device, one)| {
            // Another replica was faster: the next hello is asked what that one kept.
            let stands = one.lives == one.before || followed.contains(device);
            Some((*device, one.lives.as_ref().filter(|_| stands)?.challenge))
        });
        Ok((ask.collect(), effects))
    }
}

/// A hello's place and what it answers; a will is nobody's word.
fn said_when((device, heard): &(DeviceId, Heard)) -> Option<(DeviceId, Order, Option<Challenge>)> {
    match heard {
        Heard::Hello(report, answer) => Some((*device, report.order, *answer)),
        Heard::Will(_) => None,
    }
}

/// All hellos, in the order they came.
fn live(
    known: &HashMap<DeviceId, Greeted>,
    said: &[(DeviceId, Order, Option<Challenge>)],
) -> BTreeMap<DeviceId, Living> {
    let mut living: BTreeMap<DeviceId, Living> = BTreeMap::new();
    for (device, order, answer) in said {
        let Some(known) = known.get(device).filter(|known| !known.revoked && !known.quarantined) else {
            continue;
        };
        let one = living.entry(*device).or_insert_with(|| Living {
            tenant: known.tenant,
            before: known.lives.clone(),
            lives: known.lives.clone(),
            ask: false,
            twice: false,
        });
        match lives::hear(one.lives.as_ref(), order.boot(), *answer, fresh_challenge()) {
            Sign::Settled => {}
            Sign::Ask => one.ask = true,
            Sign::Keep(lives) => (one.lives, one.ask) = (Some(lives), true),
            Sign::Twice => one.twice = true,
        }
    }
    living
}

/// One that nobody was asked.
pub(super) fn fresh_challenge() -> Challenge {
    let mut challenge = [0; CHALLENGE_BYTES];
    aws_lc_rs::rand::fill(&mut challenge).expect("the system's random source works");
    challenge
}

/// Ends what two boards do as one, until an operator says which is which.
async fn quarantine(
    tx: &Tx,
    device: DeviceId,
    living: &Living,
    now: SystemTime,
) -> Result<Option<Effect>, Error> {
    let Some(before) = &living.before else { return Ok(None) };
    if !kept::quarantine(tx, device, &before.challenge, now).await? {
        return Ok(None);
    }
    let (tenant, id) = (living.tenant, device.to_string());
    devices::changed(tx, tenant, &[device], Change::Quarantined).await?;
    upkeep::audit(tx, tenant, ACTOR, "quarantine_device", &id).await?;
    upkeep::request_disconnect(tx, tenant, &id).await?;
    tracing::warn!(%device, %tenant, "two boards are one device: it is in quarantine");
    Ok(Some(Effect::Disconnect(id)))
}

/// Keysets that devices hold and the database has lost: an older backup was restored.
fn tell_ahead(ahead: &[(DeviceId, i32)]) {
    metrics::counter!("registry_keysets_ahead_total").increment(ahead.len() as u64);
    for (device, newest) in ahead {
        tracing::warn!(%device, newest, "the device holds a keyset that is not known here: upload it again");
    }
}

impl Batch {
    fn of(heard: Vec<(DeviceId, Heard)>) -> Self {
        let mut batch = Self::default();
        for (device, heard) in heard {
            match heard {
                Heard::Will(order) => {
                    batch.wills.insert(device, order);
                }
                Heard::Hello(report, _) => batch.reports.entry(device).or_default().push(report),
            }
        }
        batch
    }
}
