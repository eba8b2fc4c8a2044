//! A real device's end: what the core says to a real relay.

use anyhow::{Result, ensure};
use dev::Service;
use proto::debug::v1::{CreateDebugSessionRequest, DebugSession, EndReason};
use scenarios::client::{channel, with_token};
use scenarios::world::World;

use crate::developer::{Api, Stream, at};

#[tokio::test]
async fn a_host_board_has_nothing_to_debug_and_says_so() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |device| device["presence"] == "PRESENCE_ONLINE").await?.remove(0);
    let (tenant, _) = device.split_once("/devices/").expect("a device's name");
    let token = world.cli(&["token"]).await?;
    let api = Api::new(with_token(channel(&world.stack, Service::DebugRelay).await?, token.trim())?);
    for _ in 0..2 {
        let wanted = DebugSession { device: device.clone(), ..Default::default() };
        let request = CreateDebugSessionRequest {
            parent: tenant.into(),
            debug_session: Some(wanted),
            ..Default::default()
        };
        let session = api.clone().create_debug_session(request).await?.into_inner().name;
        let mut stream = Stream::open(&api, at(&session, None)).await?;
        ensure!(stream.reason().await? == EndReason::DeviceRefused);
    }
    Ok(())
}
