//! Two relay processes: who holds a session, who passes a call on, and who takes over.

use dev::Service;
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{CloseDebugSessionRequest, CreateDebugSessionRequest, DebugSession, EndReason, Role};
use tokio::task::JoinSet;

use crate::developer::{Developer, Stream, at};
use crate::world::{World, frames, reason_of};

#[tokio::test]
async fn a_call_that_reaches_another_replica_is_passed_on_to_the_holder() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (here, there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let session = world.session(&here).await.unwrap();
    let mut developer = Developer { frames: frames("down", 40), ..Developer::default() };
    world.device.say(frames("up", 40));
    let mut stream = developer.attach(&here, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() >= 5).await.unwrap();
    // The same developer, now by way of the other: replaced at the holder, and no epoch was raised.
    let mut passed = developer.attach(&there, &session).await.unwrap();
    assert_eq!(stream.reason().await.unwrap(), EndReason::Replaced);
    developer.run(&mut passed, |d| d.got.len() == 40 && d.delivered == 40).await.unwrap();
    assert_eq!(world.device.state.lock().unwrap().highest_epoch, 1);
    // Closed where it is not held.
    let close = CloseDebugSessionRequest { name: session.clone(), ..Default::default() };
    there.clone().close_debug_session(close).await.unwrap();
    assert_eq!(passed.reason().await.unwrap(), EndReason::Closed);
}

#[tokio::test]
async fn a_writer_and_a_watcher_of_one_device_are_held_by_two_replicas_and_do_not_mix() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (here, there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let (writing, watching) = (world.session(&here).await.unwrap(), world.watch(&here).await.unwrap());
    let id = |name: &str| name.rsplit('/').next().unwrap().to_owned();
    let mut writer = Developer { frames: frames("write", 60), ..Developer::default() };
    let mut watcher = Developer { frames: frames("watch", 60), ..Developer::default() };
    world.device.say(frames("to the writer", 60));
    world.device.say_to(&id(&watching), frames("to the watcher", 60));

    // Nobody holds either: each is taken where it is attached to.
    let mut written = writer.attach(&here, &writing).await.unwrap();
    let mut watched = watcher.attach(&there, &watching).await.unwrap();
    let (one, other) = tokio::join!(
        writer.run(&mut written, |d| d.got.len() == 60 && d.delivered == 60),
        watcher.run(&mut watched, |d| d.got.len() == 60 && d.delivered == 60)
    );
    assert_eq!((one.unwrap(), other.unwrap()), (None, None));
    assert_eq!((&writer.got, &watcher.got), (&frames("to the writer", 60), &frames("to the watcher", 60)));
    let is_clean = || {
        let state = world.device.state.lock().unwrap();
        let watched = state.watching.get(&id(&watching)).unwrap();
        assert_eq!((&state.taken, &watched.taken), (&frames("write", 60), &frames("watch", 60)));
        assert_eq!((state.highest_epoch, watched.highest_epoch), (1, 1));
        // Every message of the watcher's session said so, and none of the writer's.
        assert_eq!((&state.session, state.watching.len()), (&id(&writing), 1));
    };
    is_clean();

    // The watcher goes on by way of the replica that holds the writer's, and is passed on.
    let mut passed = watcher.attach(&here, &watching).await.unwrap();
    assert_eq!(watched.reason().await.unwrap(), EndReason::Replaced);
    written.close().await;
    assert_eq!(written.reason().await.unwrap(), EndReason::Closed);
    world.device.until("is told of the writer's end", |d| d.told_end).await.unwrap();
    watcher.frames.extend(frames("more", 1));
    watcher.run(&mut passed, |d| d.delivered == 61).await.unwrap();
    let close = CloseDebugSessionRequest { name: watching.clone(), ..Default::default() };
    here.clone().close_debug_session(close).await.unwrap();
    assert_eq!(passed.reason().await.unwrap(), EndReason::Closed);
    let told = |d: &crate::device::State| d.watching.values().all(|watched| watched.told_end);
    world.device.until("is told of the watcher's end", told).await.unwrap();
    let state = world.device.state.lock().unwrap();
    assert_eq!((&state.session, state.watching.len()), (&id(&writing), 1), "farewells, too");
}

#[tokio::test]
async fn a_device_has_one_writer_and_four_watchers_however_many_ask_at_once() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (here, there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let mut asking = JoinSet::new();
    for n in 0..24 {
        let mut api = if n % 2 == 0 { here.clone() } else { there.clone() };
        let (role, full) = if n % 3 == 0 {
            (Role::Writer, "DEVICE_HAS_SESSION")
        } else {
            (Role::Watcher, "DEVICE_HAS_WATCHERS")
        };
        let device = world.enrolled.name();
        let request = CreateDebugSessionRequest {
            parent: world.fleet.admin.tenant.clone(),
            debug_session: Some(DebugSession { device, role: role.into(), ..Default::default() }),
            ..Default::default()
        };
        asking.spawn(async move { (full, api.create_debug_session(request).await) });
    }
    let mut made = Vec::new();
    for (full, asked) in asking.join_all().await {
        match asked {
            Ok(session) => made.push(session.into_inner()),
            Err(refused) => assert_eq!(kit::status::reason(&refused).as_deref(), Some(full), "{refused:?}"),
        }
    }
    let count = |role| made.iter().filter(|session| session.role() == role).count();
    assert_eq!((count(Role::Writer), count(Role::Watcher)), (1, 4));
    assert!(made.iter().all(|session| !session.attached));

    // Each is attached to, and each that ends makes room for one of its role.
    for session in &made {
        let mut developer = Developer { frames: frames("down", 1), ..Developer::default() };
        let mut stream = developer.attach(&there, &session.name).await.unwrap();
        developer.run(&mut stream, |d| d.delivered == 1).await.unwrap();
        stream.close().await;
        assert_eq!(stream.reason().await.unwrap(), EndReason::Closed);
        let again = match session.role() {
            Role::Watcher => world.watch(&here).await,
            _ => world.session(&here).await,
        };
        again.unwrap();
    }
    let refused = world.watch(&there).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("DEVICE_HAS_WATCHERS"), "{refused:?}");
}

#[tokio::test]
async fn a_relay_killed_mid_stream_loses_nothing_and_another_goes_on() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (here, there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let session = world.session(&here).await.unwrap();
    let mut developer = Developer { frames: frames("down", 200), ..Developer::default() };
    world.device.say(frames("up", 200));
    let mut stream = developer.attach(&here, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() >= 20).await.unwrap();
    world.fleet.stack.kill(Service::DebugRelay).await.unwrap();
    drop(stream);
    let mut stream = developer.attach(&there, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 200 && d.delivered == 200).await.unwrap();
    assert_eq!(developer.got, frames("up", 200));
    let state = || {
        let state = world.device.state.lock().unwrap();
        (state.taken.clone(), state.highest_epoch)
    };
    assert_eq!(state(), (frames("down", 200), 2));
    let events = world.events(&there, &session, Kind::Detached, 1).await.unwrap();
    let lost = events.iter().find(|event| event.kind() == Kind::Detached).unwrap();
    assert_eq!(lost.reason(), EndReason::RelayLost);
}

#[tokio::test]
async fn a_relay_that_stops_gives_its_sessions_back_at_once() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (here, there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let session = world.session(&here).await.unwrap();
    let mut developer = Developer { frames: frames("down", 50), ..Developer::default() };
    world.device.say(frames("up", 50));
    let mut stream = developer.attach(&here, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() >= 10).await.unwrap();
    let (stopped, ended) = tokio::join!(world.fleet.stack.stop(Service::DebugRelay), stream.ended());
    stopped.unwrap();
    let ended = ended.unwrap();
    assert_eq!((ended.reason(), ended.resumable), (EndReason::Draining, true));
    drop(stream);
    // No lease is waited for: the first call is taken.
    let mut stream = Stream::open(&there, at(&session, Some(developer.position()))).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 50 && d.delivered == 50).await.unwrap();
    assert_eq!(world.device.state.lock().unwrap().taken, frames("down", 50));
    let events = world.events(&there, &session, Kind::Detached, 1).await.unwrap();
    let left = events.iter().find(|event| event.kind() == Kind::Detached).unwrap();
    assert_eq!(left.reason(), EndReason::Draining);
}

#[tokio::test]
async fn a_relay_that_stood_still_too_long_lost_its_session_and_says_so() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (here, there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let session = world.session(&there).await.unwrap();
    let mut developer = Developer { frames: frames("down", 60), ..Developer::default() };
    world.device.say(frames("up", 60));
    let mut stale = developer.attach(&there, &session).await.unwrap();
    developer.run(&mut stale, |d| d.got.len() >= 10).await.unwrap();
    let pid = rustix::process::Pid::from_raw(second.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let mut stream = developer.attach(&here, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 60 && d.delivered == 60).await.unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert_eq!(stale.reason().await.unwrap(), EndReason::Moved);
    let state = || world.device.state.lock().unwrap().taken.clone();
    assert_eq!(state(), frames("down", 60), "the device heard none of what the old one said");
}
