//! HMAC-SHA-256, of which rustls makes its HKDF.

use alloc::boxed::Box;

use ::hmac::{KeyInit as _, Mac as _};
use rustls::crypto::hmac::{Hmac, Key, Tag};

type Keyed = ::hmac::Hmac<sha2::Sha256>;

#[derive(Debug)]
pub(super) struct HmacSha256;

impl Hmac for HmacSha256 {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(Ready(Keyed::new_from_slice(key).expect("HMAC takes a key of any length")))
    }

    fn hash_output_len(&self) -> usize {
        32
    }
}

struct Ready(Keyed);

impl Key for Ready {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        for part in middle {
            mac.update(part);
        }
        mac.update(last);
        Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        32
    }
}
