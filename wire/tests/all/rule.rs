//! The authorisation table, walked: every identity, action, direction and channel, against what DESIGN.md says in words.

use proptest::prelude::*;
use wire::limits::FILTER_BYTES_MAX;
use wire::rule::{Action, Identity, Reason, Verdict, verdict};
use wire::topic::ChannelKind;
use wire::{ClientNonce, DeviceId, Direction, RelayId, Service};

const OWN: DeviceId = DeviceId::new([0xaa; 16]);
const OTHER: DeviceId = DeviceId::new([0xbb; 16]);
const CLIENT: ClientNonce = ClientNonce::new([0xcc; 16]);
const OTHER_CLIENT: ClientNonce = ClientNonce::new([0xdd; 16]);
const RELAY: RelayId = RelayId::new([0xee; 16]);

fn level(kind: ChannelKind) -> String {
    match kind {
        ChannelKind::Debug => format!("debug/{RELAY}"),
        _ => kind.name().to_string(),
    }
}

fn name(id: impl std::fmt::Display, direction: Direction, kind: ChannelKind) -> String {
    format!("hf/1/{id}/{}/{}", direction.name(), level(kind))
}

/// DESIGN.md, Topics: "registry `hello enroll config telemetry`; ota `hello update layer`; logs `log crash telemetry`;
/// relay `debug`".
fn owns(service: Service, kind: ChannelKind) -> bool {
    let channels = match service {
        Service::Registry => "hello enroll config telemetry",
        Service::Ota => "hello update layer",
        Service::Logs => "log crash telemetry",
        Service::Relay => "debug",
    };
    channels.split(' ').any(|channel| channel == kind.name())
}

fn allowed(identity: Identity, action: Action, topic: &str) -> bool {
    verdict(identity, action, topic).allowed()
}

const DIRECTIONS: [Direction; 2] = [Direction::Up, Direction::Down];
const ACTIONS: [Action; 4] = [Action::Publish, Action::Retain, Action::Will, Action::Subscribe];

#[test]
fn a_device_publishes_under_its_own_up_and_hears_its_own_dn_and_nothing_else() {
    for kind in ChannelKind::ALL {
        for direction in DIRECTIONS {
            for action in ACTIONS {
                let is_devices = kind != ChannelKind::Enroll;
                let expected = is_devices
                    && match action {
                        Action::Publish | Action::Will => direction == Direction::Up,
                        Action::Subscribe => direction == Direction::Down && kind != ChannelKind::Telemetry,
                        Action::Retain => false,
                    };
                let own = name(OWN, direction, kind);
                assert_eq!(allowed(Identity::Device(OWN), action, &own), expected, "{action:?} {own}");
                let other = name(OTHER, direction, kind);
                assert!(!allowed(Identity::Device(OWN), action, &other), "{action:?} {other}");
                let enrolling = name(CLIENT, direction, kind);
                assert!(!allowed(Identity::Device(OWN), action, &enrolling), "{action:?} {enrolling}");
            }
        }
    }
}

#[test]
fn a_claimant_has_its_own_enroll_topics_and_nothing_else() {
    for kind in ChannelKind::ALL {
        for direction in DIRECTIONS {
            for action in ACTIONS {
                let expected = kind == ChannelKind::Enroll
                    && match action {
                        Action::Publish | Action::Will => direction == Direction::Up,
                        Action::Subscribe => direction == Direction::Down,
                        Action::Retain => false,
                    };
                let own = name(CLIENT, direction, kind);
                assert_eq!(allowed(Identity::Claimant(CLIENT), action, &own), expected, "{action:?} {own}");
                for other in [name(OTHER_CLIENT, direction, kind), name(OWN, direction, kind)] {
                    assert!(!allowed(Identity::Claimant(CLIENT), action, &other), "{action:?} {other}");
                }
            }
        }
    }
    for filter in
        [format!("hf/1/{CLIENT}/dn/#"), format!("hf/1/{CLIENT}/dn/+"), "hf/1/+/dn/enroll".to_string()]
    {
        assert!(!allowed(Identity::Claimant(CLIENT), Action::Subscribe, &filter), "{filter}");
    }
}

#[test]
fn a_service_reads_up_and_writes_dn_of_its_own_channels_and_nothing_else() {
    for service in Service::ALL {
        for kind in ChannelKind::ALL {
            let id = if kind == ChannelKind::Enroll { CLIENT.to_string() } else { OWN.to_string() };
            let has_down = kind != ChannelKind::Telemetry;
            for direction in DIRECTIONS {
                let ask = |action, id: &str| {
                    allowed(Identity::Service(service), action, &name(id, direction, kind))
                };
                let (is_up, owns) = (direction == Direction::Up, owns(service, kind));
                assert_eq!(
                    ask(Action::Subscribe, &id),
                    owns && is_up,
                    "{service} hears {direction:?} {kind:?}"
                );
                assert_eq!(
                    ask(Action::Subscribe, "+"),
                    owns && is_up,
                    "{service} hears {direction:?} {kind:?}"
                );
                assert_eq!(
                    ask(Action::Publish, &id),
                    owns && !is_up && has_down,
                    "{service} {direction:?} {kind:?}"
                );
                assert!(!ask(Action::Publish, "+"));
                assert!(!ask(Action::Will, &id) && !ask(Action::Retain, &id));
            }
        }
        for filter in ["#", "hf/#", "hf/1/#", "hf/1/+/up/#", "hf/1/+/up/+", "hf/1/+/dn/#", "+/1/+/up/hello"] {
            assert!(!allowed(Identity::Service(service), Action::Subscribe, filter), "{service} {filter}");
        }
    }
}

#[test]
fn a_shared_filter_gets_the_verdict_of_its_plain_filter_in_the_services_own_group_only() {
    for service in Service::ALL {
        for kind in ChannelKind::ALL {
            for direction in DIRECTIONS {
                let plain = name("+", direction, kind);
                let ask = |filter: &str| allowed(Identity::Service(service), Action::Subscribe, filter);
                let group = format!("{}-{}", service.name(), kind.name());
                assert_eq!(ask(&format!("$share/{group}/{plain}")), ask(&plain), "{service} {plain}");
                for group in
                    ["", "x", "ota-hello-x", "registry", &format!("{service}-"), &format!("-{}", kind.name())]
                {
                    assert!(!ask(&format!("$share/{group}/{plain}")), "{service} {group} {plain}");
                }
                for other in Service::ALL.into_iter().filter(|other| *other != service) {
                    assert!(!ask(&format!("$share/{}-{}/{plain}", other.name(), kind.name())));
                }
                assert!(!allowed(
                    Identity::Device(OWN),
                    Action::Subscribe,
                    &format!("$share/{group}/{plain}")
                ));
                let own = name(OWN, direction, kind);
                assert!(!allowed(Identity::Device(OWN), Action::Subscribe, &format!("$share/{group}/{own}")));
            }
        }
    }
}

#[test]
fn a_device_may_hear_all_of_its_own_dn_at_once() {
    let device = Identity::Device(OWN);
    for filter in ["dn/#", "dn/+", "dn/debug/+", &format!("dn/debug/{RELAY}")] {
        assert!(allowed(device, Action::Subscribe, &format!("hf/1/{OWN}/{filter}")), "{filter}");
        assert!(!allowed(device, Action::Subscribe, &format!("hf/1/{OTHER}/{filter}")), "{filter}");
        assert!(!allowed(device, Action::Subscribe, &format!("hf/1/+/{filter}")), "{filter}");
        let will = format!("hf/1/{OWN}/{filter}");
        assert!(!allowed(device, Action::Publish, &will) && !allowed(device, Action::Will, &will));
    }
    for filter in [
        "#",
        "+",
        "up/#",
        "up/+",
        "+/hello",
        "dn",
        "dn/",
        "dn/#/",
        "dn/#/x",
        "dn/+/x",
        "dn/debug",
        "dn/debug/#",
    ] {
        assert!(!allowed(device, Action::Subscribe, &format!("hf/1/{OWN}/{filter}")), "{filter}");
    }
}

#[test]
fn what_is_no_topic_is_nobodys() {
    let own = OWN.to_string();
    let odd = [
        String::new(),
        "/".to_string(),
        "#".to_string(),
        "+".to_string(),
        "$SYS/broker".to_string(),
        "$share".to_string(),
        "$share/".to_string(),
        "$share/g".to_string(),
        "$share//hf/1/+/up/hello".to_string(),
        format!("$share/ota-hello/$share/ota-hello/hf/1/{own}/up/hello"),
        format!("/hf/1/{own}/up/hello"),
        format!("hf/1/{own}/up"),
        format!("hf/1/{own}/up/hello/"),
        format!("hf/1/{own}/up/hello/x"),
        format!("hf/1/{own}/up//hello"),
        format!("hf/1/{own}/up/unknown"),
        format!("hf/1/{own}/up/hello\0"),
        format!("hf/1/{own}\0/up/hello"),
        format!("hf/1/{own}/up/h\u{e9}llo"),
        format!("hf/1/{own}/up/hel+o"),
        format!("hf/1/{own}/up/hello#"),
        format!("hf/1/{}/up/hello", own.to_uppercase()),
        format!("hf/1/{own}x/up/hello"),
        format!("hf/2/{own}/up/hello"),
        format!("HF/1/{own}/up/hello"),
    ];
    let services = Service::ALL.map(Identity::Service);
    for identity in [Identity::Device(OWN), Identity::Claimant(CLIENT)].into_iter().chain(services) {
        for action in ACTIONS {
            for topic in &odd {
                assert!(!allowed(identity, action, topic), "{identity:?} {action:?} {topic:?}");
            }
        }
    }
}

#[test]
fn the_longest_filter_has_exactly_the_limit() {
    let longest = format!("$share/relay-debug/hf/1/{OWN}/up/debug/{RELAY}");
    assert_eq!(longest.len(), FILTER_BYTES_MAX);
    assert!(allowed(Identity::Service(Service::Relay), Action::Subscribe, &longest));
    let longer = format!("{longest}0");
    let asked = verdict(Identity::Service(Service::Relay), Action::Subscribe, &longer);
    assert_eq!(asked, Verdict::Deny(Reason::TooLong));
    let huge = "hf/1/".repeat(20_000);
    assert_eq!(verdict(Identity::Device(OWN), Action::Publish, &huge), Verdict::Deny(Reason::TooLong));
}

#[test]
fn a_denial_says_why() {
    let device = |action, topic: &str| verdict(Identity::Device(OWN), action, topic);
    let own = |rest: &str| format!("hf/1/{OWN}/{rest}");
    assert_eq!(
        device(Action::Publish, &name(OTHER, Direction::Up, ChannelKind::Log)),
        Verdict::Deny(Reason::NotOwn)
    );
    assert_eq!(device(Action::Publish, &own("dn/hello")), Verdict::Deny(Reason::Direction));
    assert_eq!(device(Action::Subscribe, &own("up/#")), Verdict::Deny(Reason::Direction));
    assert_eq!(device(Action::Subscribe, &own("dn/telemetry")), Verdict::Deny(Reason::Channel));
    assert_eq!(device(Action::Retain, &own("up/hello")), Verdict::Deny(Reason::Retained));
    assert_eq!(device(Action::Publish, "x"), Verdict::Deny(Reason::Malformed));
    let shared = format!("$share/ota-hello/{}", own("dn/hello"));
    assert_eq!(device(Action::Subscribe, &shared), Verdict::Deny(Reason::Group));
    let ota = Identity::Service(Service::Ota);
    assert_eq!(verdict(ota, Action::Will, &own("dn/update")), Verdict::Deny(Reason::Will));
    assert_eq!(verdict(ota, Action::Publish, &own("dn/log")), Verdict::Deny(Reason::Channel));
}

fn any_identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        Just(Identity::Device(OWN)),
        Just(Identity::Claimant(CLIENT)),
        (0..4_usize).prop_map(|at| Identity::Service(Service::ALL[at])),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    (0..4_usize).prop_map(|at| ACTIONS[at])
}

/// Text that is often nearly a topic.
fn any_topic() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        "hf|1|up|dn|hello|log|debug|enroll|telemetry|\\+|#|\\$share|ota-hello|",
        Just(OWN.to_string()),
        Just(OTHER.to_string()),
        Just(CLIENT.to_string()),
        Just(RELAY.to_string()),
        "\\PC{0,6}",
    ];
    let any = prop::collection::vec(level.clone(), 0..8).prop_map(|levels| levels.join("/"));
    let near = prop::collection::vec(level, 0..4).prop_map(|levels| format!("hf/1/{}", levels.join("/")));
    prop_oneof![any, near, "\\PC*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_text_makes_the_rules_panic_and_no_retained_message_passes(
        identity in any_identity(), action in any_action(), topic in any_topic()
    ) {
        let answer = verdict(identity, action, &topic);
        prop_assert!(action != Action::Retain || !answer.allowed());
    }

    #[test]
    fn a_device_never_gets_a_yes_for_what_does_not_begin_with_its_own_name(action in any_action(), topic in any_topic()) {
        if verdict(Identity::Device(OWN), action, &topic).allowed() {
            let way = if action == Action::Subscribe { "dn" } else { "up" };
            let own = format!("hf/1/{OWN}/{way}/");
            prop_assert!(topic.starts_with(&own), "{topic}");
        }
    }

    #[test]
    fn whoever_gets_a_yes_to_publish_names_one_concrete_topic(identity in any_identity(), topic in any_topic()) {
        if verdict(identity, Action::Publish, &topic).allowed() {
            prop_assert!(wire::Topic::parse(&topic).is_ok());
            prop_assert!(!topic.contains(['+', '#', '$', '\0']) && topic.is_ascii());
        }
    }
}
