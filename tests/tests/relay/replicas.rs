//! Two relay processes: who holds a session, who passes a call on, and who takes over.

use dev::Service;
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{CloseDebugSessionRequest, EndReason};

use crate::developer::{Developer, Stream, watcher, writer};
use crate::world::{World, frames};

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
    let mut watching = Stream::open(&there, watcher(&session)).await.unwrap();
    watching.next().await.unwrap();
    // The same writer, now by way of the other: replaced at the holder, and no epoch was raised.
    let mut passed = developer.attach(&there, &session).await.unwrap();
    assert_eq!(stream.reason().await.unwrap(), EndReason::Replaced);
    developer.run(&mut passed, |d| d.got.len() == 40 && d.delivered == 40).await.unwrap();
    assert_eq!(world.device.state.lock().unwrap().highest_epoch, 1);
    // Closed where it is not held.
    let close = CloseDebugSessionRequest { name: session.clone(), ..Default::default() };
    there.clone().close_debug_session(close).await.unwrap();
    assert_eq!(passed.reason().await.unwrap(), EndReason::ClosedByOperator);
    assert_eq!(watching.reason().await.unwrap(), EndReason::ClosedByOperator);
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
    let mut stream = Stream::open(&there, writer(&session, Some(developer.position()))).await.unwrap();
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
