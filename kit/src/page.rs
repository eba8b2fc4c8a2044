//! Page sizes and page tokens of list methods (AIP-158).
//!
//! A token holds where the next page begins, as the caller's own cursor type, and a digest of the request it belongs
//! to: used with another filter or parent it is refused. It carries no authority: whoever alters one sees only what
//! the same request could show anyway, since every query is scoped to its tenant.

use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

use crate::status;

/// Items of one page when the caller does not say.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Items of one page at most; asking for more gives this many.
pub const PAGE_SIZE_MAX: usize = 1000;
/// Longest token that is looked at.
pub const PAGE_TOKEN_BYTES_MAX: usize = 1024;

const REQUEST_DIGEST_BYTES: usize = 8;

/// The number of items to return; negative sizes are refused, 0 means the default.
pub fn size(requested: i32) -> Result<usize, Status> {
    match usize::try_from(requested) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(status::invalid("page_size", "must not be negative")),
    }
}

/// A token that continues at `cursor`. `request` is all that must stay the same: parent, filter, order.
pub fn token<C: Serialize>(request: &[&str], cursor: &C) -> String {
    let mut bytes = request_digest(request).to_vec();
    serde_json::to_writer(&mut bytes, cursor).expect("cursors are plain data");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor of a token, or `None` for the empty token of a first page.
pub fn cursor<C: DeserializeOwned>(request: &[&str], token: &str) -> Result<Option<C>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    read(request, token, PAGE_TOKEN_BYTES_MAX).map(Some).ok_or_else(refused)
}

/// The same of a token whose cursor is the id of a row. What is no id is refused: it would reach the database as it is.
pub fn id_cursor<Id: FromStr>(request: &[&str], token: &str) -> Result<Option<Id>, Status> {
    let text: Option<String> = cursor(request, token)?;
    text.map(|text| text.parse()).transpose().map_err(|_| refused())
}

fn refused() -> Status {
    status::invalid("page_token", "is not a token of this request; start without one")
}

/// What a token of at most this length holds that was made for the same request; tokens of watches are made like those of pages.
pub fn read<C: DeserializeOwned>(request: &[&str], token: &str, bytes_max: usize) -> Option<C> {
    if token.len() > bytes_max {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (digest, cursor) = bytes.split_at_checked(REQUEST_DIGEST_BYTES)?;
    if digest != request_digest(request) {
        return None;
    }
    serde_json::from_slice(cursor).ok()
}

fn request_digest(request: &[&str]) -> [u8; REQUEST_DIGEST_BYTES] {
    // Lengths keep ["ab", "c"] and ["a", "bc"] apart.
    let text: String = request.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let mut short = [0; REQUEST_DIGEST_BYTES];
    short.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..REQUEST_DIGEST_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn page_sizes_are_defaulted_clamped_and_never_negative() {
        assert_eq!(size(0).unwrap(), PAGE_SIZE_DEFAULT);
        assert_eq!(size(1).unwrap(), 1);
        assert_eq!(size(1000).unwrap(), PAGE_SIZE_MAX);
        assert_eq!(size(1001).unwrap(), PAGE_SIZE_MAX);
        assert_eq!(size(-1).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_token_gives_back_its_cursor_for_the_same_request_only() {
        let token = token(&["tenants/a", "board=x"], &("dv1", 7));
        assert_eq!(cursor(&["tenants/a", "board=x"], &token).unwrap(), Some(("dv1".to_string(), 7)));
        for other in [["tenants/a", "board=y"], ["tenants/b", "board=x"], ["tenants/ab", "oard=x"]] {
            assert!(cursor::<(String, i32)>(&other, &token).is_err());
        }
    }

    #[test]
    fn a_cursor_that_is_no_id_is_refused() {
        use wire::DeviceId;
        let id = DeviceId::new([1; 16]);
        assert_eq!(id_cursor(&["r"], &token(&["r"], &id.to_string())).unwrap(), Some(id));
        for hostile in ["", "\0", "dv", "zz'; --"] {
            assert!(id_cursor::<DeviceId>(&["r"], &token(&["r"], &hostile)).is_err(), "{hostile:?}");
        }
        assert!(id_cursor::<DeviceId>(&["r"], &token(&["r"], &7)).is_err());
    }

    #[test]
    fn the_empty_token_is_the_first_page() {
        assert_eq!(cursor::<u8>(&[], "").unwrap(), None);
    }

    #[test]
    fn a_token_at_the_limit_is_read_and_one_byte_more_is_not() {
        let longest =
            (0..).map(|n| token(&[], &"x".repeat(n))).take_while(|t| t.len() <= PAGE_TOKEN_BYTES_MAX);
        let longest = longest.last().unwrap();
        assert_eq!(longest.len(), PAGE_TOKEN_BYTES_MAX);
        assert!(cursor::<String>(&[], &longest).is_ok());
        let longer = token(&[], &"x".repeat(PAGE_TOKEN_BYTES_MAX));
        assert!(cursor::<String>(&[], &longer).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error_never_a_panic(text in "\\PC{0,40}") {
            let _ = cursor::<(String, i64)>(&["r"], &text);
        }
    }
}
