//! What a hostile application came to, judged: pure, from what was seen from outside, so that it can be shown to be strict.

use std::fmt::Write as _;

use anyhow::{Context, Result};

/// An update that comes during an attack starts within so many times what it takes beside a quiet application.
const SLOWER_MAX: f64 = 2.0;
/// Attacks that may be excused from one of the promises, each with its reason.
const EXCUSED_MAX: usize = 2;

/// How an application is expected to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// By a fault of one of these kinds, and again after the start that follows.
    Ends(&'static [&'static str]),
    /// By what ends an application that has not answered for long.
    Hangs,
    /// Not at all: what it tries is refused, or hurts nobody.
    Stays,
    /// It is started again, as it asked to be.
    Restarts,
}

/// One application, and what it is expected to come to.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    pub expected: Expected,
    /// Why its update may start later than promised.
    pub excused: Option<&'static str>,
}

/// What was seen while an application attacked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Starts it said, its first among them.
    pub starts: usize,
    /// Attacks of one start that it outlived.
    pub rounds: u64,
    /// Kinds of fault it ended by, in order.
    pub ended: Vec<String>,
    /// Times it was ended because it did not answer.
    pub hung: usize,
    /// What it read or changed that is not its, by its own word.
    pub breaches: Vec<String>,
    /// Connections the board began.
    pub connections: u64,
    /// Resets of the machine.
    pub resets: u64,
    /// Boots that the device told of.
    pub boots: u64,
    /// Of the flash what no application and no update of one may change is as it was.
    pub flash_kept: bool,
    /// How the update that came during the attack ended: nothing for a confirmed one.
    pub next: Option<String>,
    /// By the device's clock: from the interrupt that brought the directive to its fetch.
    pub update_us: Option<u64>,
}

impl Seen {
    /// Of two observations of one attack everything that is worse, but of their updates the faster.
    pub fn or_worse(mut self, other: Seen) -> Seen {
        self.ended.extend(other.ended);
        self.breaches.extend(other.breaches);
        self.starts = self.starts.max(other.starts);
        self.rounds = self.rounds.max(other.rounds);
        self.hung += other.hung;
        self.connections += other.connections;
        self.resets += other.resets;
        self.boots += other.boots;
        self.flash_kept &= other.flash_kept;
        self.next = self.next.or(other.next);
        self.update_us = self.update_us.into_iter().chain(other.update_us).min();
        self
    }
}

/// Everything that is wrong with it.
pub fn judge(attack: &Attack, seen: &Seen, idle_us: u64) -> Vec<String> {
    let mut wrong: Vec<String> = seen.breaches.iter().map(|breach| format!("breach: {breach}")).collect();
    let mut expect = |right: bool, what: &str| {
        if !right {
            wrong.push(what.to_owned());
        }
    };
    expect(seen.connections == 0, "another connection");
    expect(seen.resets == 0, "the machine was reset");
    expect(seen.boots == 0, "another boot");
    expect(seen.flash_kept, "the flash was changed where nothing may change it");
    expect(seen.starts > 0, "it never attacked");
    match attack.expected {
        Expected::Ends(kinds) => {
            expect(!seen.ended.is_empty(), "nothing ended it");
            expect(seen.starts > 1, "it was not started again");
            expect(
                seen.ended.iter().all(|kind| kinds.contains(&kind.as_str())),
                "it ended by something else",
            );
        }
        Expected::Hangs => {
            expect(seen.hung > 0, "nothing ended it");
            expect(seen.starts > 1, "it was not started again");
            expect(seen.ended.is_empty(), "it ended by a fault");
        }
        Expected::Stays => {
            expect(seen.ended.is_empty() && seen.hung == 0, "it was ended");
        }
        Expected::Restarts => {
            expect(seen.starts > 1, "it was not started again");
            expect(seen.ended.is_empty() && seen.hung == 0, "it was ended");
        }
    }
    if let Some(end) = &seen.next {
        wrong.push(format!("the update during it ended {end}"));
    }
    match seen.update_us {
        None => wrong.push("no update started during it".to_owned()),
        Some(us) if us as f64 > SLOWER_MAX * idle_us as f64 && attack.excused.is_none() => {
            wrong.push(format!("an update started after {us} us, {idle_us} without it"));
        }
        Some(_) => {}
    }
    wrong
}

/// How it ended, in a few words.
fn happened(seen: &Seen) -> String {
    let mut kinds: Vec<&String> = seen.ended.iter().collect();
    kinds.sort();
    kinds.dedup();
    match (kinds.is_empty(), seen.hung, seen.starts) {
        (false, ..) => {
            let kinds: Vec<&str> = kinds.into_iter().map(String::as_str).collect();
            format!("ended {} times: {}", seen.ended.len(), kinds.join(", "))
        }
        (true, 1.., _) => "ended: does not answer".to_owned(),
        (true, 0, 2..) => format!("started {} times", seen.starts),
        _ if seen.rounds > 0 => format!("nothing, {} rounds", seen.rounds),
        _ => "nothing".to_owned(),
    }
}

/// All of them, for people.
#[derive(Debug)]
pub struct Table {
    idle_us: u64,
    text: String,
    excused: Vec<String>,
    wrong: Vec<String>,
}

impl Table {
    /// Beside this long without an attack: the median of these.
    pub fn new(mut idle: Vec<u64>) -> Result<Table> {
        idle.sort_unstable();
        let idle_us = *idle.get(idle.len() / 2).context("nothing was measured without an attack")?;
        let text = format!(
            "{:<26} {:<72} {:<40} {:<12} {:>10} {:>6}\n",
            "application", "tries", "what happened", "link", "update ms", "x idle"
        );
        Ok(Table { idle_us, text, excused: Vec::new(), wrong: Vec::new() })
    }

    /// Its update started later than promised, and nothing else is wrong: it may have been this machine.
    pub fn is_late(&self, attack: &Attack, seen: &Seen) -> bool {
        let promised = SLOWER_MAX * self.idle_us as f64;
        attack.excused.is_none()
            && seen.next.is_none()
            && seen.update_us.is_some_and(|us| us as f64 > promised)
    }

    /// Judges one more.
    pub fn push(&mut self, attack: &Attack, tries: &str, seen: &Seen) {
        let wrong = judge(attack, seen, self.idle_us);
        let link = if seen.connections + seen.resets + seen.boots == 0 { "the same" } else { "LOST" };
        let (ms, times) = seen.update_us.map_or(("-".to_owned(), "-".to_owned()), |us| {
            (format!("{:.1}", us as f64 / 1000.0), format!("{:.2}", us as f64 / self.idle_us as f64))
        });
        let tries: String = tries.chars().take(72).collect();
        let name = attack.name;
        let _ = writeln!(
            self.text,
            "{name:<26} {tries:<72} {:<40} {link:<12} {ms:>10} {times:>6}",
            happened(seen)
        );
        for what in &wrong {
            let _ = writeln!(self.text, "  WRONG: {what}");
        }
        self.wrong.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
        if let Some(reason) = attack.excused {
            self.excused.push(format!("{name}: {reason}"));
        }
    }

    /// Something that concerns none of them alone.
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// The table, and everything that is wrong.
    pub fn end(mut self) -> (String, Vec<String>) {
        if self.excused.len() > EXCUSED_MAX {
            self.wrong.push(format!("{} are excused", self.excused.len()));
        }
        let _ = writeln!(
            self.text,
            "without an attack an update starts after {:.1} ms",
            self.idle_us as f64 / 1000.0
        );
        for excused in &self.excused {
            let _ = writeln!(self.text, "excused from that: {excused}");
        }
        (self.text, self.wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Attack = Attack { name: "ends", expected: Expected::Ends(&["Secure"]), excused: None };
    const STAYS: Attack = Attack { name: "stays", expected: Expected::Stays, excused: None };
    const HANGS: Attack = Attack { name: "hangs", expected: Expected::Hangs, excused: None };
    const RESTARTS: Attack = Attack { name: "restarts", expected: Expected::Restarts, excused: None };
    const IDLE_US: u64 = 1000;

    fn seen() -> Seen {
        Seen { starts: 1, rounds: 1, flash_kept: true, update_us: Some(2 * IDLE_US), ..Seen::default() }
    }

    fn ended() -> Seen {
        Seen { starts: 2, rounds: 0, ended: vec!["Secure".to_owned()], ..seen() }
    }

    #[test]
    fn what_hurt_nobody_is_right() {
        assert_eq!(judge(&STAYS, &seen(), IDLE_US), [""; 0]);
        assert_eq!(judge(&ENDS, &ended(), IDLE_US), [""; 0]);
        assert_eq!(judge(&HANGS, &Seen { starts: 2, hung: 1, ..seen() }, IDLE_US), [""; 0]);
        assert_eq!(judge(&RESTARTS, &Seen { starts: 2, ..seen() }, IDLE_US), [""; 0]);
    }

    #[test]
    fn each_false_observation_is_found_by_itself() {
        let false_ones = [
            Seen { breaches: vec!["38000000 reads 12345678".to_owned()], ..ended() },
            Seen { connections: 1, ..ended() },
            Seen { resets: 1, ..ended() },
            Seen { boots: 1, ..ended() },
            Seen { flash_kept: false, ..ended() },
            Seen { ended: vec!["Secure".to_owned(), "Bus".to_owned()], ..ended() },
            Seen { starts: 1, ..ended() },
            Seen { next: Some("STATE_FAILED".to_owned()), ..ended() },
            Seen { update_us: None, ..ended() },
            Seen { update_us: Some(2 * IDLE_US + 1), ..ended() },
        ];
        for seen in false_ones {
            assert_eq!(judge(&ENDS, &seen, IDLE_US).len(), 1, "{seen:?}");
        }
        assert!(!judge(&ENDS, &Seen { ended: Vec::new(), ..ended() }, IDLE_US).is_empty());
        assert!(!judge(&STAYS, &Seen { ended: vec!["Hard".to_owned()], ..seen() }, IDLE_US).is_empty());
        assert!(!judge(&STAYS, &Seen { hung: 1, ..seen() }, IDLE_US).is_empty());
        assert!(!judge(&HANGS, &Seen { starts: 2, ..seen() }, IDLE_US).is_empty());
        assert!(!judge(&RESTARTS, &seen(), IDLE_US).is_empty());
        assert!(!judge(&STAYS, &Seen { starts: 0, rounds: 0, ..seen() }, IDLE_US).is_empty());
    }

    #[test]
    fn measured_twice_the_faster_update_counts_and_everything_else_adds_up() {
        let late = Seen { update_us: Some(9 * IDLE_US), connections: 1, ..ended() };
        let both = ended().or_worse(late);
        assert_eq!(judge(&ENDS, &both, IDLE_US), ["another connection"]);
        assert_eq!((both.update_us, both.ended.len()), (Some(2 * IDLE_US), 2));
    }

    #[test]
    fn an_excuse_covers_the_time_alone_and_few_are_excused() -> Result<()> {
        let excused = Attack { excused: Some("a reason"), ..STAYS };
        let late = Seen { update_us: Some(100 * IDLE_US), ..seen() };
        assert_eq!(judge(&excused, &late, IDLE_US), [""; 0]);
        assert!(!judge(&excused, &Seen { connections: 1, ..late }, IDLE_US).is_empty());
        let mut table = Table::new(vec![IDLE_US])?;
        (0..=EXCUSED_MAX).for_each(|_| table.push(&excused, "something", &seen()));
        let (text, wrong) = table.end();
        assert!(text.contains("excused from that: stays: a reason") && wrong.len() == 1);
        Ok(())
    }

    #[test]
    fn a_breach_is_in_the_table_and_without_a_measure_there_is_none() -> Result<()> {
        assert!(Table::new(Vec::new()).is_err());
        let mut table = Table::new(vec![3 * IDLE_US, IDLE_US, 2 * IDLE_US])?;
        table.push(&ENDS, "it tries", &Seen { connections: 1, ..ended() });
        let (text, wrong) = table.end();
        assert!(text.contains("LOST") && text.contains("WRONG: another connection"), "{text}");
        assert_eq!(wrong, ["ends: another connection"]);
        Ok(())
    }
}
