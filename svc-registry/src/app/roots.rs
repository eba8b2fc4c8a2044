//! Device roots of the installation: one more is made, devices come over to it by themselves, the old one is retired.

use std::time::SystemTime;

use kit::once::{Call, Known};

use super::installation::make_device_root;
use super::{Actor, App, micros};
use crate::error::Error;
use crate::model::Invalid;
use crate::model::roots::{self, TRUSTED_MAX};
use crate::store::authority::{self as rows, StoredRoot};
use crate::store::{Tx, upkeep};

/// A device root, and what is known of it now.
#[derive(Debug, Clone)]
pub(crate) struct RootShown {
    pub stored: StoredRoot,
    /// New certificates are under it.
    pub issuing: bool,
}

impl App {
    /// In the order of their making.
    pub(crate) async fn device_roots(&self, now: SystemTime) -> Result<Vec<RootShown>, Error> {
        let tx = self.store.every().await?;
        let roots = list(&tx, now).await?;
        tx.commit().await?;
        Ok(roots)
    }

    pub(crate) async fn create_device_root(
        &self,
        actor: &Actor,
        call: &Call,
        now: SystemTime,
    ) -> Result<RootShown, Error> {
        let now = micros(now);
        let tx = self.store.every().await?;
        let made = match call.begin(&tx, now).await? {
            Known::Done(made) => key_digest(&made)?,
            Known::New => {
                rows::lock_installation(&tx).await?;
                if rows::device_roots(&tx).await?.len() >= TRUSTED_MAX {
                    let message = "as many device roots are trusted as brokers take: retire one";
                    return Err(Error::Exhausted { reason: "DEVICE_ROOTS_MAX", message });
                }
                let made = make_device_root(&tx, &self.master, now).await?;
                upkeep::audit(&tx, call.tenant(), &actor.subject, "create_device_root", &hex::encode(made))
                    .await?;
                made
            }
        };
        let shown = one(&tx, &made, now).await?;
        call.end(tx, &hex::encode(made)).await?;
        Ok(shown)
    }

    /// Certificates under it are refused from then on, and their connections end. Unless it is forced, no device may be under it, and
    /// never is the last one retired, nor the one that issues.
    pub(crate) async fn retire_device_root(
        &self,
        actor: &Actor,
        call: &Call,
        id: &str,
        force: bool,
        now: SystemTime,
    ) -> Result<RootShown, Error> {
        let now = micros(now);
        let retired = key_digest(id)?;
        let tx = self.store.every().await?;
        if call.begin(&tx, now).await? == Known::New {
            rows::lock_installation(&tx).await?;
            let root = one(&tx, &retired, now).await?;
            if root.issuing {
                let message =
                    "certificates are issued under it: make another root, and wait until that one issues";
                return Err(Error::precondition("ROOT_ISSUES", message));
            }
            if root.stored.devices > 0 && !force {
                let message = format!("{} devices have a certificate under it", root.stored.devices);
                return Err(Error::precondition("ROOT_IN_USE", message));
            }
            if root.stored.retired_at.is_none() {
                rows::retire_root(&tx, &retired, now).await?;
                upkeep::audit(&tx, call.tenant(), &actor.subject, "retire_device_root", id).await?;
            }
        }
        let shown = one(&tx, &retired, now).await?;
        call.end(tx, "").await?;
        Ok(shown)
    }
}

async fn list(tx: &Tx, now: SystemTime) -> Result<Vec<RootShown>, Error> {
    let trusted = rows::device_roots(tx).await?;
    let issuing = roots::issuing(&trusted, now);
    let shown = |stored: StoredRoot| RootShown { issuing: Some(&stored.root) == issuing, stored };
    Ok(rows::list_device_roots(tx).await?.into_iter().map(shown).collect())
}

async fn one(tx: &Tx, key_digest: &[u8; 32], now: SystemTime) -> Result<RootShown, Error> {
    let mut all = list(tx, now).await?.into_iter();
    all.find(|root| root.stored.root.key_digest == *key_digest).ok_or(Error::NotFound)
}

/// A root's id: its key's digest as lower-case hex.
fn key_digest(id: &str) -> Result<[u8; 32], Error> {
    let lower = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let digest = hex::decode(id).ok().filter(|_| lower).and_then(|bytes| bytes.try_into().ok());
    digest.ok_or_else(|| Invalid::new("root", "must be 64 lower-case hex digits").into())
}
