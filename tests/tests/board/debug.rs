//! A debug session from end to end: the developer's end of the Noise session, a real relay and broker, and the board as built for release.

use anyhow::{Context, Result, ensure};
use dev::Service;
use dev::firmware::Image;
use dev::qemu::Board;
use noise::{Initiator, PLAIN_BYTES_MAX, StaticKey, Transport, prologue};
use prost::Message as _;
use proto::debug::v1::{CreateDebugSessionRequest, DebugSession};
use proto::device::v1::{DebugAnswer, DebugCall, DebugGo, DebugState};
use scenarios::an505::board::is_online;
use scenarios::client::{channel, with_token};
use scenarios::debug::developer::{Api, Developer, Stream, at};
use scenarios::world::World;
use wire::limits::DEBUG_FRAME_BYTES_MAX;

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "0s"];

/// The last part of a resource's name.
fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// Somebody attached.
struct Attached {
    developer: Developer,
    stream: Stream,
    transport: Transport,
    calls: u32,
}

impl Attached {
    /// Two round trips: message 1, then message 3 and the first call.
    async fn new(
        api: &Api,
        device: &str,
        key: &StaticKey,
        call: DebugCall,
    ) -> Result<(Attached, DebugAnswer)> {
        let (tenant, _) = device.split_once("/devices/").context("a device's name")?;
        let wanted = DebugSession { device: device.into(), ..Default::default() };
        let request = CreateDebugSessionRequest {
            parent: tenant.into(),
            debug_session: Some(wanted),
            ..Default::default()
        };
        let session = api.clone().create_debug_session(request).await?.into_inner().name;
        let mut stream = Stream::open(api, at(&session, None)).await?;
        let mut developer = Developer::default();
        let spoken = prologue(noise::Role::Writer, id(device).parse()?, id(&session).parse()?);
        let mut ephemeral = [0; 32];
        aws_lc_rs::rand::fill(&mut ephemeral).ok().context("no randomness")?;
        let (initiator, message_1) = Initiator::new(key, &spoken, ephemeral)?;
        developer.frames.push(message_1.to_vec());
        let ended = developer.run(&mut stream, |developer| developer.got.len() == 1).await?;
        ensure!(ended.is_none(), "{ended:?}");
        let (transport, message_3) = initiator.hear(&developer.got[0])?.finish()?;
        developer.frames.push(message_3.to_vec());
        let mut attached = Attached { developer, stream, transport, calls: 0 };
        let answer = attached.call(call).await?;
        Ok((attached, answer))
    }

    /// Calls, and waits for the next thing the device says.
    async fn call(&mut self, call: DebugCall) -> Result<DebugAnswer> {
        self.calls += 1;
        let plain = DebugCall { number: self.calls, ..call }.encode_to_vec();
        let mut frame = vec![0; DEBUG_FRAME_BYTES_MAX];
        let length = self.transport.seal(&plain, &mut frame)?;
        self.developer.frames.push(frame[..length].to_vec());
        self.developer.credit_now(&self.stream).await;
        let said = self.developer.got.len();
        let ended = self.developer.run(&mut self.stream, |developer| developer.got.len() > said).await?;
        ensure!(ended.is_none(), "{ended:?}");
        let mut plain = vec![0; PLAIN_BYTES_MAX];
        let length = self.transport.open(&self.developer.got[said], &mut plain)?;
        Ok(DebugAnswer::decode(&plain[..length])?)
    }
}

#[tokio::test]
async fn a_developer_with_a_key_of_the_manifest_holds_the_application_and_lets_it_go() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("debug").await?;
    let board = world.machine(&flash)?.start().await?;
    world.undisturbed(&board, hold_and_let_go(&world, &board)).await?;
    board.cut_power().await
}

async fn hold_and_let_go(world: &World, _: &Board) -> Result<()> {
    let key = StaticKey::new([0x42; 32]);
    let device = world.devices(1, is_online).await?.remove(0);
    let public = hex::encode(key.public());
    let extra: Vec<&str> = QUICK.into_iter().chain(["--debug-key", &public]).collect();
    let bundle = world.app(Image::First("1.0.0"), "1.0.0", 1, &extra).await?;
    let end = world.deploy(&device, &bundle).await?;
    ensure!(end == ("STATE_CONFIRMED".into(), String::new()), "{end:?}");
    let token = world.cli(&["token"]).await?;
    let api = Api::new(with_token(channel(&world.stack, Service::DebugRelay).await?, token.trim())?);

    // Twice: the first left it as it was.
    for _ in 0..2 {
        let describe = DebugCall { describe: true, ..Default::default() };
        let (mut attached, answer) = Attached::new(&api, &device, &key, describe).await?;
        ensure!(answer.state() == DebugState::Running, "{answer:?}");
        let target = answer.target.context("no target")?;
        ensure!(target.version == "1.0.0" && !target.regions.is_empty(), "{target:?}");
        let halt = DebugCall { go: DebugGo::Halt.into(), ..Default::default() };
        let answer = attached.call(halt).await?;
        let stop = answer.stop.context("no stop")?;
        ensure!(stop.registers.len() == 80, "{stop:?}");
        attached.stream.close().await;
        attached.stream.ended().await?;
    }

    let stranger = StaticKey::new([0x43; 32]);
    let refused = Attached::new(&api, &device, &stranger, DebugCall::default()).await.err();
    ensure!(
        refused.is_some_and(|refused| refused.to_string().contains("DeviceRefused")),
        "a stranger attached"
    );
    Ok(())
}
