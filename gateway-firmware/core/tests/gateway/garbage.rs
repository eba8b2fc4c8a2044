//! Whatever a broker sends, the gateway neither panics nor grows; it leaves the connection and tries again.

use bytes::BytesMut;
use gateway_core::gateway::{Happening, RECEIVE_BYTES_MIN};
use gateway_core::net::link::End;
use gateway_core::net::mqtt::Fault;
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};

use crate::world::*;

fn last_end(world: &World) -> Option<End> {
    world.happened.iter().rev().find_map(|happening| match happening {
        Happening::Disconnected(end) => Some(*end),
        _ => None,
    })
}

fn after(bytes: &[u8]) -> Option<End> {
    let mut world = World::serving();
    world.send(bytes);
    world.turn();
    last_end(&world)
}

#[test]
fn packets_that_have_no_business_here_end_the_connection() {
    for (bytes, end) in [
        (&[0x10, 0][..], Fault::Protocol),
        (&[0x00, 0], Fault::Protocol),
        (&[0x20, 3, 0, 0, 0], Fault::Protocol),
        (&[0x90, 4, 0, 1, 0, 0], Fault::Protocol),
        (&[0x30, 0x80, 0x80, 0x80, 0x80], Fault::Protocol),
        (&[0x30, 0xff, 0xff, 0x7f], Fault::TooLarge),
        (&[0x34, 6, 0, 1, b'x', 0, 1, 0], Fault::Protocol),
        (&[0x36, 6, 0, 1, b'x', 0, 1, 0], Fault::Protocol),
        (&[0xe0, 1, 0x8e], Fault::Disconnected(0x8e)),
        (&[0xe0, 0], Fault::Disconnected(0)),
    ] {
        assert_eq!(after(bytes), Some(End::Fault(end)), "{bytes:x?}");
    }
}

#[test]
fn a_packet_of_exactly_the_buffer_is_read_and_one_byte_more_ends_the_connection() {
    // Three bytes of length, two of the topic's, one of the properties'.
    let head = 1 + 3 + 2 + 4 + 1;
    let publish = |payload: usize| {
        let mut bytes = BytesMut::new();
        Publish::new("some", QoS::AtMostOnce, vec![0; payload], None).write(&mut bytes).unwrap();
        bytes
    };
    let whole = publish(RECEIVE_BYTES_MIN - head);
    assert_eq!(whole.len(), RECEIVE_BYTES_MIN);
    assert_eq!(after(&whole), None);
    assert_eq!(after(&publish(RECEIVE_BYTES_MIN - head + 1)), Some(End::Fault(Fault::TooLarge)));
}

#[test]
fn properties_of_a_publish_are_no_obstacle() {
    let mut world = World::serving();
    let mut publish = Publish::new("some", QoS::AtMostOnce, vec![1], None);
    publish.properties = Some(PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(9),
        user_properties: vec![("a".to_owned(), "b".to_owned()); 10],
        ..PublishProperties::default()
    });
    world.send_packet(&Packet::Publish(publish));
    world.turn();
    assert!(world.connected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_from_a_broker_make_the_gateway_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        kind in prop_oneof![Just(None), (0_u8..16).prop_map(Some)],
    ) {
        let mut world = World::serving();
        let mut bytes = bytes;
        if let (Some(kind), true) = (kind, bytes.len() > 2 && bytes.len() < 130) {
            // A well-formed frame around whatever it is.
            (bytes[0], bytes[1]) = (kind << 4, bytes.len() as u8 - 2);
        }
        world.send(&bytes);
        world.pass_ms(1000);
    }

    #[test]
    fn no_payload_on_any_channel_makes_the_gateway_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        channel in prop_oneof![Just("hello"), Just("update"), Just("layer"), Just("log")],
    ) {
        let mut world = World::serving();
        let topic = format!("hf/1/{}/dn/{channel}", world.maker.device);
        world.tell(&topic, &payload);
        world.pass_ms(1000);
        prop_assert!(world.connected);
    }
}
