//! Anything in any order, from both ends at once, with numbers as wild as a message can hold: nothing panics, nothing grows beyond its window, and
//! whoever is told frames is told them in order and once, as they were.

use std::collections::BTreeMap;

use super::*;
use crate::model::NUMBER_MAX;

/// Answers to what must be said that are taken at once; there never are so many.
const SAYS_MAX: usize = 2 * WINDOW as usize + 8;

/// A number, by where the session stands or as wild as can be.
#[derive(Debug, Clone, Copy)]
enum Number {
    After(i64),
    Exactly(u64),
}

impl Number {
    fn from(self, here: u64) -> u64 {
        match self {
            Number::After(by) => here.saturating_add_signed(by),
            Number::Exactly(number) => number,
        }
    }

    /// What the API's signed numbers hold: a caller's are decoded from them.
    fn of_api(self, here: u64) -> u64 {
        self.from(here).min(NUMBER_MAX)
    }
}

fn number() -> impl Strategy<Value = Number> {
    let edge = prop::sample::select(vec![0, 1, WINDOW, NUMBER_MAX - 1, NUMBER_MAX, NUMBER_MAX + 1, u64::MAX]);
    prop_oneof![
        12 => Just(Number::After(1)),
        6 => (-2i64..40).prop_map(Number::After),
        1 => edge.prop_map(Number::Exactly),
        1 => any::<u64>().prop_map(Number::Exactly),
    ]
}

/// Of a frame: mostly some bytes, else none, the most there may be, or more.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![30 => 1usize..20, 1 => Just(0), 1 => Just(DEBUG_FRAME_BYTES_MAX), 1 => Just(DEBUG_FRAME_BYTES_MAX + 1)]
}

#[derive(Debug, Clone)]
enum Happens {
    Attaches(Option<(Number, Number)>),
    Says(Number, usize),
    Progress(Number, Number),
    Leaves,
    Closes,
    /// What a device says: frame, received, credit and forgotten; whether of this epoch and boot; its end.
    Up(Option<(Number, usize)>, [Number; 3], bool, bool, Option<DeviceEnd>),
    Time(u64),
    Settles,
    IsLost,
}

fn happens() -> impl Strategy<Value = Happens> {
    let place = prop::option::weighted(0.4, (number(), number()));
    let mostly = || prop::bool::weighted(0.98);
    let end = prop::sample::select(vec![
        DeviceEnd::Refused,
        DeviceEnd::Busy,
        DeviceEnd::Restarted,
        DeviceEnd::Protocol,
        DeviceEnd::Done,
    ]);
    let near = prop_oneof![20 => (0i64..2).prop_map(Number::After), 1 => number()];
    // It has forgotten nothing that is not delivered, unless it lies.
    let forgotten = prop_oneof![20 => Just(Number::Exactly(0)), 1 => number()];
    let up = (
        prop::option::weighted(0.6, (number(), size())),
        (near, number(), forgotten).prop_map(|(received, credit, forgotten)| [received, credit, forgotten]),
        mostly(),
        mostly(),
        prop::option::weighted(0.01, end),
    );
    prop_oneof![
        2 => place.prop_map(Happens::Attaches),
        8 => (number(), size()).prop_map(|(number, bytes)| Happens::Says(number, bytes)),
        3 => (number(), number()).prop_map(|(delivered, credit)| Happens::Progress(delivered, credit)),
        1 => Just(Happens::Leaves),
        8 => up.prop_map(|(frame, state, epoch, boot, end)| Happens::Up(frame, state, epoch, boot, end)),
        2 => prop_oneof![9 => 0u64..5_000, 1 => 0u64..200_000].prop_map(Happens::Time),
    ]
    .prop_flat_map(|often| {
        let rare = prop_oneof![Just(Happens::Closes), Just(Happens::Settles), Just(Happens::IsLost)];
        prop_oneof![60 => Just(often), 1 => rare]
    })
}

/// A session with both ends, and what they were told.
struct World {
    session: Session,
    now: Moment,
    seat: Option<SeatId>,
    /// Frames that were first sent, by their number: what comes out is what went in.
    up: BTreeMap<u64, Bytes>,
    down: BTreeMap<u64, Bytes>,
    /// Of each seat, the newest frame it has.
    given: BTreeMap<SeatId, u64>,
    /// The newest that the device was sent, and how far it may be.
    sent: Option<u64>,
    frames: u64,
}

impl World {
    fn new() -> World {
        let session = Session::new(rules(1), START);
        let (up, down, given) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        World { session, now: START, seat: None, up, down, given, sent: None, frames: 0 }
    }

    /// Bytes that no other frame has.
    fn data(&mut self, bytes: usize) -> Bytes {
        self.frames += 1;
        let mut data = vec![0; bytes];
        for (place, byte) in data.iter_mut().zip(self.frames.to_be_bytes().iter().rev()) {
            *place = *byte;
        }
        Bytes::from(data)
    }

    fn happens(&mut self, happens: Happens) {
        let now = self.now;
        match happens {
            Happens::Attaches(place) => {
                let position = place.map(|(received, delivered)| Position {
                    received_up_to: received.of_api(self.session.up.delivered()),
                    delivered_up_to: delivered.of_api(self.session.down.delivered()),
                });
                if let Ok(seat) = self.session.attach(position, now) {
                    self.seat = Some(seat);
                }
            }
            Happens::Says(number, bytes) => {
                let before = self.session.down.received();
                let number = number.of_api(before);
                let data = self.data(bytes);
                let Some(seat) = self.seat else { return };
                self.session.say(seat, Said::Frame(Frame { number, data: data.clone() }), now);
                if self.session.down.received() > before {
                    assert_eq!((number, self.session.down.received()), (before + 1, number));
                    self.down.insert(number, data);
                }
            }
            Happens::Progress(delivered, credit) => {
                let Some(seat) = self.seat else { return };
                let here = self.given.get(&seat).copied().unwrap_or(0);
                let (delivered_up_to, credit_up_to) = (delivered.of_api(here), credit.of_api(here));
                self.session.say(seat, Said::Progress { delivered_up_to, credit_up_to }, now);
            }
            Happens::Leaves => {
                if let Some(seat) = self.seat.take() {
                    self.session.leave(seat, EndReason::Left);
                }
            }
            Happens::Closes => {
                if let Some(seat) = self.seat {
                    self.session.say(seat, Said::Close, now);
                }
            }
            Happens::Up(frame, [received, credit, forgotten], epoch, boot, end) => {
                let was_live = self.session.phase == Phase::Live;
                let before = self.session.up.received();
                let frame = frame
                    .map(|(number, bytes)| Frame { number: number.from(before), data: self.data(bytes) });
                let said = Up {
                    epoch: if epoch { 1 } else { 2 },
                    boot: if boot { BOOT } else { Boot { counter: 8, ..BOOT } },
                    frame: frame.clone(),
                    received_up_to: received.from(self.session.down.delivered()),
                    credit_up_to: credit.from(self.session.down.received()),
                    forgotten_up_to: forgotten.from(self.session.up.delivered()),
                    end,
                };
                self.session.hear(said, now);
                if self.session.phase == Phase::Live && !was_live {
                    self.sent = Some(self.session.down.received());
                    self.down.clear();
                    self.up.clear();
                }
                if let Some(frame) = frame
                    && self.session.up.frame(frame.number) == Some(frame.clone())
                {
                    self.up.insert(frame.number, frame.data);
                }
            }
            Happens::Time(ms) => self.now += Duration::from_millis(ms),
            Happens::Settles => self.session.settle(),
            Happens::IsLost => self.session.lose(EndReason::RelayLost),
        }
    }

    /// Both ends are told all there is, and it is what they are to be told.
    fn look(&mut self) {
        for lane in [&self.session.up, &self.session.down] {
            assert!(lane.received() - lane.delivered() <= WINDOW && lane.received() <= NUMBER_MAX);
        }
        assert!(self.session.seats.len() <= LEAVING_MAX + 1, "{}", self.session.seats.len());
        let ids: Vec<SeatId> = self.session.seats.keys().copied().collect();
        for id in ids {
            let mut count = 0;
            while let Next::Tell(told) = self.session.next_told(id, self.now) {
                count += 1;
                assert!(count <= SAYS_MAX, "it is told for ever");
                match told {
                    Told::Attached { up_after, .. } => {
                        assert_eq!(self.given.insert(id, up_after), None, "once")
                    }
                    Told::Frame(frame) => {
                        let given = self.given.get_mut(&id).expect("it was told where it begins");
                        assert_eq!(frame.number, *given + 1, "in order and once");
                        *given = frame.number;
                        assert_eq!(self.up.get(&frame.number), Some(&frame.data), "as it was");
                    }
                    Told::Progress { .. } | Told::Ended(_) => {}
                }
            }
        }
        let mut count = 0;
        while let Some(down) = self.session.next_down(self.now) {
            count += 1;
            assert!(count <= SAYS_MAX, "the device is told for ever");
            let Some(frame) = down.frame else { continue };
            let sent = self.sent.as_mut().expect("it was heard first");
            // A new one is the next; another is one that it has not acknowledged.
            assert!(frame.number <= *sent + 1 && frame.number > self.session.down.delivered());
            *sent = (*sent).max(frame.number);
            assert_eq!(self.down.get(&frame.number), Some(&frame.data), "as it was");
        }
        // Whoever asks when to come back is not told a time that never lets it rest: what was due is said.
        assert!(self.session.due().is_none_or(|due| due > self.now || self.session.ended().is_some()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_both_ends_say_in_any_order_frames_come_in_order_and_once(
        is_live in prop::bool::weighted(0.8),
        all in prop::collection::vec(happens(), 1..120),
    ) {
        let mut world = World::new();
        let answer = Happens::Up(None, [Number::After(0), Number::After(32), Number::After(0)], true, true, None);
        let first = [Happens::Attaches(None), answer].into_iter().take(1 + usize::from(is_live));
        for happens in first.chain(all) {
            world.happens(happens);
            world.look();
        }
    }

    /// The world above is one in which those who mean well get somewhere.
    #[test]
    fn frames_go_both_ways_here(words in prop::collection::vec(1usize..20, 1..100)) {
        let mut world = World::new();
        world.happens(Happens::Attaches(None));
        world.happens(Happens::Up(None, [Number::After(0), Number::After(32), Number::After(0)], true, true, None));
        world.look();
        for bytes in &words {
            let next = Number::After(1);
            world.happens(Happens::Says(next, *bytes));
            world.look();
            world.happens(Happens::Up(Some((next, *bytes)), [next, Number::After(32), Number::Exactly(0)], true, true, None));
            world.look();
            world.happens(Happens::Progress(Number::After(0), Number::After(32)));
            world.look();
        }
        let count = words.len() as u64;
        prop_assert_eq!((world.sent, world.given.values().copied().collect::<Vec<_>>()), (Some(count), vec![count]));
    }
}
