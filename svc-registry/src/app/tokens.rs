//! Assertion in, access token out (RFC 7523): signed by a registered key, for us, soon to expire, never seen before.
//! Whatever is wrong with an assertion, the answer is the same code, so that nothing tells which keys exist.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use kit::auth::token::{TOKEN_AUDIENCE, TOKEN_ISSUER};
use kit::auth::{Claims, Role as TokenRole};
use serde::Deserialize;

use super::App;
use crate::error::Error;
use crate::model::key::{Assertion, check_assertion, parse_subject, subject};
use crate::model::{Key, Role};
use crate::store::tenants;

/// Longest assertion that is looked at.
const ASSERTION_BYTES_MAX: usize = 4096;
/// `aud` of every assertion.
const ASSERTION_AUDIENCE: &str = "holdfast/token";

#[derive(Debug)]
pub(crate) struct AccessToken {
    pub token: String,
    pub expires_at: SystemTime,
}

#[derive(Debug, Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    exp: u64,
    jti: String,
}

impl App {
    pub(crate) async fn exchange(&self, assertion: &str, now: SystemTime) -> Result<AccessToken, Error> {
        let claimed = peek(assertion)
            .ok_or_else(|| refused("it is not an ES256 JWT with iss, sub, aud, exp and jti"))?;
        let (tenant, id) =
            parse_subject(&claimed.sub).ok_or_else(|| refused("sub is not a key's resource name"))?;
        let tx = self.store.tx(tenant).await?;
        let key = tenants::key(&tx, tenant, id).await?.ok_or_else(unknown)?;
        let claims = verify(assertion, &key)?;
        if claims.iss != claims.sub {
            return Err(refused("iss and sub differ"));
        }
        let used = Assertion {
            jti: claims.jti,
            expires_at: SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_secs(claims.exp))
                .ok_or_else(|| refused("exp is out of range"))?,
        };
        check_assertion(&used, now).map_err(|invalid| refused(&invalid.reason))?;
        if !tenants::use_assertion(&tx, &key, &used).await? {
            return Err(refused("it was used before"));
        }
        tx.commit().await?;
        self.sign(&key, now)
    }

    fn sign(&self, key: &Key, now: SystemTime) -> Result<AccessToken, Error> {
        let iat = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let exp = iat + self.settings.token.as_secs();
        let claims = Claims {
            iss: TOKEN_ISSUER.to_owned(),
            aud: TOKEN_AUDIENCE.to_owned(),
            sub: subject(key.tenant, key.id),
            tenant: key.tenant.to_string(),
            role: token_role(key.role),
            installation: key.installation,
            iat,
            nbf: None,
            exp,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.installation.kid().to_owned());
        let token =
            jsonwebtoken::encode(&header, &claims, self.installation.signing()).map_err(Error::Token)?;
        Ok(AccessToken { token, expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(exp) })
    }

    pub(crate) fn jwks_json(&self) -> String {
        self.installation.jwks().to_owned()
    }
}

/// What an assertion says before anything of it is believed.
fn peek(assertion: &str) -> Option<AssertionClaims> {
    if assertion.len() > ASSERTION_BYTES_MAX {
        return None;
    }
    let header = jsonwebtoken::decode_header(assertion).ok()?;
    if header.alg != Algorithm::ES256 {
        return None;
    }
    jsonwebtoken::dangerous::insecure_decode(assertion).ok().map(|data| data.claims)
}

fn verify(assertion: &str, key: &Key) -> Result<AssertionClaims, Error> {
    let point = key.public_key.last_chunk::<65>().ok_or(Error::Corrupt { column: "public_key" })?;
    let mut rules = Validation::new(Algorithm::ES256);
    // Times are checked in the model, against our own `now`.
    rules.validate_exp = false;
    rules.set_audience(&[ASSERTION_AUDIENCE]);
    rules.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    let data = jsonwebtoken::decode(assertion, &DecodingKey::from_ec_der(point), &rules);
    use jsonwebtoken::errors::ErrorKind;
    data.map(|data| data.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidAudience => refused("aud is not holdfast/token"),
        // The same as for a key that does not exist.
        _ => unknown(),
    })
}

fn token_role(role: Role) -> TokenRole {
    match role {
        Role::Viewer => TokenRole::Viewer,
        Role::Operator => TokenRole::Operator,
        Role::Developer => TokenRole::Developer,
        Role::Admin => TokenRole::Admin,
    }
}

fn unknown() -> Error {
    refused("no registered key signed it")
}

fn refused(why: &str) -> Error {
    Error::Unauthenticated { reason: "ASSERTION_REFUSED", message: format!("assertion is refused: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_peeking_panic(text in "[A-Za-z0-9_.=-]{0,200}|\\PC{0,60}") {
            prop_assert!(peek(&text).is_none());
        }
    }

    #[test]
    fn an_assertion_beyond_the_limit_is_not_looked_at() {
        assert!(peek(&"a".repeat(ASSERTION_BYTES_MAX + 1)).is_none());
    }
}
