//! `holdfast logs`: what a device said.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::ValueEnum;
use proto::logs::v1::{ListRecordsRequest, LogRecord, TailRecordsRequest, TailRecordsResponse};
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use crate::args::Global;
use crate::command::{PAGE_SIZE, collect, parse_duration};
use crate::output;
use crate::session::Session;

/// How long an old stream is still read beside the next: longer than the service takes to notice what is stored.
const OVERLAP: Duration = Duration::from_secs(3);
/// Records remembered as shown: more than one device sends meanwhile.
const SHOWN_MAX: usize = 4096;

/// Read a device's log, oldest first.
///
/// A gap (records the device had to drop) is always shown, never silent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  holdfast logs dv… -f\n  holdfast logs dv… --since 1h --level warn --json"
)]
pub(crate) struct Args {
    device: String,
    /// Go on with new records as they arrive, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// With --follow: how many stored records to begin with.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=1000))]
    last: i32,
    /// Without --follow: only the last so long, as in 1h.
    #[arg(long, value_parser = parse_duration, value_name = "TIME", conflicts_with = "follow")]
    since: Option<Duration>,
    /// Least severe level to show.
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Without --follow: stop after so many; 0 means all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Args {
    fn level(&self) -> String {
        self.level
            .and_then(|level| level.to_possible_value())
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<()> {
    let session = Session::open(global).await?;
    let parent = session.name("devices", &args.device);
    if args.follow {
        follow(global, &session, args, parent).await
    } else {
        list(global, &session, args, parent).await
    }
}

async fn list(global: &Global, session: &Session, args: &Args, parent: String) -> Result<()> {
    let mut client = session.logs().await?;
    let start_time =
        args.since.and_then(|since| SystemTime::now().checked_sub(since)).map(prost_types::Timestamp::from);
    let records = collect(args.limit, async |page_token| {
        let request = ListRecordsRequest {
            parent: parent.clone(),
            page_size: PAGE_SIZE,
            page_token,
            start_time,
            end_time: None,
            level: args.level(),
        };
        let reply = client.list_records(request).await?.into_inner();
        Ok((reply.records, reply.next_page_token))
    });
    records.await?.iter().try_for_each(|record| print(global, record))
}

/// Streams end with the token they were opened with, so the next one is opened before; both are read for a moment, and
/// what the old one has shown is not shown again.
async fn follow(global: &Global, session: &Session, args: &Args, parent: String) -> Result<()> {
    let mut shown = Shown::default();
    let mut stream = tail(session, args, &parent, args.last).await?;
    let mut renew_at = Instant::now() + session.renew_in();
    loop {
        let reply = match timeout_at(renew_at, stream.message()).await {
            Ok(reply) => reply?,
            Err(_) => {
                let session = Session::open(global).await?;
                let next = tail(&session, args, &parent, 0).await?;
                renew_at = Instant::now() + session.renew_in();
                let both_until = Instant::now() + OVERLAP;
                while let Ok(reply) = timeout_at(both_until, stream.message()).await {
                    show(global, &mut shown, reply?)?;
                }
                stream = next;
                continue;
            }
        };
        show(global, &mut shown, reply)?;
    }
}

async fn tail(
    session: &Session,
    args: &Args,
    parent: &str,
    last: i32,
) -> Result<Streaming<TailRecordsResponse>> {
    let request = TailRecordsRequest { parent: parent.to_owned(), last, level: args.level() };
    Ok(session.logs().await?.tail_records(request).await?.into_inner())
}

/// The newest records shown: their boot and number.
#[derive(Debug, Default)]
struct Shown(VecDeque<(String, i64)>);

impl Shown {
    /// False: it was shown before.
    fn is_new(&mut self, record: &LogRecord) -> bool {
        let name = (record.boot.clone(), record.sequence);
        if self.0.contains(&name) {
            return false;
        }
        if self.0.len() == SHOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(name);
        true
    }
}

fn show(global: &Global, shown: &mut Shown, reply: Option<TailRecordsResponse>) -> Result<()> {
    let Some(reply) = reply else { bail!("the server ended the stream") };
    if reply.missed > 0 && !global.json {
        eprintln!("({} records went by too fast to show; `holdfast logs` without -f has them)", reply.missed);
    }
    match reply.record {
        Some(record) if shown.is_new(&record) => print(global, &record),
        _ => Ok(()),
    }
}

fn print(global: &Global, record: &LogRecord) -> Result<()> {
    if global.json {
        return output::json("holdfast.logs.v1.LogRecord", record);
    }
    if record.gap_before > 0 {
        output::line(&format!("--- {} records were dropped by the device here ---", record.gap_before))?;
    }
    let seconds = record.uptime_us / 1_000_000;
    let micros = record.uptime_us % 1_000_000;
    output::line(&format!(
        "{} boot {} {seconds:>6}.{micros:06} {:5} {:10} {}",
        output::time(record.receive_time.as_ref()),
        record.boot_count,
        record.level,
        record.source,
        output::printable(&record.text)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_once_and_what_is_remembered_is_bounded() {
        let mut shown = Shown::default();
        let record = |sequence| LogRecord { boot: "1-0".into(), sequence, ..LogRecord::default() };
        assert!(shown.is_new(&record(1)) && shown.is_new(&record(2)));
        assert!(!shown.is_new(&record(1)));
        assert!(shown.is_new(&LogRecord { boot: "2-0".into(), ..record(1) }), "of another boot");
        for sequence in 0..SHOWN_MAX as i64 {
            shown.is_new(&record(10 + sequence));
        }
        assert_eq!(shown.0.len(), SHOWN_MAX);
        assert!(shown.is_new(&record(1)), "long forgotten");
    }
}
