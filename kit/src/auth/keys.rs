//! The keys tokens are checked with, kept here so that a check needs no call.
//!
//! They come from svc-registry (or, within it, from its own store). An unknown key id causes one fetch, at most every
//! [`REFRESH_INTERVAL_MIN`], however many tokens name unknown keys; known keys are looked at again every
//! [`KEYS_AGE_MAX`]. While the registry is away, tokens under known keys go on being checked.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::registry::v1::GetJwksRequest;
use proto::registry::v1::token_service_client::TokenServiceClient;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use super::token::{self, Keys, TokenError};
use super::verified::Verified;
use super::{Person, unauthenticated};
use crate::status;

/// Shortest time between two fetches.
pub const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(2);
/// Age at which even known keys are fetched again.
pub const KEYS_AGE_MAX: Duration = Duration::from_secs(300);
/// How long a fetch may take.
pub const FETCH_MAX: Duration = Duration::from_secs(3);

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// svc-registry's `TokenService`.
    Registry(Channel),
    /// The JWK Set as JSON, kept current by the process itself: svc-registry.
    Local(watch::Receiver<String>),
}

/// Checks bearer tokens.
#[derive(Debug)]
pub struct Authenticator {
    source: KeySource,
    known: RwLock<Arc<Known>>,
    refresh: Mutex<Refresh>,
}

/// Keys, and what was verified with them.
#[derive(Debug, Default)]
struct Known {
    keys: Keys,
    verified: Verified,
}

#[derive(Debug, Default)]
struct Refresh {
    attempted: Option<Instant>,
    succeeded: Option<Instant>,
}

impl Authenticator {
    pub fn new(source: KeySource) -> Self {
        Self { source, known: RwLock::default(), refresh: Mutex::default() }
    }

    /// Who the bearer of a token is.
    pub async fn person(&self, bearer: &str) -> Result<Person, Status> {
        self.person_at(bearer, unix_now_s()).await
    }

    pub(crate) async fn person_at(&self, bearer: &str, now_s: u64) -> Result<Person, Status> {
        let key_id = token::key_id(bearer).map_err(refused)?;
        let known = self.known_for(&key_id).await?;
        if let Some(person) = known.verified.bearer(bearer) {
            return if person.until_s > now_s { Ok(person) } else { Err(refused(TokenError::Expired)) };
        }
        let person = token::verify(&known.keys, bearer, now_s).map_err(refused)?;
        known.verified.keep(bearer, &person);
        Ok(person)
    }

    async fn known_for(&self, key_id: &str) -> Result<Arc<Known>, Status> {
        let known = self.current();
        let mut refresh = match (known.keys.contains(key_id), self.refresh.try_lock()) {
            // Someone fetches: a known key need not wait for it.
            (true, Err(_)) => return Ok(known),
            (_, Ok(refresh)) => refresh,
            (false, Err(_)) => self.refresh.lock().await,
        };
        let known = self.current();
        if !refresh.due(known.keys.contains(key_id)) {
            return refresh.settled(known);
        }
        refresh.attempted = Some(Instant::now());
        match self.fetch().await {
            Some(fetched) => {
                refresh.succeeded = refresh.attempted;
                let known = Known { keys: fetched, verified: Verified::default() };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
            }
            None => metrics::counter!("auth_key_fetch_failures_total").increment(1),
        }
        refresh.settled(self.current())
    }

    fn current(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> Option<Keys> {
        match &self.source {
            KeySource::Local(json) => Keys::parse(&json.borrow()),
            KeySource::Registry(channel) => {
                let mut client = TokenServiceClient::new(channel.clone());
                let call = client.get_jwks(GetJwksRequest {});
                let answer = tokio::time::timeout(FETCH_MAX, call).await.ok()?;
                match answer {
                    Ok(answer) => Keys::parse(&answer.into_inner().jwks_json),
                    Err(error) => {
                        tracing::warn!(%error, "keys cannot be fetched from the registry");
                        None
                    }
                }
            }
        }
    }
}

impl Refresh {
    fn due(&self, known: bool) -> bool {
        let older = |at: Option<Instant>, age| at.is_none_or(|at| at.elapsed() >= age);
        let wanted = !known || older(self.succeeded, KEYS_AGE_MAX);
        wanted && older(self.attempted, REFRESH_INTERVAL_MIN)
    }

    /// Keys to check with, unless none were ever had.
    fn settled(&self, known: Arc<Known>) -> Result<Arc<Known>, Status> {
        match self.succeeded {
            Some(_) => Ok(known),
            None => Err(status::unavailable("tokens cannot be checked yet: the registry does not answer")),
        }
    }
}

pub(super) fn refused(error: TokenError) -> Status {
    let reason = match error {
        TokenError::Malformed => "TOKEN_MALFORMED",
        TokenError::UnknownKey => "TOKEN_UNKNOWN_KEY",
        TokenError::BadSignature => "TOKEN_BAD_SIGNATURE",
        TokenError::Expired => "TOKEN_EXPIRED",
        TokenError::BadClaims => "TOKEN_BAD_CLAIMS",
    };
    unauthenticated(reason, &error.to_string())
}

pub(super) fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::token::tests::{NOW_S, Signer, claims};
    use tonic::Code;

    fn local(jwks: &str) -> (watch::Sender<String>, Authenticator) {
        let (sender, receiver) = watch::channel(jwks.to_owned());
        (sender, Authenticator::new(KeySource::Local(receiver)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_learnt_but_fetches_are_rate_limited() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let (keys, auth) = local(&old.jwks);
        assert!(auth.person_at(&old.sign(&claims(NOW_S)), NOW_S).await.is_ok());

        keys.send(new.jwks.clone()).unwrap();
        let token = new.sign(&claims(NOW_S));
        let early = auth.person_at(&token, NOW_S).await.unwrap_err();
        assert_eq!(status::reason(&early).as_deref(), Some("TOKEN_UNKNOWN_KEY"));
        tokio::time::advance(REFRESH_INTERVAL_MIN).await;
        assert!(auth.person_at(&token, NOW_S).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawn_key_is_forgotten_after_the_age_limit() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let (keys, auth) = local(&old.jwks);
        let token = old.sign(&claims(NOW_S));
        assert!(auth.person_at(&token, NOW_S).await.is_ok());
        keys.send(new.jwks.clone()).unwrap();
        assert!(auth.person_at(&token, NOW_S).await.is_ok());
        tokio::time::advance(KEYS_AGE_MAX).await;
        assert_eq!(auth.person_at(&token, NOW_S).await.unwrap_err().code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn a_token_that_is_known_expires_all_the_same() {
        let signer = Signer::new("k");
        let (_keys, auth) = local(&signer.jwks);
        let claims = claims(NOW_S);
        let token = signer.sign(&claims);
        let first = auth.person_at(&token, NOW_S).await.unwrap();
        assert_eq!(auth.person_at(&token, claims.exp - 1).await.unwrap(), first);
        let late = auth.person_at(&token, claims.exp).await.unwrap_err();
        assert_eq!(status::reason(&late).as_deref(), Some("TOKEN_EXPIRED"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_keys_the_answer_is_unavailable_and_with_stale_ones_checks_go_on() {
        let signer = Signer::new("k");
        let token = signer.sign(&claims(NOW_S));
        let (keys, auth) = local("away");
        assert_eq!(auth.person_at(&token, NOW_S).await.unwrap_err().code(), Code::Unavailable);

        tokio::time::advance(REFRESH_INTERVAL_MIN).await;
        keys.send(signer.jwks.clone()).unwrap();
        assert!(auth.person_at(&token, NOW_S).await.is_ok());
        keys.send("away again".into()).unwrap();
        tokio::time::advance(KEYS_AGE_MAX * 2).await;
        assert!(auth.person_at(&token, NOW_S).await.is_ok());
    }
}
