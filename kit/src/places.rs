//! Places for callers that stay: watches, tails. Bounded in all and for each tenant, so that no tenant takes them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;
use wire::TenantId;

use crate::status;

/// Places of one process.
#[derive(Debug)]
pub struct Places {
    /// What they are for, as in `WATCHES`.
    what: &'static str,
    max: usize,
    tenant_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
}

/// A caller's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    tenant: TenantId,
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("{max} of these are open on this server already")]
    Server { what: &'static str, max: usize },
    #[error("your tenant has {max} of these open on this server already")]
    Tenant { what: &'static str, max: usize },
}

impl From<NoPlace> for Status {
    fn from(full: NoPlace) -> Self {
        let reason = match full {
            NoPlace::Server { what, .. } => format!("{what}_MAX"),
            NoPlace::Tenant { what, .. } => format!("{what}_OF_TENANT_MAX"),
        };
        status::exhausted(&reason, full.to_string())
    }
}

impl Places {
    /// `max` in all, `tenant_max` of them for one tenant.
    pub fn new(what: &'static str, max: usize, tenant_max: usize) -> Arc<Self> {
        Arc::new(Self { what, max, tenant_max, taken: Mutex::default() })
    }

    pub fn take(self: &Arc<Self>, tenant: TenantId) -> Result<Place, NoPlace> {
        let mut taken = self.lock();
        if taken.by_tenant.get(&tenant).is_some_and(|own| *own >= self.tenant_max) {
            return Err(NoPlace::Tenant { what: self.what, max: self.tenant_max });
        }
        if taken.all >= self.max {
            return Err(NoPlace::Server { what: self.what, max: self.max });
        }
        taken.all += 1;
        *taken.by_tenant.entry(tenant).or_default() += 1;
        Ok(Place { places: self.clone(), tenant })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_tenant.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.by_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::new([n; 16])
    }

    #[test]
    fn one_tenant_takes_its_share_and_leaves_the_rest() {
        let places = Places::new("WATCHES", 3, 2);
        let mut own = vec![places.take(tenant(1)).unwrap(), places.take(tenant(1)).unwrap()];
        assert_eq!(places.take(tenant(1)).unwrap_err(), NoPlace::Tenant { what: "WATCHES", max: 2 });
        let other = places.take(tenant(2)).unwrap();
        assert_eq!(places.take(tenant(2)).unwrap_err(), NoPlace::Server { what: "WATCHES", max: 3 });
        own.pop();
        assert!(places.take(tenant(1)).is_ok());
        drop((own, other));
        assert!(
            places.lock().all == 0 && places.lock().by_tenant.is_empty(),
            "nothing is kept of who was here"
        );
    }
}
