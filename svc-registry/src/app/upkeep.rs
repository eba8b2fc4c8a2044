//! What goes on by itself: connections that must still end, leases that ended, rows that had their time.

use std::time::SystemTime;

use wire::DeviceId;

use super::App;
use crate::error::Error;
use crate::store::upkeep;

impl App {
    /// Identities some broker node has not confirmed to have disconnected.
    pub(crate) async fn disconnects_due(&self) -> Result<Vec<String>, Error> {
        let tx = self.store.every().await?;
        let due = upkeep::disconnects_due(&tx).await?;
        tx.commit().await?;
        Ok(due)
    }

    /// Every broker node has confirmed it. A device's lease ends with its connection.
    pub(crate) async fn disconnected(&self, identity: &str) -> Result<(), Error> {
        let tx = self.store.every().await?;
        let tenant = upkeep::disconnected(&tx, identity).await?;
        tx.commit().await?;
        if let (Some(tenant), Ok(device)) = (tenant, identity.parse::<DeviceId>()) {
            self.leases.forget(tenant, &[device]).await;
        }
        Ok(())
    }

    /// Ends the leases that are due.
    pub(crate) async fn sweep_leases(&self, now: SystemTime) {
        while !self.leases.sweep(now).await {}
    }

    /// Forgets what has had its time.
    pub(crate) async fn sweep_rows(&self, now: SystemTime) -> Result<(), Error> {
        let tx = self.store.every().await?;
        upkeep::sweep(&tx, now).await?;
        kit::once::forget(&tx, now).await?;
        tx.commit().await?;
        Ok(())
    }
}
