//! Access tokens: the claims, and the check of a token against known keys, at a given time. No IO.
//!
//! ES256 only, whatever the token's header says; issuer, audience, expiry and the longest life are all enforced, so a
//! signing mistake elsewhere cannot make a token of a year.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};

use super::{Person, Role};

/// `iss` of every access token.
pub const TOKEN_ISSUER: &str = "holdfast";
/// `aud` of every access token.
pub const TOKEN_AUDIENCE: &str = "holdfast";
/// Longest life of a token, in seconds.
pub const TOKEN_TTL_MAX_S: u64 = 15 * 60;
/// Longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Keys of one key set.
pub const KEYS_MAX: usize = 16;
/// How far the clocks of two services may be apart, in seconds.
pub const CLOCK_SKEW_MAX_S: u64 = 30;

/// What an access token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    /// The key's resource name: `tenants/{tenant}/keys/{key}`.
    pub sub: String,
    /// Tenant id.
    pub tenant: String,
    pub role: Role,
    #[serde(default)]
    pub installation: bool,
    /// Unix seconds; a token of the future is refused.
    pub iat: u64,
    /// Unix seconds. Our tokens have none, and are good from `iat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Unix seconds.
    pub exp: u64,
}

/// Public keys by key id.
#[derive(Clone, Default)]
pub struct Keys(HashMap<String, DecodingKey>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token is not a signed JWT")]
    Malformed,
    #[error("token names an unknown key")]
    UnknownKey,
    #[error("token is not signed by its key")]
    BadSignature,
    #[error("token has expired")]
    Expired,
    #[error("token is not for us, or says what no token may say")]
    BadClaims,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Keys {
    /// The usable keys of a JWK Set: P-256 with a key id, at most [`KEYS_MAX`]. `None` if it is not a JWK Set.
    pub fn parse(jwks_json: &str) -> Option<Self> {
        let set: JwkSet = serde_json::from_str(jwks_json).ok()?;
        let usable = set.keys.into_iter().filter_map(|jwk| {
            let AlgorithmParameters::EllipticCurve(ref curve) = jwk.algorithm else {
                return None;
            };
            if curve.curve != EllipticCurve::P256 {
                return None;
            }
            Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(&jwk).ok()?))
        });
        Some(Self(usable.take(KEYS_MAX).collect()))
    }

    pub fn contains(&self, key_id: &str) -> bool {
        self.0.contains_key(key_id)
    }
}

/// The key id a token names, before anything about it is believed.
pub fn key_id(token: &str) -> Result<String, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
    // RFC 7515 §4.1.11: what must be understood and is not makes a token invalid. We understand no extension.
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    header.kid.ok_or(TokenError::Malformed)
}

/// Who a token speaks for, at `now_s` (Unix seconds).
pub fn verify(keys: &Keys, token: &str, now_s: u64) -> Result<Person, TokenError> {
    let key = keys.0.get(&key_id(token)?).ok_or(TokenError::UnknownKey)?;
    let mut rules = Validation::new(Algorithm::ES256);
    // Times are checked below, against `now_s`.
    rules.validate_exp = false;
    rules.set_issuer(&[TOKEN_ISSUER]);
    rules.set_audience(&[TOKEN_AUDIENCE]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let claims = decode::<Claims>(token, key, &rules).map_err(|error| kind(&error))?.claims;
    person(claims, now_s)
}

fn person(claims: Claims, now_s: u64) -> Result<Person, TokenError> {
    if claims.exp <= now_s {
        return Err(TokenError::Expired);
    }
    if claims.exp > now_s.saturating_add(TOKEN_TTL_MAX_S + CLOCK_SKEW_MAX_S) {
        return Err(TokenError::BadClaims);
    }
    // RFC 7519 §4.1.5, and the same for a token that was issued tomorrow.
    if claims.iat.max(claims.nbf.unwrap_or_default()) > now_s.saturating_add(CLOCK_SKEW_MAX_S) {
        return Err(TokenError::BadClaims);
    }
    let tenant = claims.tenant.parse().map_err(|_| TokenError::BadClaims)?;
    let Claims { sub: subject, role, installation, exp: until_s, .. } = claims;
    Ok(Person { subject, tenant, role, installation, until_s })
}

fn kind(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => {
            TokenError::Malformed
        }
        _ => TokenError::BadClaims,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;

    pub(crate) const NOW_S: u64 = 1_800_000_000;
    pub(crate) const TENANT: &str = "tn0190163d8694739b9ca5ab4d3a0f2c11";

    /// A signing key and the JWK Set that publishes it.
    pub(crate) struct Signer {
        pub(crate) kid: String,
        key: EncodingKey,
        pub(crate) jwks: String,
    }

    impl Signer {
        pub(crate) fn new(kid: &str) -> Self {
            use base64::Engine;
            use base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let point = pair.public_key_raw();
            let (x, y) = point[1..].split_at(32);
            let jwks = serde_json::json!({"keys": [{
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
            }]});
            let key = EncodingKey::from_ec_der(&pair.serialize_der());
            Self { kid: kid.into(), key, jwks: jwks.to_string() }
        }

        pub(crate) fn sign(&self, claims: &Claims) -> String {
            let mut header = Header::new(Algorithm::ES256);
            header.kid = Some(self.kid.clone());
            encode(&header, claims, &self.key).unwrap()
        }

        fn keys(&self) -> Keys {
            Keys::parse(&self.jwks).unwrap()
        }
    }

    pub(crate) fn claims(now_s: u64) -> Claims {
        Claims {
            iss: TOKEN_ISSUER.into(),
            aud: TOKEN_AUDIENCE.into(),
            sub: "tenants/t/keys/k".into(),
            tenant: TENANT.into(),
            role: Role::Operator,
            installation: false,
            iat: now_s,
            nbf: None,
            exp: now_s + 600,
        }
    }

    #[test]
    fn a_good_token_says_who_calls() {
        let signer = Signer::new("k1");
        let person = verify(&signer.keys(), &signer.sign(&claims(NOW_S)), NOW_S).unwrap();
        assert_eq!((person.role, person.tenant.to_string().as_str()), (Role::Operator, TENANT));
    }

    #[test]
    fn wrong_times_issuers_audiences_and_tenants_are_refused() {
        let signer = Signer::new("k1");
        let good = claims(NOW_S);
        let cases = [
            (Claims { exp: NOW_S, ..good.clone() }, TokenError::Expired),
            (Claims { exp: 0, ..good.clone() }, TokenError::Expired),
            (
                Claims { exp: NOW_S + TOKEN_TTL_MAX_S + CLOCK_SKEW_MAX_S + 1, ..good.clone() },
                TokenError::BadClaims,
            ),
            (Claims { exp: u64::MAX, ..good.clone() }, TokenError::BadClaims),
            (Claims { iss: "other".into(), ..good.clone() }, TokenError::BadClaims),
            (Claims { aud: "holdfast/token".into(), ..good.clone() }, TokenError::BadClaims),
            (Claims { tenant: "*".into(), ..good.clone() }, TokenError::BadClaims),
            (Claims { iat: NOW_S + CLOCK_SKEW_MAX_S + 1, ..good.clone() }, TokenError::BadClaims),
            (Claims { nbf: Some(NOW_S + CLOCK_SKEW_MAX_S + 1), ..good.clone() }, TokenError::BadClaims),
            (Claims { nbf: Some(u64::MAX), ..good.clone() }, TokenError::BadClaims),
        ];
        for (claims, error) in cases {
            let token = signer.sign(&claims);
            assert_eq!(verify(&signer.keys(), &token, NOW_S), Err(error), "{claims:?}");
        }
        let last = Claims { exp: NOW_S + TOKEN_TTL_MAX_S + CLOCK_SKEW_MAX_S, ..good.clone() };
        assert!(verify(&signer.keys(), &signer.sign(&last), NOW_S).is_ok());
        let skewed = NOW_S + CLOCK_SKEW_MAX_S;
        let first = Claims { iat: skewed, nbf: Some(skewed), ..good };
        assert!(verify(&signer.keys(), &signer.sign(&first), NOW_S).is_ok());
    }

    #[test]
    fn a_token_of_another_signer_or_key_is_refused() {
        let (signer, thief) = (Signer::new("k1"), Signer::new("k1"));
        assert_eq!(verify(&signer.keys(), &thief.sign(&claims(NOW_S)), NOW_S), Err(TokenError::BadSignature));
        let stranger = Signer::new("k2");
        assert_eq!(
            verify(&signer.keys(), &stranger.sign(&claims(NOW_S)), NOW_S),
            Err(TokenError::UnknownKey)
        );
    }

    #[test]
    fn only_es256_is_believed() {
        let signer = Signer::new("k1");
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".into());
        // The classic: the public key used as an HMAC secret.
        let forged =
            encode(&header, &claims(NOW_S), &EncodingKey::from_secret(signer.jwks.as_bytes())).unwrap();
        assert_eq!(verify(&signer.keys(), &forged, NOW_S), Err(TokenError::Malformed));
        use base64::Engine;
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let none = format!(
            "{}.{}.",
            part(r#"{"alg":"none","kid":"k1"}"#),
            part(&serde_json::to_string(&claims(NOW_S)).unwrap())
        );
        assert_eq!(verify(&signer.keys(), &none, NOW_S), Err(TokenError::Malformed));
    }

    #[test]
    fn a_key_set_gives_its_p256_keys_only_and_no_more_than_the_limit() {
        assert!(Keys::parse("{}").is_none());
        assert!(Keys::parse("not json").is_none());
        let many: Vec<serde_json::Value> = (0..KEYS_MAX + 1)
            .map(|n| {
                let set: serde_json::Value =
                    serde_json::from_str(&Signer::new(&format!("k{n}")).jwks).unwrap();
                set["keys"][0].clone()
            })
            .collect();
        let keys = Keys::parse(&serde_json::json!({ "keys": many }).to_string()).unwrap();
        assert_eq!(keys.0.len(), KEYS_MAX);
        assert!(keys.contains("k0") && !keys.contains(&format!("k{KEYS_MAX}")));
    }

    proptest! {
        #[test]
        fn verifying_any_text_never_panics(text in "[A-Za-z0-9_.-]{0,200}|\\PC{0,50}") {
            let keys = Keys::default();
            prop_assert!(verify(&keys, &text, NOW_S).is_err());
        }

        #[test]
        fn any_changed_character_is_refused(at in 0usize..400, to in "[A-Za-z0-9_-]") {
            let signer = Signer::new("k1");
            let token = signer.sign(&claims(NOW_S));
            let at = at % token.len();
            let mut bytes = token.clone().into_bytes();
            bytes[at] = to.as_bytes()[0];
            let changed = String::from_utf8(bytes).unwrap();
            // The last characters of a part may encode unused bits; a strict decoder refuses those too.
            prop_assume!(changed != token);
            prop_assert!(verify(&signer.keys(), &changed, NOW_S).is_err());
        }
    }
}
