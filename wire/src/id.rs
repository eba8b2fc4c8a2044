//! Names of things. An id is parsed once, at the edge, and is a type from there on.
//!
//! A resource's id is two letters and the 32 lower-case hex digits of a UUIDv7, 34 bytes, so ids sort by the time
//! they were made. Equality of bytes is equality of names: upper case, dashes and other lengths are refused, never
//! normalised.

use core::fmt;
use core::str::FromStr;

/// Hex digits of every id.
pub const HEX_DIGITS: usize = 32;
/// Bytes of a prefixed id's text.
pub const ID_BYTES: usize = HEX_DIGITS + 2;

/// The text is not an id of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected {prefix:?} and 32 lower-case hex digits")]
pub struct IdError {
    /// The prefix that was expected; empty for ids without one.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;
            /// Bytes of its text.
            pub const BYTES: usize = HEX_DIGITS + Self::PREFIX.len();

            /// An id of these 16 bytes.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Its text, without an allocation.
            pub fn text(&self) -> heapless::String<ID_BYTES> {
                let mut text = heapless::String::new();
                // Cannot fail: BYTES <= ID_BYTES.
                let _ = fmt::write(&mut text, format_args!("{self}"));
                text
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(|digits| parse_hex(digits.as_bytes()))
                    .map(Self)
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A tenant: `tn…`.
    TenantId, "tn"
);
id!(
    /// A device: `dv…`, also its certificate's common name and its MQTT client id.
    DeviceId, "dv"
);
id!(
    /// A claim: `cl…`.
    ClaimId, "cl"
);
id!(
    /// A tenant's API key: `ky…`.
    KeyId, "ky"
);
id!(
    /// A bundle: `bn…`.
    BundleId, "bn"
);
id!(
    /// An upload under way: `ul…`.
    UploadId, "ul"
);
id!(
    /// A deployment: `dp…`.
    DeploymentId, "dp"
);
id!(
    /// A debug session: `ds…`.
    DebugSessionId, "ds"
);
id!(
    /// An enrolment that waits for an operator: `pn…`.
    PendingId, "pn"
);
id!(
    /// The random MQTT client id of one enrolment: 32 hex digits, no prefix.
    ClientNonce, ""
);
id!(
    /// The random name of one relay process: 32 hex digits, no prefix.
    RelayId, ""
);

/// The 16 random bytes of a hello that directives answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 16]);

impl TryFrom<&[u8]> for Nonce {
    type Error = core::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Nonce)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// Exactly `2 * N` lower-case hex digits as bytes.
pub(crate) fn parse_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// Writes bytes as lower-case hex digits.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn an_id_is_its_prefix_and_32_lower_case_hex_digits() {
        let id = DeviceId::new([0xab; 16]);
        assert_eq!(id.to_string(), "dvabababababababababababababababab");
        assert_eq!(id.text().len(), ID_BYTES);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ClientNonce::new([1; 16]).to_string().len(), 32);
    }

    #[test]
    fn what_is_not_exactly_an_id_is_refused() {
        for text in [
            "",
            "dv",
            "dvABABABABABABABABABABABABABABABAB",
            "tnabababababababababababababababab",
            "dvababababababababababababababababa",
            "dvabababababababababababababababa",
            "dvabababab-abab-abab-abab-abababababab",
            "dvababababababababababababababab\u{e9}",
            " dvabababababababababababababababab",
        ] {
            assert_eq!(text.parse::<DeviceId>(), Err(IdError { prefix: "dv" }), "{text}");
        }
    }

    #[test]
    fn ids_sort_as_their_text_does() {
        let (old, new) = (BundleId::new([1; 16]), BundleId::new([2; 16]));
        assert!(old < new && old.to_string() < new.to_string());
    }

    proptest! {
        #[test]
        fn any_text_parses_only_to_the_id_that_prints_it(text in "(dv)?[0-9a-fA-F-]{30,34}|\\PC*") {
            if let Ok(id) = text.parse::<DeviceId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
