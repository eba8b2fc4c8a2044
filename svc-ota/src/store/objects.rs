//! Layers and staged pieces in S3: whole puts, range reads, deletes.
//!
//! Always holds: a key is written by one upload and never written again, so that a late delete can hit nothing new.
//! Every request has a time limit; nothing here retries, callers come again.

use std::time::Duration;

use bytes::Bytes;
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::{Bucket, Region};
use wire::{Digest, TenantId, UploadId};

use crate::config::S3;
use crate::error::Error;

/// Longest any request to S3 may take. What let go of an object waits longer than this before it sweeps again.
pub(crate) const S3_TIMEOUT: Duration = Duration::from_secs(20);
/// Keys deleted between two looks at what is left.
const DELETE_PAGE_MAX: usize = 100;

pub(crate) struct Objects {
    bucket: Box<Bucket>,
}

impl Objects {
    pub(crate) fn new(config: &S3) -> Result<Self, Error> {
        let region = Region::Custom { region: config.region.clone(), endpoint: config.endpoint.clone() };
        let credentials =
            Credentials::new(Some(&config.access_key), Some(config.secret_key.expose()), None, None, None)
                .map_err(S3Error::from)?;
        let mut bucket = Bucket::new(&config.bucket, region, credentials)?.with_path_style();
        bucket.set_request_timeout(Some(S3_TIMEOUT));
        Ok(Self { bucket })
    }

    pub(crate) async fn put(&self, key: &str, data: &[u8]) -> Result<(), Error> {
        self.bucket.put_object(key, data).await?;
        Ok(())
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Bytes, Error> {
        Ok(self.bucket.get_object(key).await?.into_bytes())
    }

    /// Bytes `start..end`; fewer are an error.
    pub(crate) async fn range(&self, key: &str, start: u64, end: u64) -> Result<Bytes, Error> {
        let data = self.bucket.get_object_range(key, start, Some(end - 1)).await?.into_bytes();
        if data.len() as u64 != end - start {
            return Err(Error::Corrupt("object length"));
        }
        Ok(data)
    }

    /// Deletes every object whose key begins with `prefix`; returns how many there were.
    pub(crate) async fn delete_all(&self, prefix: &str) -> Result<usize, Error> {
        let mut deleted = 0;
        loop {
            let (page, _) =
                self.bucket.list_page(prefix.to_owned(), None, None, None, Some(DELETE_PAGE_MAX)).await?;
            if page.contents.is_empty() {
                return Ok(deleted);
            }
            for object in &page.contents {
                self.delete(&object.key).await?;
                deleted += 1;
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.bucket.delete_object(key).await {
            Ok(_) | Err(S3Error::HttpFailWithBody(404, _)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Objects({})", self.bucket.name)
    }
}

/// Everything an unfinished upload staged.
pub(crate) fn staging_prefix(tenant: TenantId, upload: UploadId) -> String {
    format!("tenants/{tenant}/uploads/{upload}/")
}

/// One staged piece. `unique` keeps two writers of one offset apart; the layer's digest is cut short, since it is the
/// row that says which layer a piece is of, and some stores make file names of keys.
pub(crate) fn staging_key(
    tenant: TenantId,
    upload: UploadId,
    layer: Digest,
    start: u64,
    unique: u64,
) -> String {
    let short = &layer.to_string()[..16];
    format!("{}{short}-{start:08x}-{unique:016x}", staging_prefix(tenant, upload))
}

/// A finished layer, as one attempt to finish wrote it.
pub(crate) fn layer_key(tenant: TenantId, layer: Digest, unique: u64) -> String {
    format!("tenants/{tenant}/layers/{layer}-{unique:016x}")
}

/// The ELF file of a bundle, as one upload wrote it.
pub(crate) fn symbols_key(tenant: TenantId, file: Digest, unique: u64) -> String {
    format!("tenants/{tenant}/symbols/{file}-{unique:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_enough_to_be_part_of_a_file_name_in_base64() {
        let (tenant, upload, layer) = (TenantId::new([1; 16]), UploadId::new([2; 16]), Digest([3; 32]));
        for key in [
            staging_key(tenant, upload, layer, u64::from(u32::MAX), u64::MAX),
            layer_key(tenant, layer, u64::MAX),
            symbols_key(tenant, layer, u64::MAX),
        ] {
            assert!(key.len() <= 135, "{} bytes", key.len());
            assert!(key.starts_with(&format!("tenants/{tenant}/")));
        }
    }
}
