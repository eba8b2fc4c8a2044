//! Order, back-pressure, loss, watchers, resumption, and the audit, with one relay.

use proto::debug::v1::attach_debug_session_response::Message as Told;
use proto::debug::v1::debug_frame::Direction;
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{EndReason, Position, Role};
use proto::registry::v1::Role as TenantRole;
use scenarios::client;
use tonic::Code;

use crate::developer::{Developer, Stream, watcher, writer};
use crate::device::Faults;
use crate::world::{World, frames, reason_of};

#[tokio::test]
async fn frames_go_both_ways_in_order_watched_and_audited_by_size_only() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    let mut watching = Stream::open(&api, watcher(&session)).await.unwrap();
    assert!(matches!(watching.next().await.unwrap(), Some(Told::Attached(_))));

    const MARK: &str = "PLAINTEXT-OR-CIPHERTEXT-NOBODY-KEEPS";
    let mut developer = Developer { frames: frames(MARK, 20), ..Developer::default() };
    world.device.say(frames(MARK, 25));
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 25 && d.delivered == 20).await.unwrap();
    assert_eq!(developer.got, frames(MARK, 25));
    assert_eq!(world.device.state.lock().unwrap().taken, frames(MARK, 20));
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while up.len() + down.len() < 45 {
        let Some(Told::Frame(frame)) = watching.next().await.unwrap() else { panic!("a frame") };
        let side = if frame.direction() == Direction::Up { &mut up } else { &mut down };
        side.push(frame.data.to_vec());
    }
    assert_eq!((up, down), (frames(MARK, 25), frames(MARK, 20)));

    stream.close().await;
    assert_eq!(stream.reason().await.unwrap(), EndReason::Closed);
    assert_eq!(watching.reason().await.unwrap(), EndReason::Closed);
    world.device.until("is told", |d| d.told_end).await.unwrap();
    let shown = world.show(&api, &session).await.unwrap();
    let bytes = |count| frames(MARK, count).iter().map(Vec::len).sum::<usize>() as i64;
    let traffic = shown.traffic.unwrap();
    assert_eq!((traffic.frames_up, traffic.bytes_up), (25, bytes(25)));
    assert_eq!((traffic.frames_down, traffic.bytes_down), (20, bytes(20)));
    assert_eq!(shown.end_reason(), EndReason::Closed);

    let events = world.events(&api, &session, Kind::Detached, 2).await.unwrap();
    let kinds: Vec<Kind> = events.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds[..3], [Kind::Created, Kind::Attached, Kind::Attached]);
    let left = events.iter().find(|e| e.kind() == Kind::Detached && e.role() == Role::Writer).unwrap();
    let traffic = left.traffic.unwrap();
    assert_eq!((traffic.frames_up, traffic.frames_down, traffic.bytes_up), (25, 20, bytes(25)));
    assert_eq!((left.reason(), left.subject.as_str()), (EndReason::Closed, world.fleet.admin.key.as_str()));
    assert!(left.start_time.is_some() && left.time.is_some());

    // Nothing of what was said is anywhere: no log of any process, no row of any table.
    for entry in std::fs::read_dir(world.fleet.stack.dir().join("logs")).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!text.windows(MARK.len()).any(|window| window == MARK.as_bytes()));
    }
    let tables = world
        .fleet
        .stack
        .sql("SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_schema = 'debug'")
        .unwrap();
    assert!(tables.contains("debug.sessions") && tables.contains("debug.events"));
    for table in tables.lines() {
        let rows = world.fleet.stack.sql(&format!("SELECT t::text FROM {table} t")).unwrap();
        assert!(!rows.contains(MARK) && !rows.contains("504c41494e54455854"), "{table}");
    }
}

#[tokio::test]
async fn loss_and_repetition_on_the_way_to_the_device_cost_time_only() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    world.device.faults(Faults { lose: 5, repeat: 7, ..Faults::default() });
    let mut developer = Developer { frames: frames("down", 100), ..Developer::default() };
    world.device.say(frames("up", 100));
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 100 && d.delivered == 100).await.unwrap();
    assert_eq!(developer.got, frames("up", 100));
    assert_eq!(world.device.state.lock().unwrap().taken, frames("down", 100));
}

#[tokio::test]
async fn either_connection_may_break_and_the_session_goes_on() {
    let mut world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    let mut developer = Developer { frames: frames("down", 60), ..Developer::default() };
    world.device.say(frames("up", 30));
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() >= 10).await.unwrap();
    // The developer's breaks in the middle of everything, twice; nobody says goodbye.
    drop(stream);
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() >= 20).await.unwrap();
    let mut second = developer.attach(&api, &session).await.unwrap();
    assert_eq!(stream.reason().await.unwrap(), EndReason::Replaced);
    developer.run(&mut second, |d| d.delivered == 60 && d.got.len() == 30).await.unwrap();
    // The device's does.
    world.device.disconnect();
    developer.frames.extend(frames("more", 5));
    world.device.say(frames("more", 5));
    let (stack, enrolled) = (&world.fleet.stack, &world.enrolled);
    world.device.reconnect(stack, enrolled).await.unwrap();
    developer.run(&mut second, |d| d.got.len() == 35).await.unwrap();
    let mut third = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut third, |d| d.delivered == 65).await.unwrap();
    let taken = [frames("down", 60), frames("more", 5)].concat();
    assert_eq!(world.device.state.lock().unwrap().taken, taken);

    let behind = Position { received_up_to: 1, delivered_up_to: 0 };
    let refused = Stream::open(&api, writer(&session, Some(behind))).await.err().unwrap();
    assert_eq!(kit::status::reason(&refused).as_deref(), Some("POSITION_NOT_RESUMABLE"));
    let ahead = Position { received_up_to: 1000, delivered_up_to: 0 };
    let refused = Stream::open(&api, writer(&session, Some(ahead))).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_that_never_reads_uses_up_its_own_credit_and_no_one_elses() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    world.device.say(frames("up", 100));
    let idle = Stream::open(&api, writer(&session, None)).await.unwrap();
    world.device.until("uses its window", |d| d.sent == 32).await.unwrap();

    // Another device's session goes on meanwhile.
    let other = world.fleet.enroll("HW-2").await.unwrap();
    let device = crate::device::Device::connect(&world.fleet.stack, &other).await.unwrap();
    let wanted = proto::debug::v1::DebugSession { device: other.name(), ..Default::default() };
    let request = proto::debug::v1::CreateDebugSessionRequest {
        parent: world.fleet.admin.tenant.clone(),
        debug_session: Some(wanted),
        ..Default::default()
    };
    let busy = api.clone().create_debug_session(request).await.unwrap().into_inner().name;
    let mut developer = Developer { frames: frames("down", 200), ..Developer::default() };
    device.say(frames("up", 200));
    let mut stream = developer.attach(&api, &busy).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 200 && d.delivered == 200).await.unwrap();

    let state = || {
        let state = world.device.state.lock().unwrap();
        (state.sent, state.forgotten)
    };
    assert_eq!(state(), (32, 0), "no credit beyond the window");
    drop(idle);
    let mut developer = Developer::default();
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 100).await.unwrap();
    assert_eq!(developer.got, frames("up", 100));
}

#[tokio::test]
async fn a_watcher_that_never_reads_holds_nobody_up_and_is_told_or_ended() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    let mut watching = Stream::open(&api, watcher(&session)).await.unwrap();
    // More than HTTP/2 (2 MiB at this client), the relay's queue and what a watcher may miss (64 and 1024 frames) hide.
    let large = |n: usize| vec![n as u8; 4096];
    let count = 2200;
    world.device.say((0..count).map(large));
    let mut developer = Developer::default();
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == count).await.unwrap();
    assert_eq!(watching.reason().await.unwrap(), EndReason::Lagging);
    let events = world.events(&api, &session, Kind::Detached, 1).await.unwrap();
    assert_eq!(events.last().unwrap().reason(), EndReason::Lagging);
}

#[tokio::test]
async fn who_may_not_attach_is_refused_and_written_down() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    let stack = &world.fleet.stack;
    let colleague = world.fleet.admin.colleague(stack, TenantRole::Developer).await.unwrap();
    let theirs = world.api_of(&colleague).await.unwrap();
    let _writing = Stream::open(&api, writer(&session, None)).await.unwrap();
    let mut watching = Vec::new();
    for _ in 0..4 {
        watching.push(Stream::open(&theirs, watcher(&session)).await.unwrap());
    }
    let refused = Stream::open(&theirs, writer(&session, None)).await.err().unwrap();
    assert_eq!(kit::status::reason(&refused).as_deref(), Some("WRITER_PRESENT"));
    let refused = Stream::open(&theirs, watcher(&session)).await.err().unwrap();
    assert_eq!(kit::status::reason(&refused).as_deref(), Some("WATCHERS_MAX"));
    let events = world.events(&api, &session, Kind::Denied, 2).await.unwrap();
    let denied: Vec<_> = events
        .iter()
        .filter(|event| event.kind() == Kind::Denied)
        .map(|event| (event.denial.as_str(), event.subject.as_str()))
        .collect();
    assert_eq!(denied, [("WRITER_PRESENT", colleague.key.as_str()), ("WATCHERS_MAX", &colleague.key)]);

    let stranger = client::new_tenant(stack, &world.fleet.admin, "Other").await.unwrap();
    let foreign = world.api_of(&stranger).await.unwrap();
    let moved = session.replace(&world.fleet.admin.tenant, &stranger.tenant);
    for name in [session.as_str(), &moved] {
        for attach in [writer(name, None), watcher(name)] {
            let refused = Stream::open(&foreign, attach).await.err().unwrap();
            assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"));
        }
    }
    let second = world.session(&api).await.unwrap_err();
    assert_eq!(reason_of(&second).as_deref(), Some("DEVICE_HAS_SESSION"), "{second:?}");
}
