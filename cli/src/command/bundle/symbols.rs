//! Sending the ELF file a bundle was made from, if it is: what it loads must be what the bundle's layers hold.

use std::path::Path;

use anyhow::{Context as _, Result};
use proto::ota::v1::UploadSymbolsRequest;
use wire::Digest;
use wire::limits::{AREA_BYTES_MAX, SYMBOLS_BYTES_MAX};

use super::inspect::BundleFile;
use super::upload::{CHUNK_BYTES, CHUNKS_AHEAD, bar};
use crate::args::Global;
use crate::failure::input;
use crate::image;
use crate::session::Session;
use crate::symbols;

/// An ELF file that is a bundle's.
#[derive(Debug)]
pub(super) struct Symbols {
    bytes: Vec<u8>,
}

impl Symbols {
    pub(super) fn read(path: &Path, bundle: &BundleFile) -> Result<Symbols> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !image::is_elf(&bytes) {
            return Err(input(format!("{} is not an ELF file", path.display())));
        }
        if bytes.len() > SYMBOLS_BYTES_MAX as usize {
            return Err(input(format!(
                "{} has {} bytes; at most {SYMBOLS_BYTES_MAX} are kept: build with less debugging information, or \
                 upload with --no-symbols and show crashes with --elf",
                path.display(),
                bytes.len()
            )));
        }
        let loads = image::flatten(&bytes, AREA_BYTES_MAX as usize)
            .with_context(|| format!("{} cannot be loaded", path.display()))?;
        if !is_same(&loads, &bundle.image()) {
            return Err(input(format!(
                "{} is not the ELF file of this bundle: it loads something else",
                path.display()
            )));
        }
        Ok(Symbols { bytes })
    }

    /// The one that `bundle create` left beside the bundle. Without it crashes are only harder to read: one that is not the bundle's is
    /// told of and left.
    pub(super) fn beside(bundle: &Path, file: &BundleFile) -> Option<Symbols> {
        let path = symbols::beside(bundle);
        if !path.exists() {
            return None;
        }
        Symbols::read(&path, file)
            .inspect_err(|error| eprintln!("warning: no ELF file is sent: {error:#}"))
            .ok()
    }

    pub(super) async fn send(&self, global: &Global, session: &Session, manifest_digest: &str) -> Result<()> {
        let bar = bar(global, "uploading the ELF file", self.bytes.len() as u64)?;
        let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
        let feed = async move {
            for (index, chunk) in self.bytes.chunks(CHUNK_BYTES).enumerate() {
                let first = UploadSymbolsRequest {
                    parent: session.tenant(),
                    manifest_digest: manifest_digest.to_owned(),
                    digest: Digest::of(&self.bytes).to_string(),
                    size: self.bytes.len() as i64,
                    ..Default::default()
                };
                let named = if index == 0 { first } else { UploadSymbolsRequest::default() };
                let message = UploadSymbolsRequest { data: chunk.to_vec().into(), ..named };
                // A closed channel means that the call ended; its result says why.
                if sender.send(message).await.is_err() {
                    break;
                }
                bar.inc(chunk.len() as u64);
            }
            bar.finish_and_clear();
        };
        let mut client = session.bundles().await?;
        let call = client.upload_symbols(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let (reply, ()) = tokio::join!(call, feed);
        reply.context("the bundle is there, but its ELF file cannot be sent; run the upload again, or with --no-symbols")?;
        Ok(())
    }
}

/// The same bytes of flash: what lies beyond the end of either reads as erased.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let common = one.len().min(other.len());
    let is_erased = |rest: &[u8]| rest.iter().all(|byte| *byte == image::ERASED);
    one[..common] == other[..common] && is_erased(&one[common..]) && is_erased(&other[common..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flash_is_compared_with_what_is_erased() {
        assert!(is_same(b"ab", b"ab\xFF\xFF") && is_same(b"ab\xFF", b"ab") && is_same(b"", b"\xFF"));
        assert!(!is_same(b"ab", b"ac") && !is_same(b"ab", b"ab\0") && !is_same(b"", b"a"));
    }
}
