//! Whether two boards live as one device, because a flash image was copied.
//!
//! A device has one life: its boots follow each other, each with 64 random bits of its own, and a boot that was followed by another never
//! speaks again. Two boards with one flash are two such lives, and whatever one of them says is lawful by itself. So what is
//! looked for is a boot that speaks after it must be over. Messages prove nothing by when they come: they are late, repeated and out of order.
//! What proves a time is an answer to a **challenge**: 16 random bytes that a device keeps in RAM, for this boot, and says in its later hellos.
//!
//! Kept of a device: the boot `now`, boots that were `heard` and have proved nothing yet, boots that are `over`, and one challenge, drawn when the
//! rest was known already. A hello of boot B
//!
//! 1. of a device of which nothing is kept makes B `now`, and draws a challenge;
//! 2. of a boot that is not known at all, without the challenge, makes it `heard`, and draws another;
//! 3. of a boot that is not `over`, with the challenge as its answer, makes B `now` and all others `over`, and draws another, if that changes anything;
//! 4. of a boot that is `over`, with the challenge as its answer, shows two boards;
//! 5. otherwise changes nothing. Who did not answer the challenge is asked.
//!
//! **No lawful device is ever accused.** (a) `now` and those `heard` had begun when the challenge was drawn: a hello of each had come. (b) Whoever answers
//! the challenge was alive after it was drawn, for nobody can guess it. (c) In 3, B was alive after each of the others had begun, and is another boot;
//! boots of one device do not overlap, so B began after they had ended: they are over. (d) Hence in 4 a boot that is over was alive after that
//! was known: one device cannot do that. No step asks how long a message took, how often or in which order it came, what boot counters say (a power cut
//! may have lost one), or which replica heard it: a change is written only if the challenge is still the one that was read. What is kept stays true
//! for ever, so that a database that comes back from a backup knows less and nothing wrong; its challenge may be answered by boots that heard it then, and
//! (a) to (d) hold for them.
//!
//! **Two boards that both go on are noticed**, as soon as one of them is heard between two hellos of a boot of the other, and
//! each has answered once. Not noticed: copies that never say hello twice in a boot, firmware that answers no challenge, more than [`OVER_MAX`] copies that
//! strictly take turns.
//!
//! **Which of two hellos is the later one** is what boot counters say, as long as they rise. A board that lost its journal counts from a lower
//! number, and whatever it says would be older than what it said before. By (c) a boot in `over` ended before `now` began: where one of them
//! counts as high as `now`, counters say nothing any more, and only `now` is believed ([`Lives::place`]).

/// Boots that are over which are remembered, and also boots that were heard and proved nothing.
pub(crate) const OVER_MAX: usize = 7;
/// Bytes of a challenge.
pub(crate) const CHALLENGE_BYTES: usize = 16;

pub(crate) type Challenge = [u8; CHALLENGE_BYTES];

/// One start of a microvisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Boot {
    pub count: u32,
    pub random: u64,
}

/// What is kept of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lives {
    pub now: Boot,
    /// Newest first.
    pub over: Vec<Boot>,
    /// Heard before the challenge was drawn, and neither `now` nor `over` as far as is known; the last one first.
    pub heard: Vec<Boot>,
    pub challenge: Challenge,
}

/// What a hello means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing new, of whoever answered already.
    Settled,
    /// Nothing new, of whoever is to be asked.
    Ask,
    /// This is to be kept, and its challenge asked.
    Keep(Lives),
    /// Two boards: this boot was over.
    Twice,
}

/// What is kept (none: nothing) and a hello; `fresh` is a challenge nobody was ever asked.
pub(crate) fn hear(kept: Option<&Lives>, boot: Boot, answer: Option<Challenge>, fresh: Challenge) -> Sign {
    let Some(lives) = kept else {
        return Sign::Keep(Lives { now: boot, over: Vec::new(), heard: Vec::new(), challenge: fresh });
    };
    let answered = answer == Some(lives.challenge);
    let is_over = lives.over.contains(&boot);
    match (answered, is_over) {
        (false, false) if !lives.knows(boot) => Sign::Keep(lives.heard(boot, fresh)),
        (false, _) => Sign::Ask,
        (true, true) => Sign::Twice,
        (true, false) if boot == lives.now && lives.heard.is_empty() => Sign::Settled,
        (true, false) => Sign::Keep(lives.followed_by(boot, fresh)),
    }
}

/// How a boot stands to every other one of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// As the boot counters say.
    Counted,
    /// Later, whatever they say.
    Newest,
    /// It ended before the current one began.
    Over,
    /// Counters went back, and it is not known to be the current one: its next hello may prove that.
    Unproven,
}

impl Place {
    /// A hello of such a boot may be the newest there is.
    pub(crate) fn may_be_newest(self) -> bool {
        matches!(self, Self::Counted | Self::Newest)
    }
}

impl Lives {
    pub(crate) fn place(&self, boot: Boot) -> Place {
        let went_back = self.over.iter().any(|over| over.count >= self.now.count);
        match boot {
            _ if self.over.contains(&boot) => Place::Over,
            _ if !went_back => Place::Counted,
            _ if boot == self.now => Place::Newest,
            _ => Place::Unproven,
        }
    }

    fn knows(&self, boot: Boot) -> bool {
        boot == self.now || self.heard.contains(&boot)
    }

    fn heard(&self, boot: Boot, challenge: Challenge) -> Self {
        let heard = std::iter::once(boot).chain(self.heard.iter().copied()).take(OVER_MAX).collect();
        Self { heard, challenge, ..self.clone() }
    }

    /// It may have been `now` before: then only those heard meanwhile are over.
    fn followed_by(&self, boot: Boot, challenge: Challenge) -> Self {
        let others = self.heard.iter().chain([&self.now]).copied().filter(|other| *other != boot);
        let over = others.chain(self.over.iter().copied()).take(OVER_MAX).collect();
        Self { now: boot, over, heard: Vec::new(), challenge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hello::Order;
    use proptest::prelude::*;

    const X: Boot = Boot { count: 2, random: 1 };
    const Y: Boot = Boot { count: 2, random: 2 };

    fn challenge(number: u64) -> Challenge {
        let mut challenge = [0; CHALLENGE_BYTES];
        challenge[..8].copy_from_slice(&number.to_be_bytes());
        challenge
    }

    fn kept(sign: Sign) -> Lives {
        match sign {
            Sign::Keep(lives) => lives,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_boot_that_speaks_after_another_answered_is_two_boards() {
        let [one, two, three] = [1, 2, 3].map(challenge);
        let first = kept(hear(None, X, None, one));
        assert_eq!(hear(Some(&first), X, Some(one), two), Sign::Settled);
        let heard = kept(hear(Some(&first), Y, None, two));
        assert_eq!(
            (heard.now, heard.heard.as_slice()),
            (X, [Y].as_slice()),
            "that it came later proves nothing"
        );
        assert_eq!(hear(Some(&heard), Y, None, three), Sign::Ask);
        let second = kept(hear(Some(&first), Y, Some(one), two));
        assert_eq!((second.now, second.over.as_slice()), (Y, [X].as_slice()));
        assert_eq!(hear(Some(&second), X, Some(one), three), Sign::Ask, "it may have been said before");
        assert_eq!(hear(Some(&second), X, None, three), Sign::Ask);
        assert_eq!(hear(Some(&second), X, Some(two), three), Sign::Twice);
    }

    #[test]
    fn counters_are_believed_until_they_are_seen_to_go_back() {
        let boot = |count| Boot { count, random: count.into() };
        let lives = |now, over: &[u32]| Lives {
            now: boot(now),
            over: over.iter().map(|count| boot(*count)).collect(),
            heard: Vec::new(),
            challenge: challenge(1),
        };
        let rising = lives(9, &[8, 7]);
        assert_eq!(rising.place(boot(9)), Place::Counted);
        assert_eq!(rising.place(boot(10)), Place::Counted, "who began just now has proved nothing yet");
        assert_eq!(rising.place(boot(8)), Place::Over);
        let back = lives(1, &[9, 8]);
        assert_eq!(back.place(boot(1)), Place::Newest);
        assert_eq!(back.place(boot(9)), Place::Over);
        assert_eq!(back.place(boot(2)), Place::Unproven);
        assert_eq!(back.place(boot(7)), Place::Unproven, "long over or just begun: nobody knows");
        assert_eq!(
            lives(2, &[1, 9, 8]).place(boot(2)),
            Place::Newest,
            "one that counts as high is remembered"
        );
        let twice = Lives { now: Y, over: vec![X], heard: Vec::new(), challenge: challenge(1) };
        assert_eq!((twice.place(Y), twice.place(X)), (Place::Newest, Place::Over), "the same count");
    }

    #[test]
    fn boots_that_were_heard_once_each_are_over_when_one_after_them_is_proved() {
        let boot = |count, random| Boot { count, random };
        let mut lives = kept(hear(None, boot(1, 0), None, challenge(0)));
        for count in 2..=4 {
            lives = kept(hear(Some(&lives), boot(count, 0), None, challenge(count.into())));
        }
        // The journal is lost, and with it the count: the first start after that is heard once as well.
        lives = kept(hear(Some(&lives), boot(1, 1), None, challenge(5)));
        lives = kept(hear(Some(&lives), boot(2, 1), None, challenge(6)));
        assert_eq!(lives.place(boot(2, 1)), Place::Counted, "nothing is proved");
        let proved = kept(hear(Some(&lives), boot(2, 1), Some(challenge(6)), challenge(7)));
        assert_eq!(proved.place(boot(2, 1)), Place::Newest);
        assert_eq!(proved.place(boot(4, 0)), Place::Over);
        assert_eq!(hear(Some(&proved), boot(4, 0), Some(challenge(7)), challenge(8)), Sign::Twice);
        // Who was `now` all the time ends the others in the same way.
        let stays = kept(hear(Some(&lives), boot(1, 0), Some(challenge(6)), challenge(7)));
        assert_eq!((stays.now, stays.over.len(), stays.heard.len()), (boot(1, 0), 5, 0));
    }

    #[test]
    fn so_many_boots_are_remembered_and_no_more() {
        let boot = |count| Boot { count, random: 0 };
        let mut lives = kept(hear(None, boot(0), None, challenge(0)));
        for number in 1..=OVER_MAX as u32 + 1 {
            lives = kept(hear(Some(&lives), boot(number), Some(lives.challenge), challenge(number.into())));
        }
        let again = |count| hear(Some(&lives), boot(count), Some(lives.challenge), challenge(99));
        assert_eq!(lives.over.len(), OVER_MAX);
        assert_eq!(again(1), Sign::Twice);
        assert!(matches!(again(0), Sign::Keep(_)), "forgotten: as good as new");
    }

    /// A hello on its way, and what a device hears.
    type Said = (Boot, Option<Challenge>);

    /// A registry, with every message that ever was on its way, every answer, and every state that a backup may bring back.
    #[derive(Default)]
    struct World {
        lives: Option<Lives>,
        drawn: u64,
        hellos: Vec<Said>,
        asked: Vec<Challenge>,
        backups: Vec<Option<Lives>>,
    }

    impl World {
        /// An operator's.
        fn release(&mut self) {
            self.drawn += 1;
            let lives = self.lives.take();
            self.lives = lives.map(|lives| Lives {
                over: Vec::new(),
                heard: Vec::new(),
                challenge: challenge(self.drawn),
                ..lives
            });
        }

        /// True: two boards.
        fn deliver(&mut self, (boot, answer): Said) -> bool {
            self.drawn += 1;
            let sign = hear(self.lives.as_ref(), boot, answer, challenge(self.drawn));
            if let Sign::Keep(lives) = &sign {
                self.lives = Some(lives.clone());
            }
            if let (Sign::Keep(_) | Sign::Ask, Some(lives)) = (&sign, &self.lives) {
                self.asked.push(lives.challenge);
            }
            sign == Sign::Twice
        }
    }

    struct Board {
        boot: Boot,
        heard: Option<Challenge>,
    }

    impl Board {
        fn start(count: u32, random: u64) -> Self {
            Self { boot: Boot { count, random }, heard: None }
        }

        fn say(&self) -> Said {
            (self.boot, self.heard)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A board that loses counts now and then and proves each of its boots; its hellos come late, again, and in any order.
        #[test]
        fn a_late_hello_of_a_boot_that_is_over_undoes_nothing_and_the_board_is_heard(
            steps in proptest::collection::vec((0u8..5, any::<usize>()), 0..80),
        ) {
            let order = |boot: Boot, sequence| Order { boot_count: boot.count, boot_random: boot.random, connection: 1, sequence };
            let mut lives = kept(hear(None, Boot { count: 1, random: 0 }, None, challenge(0)));
            let (mut began, mut sequence) = (0u64, 1);
            let mut newest = order(lives.now, sequence);
            let mut said = vec![newest];
            for (step, which) in steps {
                match step {
                    0 => {
                        let count = match which % 3 { 0 => 1, 1 => lives.now.count, _ => lives.now.count + 1 };
                        (began, sequence) = (began + 1, 1);
                        let boot = Boot { count, random: began };
                        // Its first hello is heard before anything is proved.
                        let first = order(boot, sequence);
                        said.push(first);
                        if first.newer_than(&newest, lives.place(boot)) {
                            newest = first;
                        }
                        lives = kept(hear(Some(&lives), boot, None, challenge(2 * began - 1)));
                        lives = kept(hear(Some(&lives), boot, Some(lives.challenge), challenge(2 * began)));
                        sequence += 1;
                    }
                    1 | 2 => sequence += 1,
                    _ => {
                        // Older ones than are remembered are believed to be lost on their way.
                        said.retain(|order| order.boot_random + OVER_MAX as u64 >= began);
                        let late = said[which % said.len()];
                        let place = lives.place(late.boot());
                        if late.newer_than(&newest, place) {
                            prop_assert_ne!(place, Place::Over);
                            prop_assert!(late.boot() == lives.now || newest.boot() != lives.now, "{late:?} undid {newest:?}");
                            newest = late;
                        }
                        continue;
                    }
                }
                let now = order(lives.now, sequence);
                said.push(now);
                if now.newer_than(&newest, lives.place(lives.now)) {
                    newest = now;
                }
                prop_assert_eq!(newest, now, "{:?}", lives);
            }
        }

        /// Power cuts (the counter may not have been stored, or be lost with the store), messages late, lost, repeated and out of order
        /// in both directions, a database that comes back from a backup, and releases.
        #[test]
        fn no_lawful_history_accuses_anybody(steps in proptest::collection::vec((0u8..9, any::<usize>()), 0..120)) {
            let (mut world, mut board, mut random) = (World::default(), Board::start(1, 0), 0);
            let mut stored = 1;
            for (step, which) in steps {
                match step {
                    0 => {
                        stored = match which % 4 { 0 => stored, 1 => 1, _ => stored + 1 };
                        random += 1;
                        board = Board::start(stored, random);
                    }
                    1 | 2 => world.hellos.push(board.say()),
                    3 | 4 if !world.hellos.is_empty() => {
                        let said = world.hellos[which % world.hellos.len()];
                        prop_assert!(!world.deliver(said), "{:?}", world.lives);
                    }
                    5 if !world.asked.is_empty() => board.heard = Some(world.asked[which % world.asked.len()]),
                    6 => world.backups.push(world.lives.clone()),
                    7 if !world.backups.is_empty() => world.lives = world.backups[which % world.backups.len()].clone(),
                    8 => world.release(),
                    // The usual: say, be heard, hear.
                    _ => {
                        prop_assert!(!world.deliver(board.say()), "{:?}", world.lives);
                        board.heard = world.asked.last().copied().or(board.heard);
                    }
                }
            }
        }

        /// Whoever speaks when.
        #[test]
        fn boards_that_both_go_on_are_noticed(
            count in 2usize..=OVER_MAX, turns in proptest::collection::vec(any::<usize>(), 300),
        ) {
            let mut world = World::default();
            let mut boards: Vec<Board> = (0..count).map(|n| Board::start(5, n as u64)).collect();
            for turn in turns {
                let at = turn % count;
                if world.deliver(boards[at].say()) {
                    return Ok(());
                }
                boards[at].heard = world.asked.last().copied().or(boards[at].heard);
            }
            prop_assert!(false, "never noticed: {:?}", world.lives);
        }
    }
}
