//! Layer bytes: who may have which, and where they are read from.
//!
//! The decision (what a device is directed to) comes from Postgres and is kept for a short while; a change of a
//! deployment forgets it at once. Bytes come from the page cache in front of S3.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wire::DeviceId;

use super::App;
use crate::error::Error;
use crate::model::directed::{Directed, DirectedLayer};
use crate::store::pages::PAGE_BYTES;
use crate::store::{Scope, deployments};

/// Devices whose decision is kept; one more starts the collection anew.
pub(crate) const DIRECTED_MAX: usize = 16 * 1024;
/// How long a decision holds when the hint that it changed is lost.
pub(crate) const DIRECTED_AGE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct DirectedCache {
    by_device: Mutex<HashMap<DeviceId, Decision>>,
}

#[derive(Debug, Clone)]
enum Decision {
    /// Being read; gone again if the device's deployments change meanwhile, and then not kept.
    Asked,
    Known(Instant, Arc<Directed>),
}

impl DirectedCache {
    pub(crate) fn forget(&self, device: DeviceId) {
        self.lock().remove(&device);
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    /// The decision, if it is fresh; otherwise notes that it is being read.
    fn fresh(&self, device: DeviceId, now: Instant) -> Option<Arc<Directed>> {
        let mut by_device = self.lock();
        if let Some(Decision::Known(at, directed)) = by_device.get(&device)
            && now.duration_since(*at) < DIRECTED_AGE_MAX
        {
            return Some(directed.clone());
        }
        if by_device.len() >= DIRECTED_MAX && !by_device.contains_key(&device) {
            by_device.clear();
        }
        by_device.insert(device, Decision::Asked);
        None
    }

    fn keep(&self, device: DeviceId, directed: &Arc<Directed>, now: Instant) {
        if let Some(decision @ Decision::Asked) = self.lock().get_mut(&device) {
            *decision = Decision::Known(now, directed.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Decision>> {
        self.by_device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What each device may ask for now; nothing if it is unknown or revoked. Those not known are asked for together.
pub(crate) async fn directed(
    app: &App,
    devices: &BTreeSet<DeviceId>,
    now: Instant,
) -> Result<HashMap<DeviceId, Arc<Directed>>, Error> {
    let mut known = HashMap::with_capacity(devices.len());
    let mut unknown = Vec::new();
    for device in devices {
        match app.directed.fresh(*device, now) {
            Some(directed) => drop(known.insert(*device, directed)),
            None => unknown.push(*device),
        }
    }
    if unknown.is_empty() {
        return Ok(known);
    }
    let tx = app.pg.one(Scope::Every).await?;
    let mut layers: HashMap<DeviceId, Vec<DirectedLayer>> = HashMap::new();
    for (device, layer) in deployments::directed_layers(&tx, &unknown).await? {
        layers.entry(device).or_default().push(layer);
    }
    tx.commit().await?;
    for device in unknown {
        let directed = Arc::new(Directed { layers: layers.remove(&device).unwrap_or_default() });
        app.directed.keep(device, &directed, now);
        known.insert(device, directed);
    }
    Ok(known)
}

/// Bytes of a layer from `offset` to the end of the page they begin in, at most `length`.
pub(crate) async fn read(
    app: &App,
    layer: &DirectedLayer,
    offset: u64,
    length: usize,
) -> Result<Bytes, Error> {
    let page = app.pages.page(&app.objects, &layer.object, layer.bytes, offset / PAGE_BYTES).await?;
    let start = (offset % PAGE_BYTES) as usize;
    let end = page.len().min(start + length);
    if start >= end {
        return Err(Error::Corrupt("object length"));
    }
    Ok(page.slice(start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId::new([1; 16]);

    #[test]
    fn a_decision_is_kept_for_its_age_and_forgotten_at_once() {
        let (cache, now) = (DirectedCache::default(), Instant::now());
        assert!(cache.fresh(DEVICE, now).is_none());
        cache.keep(DEVICE, &Arc::default(), now);
        assert!(cache.fresh(DEVICE, now).is_some());
        assert!(cache.fresh(DEVICE, now + DIRECTED_AGE_MAX).is_none());
        cache.keep(DEVICE, &Arc::default(), now);
        cache.forget(DEVICE);
        assert!(cache.fresh(DEVICE, now).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (cache, now) = (DirectedCache::default(), Instant::now());
        assert!(cache.fresh(DEVICE, now).is_none());
        cache.forget(DEVICE);
        cache.keep(DEVICE, &Arc::default(), now);
        assert!(cache.fresh(DEVICE, now).is_none());
    }

    #[test]
    fn the_number_of_decisions_is_bounded() {
        let (cache, now) = (DirectedCache::default(), Instant::now());
        for n in 0..=DIRECTED_MAX as u128 {
            assert!(cache.fresh(DeviceId::new(n.to_be_bytes()), now).is_none());
        }
        assert_eq!(cache.lock().len(), 1);
    }
}
