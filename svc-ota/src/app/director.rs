//! The director's voice: P-256 keys of a tenant, made on first use, sealed at rest, used to sign directives. Each device hears
//! the one that its keyset names; while one takes another's place there are two.
//!
//! Always holds: the private half exists outside Postgres only inside this process, in memory that is wiped, and not for
//! long after its row is gone.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use kit::once::{Call, Known};
use kit::seal::MasterKey;
use wire::cose::Verify;
use wire::directive::Directive;
use wire::key::{KeyError, KeyHash};
use wire::sign::{SignError, Signer};
use wire::{PublicKey, Signature, TenantId};

use super::App;
use crate::error::Error;
use crate::model::director::{DIRECTOR_KEYS_MAX, Directorship, Successor};
use crate::store::directors::{self, SealedDirector};
use crate::store::{Scope, Tx};

/// Director keys kept open; one more starts the collection anew. As many keysets are known by what they name.
const DIRECTORS_MAX: usize = 1024;
/// Tenants looked at in one transaction.
const REPLACING_MAX: i64 = 100;

#[derive(Debug)]
pub(crate) struct Directors {
    master: MasterKey,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    keys: HashMap<PublicKey, Arc<Director>>,
    /// What a keyset names never changes.
    named: HashMap<(TenantId, u32), PublicKey>,
}

/// An opened director key.
pub(crate) struct Director {
    pair: EcdsaKeyPair,
    public: PublicKey,
    name: KeyHash,
}

/// Who speaks to devices of these tenants that hold these keysets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Voices(HashMap<(TenantId, u32), Arc<Director>>);

impl Voices {
    /// None: the key that this keyset names is not ours.
    pub(crate) fn to(&self, tenant: TenantId, keyset: u32) -> Option<Arc<Director>> {
        self.0.get(&(tenant, keyset)).cloned()
    }
}

impl Directors {
    pub(crate) fn load(master_key_file: &Path) -> Result<Self, Error> {
        Ok(Self { master: MasterKey::load(master_key_file)?, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, tenant: TenantId, keyset: u32) -> Option<Arc<Director>> {
        let open = self.open();
        open.keys.get(open.named.get(&(tenant, keyset))?).cloned()
    }

    fn remember(&self, tenant: TenantId, keyset: u32, key: PublicKey) {
        let mut open = self.open();
        if open.named.len() >= DIRECTORS_MAX {
            open.named.clear();
        }
        open.named.insert((tenant, keyset), key);
    }

    fn forget(&self, keys: &[PublicKey]) {
        let mut open = self.open();
        keys.iter().for_each(|key| drop(open.keys.remove(key)));
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
        let mut open = self.open();
        if open.keys.len() >= DIRECTORS_MAX {
            open.keys.clear();
        }
        open.keys.insert(key.public, director.clone());
        Ok(director)
    }
}

/// Who speaks to devices that hold these keysets. One whose keyset is not known here, as after a backup was restored, hears
/// the newest's director: it is right unless that was replaced meanwhile, and ignored then.
pub(crate) async fn voices(
    app: &App,
    tx: &Tx,
    asked: impl IntoIterator<Item = (TenantId, u32)>,
) -> Result<Voices, Error> {
    let mut voices = Voices::default();
    let mut missing = Vec::new();
    for (tenant, keyset) in asked.into_iter().collect::<BTreeSet<_>>() {
        match app.directors.cached(tenant, keyset) {
            Some(director) => drop(voices.0.insert((tenant, keyset), director)),
            None => missing.push((tenant, keyset)),
        }
    }
    if missing.is_empty() {
        return Ok(voices);
    }
    for obeyed in directors::obeyed(tx, &missing).await? {
        let (tenant, key) = (obeyed.tenant, obeyed.named.key);
        let open = app.directors.open().keys.get(&key).cloned();
        let director = match open {
            Some(director) => director,
            None => match directors::find(tx, tenant, &key).await? {
                Some(sealed) => app.directors.unseal(tenant, &sealed)?,
                None => {
                    metrics::counter!("ota_director_missing_total").increment(1);
                    continue;
                }
            },
        };
        if obeyed.named.version == obeyed.keyset {
            app.directors.remember(tenant, obeyed.keyset, key);
        }
        voices.0.insert((tenant, obeyed.keyset), director);
    }
    Ok(voices)
}

/// The public half of the tenant's director key, which is made if there is none.
pub(crate) async fn public_key(app: &App, tenant: TenantId) -> Result<PublicKey, Error> {
    let tx = app.pg.tx(tenant).await?;
    if let Some(current) = directorship(&tx, tenant).await?.current() {
        return Ok(current);
    }
    directors::lock(&tx, tenant).await?;
    // Whichever of two at once came first.
    let current = match directorship(&tx, tenant).await?.current() {
        Some(current) => current,
        None => make(app, &tx, tenant).await?,
    };
    tx.commit().await?;
    Ok(current)
}

/// The key that is to take the place of the tenant's, made unless one waits for its keyset; none when it would be made, and
/// the call only asks.
pub(crate) async fn rotate(
    app: &App,
    call: &Call,
    tenant: TenantId,
    now: SystemTime,
) -> Result<Option<PublicKey>, Error> {
    let tx = app.pg.tx(tenant).await?;
    if let Known::Done(made) = call.begin(&tx, now).await? {
        let made = hex::decode(made).ok().and_then(|bytes| PublicKey::from_compressed(&bytes).ok());
        return made.map(Some).ok_or(Error::Corrupt("request"));
    }
    directors::lock(&tx, tenant).await?;
    let successor = match directorship(&tx, tenant).await?.successor() {
        Successor::Made(key) => key,
        Successor::ToBeMade if call.validates_only() => return Ok(None),
        Successor::ToBeMade => make(app, &tx, tenant).await?,
        Successor::TooMany => {
            return Err(Error::Limit { what: "DIRECTOR_KEYS_MAX", limit: DIRECTOR_KEYS_MAX as u64 });
        }
    };
    if call.end(tx, &hex::encode(successor.as_bytes())).await? {
        tracing::info!(%tenant, key = %successor, "a director key waits for its keyset");
    }
    Ok(Some(successor))
}

/// What `forget` deleted, and what it kept beside the governing key.
#[derive(Debug)]
pub(crate) struct Forgotten {
    pub(crate) count: usize,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) waiting: Option<PublicKey>,
}

/// Deletes every director key of the tenant that only older keysets name.
pub(crate) async fn forget(
    app: &App,
    call: &Call,
    tenant: TenantId,
    now: SystemTime,
) -> Result<Forgotten, Error> {
    let tx = app.pg.tx(tenant).await?;
    if let Known::Done(done) = call.begin(&tx, now).await? {
        return Forgotten::read(&done).ok_or(Error::Corrupt("request"));
    }
    directors::lock(&tx, tenant).await?;
    let directorship = directorship(&tx, tenant).await?;
    let keys = directorship.replaced().ok_or(Error::DirectorUnknown)?;
    directors::delete(&tx, tenant, &keys).await?;
    let done = Forgotten { count: keys.len(), keys, waiting: directorship.waiting() };
    if call.end(tx, &done.written()).await? {
        forgotten(app, tenant, &done.keys);
    }
    Ok(done)
}

impl Forgotten {
    /// How many, the keys, and after a slash the one that waits.
    fn written(&self) -> String {
        let mut text = self.count.to_string();
        self.keys.iter().for_each(|key| text += &format!(" {}", hex::encode(key.as_bytes())));
        self.waiting.iter().for_each(|key| text += &format!(" /{}", hex::encode(key.as_bytes())));
        text
    }

    /// A version before this one wrote the number alone.
    fn read(text: &str) -> Option<Forgotten> {
        let key = |hex: &str| PublicKey::from_compressed(&hex::decode(hex).ok()?).ok();
        let mut words = text.split(' ');
        let mut read = Forgotten { count: words.next()?.parse().ok()?, keys: Vec::new(), waiting: None };
        for word in words {
            match word.strip_prefix('/') {
                Some(waiting) => read.waiting = Some(key(waiting)?),
                None => read.keys.push(key(word)?),
            }
        }
        Some(read)
    }
}

/// Deletes keys that no device obeys any more; says how many.
pub(crate) async fn forget_idle(app: &App) -> Result<usize, Error> {
    let (mut count, mut after) = (0, String::new());
    loop {
        let tx = app.pg.tx(Scope::Every).await?;
        let tenants = directors::replacing(&tx, &after, REPLACING_MAX).await?;
        let Some(last) = tenants.last() else { return Ok(count) };
        after = last.to_string();
        let mut gone = Vec::new();
        for tenant in tenants {
            directors::lock(&tx, tenant).await?;
            let oldest = directors::oldest_keyset(&tx, tenant).await?;
            let idle = directorship(&tx, tenant).await?.idle(oldest);
            directors::delete(&tx, tenant, &idle).await?;
            gone.push((tenant, idle));
        }
        tx.commit().await?;
        for (tenant, idle) in gone {
            forgotten(app, tenant, &idle);
            count += idle.len();
        }
    }
}

/// Closes keys whose rows are gone: another replica deleted them, or a backup was restored.
pub(crate) async fn close_gone(app: &App) -> Result<usize, Error> {
    let open: Vec<PublicKey> = app.directors.open().keys.keys().copied().collect();
    if open.is_empty() {
        return Ok(0);
    }
    let tx = app.pg.tx(Scope::Every).await?;
    let existing = directors::existing(&tx, &open).await?;
    tx.commit().await?;
    let gone: Vec<PublicKey> = open.into_iter().filter(|key| !existing.contains(key)).collect();
    app.directors.forget(&gone);
    Ok(gone.len())
}

pub(crate) async fn directorship(tx: &Tx, tenant: TenantId) -> Result<Directorship, Error> {
    Ok(Directorship { held: directors::held(tx, tenant).await?, named: directors::named(tx, tenant).await? })
}

async fn make(app: &App, tx: &Tx, tenant: TenantId) -> Result<PublicKey, Error> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| Error::Signing)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
        .map_err(|_| Error::Signing)?;
    let public = PublicKey::from_sec1(pair.public_key().as_ref()).map_err(|_| Error::Signing)?;
    let sealed = app.directors.master.seal(pkcs8.as_ref(), &owner(tenant))?;
    directors::insert(tx, tenant, &SealedDirector { public, sealed }).await?;
    Ok(public)
}

fn forgotten(app: &App, tenant: TenantId, keys: &[PublicKey]) {
    app.directors.forget(keys);
    metrics::counter!("ota_directors_forgotten_total").increment(keys.len() as u64);
    keys.iter().for_each(|key| tracing::info!(%tenant, %key, "a director key is forgotten"));
}

/// What a sealed key is bound to, so that it cannot be moved to another tenant's row.
fn owner(tenant: TenantId) -> String {
    format!("director/{tenant}")
}

impl Director {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_answered_again_as_it_was() {
        let key = |number: u8| PublicKey::from_compressed(&[[2].as_slice(), &[number; 32]].concat()).unwrap();
        for (keys, waiting) in [
            (vec![], None),
            (vec![key(1), key(2)], None),
            (vec![key(1)], Some(key(3))),
            (vec![], Some(key(3))),
        ] {
            let done = Forgotten { count: keys.len(), keys: keys.clone(), waiting };
            let read = Forgotten::read(&done.written()).unwrap();
            assert_eq!((read.count, read.keys, read.waiting), (keys.len(), keys, waiting));
        }
        assert_eq!(Forgotten::read("3").map(|read| read.count), Some(3));
        assert!(Forgotten::read("1 zz").is_none() && Forgotten::read("").is_none());
    }
}
