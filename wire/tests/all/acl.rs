//! The rule files of other brokers: frozen, complete, and of one mind with `wire::rule`.

use proptest::prelude::*;
use wire::acl::{emqx, mosquitto};
use wire::rule::{Action, End, Identity, Row, TABLE, verdict};
use wire::topic::ChannelKind;
use wire::{ClientNonce, DeviceId, Direction, RelayId, Service};

const OWN: DeviceId = DeviceId::new([0xaa; 16]);
const OTHER: DeviceId = DeviceId::new([0xbb; 16]);
const CLIENT: ClientNonce = ClientNonce::new([0xcc; 16]);
const RELAY: RelayId = RelayId::new([0xee; 16]);

/// As `holdfast broker rules` prints them.
#[test]
fn the_files_are_what_was_reviewed() {
    for (made, reviewed) in [
        (
            mosquitto::conf("/etc/mosquitto/holdfast", &Default::default()),
            include_str!("../acl/mosquitto.conf"),
        ),
        (mosquitto::device(), include_str!("../acl/device.acl")),
        (mosquitto::enroll(), include_str!("../acl/enroll.acl")),
        (mosquitto::service(), include_str!("../acl/service.acl")),
        (emqx::acl(), include_str!("../acl/acl.conf")),
    ] {
        assert_eq!(made, reviewed);
    }
}

fn level(row: &Row) -> String {
    format!("{}{}", row.channel.name(), if row.channel == ChannelKind::Debug { "/+" } else { "" })
}

#[test]
fn every_row_of_the_table_is_in_every_file() {
    let (device, enroll, service, emqx) =
        (mosquitto::device(), mosquitto::enroll(), mosquitto::service(), emqx::acl());
    let has = |text: &str, line: String| assert!(text.lines().any(|known| known == line), "{line}");
    for row in &TABLE {
        let level = level(row);
        let (patterns, id, name) = match row.end {
            End::Device => (&device, "%u", "${username}"),
            End::Claimant => (&enroll, "%c", "${clientid}"),
        };
        has(patterns, format!("pattern write hf/1/{id}/up/{level}"));
        assert!(emqx.contains(&format!("\"hf/1/{name}/up/{level}\"")), "{level}");
        if !row.down.is_empty() {
            has(patterns, format!("pattern read hf/1/{id}/dn/{level}"));
        }
        for who in Service::ALL {
            let block = service.split("\nuser ").find(|block| block.starts_with(who.common_name()));
            let block = block.expect("every service has a block");
            let reads = block.contains(&format!("topic read hf/1/+/up/{level}\n"));
            let writes = block.contains(&format!("topic write hf/1/+/dn/{level}\n"));
            assert_eq!((reads, writes), (row.up.contains(&who), row.down.contains(&who)), "{who} {level}");
        }
    }
    assert!(emqx.ends_with("\n{deny, all}.\n"));
}

/// mosquitto's own words: `security_default.c` and `mosquitto_topic_matches_sub`.
struct Model(Vec<(Access, Vec<String>)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Model {
    fn new(file: &str, username: &str, client_id: &str) -> Model {
        let rule = |line: &str| {
            let (access, topic) = match line.split_once(' ')?.1.split_once(' ')? {
                ("read", topic) => (Access::Read, topic),
                ("write", topic) => (Access::Write, topic),
                other => panic!("unknown access {other:?}"),
            };
            let topic = topic.replace("%u", username).replace("%c", client_id);
            Some((access, topic.split('/').map(str::to_owned).collect()))
        };
        Model(file.lines().filter(|line| !line.starts_with('#')).filter_map(rule).collect())
    }

    fn allows(&self, access: Access, topic: &str) -> bool {
        let levels: Vec<&str> = topic.split('/').collect();
        self.0.iter().any(|(may, pattern)| *may == access && matches(pattern, &levels))
    }
}

fn matches(pattern: &[String], levels: &[&str]) -> bool {
    pattern.len() == levels.len()
        && pattern.iter().zip(levels).all(|(pattern, level)| pattern == "+" || pattern == level)
}

/// A name that is no filter; mosquitto refuses others before it asks the file.
fn is_name(topic: &str) -> bool {
    !topic.contains(['+', '#', '\0'])
}

/// The one place where patterns say less than the rule: `debug/{anything}`, of the client's own.
fn is_loose(topic: &str, way: &str) -> bool {
    topic
        .strip_prefix(&format!("hf/1/{OWN}/{way}/debug/"))
        .is_some_and(|rest| rest.parse::<RelayId>().is_err())
}

fn any_topic() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        4 => "up|dn|hello|update|layer|log|crash|debug|config|telemetry|enroll",
        2 => Just(OWN.to_string()),
        1 => Just(OTHER.to_string()),
        1 => Just(CLIENT.to_string()),
        1 => Just(RELAY.to_string()),
        1 => "hf|1||\\+|#|\\$SYS|\\PC{0,4}",
    ];
    let own = (prop_oneof![Just("up"), Just("dn")], prop::collection::vec(level.clone(), 0..3))
        .prop_map(|(way, rest)| format!("hf/1/{OWN}/{way}/{}", rest.join("/")));
    let near = prop::collection::vec(level, 0..5).prop_map(|levels| format!("hf/1/{}", levels.join("/")));
    prop_oneof![4 => own, 2 => near, 1 => "\\PC*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn mosquitto_under_the_file_and_the_rule_agree_about_devices(topic in any_topic()) {
        let name = OWN.to_string();
        let model = Model::new(&mosquitto::device(), &name, &name);
        let agree = |access, action, way| {
            let (theirs, ours) = (model.allows(access, &topic), verdict(Identity::Device(OWN), action, &topic).allowed());
            theirs == ours || (theirs && is_loose(&topic, way))
        };
        prop_assume!(is_name(&topic));
        prop_assert!(agree(Access::Write, Action::Publish, "up"), "write {topic}");
        prop_assert!(agree(Access::Write, Action::Will, "up"), "will {topic}");
        // A name is a filter that hears itself alone.
        prop_assert!(agree(Access::Read, Action::Subscribe, "dn"), "read {topic}");
    }

    #[test]
    fn mosquitto_under_the_file_and_the_rule_agree_about_enrolments(topic in any_topic()) {
        let model = Model::new(&mosquitto::enroll(), "cl00000000000000000000000000000001", &CLIENT.to_string());
        let ours = |action| verdict(Identity::Claimant(CLIENT), action, &topic).allowed();
        prop_assume!(is_name(&topic));
        prop_assert_eq!(model.allows(Access::Write, &topic), ours(Action::Publish));
        prop_assert_eq!(model.allows(Access::Read, &topic), ours(Action::Subscribe));
    }
}

#[test]
fn the_model_says_no_to_another_device_and_to_the_other_direction() {
    let model = Model::new(&mosquitto::device(), &OWN.to_string(), &OWN.to_string());
    for channel in ChannelKind::ALL {
        for direction in [Direction::Up, Direction::Down] {
            let other = format!("hf/1/{OTHER}/{}/{}", direction.name(), channel.name());
            assert!(!model.allows(Access::Read, &other) && !model.allows(Access::Write, &other));
        }
    }
    let own = format!("hf/1/{OWN}");
    assert!(model.allows(Access::Write, &format!("{own}/up/hello")));
    assert!(!model.allows(Access::Write, &format!("{own}/dn/hello")));
    assert!(!model.allows(Access::Read, &format!("{own}/up/hello")));
    assert!(!model.allows(Access::Read, &format!("{own}/dn/telemetry")));
}
