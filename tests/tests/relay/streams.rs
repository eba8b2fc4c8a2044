//! Order, back-pressure, loss, watchers, resumption, and the audit, with one relay.

use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{EndReason, Position, Role};
use proto::registry::v1::Role as TenantRole;
use scenarios::client;
use tonic::Code;

use crate::developer::{Developer, Stream, at};
use crate::device::Faults;
use crate::world::{World, frames, reason_of};

#[tokio::test]
async fn frames_go_both_ways_of_writer_and_watcher_and_are_audited_by_size_only() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let colleague = world.fleet.admin.colleague(&world.fleet.stack, TenantRole::Developer).await.unwrap();
    let theirs = world.api_of(&colleague).await.unwrap();
    let (writing, watching) = (world.session(&api).await.unwrap(), world.watch(&theirs).await.unwrap());

    const MARK: &str = "PLAINTEXT-OR-CIPHERTEXT-NOBODY-KEEPS";
    world.device.say(frames(MARK, 25));
    world.device.say_to(watching.rsplit('/').next().unwrap(), frames(MARK, 15));
    let (admin, watcher) = (world.fleet.admin.key.as_str(), colleague.key.as_str());
    for (api, session, role, who, down, up) in
        [(&api, &writing, Role::Writer, admin, 20, 25), (&theirs, &watching, Role::Watcher, watcher, 10, 15)]
    {
        let mut developer = Developer { frames: frames(MARK, down), ..Developer::default() };
        let mut stream = developer.attach(api, session).await.unwrap();
        developer.run(&mut stream, |d| d.got.len() == up && d.delivered == down as i64).await.unwrap();
        assert_eq!(developer.got, frames(MARK, up));
        stream.close().await;
        assert_eq!(stream.reason().await.unwrap(), EndReason::Closed);

        let shown = world.show(api, session).await.unwrap();
        let bytes = |count| frames(MARK, count).iter().map(Vec::len).sum::<usize>() as i64;
        let traffic = shown.traffic.unwrap();
        assert_eq!((traffic.frames_up, traffic.bytes_up), (up as i64, bytes(up)));
        assert_eq!((traffic.frames_down, traffic.bytes_down), (down as i64, bytes(down)));
        assert_eq!(
            (shown.end_reason(), shown.role(), shown.creator.as_str()),
            (EndReason::Closed, role, who)
        );
        let admins = world.api().await.unwrap();
        let events = world.events(&admins, session, Kind::Detached, 1).await.unwrap();
        let mut kinds: Vec<Kind> = events.iter().map(|event| event.kind()).collect();
        kinds.sort();
        assert_eq!(kinds, [Kind::Created, Kind::Attached, Kind::Detached, Kind::Ended]);
        assert!(
            events.iter().all(|event| (event.role(), event.subject.as_str()) == (role, who)),
            "{events:?}"
        );
        let left = events.iter().find(|event| event.kind() == Kind::Detached).unwrap();
        assert_eq!((left.traffic, left.reason()), (Some(traffic), EndReason::Closed));
        assert!(left.start_time.is_some() && left.time.is_some());
    }
    let told = |d: &crate::device::State| d.told_end && d.watching.values().all(|watched| watched.told_end);
    world.device.until("is told, for each", told).await.unwrap();
    let taken = {
        let state = world.device.state.lock().unwrap();
        (state.taken.clone(), state.watching.values().next().unwrap().taken.clone())
    };
    assert_eq!(taken, (frames(MARK, 20), frames(MARK, 10)));

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
    let refused = Stream::open(&api, at(&session, Some(behind))).await.err().unwrap();
    assert_eq!(kit::status::reason(&refused).as_deref(), Some("POSITION_NOT_RESUMABLE"));
    let ahead = Position { received_up_to: 1000, delivered_up_to: 0 };
    let refused = Stream::open(&api, at(&session, Some(ahead))).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_that_never_reads_uses_up_its_own_credit_and_no_one_elses() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    world.device.say(frames("up", 100));
    let idle = Stream::open(&api, at(&session, None)).await.unwrap();
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
async fn a_watcher_that_never_reads_uses_up_its_own_credit_and_holds_no_writer_up() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let (writing, watching) = (world.session(&api).await.unwrap(), world.watch(&api).await.unwrap());
    world.device.say_to(watching.rsplit('/').next().unwrap(), frames("watched", 100));
    let _idle = Stream::open(&api, at(&watching, None)).await.unwrap();
    let sent = |d: &crate::device::State| d.watching.values().next().map_or(0, |watched| watched.sent);
    world.device.until("uses the watcher's window", |d| sent(d) == 32).await.unwrap();
    world.device.say(frames("up", 200));
    let mut developer = Developer { frames: frames("down", 200), ..Developer::default() };
    let mut stream = developer.attach(&api, &writing).await.unwrap();
    developer.run(&mut stream, |d| d.got.len() == 200 && d.delivered == 200).await.unwrap();
    assert_eq!(sent(&world.device.state.lock().unwrap()), 32, "no credit beyond the window");
}

#[tokio::test]
async fn a_session_is_its_creators_alone_and_who_else_attaches_is_written_down() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let stack = &world.fleet.stack;
    let colleague = world.fleet.admin.colleague(stack, TenantRole::Developer).await.unwrap();
    let theirs = world.api_of(&colleague).await.unwrap();
    let (writing, watching) = (world.session(&api).await.unwrap(), world.watch(&theirs).await.unwrap());
    // Whether somebody is attached or not, and whichever the role.
    let mut writer = Developer { frames: frames("down", 1), ..Developer::default() };
    let mut stream = writer.attach(&api, &writing).await.unwrap();
    writer.run(&mut stream, |d| d.delivered == 1).await.unwrap();
    let sessions =
        [(&theirs, &writing, &colleague, Role::Writer), (&api, &watching, &world.fleet.admin, Role::Watcher)];
    for (api_of_another, session, who, role) in sessions {
        let refused = Stream::open(api_of_another, at(session, None)).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(kit::status::reason(&refused).as_deref(), Some("SESSION_OF_ANOTHER"));
        let events = world.events(&api, session, Kind::Denied, 1).await.unwrap();
        let denied = events.iter().find(|event| event.kind() == Kind::Denied).unwrap();
        assert_eq!(
            (denied.denial.as_str(), &denied.subject, denied.role()),
            ("SESSION_OF_ANOTHER", &who.key, role)
        );
    }
    writer.frames.extend(frames("more", 1));
    writer.credit_now(&stream).await;
    writer.run(&mut stream, |d| d.delivered == 2).await.unwrap();

    let stranger = client::new_tenant(stack, &world.fleet.admin, "Other").await.unwrap();
    let foreign = world.api_of(&stranger).await.unwrap();
    for session in [&writing, &watching] {
        let moved = session.replace(&world.fleet.admin.tenant, &stranger.tenant);
        for name in [session.as_str(), &moved] {
            let refused = Stream::open(&foreign, at(name, None)).await.err().unwrap();
            assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"));
        }
    }
    let second = world.session(&theirs).await.unwrap_err();
    assert_eq!(reason_of(&second).as_deref(), Some("DEVICE_HAS_SESSION"), "{second:?}");
}
