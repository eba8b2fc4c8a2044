//! Records of one device, a page at a time.

use wire::TenantId;

use super::App;
use crate::error::Error;
use crate::model::{Range, StoredRecord};
use crate::store::{devices, records};

impl App {
    /// At most `limit` records, oldest first, and whether there are more.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        range: &Range,
        limit: usize,
    ) -> Result<(Vec<StoredRecord>, bool), Error> {
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, range.device).await? {
            return Err(Error::NotFound);
        }
        let mut page = records::list(&tx, range, limit + 1).await?;
        tx.commit().await?;
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }
}
