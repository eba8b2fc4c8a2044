//! The first administrator: from a one-time code that is printed once and kept only as a hash. After that the code,
//! and this way in, are gone for good.

use std::time::SystemTime;

use wire::key::Digest;
use wire::{KeyId, TenantId};

use super::{App, installer, micros, new_tenant_id};
use crate::error::Error;
use crate::model::{Key, Role, Tenant, field};
use crate::store::{Store, authority, upkeep};

/// Random bytes of a code; printed as hex.
const CODE_BYTES: usize = 20;

#[derive(Debug)]
pub(crate) struct Bootstrapped {
    pub tenant: TenantId,
    pub key: KeyId,
}

/// A fresh code; any earlier one is void. None: the installation has its administrator.
pub(crate) async fn new_code(store: &Store) -> Result<Option<String>, Error> {
    let mut bytes = [0; CODE_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    let code = hex::encode(bytes);
    let tx = store.every().await?;
    let set = authority::set_bootstrap_hash(&tx, &hash(&code)).await?;
    tx.commit().await?;
    Ok(set.then_some(code))
}

impl App {
    /// Uses the code up.
    pub(crate) async fn bootstrap(
        &self,
        code: &str,
        display_name: &str,
        public_key: &[u8],
        now: SystemTime,
    ) -> Result<Bootstrapped, Error> {
        let now = micros(now);
        field::display_name("tenant_display_name", display_name)?;
        let public_key = super::tenants::public_key("public_key", public_key)?;
        let tx = self.store.every().await?;
        let expected = authority::bootstrap_hash(&tx).await?;
        let good = expected.is_some_and(|expected| same(&expected, &hash(code)));
        if !good {
            let message = "the code is not the one that was printed last, or was used already".to_owned();
            return Err(Error::Unauthenticated { reason: "BOOTSTRAP_CODE", message });
        }
        let tenant = Tenant {
            id: new_tenant_id(),
            display_name: display_name.to_owned(),
            created_at: now,
            debugging_forbidden: false,
        };
        let key = Key {
            id: KeyId::new(kit::fresh_id()),
            tenant: tenant.id,
            display_name: "first administrator".to_owned(),
            role: Role::Admin,
            installation: true,
            public_key,
            created_at: now,
        };
        self.make_tenant(&tx, &tenant, &key, now).await?;
        authority::end_bootstrap(&tx).await?;
        let actor = installer(tenant.id, key.id);
        upkeep::audit(&tx, tenant.id, &actor, "bootstrap", &format!("tenants/{}", tenant.id)).await?;
        tx.commit().await?;
        Ok(Bootstrapped { tenant: tenant.id, key: key.id })
    }
}

fn hash(code: &str) -> [u8; 32] {
    Digest::of(code.trim().as_bytes()).0
}

/// In constant time.
fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
