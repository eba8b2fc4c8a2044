//! The director's voice: one P-256 key a tenant, made on first use, sealed at rest, used to sign directives.
//!
//! Always holds: the private half exists outside Postgres only inside this process, in memory that is wiped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use kit::seal::MasterKey;
use wire::cose::Verify;
use wire::directive::Directive;
use wire::key::{KeyError, KeyHash};
use wire::sign::{SignError, Signer};
use wire::{PublicKey, Signature, TenantId};

use super::App;
use crate::error::Error;
use crate::store::Tx;
use crate::store::directors::{self, SealedDirector};

/// Director keys kept open; one more starts the collection anew.
const DIRECTORS_MAX: usize = 1024;

#[derive(Debug)]
pub(crate) struct Directors {
    master: MasterKey,
    open: Mutex<HashMap<TenantId, Arc<Director>>>,
}

/// An opened director key.
pub(crate) struct Director {
    pair: EcdsaKeyPair,
    public: PublicKey,
    name: KeyHash,
}

impl Directors {
    pub(crate) fn load(master_key_file: &Path) -> Result<Self, Error> {
        Ok(Self { master: MasterKey::load(master_key_file)?, open: Mutex::default() })
    }

    fn cached(&self, tenant: TenantId) -> Option<Arc<Director>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned()
    }

    fn unseal(&self, tenant: TenantId, key: &SealedDirector) -> Result<Arc<Director>, Error> {
        let pkcs8 = self.master.open(&key.sealed, &owner(tenant))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose())
            .map_err(|_| Error::Corrupt("sealed_key"))?;
        if PublicKey::from_sec1(pair.public_key().as_ref()) != Ok(key.public) {
            return Err(Error::Corrupt("public_key"));
        }
        let name = key.public.hash().map_err(|_| Error::Corrupt("public_key"))?;
        let director = Arc::new(Director { pair, public: key.public, name });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= DIRECTORS_MAX {
            open.clear();
        }
        open.insert(tenant, director.clone());
        Ok(director)
    }
}

/// The tenant's director, if it has one yet.
pub(crate) async fn find(app: &App, tx: &Tx, tenant: TenantId) -> Result<Option<Arc<Director>>, Error> {
    if let Some(director) = app.directors.cached(tenant) {
        return Ok(Some(director));
    }
    let key = directors::find(tx, tenant).await?;
    key.map(|key| app.directors.unseal(tenant, &key)).transpose()
}

/// The public half of the tenant's director key, which is made if there is none.
pub(crate) async fn public_key(app: &App, tenant: TenantId) -> Result<PublicKey, Error> {
    let tx = app.pg.tx(tenant).await?;
    if let Some(director) = find(app, &tx, tenant).await? {
        return Ok(director.public);
    }
    directors::insert(&tx, tenant, &make(app, tenant)?).await?;
    // Whichever of two at once came first.
    let kept = directors::find(&tx, tenant).await?.ok_or(Error::Conflict)?;
    tx.commit().await?;
    Ok(kept.public)
}

fn make(app: &App, tenant: TenantId) -> Result<SealedDirector, Error> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| Error::Signing)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
        .map_err(|_| Error::Signing)?;
    let public = PublicKey::from_sec1(pair.public_key().as_ref()).map_err(|_| Error::Signing)?;
    Ok(SealedDirector { public, sealed: app.directors.master.seal(pkcs8.as_ref(), &owner(tenant))? })
}

/// What a sealed key is bound to, so that it cannot be moved to another tenant's row.
fn owner(tenant: TenantId) -> String {
    format!("director/{tenant}")
}

impl Director {
    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn sign(&self, directive: &Directive) -> Result<Vec<u8>, Error> {
        wire::sign::sign_directive(directive, self).map_err(|_| Error::Signing)
    }
}

impl Signer for Director {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        let failed = || SignError::Signer("the director key cannot sign".into());
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| failed())?;
        signature.as_ref().try_into().map(Signature).map_err(|_| failed())
    }

    fn check(&self) -> &dyn Verify {
        self
    }
}

/// Knows its own key only. That a signer signs with the key it names is checked of foreign ones at every signature; here the
/// pair is in this process and was compared with the public half when it was opened.
impl Verify for Director {
    fn verify(&self, key: &PublicKey, _message: &[&[u8]], _signature: &Signature) -> bool {
        *key == self.public
    }

    fn key_hash(&self, key: &PublicKey) -> Result<KeyHash, KeyError> {
        if *key == self.public { Ok(self.name) } else { key.hash() }
    }
}

impl std::fmt::Debug for Director {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Director({})", self.public)
    }
}
