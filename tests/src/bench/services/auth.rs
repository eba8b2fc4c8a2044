//! What it costs to know who calls: of a token seen before, and of one seen for the first time. In this process, without a network.

use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use dev::Service;
use kit::auth::token::{Keys, verify};
use kit::auth::{Authenticator, KeySource};
use proto::registry::v1::GetJwksRequest;
use proto::registry::v1::token_service_client::TokenServiceClient;
use tokio::sync::watch;

use super::FIGURES;
use crate::client;
use crate::world::World;

/// Looks at a token that is known.
const CACHED: u32 = 200_000;
/// Signatures checked.
const UNCACHED: u32 = 5_000;

pub async fn measure(world: &World) -> Result<()> {
    let token = world.cli(&["token"]).await?.trim().to_owned();
    let mut registry = TokenServiceClient::new(client::channel(&world.stack, Service::Registry).await?);
    let jwks = registry.get_jwks(GetJwksRequest {}).await?.into_inner().jwks_json;
    let keys = Keys::parse(&jwks).context("the registry's keys")?;
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();

    let began = Instant::now();
    for _ in 0..UNCACHED {
        ensure!(verify(&keys, &token, now_s).is_ok(), "the token is not believed");
    }
    FIGURES.alone("auth_us_uncached", "us", microseconds(began, UNCACHED));

    let (_current, source) = watch::channel(jwks);
    let authenticator = Authenticator::new(KeySource::Local(source));
    authenticator.person(&token).await?;
    let began = Instant::now();
    for _ in 0..CACHED {
        ensure!(authenticator.person(&token).await.is_ok(), "the token is not believed");
    }
    FIGURES.alone("auth_us_cached", "us", microseconds(began, CACHED));
    Ok(())
}

fn microseconds(began: Instant, count: u32) -> f64 {
    began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}
