//! `holdfast debug replay`: what a transcript says, for its owner.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proto::debug::v1::TranscriptProgram;
use proto::debug::v1::transcript_record::Event;
use serde_json::json;
use wire::Digest;

use crate::args::Global;
use crate::crash::Places;
use crate::debug::keys::{self, DebugKey};
use crate::debug::timeline::{Line, Timeline, Wishes};
use crate::debug::transcript::{ReadError, Reader};
use crate::failure::{Failure, input};
use crate::{output, symbols};

/// Show what a transcript of `holdfast debug --record` says: an event a line, with the seconds since it began.
///
/// What was asked of the device and what it answered: memory read and written, registers set, breakpoints, each stop and why; which gdb came and left.
/// One that was cut or altered is shown up to there, and then is an error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  holdfast debug replay session.hft | less\n  holdfast debug replay session.hft --data            # the bytes of memory, too\n  holdfast debug replay session.hft --json | jq 'select(.event == \"write\")'"
)]
pub(crate) struct Args {
    /// The transcript.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Debug key that it is sealed to, instead of the one in the folder of this user's configuration.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The ELF file of what ran, for the names of functions, instead of the one that was used, if it is still in the cache.
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// Show the bytes of memory that was read and written, and the registers of each stop.
    #[arg(long)]
    data: bool,
    /// Show what gdb said and was told, in its own protocol.
    #[arg(long)]
    packets: bool,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let key =
        DebugKey::load(&args.key.clone().map_or_else(|| global.home().map(|home| keys::place(&home)), Ok)?)?;
    let file = File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let mut names = Names::of(global, args.elf.as_deref())?;
    let mut timeline = Timeline::new(Wishes { data: args.data, packets: args.packets });
    let broken = |error: ReadError| broken(&args.file, error);
    let mut reader = Reader::open(BufReader::new(file), &key.into_static()).map_err(broken)?;
    let end = loop {
        let record = match reader.next() {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(()),
            Err(error) => break Err(broken(error)),
        };
        if let Some(Event::Program(program)) = &record.event {
            names.learn(program);
        }
        let lines = timeline.take(&record, &mut |address| names.at(address));
        lines.iter().try_for_each(|line| show(global, line))?;
    };
    show(global, &timeline.cost())?;
    end
}

fn broken(file: &Path, error: ReadError) -> anyhow::Error {
    let text = format!("{} {error}", file.display());
    match error {
        ReadError::OtherKey { .. } => Failure::Refused(text).into(),
        ReadError::Io(error) => anyhow::Error::from(error).context(format!("cannot read {}", file.display())),
        _ => input(text),
    }
}

fn show(global: &Global, line: &Line) -> Result<()> {
    if global.json {
        let mut document = json!({ "at_us": line.at_us, "event": line.event });
        if let Some(fields) = document.as_object_mut() {
            fields.extend(line.fields.clone());
        }
        return output::document(&document);
    }
    output::line(&words(line))
}

fn words(line: &Line) -> String {
    let event = line.event.replace('_', " ");
    let (s, us) = (line.at_us / 1_000_000, line.at_us % 1_000_000);
    output::printable(format!("{s:>6}.{us:06}  {event:<11}  {}", line.text).trim_end())
}

/// The names of addresses.
struct Names<'a> {
    global: &'a Global,
    /// Of the file that was named here.
    given: Option<Digest>,
    places: Option<Places>,
}

impl<'a> Names<'a> {
    fn of(global: &'a Global, elf: Option<&Path>) -> Result<Names<'a>> {
        let mut names = Names { global, given: None, places: None };
        if let Some(elf) = elf {
            let bytes = std::fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
            names.given = Some(Digest::of(&bytes));
            names.places = Some(Places::open(bytes).with_context(|| elf.display().to_string())?);
        }
        Ok(names)
    }

    /// This is the file that was used in the session.
    fn learn(&mut self, program: &TranscriptProgram) {
        let Ok(digest) = program.digest.parse::<Digest>() else { return };
        if let Some(given) = self.given {
            if given != digest {
                eprintln!("warning: --elf is not the file that was used in the session: names may be wrong");
            }
            return;
        }
        let cached = symbols::cached(self.global, digest).and_then(|path| Ok(std::fs::read(path)?));
        let bytes = cached.ok().filter(|bytes| Digest::of(bytes) == digest);
        self.places = bytes.and_then(|bytes| Places::open(bytes).ok());
    }

    fn at(&mut self, address: u32) -> Vec<crate::crash::Place> {
        self.places.as_mut().map(|places| places.at(address)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proto::debug::v1::{TranscriptBegin, TranscriptEnd, TranscriptRecord};

    use crate::debug::transcript::Writer;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        global: Global,
        #[command(flatten)]
        args: Args,
    }

    /// A key in its place, and a transcript for it.
    fn home() -> (tempfile::TempDir, Vec<u8>) {
        let home = tempfile::tempdir().unwrap();
        keys::folder(home.path()).unwrap();
        let key = DebugKey::create(&keys::place(home.path())).unwrap();
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, &key.public()).unwrap();
        let begin =
            Event::Begin(TranscriptBegin { who: "\u{1b}[2Jnobody".into(), ..TranscriptBegin::default() });
        writer.write(&TranscriptRecord { at_us: 0, event: Some(begin) }, false).unwrap();
        let end = Event::End(TranscriptEnd::default());
        writer.write(&TranscriptRecord { at_us: 5, event: Some(end) }, true).unwrap();
        (home, file)
    }

    fn replayed(home: &Path, file: &[u8], more: &str) -> Result<()> {
        let path = home.join("session.hft");
        std::fs::write(&path, file).unwrap();
        let words = format!("replay --home {} {} {more}", home.display(), path.display());
        let Whole { global, args } = Whole::parse_from(words.split_whitespace());
        run(&global, &args)
    }

    #[test]
    fn what_is_wrong_with_a_transcript_is_said_with_what_to_do() {
        let (home, file) = home();
        let home = home.path();
        assert!(replayed(home, &file, "--data --packets").is_ok());
        assert!(replayed(home, &file, "--json").is_ok());
        let why = |file: &[u8]| match replayed(home, file, "").unwrap_err().downcast::<Failure>() {
            Ok(Failure::Input(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(b"hello").contains("is not a transcript of `holdfast debug --record`"));
        assert!(why(b"holdfast transcript 9\n").contains("another version"));
        assert!(why(&file[..file.len() - 1]).contains("ends after record 1 without its end"));
        let mut altered = file.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(why(&altered).contains("was altered or damaged after record 1"));
        assert!(why(&[&file[..], b"x"].concat()).contains("goes on behind its end"));
        let other = home.join("other.pem");
        DebugKey::create(&other).unwrap();
        let error = replayed(home, &file, &format!("--key {}", other.display())).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Failure::Refused(why)) if why.contains("--key")),
            "{error}"
        );
        let error = replayed(home, &file, "--elf /nonexistent").unwrap_err();
        assert!(error.to_string().contains("/nonexistent"));
    }

    #[test]
    fn a_line_obeys_nobody() {
        let line = Line {
            at_us: 61_000_007,
            event: "gdb_left",
            text: "\u{1b}[2Jx".into(),
            fields: Default::default(),
        };
        assert_eq!(words(&line), "    61.000007  gdb left     \u{fffd}[2Jx");
    }
}
