//! The host board's application: a small script at the start of the image, one command a line.
//!
//! ```text
//! #!holdfast-script
//! log TEXT            a log record of the application
//! telemetry TEXT      a telemetry message, as text/plain
//! network request     wants a connection, once more
//! network release     needs one connection less; before the first of either the device stays connected
//! restart             asks to be started anew
//! work MS             runs for so long
//! healthy             says that it works
//! apply_after MS      agrees to a waiting update so long after it was told
//! crash               ends by a fault
//! crash_after MS      the same, so long from now, whatever it does until then
//! hang                stops answering; the board notices after HANG_DEADLINE_MS
//! repeat              starts again from the first line
//! ```
//!
//! Blank lines and lines that begin with `#` are skipped; an unknown command crashes; after the last line it idles. The
//! script ends at the first zero or 0xFF byte, so that an image may carry anything else behind it.

use gateway_core::crash::Crash;
use gateway_core::ports::{App, AppError, AppStatus, Flash, Image, Life, NetworkDemand, StartReason};
use wire::msg::CrashKind;

/// First line of every script.
pub(crate) const MAGIC: &str = "#!holdfast-script";
/// Bytes of a script, at most.
pub(crate) const SCRIPT_BYTES_MAX: usize = 4096;
/// How long the application may not answer before it counts as hung.
pub(crate) const HANG_DEADLINE_MS: u64 = 1_000;
/// Pause of a `repeat`: a script cannot occupy its thread.
const REPEAT_MIN_MS: u64 = 10;

/// What the application says while it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Log(&'a str),
    Telemetry(&'a str),
    Healthy,
}

/// The application and its interpreter.
#[derive(Debug, Default)]
pub(crate) struct ScriptApp {
    text: String,
    /// Byte of the next line.
    at: usize,
    run: Run,
    healthy: bool,
    wake_ms: u64,
    crash_ms: Option<u64>,
    apply_after_ms: Option<u64>,
    told: bool,
    apply_ms: Option<u64>,
    apply: bool,
    network: NetworkDemand,
    /// Since the board started, when it ended.
    ended_ms: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Run {
    #[default]
    Stopped,
    Running,
    Idle,
    Crashed,
    Hanging {
        since_ms: u64,
    },
    Hung,
}

impl ScriptApp {
    /// Runs what is due; `say` hears what the application says.
    pub(crate) fn run(&mut self, now_ms: u64, mut say: impl FnMut(Line<'_>)) {
        if self.told {
            self.told = false;
            self.apply_ms = self.apply_after_ms.map(|after_ms| now_ms + after_ms);
        }
        self.apply |= self.apply_ms.is_some_and(|at_ms| now_ms >= at_ms);
        if let Run::Hanging { since_ms } = self.run
            && now_ms >= since_ms + HANG_DEADLINE_MS
        {
            (self.run, self.ended_ms) = (Run::Hung, now_ms);
        }
        while self.run == Run::Running && now_ms >= self.wake_ms && !self.crashes(now_ms) {
            self.step(now_ms, &mut say);
        }
        if matches!(self.run, Run::Running | Run::Idle) && self.crashes(now_ms) {
            (self.run, self.ended_ms) = (Run::Crashed, now_ms);
        }
    }

    /// When `run` has something to do at the latest.
    pub(crate) fn deadline_ms(&self) -> u64 {
        let run_ms = match self.run {
            Run::Stopped | Run::Crashed | Run::Hung => return u64::MAX,
            Run::Hanging { since_ms } => return since_ms + HANG_DEADLINE_MS,
            Run::Running => self.wake_ms,
            Run::Idle => u64::MAX,
        };
        let apply_ms = self.apply_ms.filter(|_| !self.apply).unwrap_or(u64::MAX);
        let told_ms = if self.told { 0 } else { u64::MAX };
        run_ms.min(self.crash_ms.unwrap_or(u64::MAX)).min(apply_ms).min(told_ms)
    }

    fn crashes(&self, now_ms: u64) -> bool {
        self.crash_ms.is_some_and(|at_ms| now_ms >= at_ms)
    }

    fn step(&mut self, now_ms: u64, say: &mut impl FnMut(Line<'_>)) {
        let rest = &self.text[self.at..];
        let Some(line) = rest.lines().next() else {
            self.run = Run::Idle;
            return;
        };
        self.at = (self.at + line.len() + 1).min(self.text.len());
        let (command, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let after_ms = argument.trim().parse::<u32>().map(u64::from);
        match (command, after_ms) {
            ("log", _) => say(Line::Log(argument)),
            ("telemetry", _) => say(Line::Telemetry(argument)),
            ("network", _) if argument.trim() == "request" => self.ask(1),
            ("network", _) if argument.trim() == "release" => self.ask(-1),
            ("restart", _) => (self.apply, self.run) = (true, Run::Idle),
            ("healthy", _) => {
                self.healthy = true;
                say(Line::Healthy);
            }
            ("work", Ok(ms)) => self.wake_ms = now_ms + ms,
            ("crash_after", Ok(ms)) => self.crash_ms = self.crash_ms.or(Some(now_ms + ms)),
            ("apply_after", Ok(ms)) => self.apply_after_ms = Some(ms),
            ("hang", _) => self.run = Run::Hanging { since_ms: now_ms },
            ("repeat", _) => {
                self.at = 0;
                self.wake_ms = now_ms + REPEAT_MIN_MS;
            }
            (command, _) if command.is_empty() || command.starts_with('#') => {}
            _ => (self.run, self.ended_ms) = (Run::Crashed, now_ms),
        }
    }

    fn ask(&mut self, change: i32) {
        let held = match self.network {
            NetworkDemand::NeverAsked => 0,
            NetworkDemand::Requests(held) => held,
        };
        self.network = NetworkDemand::Requests(held.saturating_add_signed(change));
    }
}

impl App for ScriptApp {
    fn start(&mut self, image: Image, flash: &mut dyn Flash, _reason: StartReason) -> Result<(), AppError> {
        let mut bytes = vec![0; SCRIPT_BYTES_MAX.min(image.bytes as usize)];
        flash.read(image.at, &mut bytes).map_err(|_| AppError)?;
        *self =
            Self { text: script(&bytes).ok_or(AppError)?.to_owned(), run: Run::Running, ..Self::default() };
        Ok(())
    }

    fn stop(&mut self) {
        *self = Self::default();
    }

    fn status(&mut self) -> AppStatus {
        let life = match self.run {
            Run::Stopped => Life::Stopped,
            Run::Running | Run::Idle | Run::Hanging { .. } => Life::Running,
            Run::Crashed => Life::Crashed,
            Run::Hung => Life::Hung,
        };
        AppStatus { life, healthy: self.healthy, apply: self.apply, network: self.network }
    }

    fn update_waits(&mut self) {
        (self.told, self.apply, self.apply_ms) = (true, false, None);
    }

    fn take_crash(&mut self) -> Option<Crash> {
        let kind = match self.run {
            Run::Crashed => CrashKind::Other,
            Run::Hung => CrashKind::Hung,
            _ => return None,
        };
        Some(Crash::new(kind, self.ended_ms * 1000))
    }
}

/// The script of an image, without its first line; nothing for an image that holds none.
fn script(image: &[u8]) -> Option<&str> {
    let end = image.iter().position(|byte| matches!(byte, 0 | 0xff)).unwrap_or(image.len());
    let text = match str::from_utf8(&image[..end]) {
        Ok(text) => text,
        // A script of the full length may be cut inside a character.
        Err(error) if error.error_len().is_none() => str::from_utf8(&image[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    text.strip_prefix(MAGIC)?.trim_start_matches('\r').strip_prefix('\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn app(script: &str) -> ScriptApp {
        ScriptApp { text: script.to_owned(), run: Run::Running, ..ScriptApp::default() }
    }

    fn says(app: &mut ScriptApp, now_ms: u64) -> Vec<String> {
        let mut said = Vec::new();
        app.run(now_ms, |line| {
            said.push(match line {
                Line::Log(text) => text.to_owned(),
                Line::Telemetry(text) => format!("(telemetry {text})"),
                Line::Healthy => "(healthy)".to_owned(),
            })
        });
        said
    }

    #[test]
    fn lines_run_in_order_and_in_time() {
        let mut app = app("log one\n\n# no\nwork 50\nhealthy\nlog two three\n");
        assert_eq!(says(&mut app, 0), ["one"]);
        assert_eq!(app.deadline_ms(), 50);
        assert!(says(&mut app, 49).is_empty());
        assert_eq!(says(&mut app, 50), ["(healthy)", "two three"]);
        let network = NetworkDemand::NeverAsked;
        assert_eq!(app.status(), AppStatus { life: Life::Running, healthy: true, apply: false, network });
        assert_eq!(app.deadline_ms(), u64::MAX);
    }

    #[test]
    fn a_crash_ends_it_at_once_or_later_and_an_unknown_command_too() {
        for script in ["crash\n", "fly me\n", "work\n"] {
            let mut app = app(script);
            app.run(5, |_| ());
            assert_eq!(app.status().life, Life::Crashed, "{script}");
        }
        let mut app = app("crash_after 100\nlog on\nwork 60\nrepeat\n");
        assert_eq!(says(&mut app, 0), ["on"]);
        assert!(says(&mut app, 60).is_empty());
        assert_eq!(says(&mut app, 60 + REPEAT_MIN_MS), ["on"]);
        assert_eq!(app.status().life, Life::Running);
        assert!(says(&mut app, 100).is_empty());
        assert_eq!(app.status().life, Life::Crashed);
    }

    #[test]
    fn requests_are_counted_from_the_first_word_about_the_network() {
        let mut app = app(
            "work 1\nnetwork request\nnetwork request\nwork 1\nnetwork release\nwork 1\nnetwork release\nnetwork release\ntelemetry 21.5\n",
        );
        let mut seen = Vec::new();
        for now_ms in 0..4 {
            let said = says(&mut app, now_ms);
            seen.push((app.status().network, said.len()));
        }
        let held = NetworkDemand::Requests;
        assert_eq!(seen, [(NetworkDemand::NeverAsked, 0), (held(2), 0), (held(1), 0), (held(0), 1)]);
        let mut app = super::tests::app("network maybe\n");
        app.run(0, |_| ());
        assert_eq!(app.status().life, Life::Crashed);
    }

    #[test]
    fn a_restart_is_asked_for_and_waited_for() {
        let mut app = app("restart\nlog never\n");
        assert!(says(&mut app, 0).is_empty());
        assert_eq!((app.status().life, app.status().apply), (Life::Running, true));
        app.stop();
        assert!(!app.status().apply);
    }

    #[test]
    fn a_crash_says_when_it_was_and_nothing_is_told_of_one_that_runs() {
        let mut app = app("crash_after 7\n");
        app.run(0, |_| ());
        assert_eq!(app.take_crash(), None);
        app.run(9, |_| ());
        assert_eq!(app.take_crash(), Some(Crash::new(CrashKind::Other, 9_000)));
    }

    #[test]
    fn a_hang_is_seen_after_its_deadline() {
        let mut app = app("hang\nlog never\n");
        assert!(says(&mut app, 10).is_empty());
        assert_eq!((app.status().life, app.deadline_ms()), (Life::Running, 10 + HANG_DEADLINE_MS));
        assert!(says(&mut app, 10 + HANG_DEADLINE_MS).is_empty());
        assert_eq!(app.status().life, Life::Hung);
    }

    #[test]
    fn a_repeat_without_work_does_not_occupy_the_thread() {
        let mut app = app("log again\nrepeat\n");
        assert_eq!(says(&mut app, 0), ["again"]);
        assert!(says(&mut app, 1).is_empty());
        assert_eq!(says(&mut app, 100).len(), 1);
    }

    #[test]
    fn an_update_is_applied_when_the_script_agrees() {
        let mut app = app("apply_after 20\nhealthy\n");
        app.run(0, |_| ());
        app.update_waits();
        app.run(5, |_| ());
        assert_eq!((app.status().apply, app.deadline_ms()), (false, 25));
        app.run(25, |_| ());
        assert!(app.status().apply);
        app.update_waits();
        assert!(!app.status().apply);
    }

    #[test]
    fn a_script_ends_where_other_bytes_begin() {
        assert_eq!(script(b"#!holdfast-script\nlog x\n\xff\xff"), Some("log x\n"));
        assert_eq!(script(b"#!holdfast-script\r\nhealthy\0junk"), Some("healthy"));
        assert_eq!(script(b"#!holdfast-script\n"), Some(""));
        assert_eq!(script(b"\x7fELF"), None);
        assert_eq!(script(b""), None);
    }

    proptest! {
        #[test]
        fn no_image_makes_the_interpreter_panic_or_spin(image in proptest::collection::vec(any::<u8>(), 0..300), text in "(log x\n|repeat\n|work 0\n|healthy\n|\\PC*\n){0,9}") {
            let _ = script(&image);
            let mut app = app(&text);
            let mut said = 0;
            app.run(0, |_| said += 1);
            prop_assert!(said < 100);
            let _ = app.deadline_ms();
        }
    }
}
