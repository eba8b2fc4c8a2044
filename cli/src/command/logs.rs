//! `holdfast logs`: what a device said.

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::ValueEnum;
use proto::logs::v1::{ListRecordsRequest, LogRecord, TailRecordsRequest};

use crate::args::Global;
use crate::command::{PAGE_SIZE, collect, parse_duration};
use crate::output;
use crate::session::Session;

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

async fn follow(global: &Global, session: &Session, args: &Args, parent: String) -> Result<()> {
    let request = TailRecordsRequest { parent, last: args.last, level: args.level() };
    let mut stream = session.logs().await?.tail_records(request).await?.into_inner();
    while let Some(reply) = stream.message().await? {
        if reply.missed > 0 && !global.json {
            eprintln!(
                "({} records went by too fast to show; `holdfast logs` without -f has them)",
                reply.missed
            );
        }
        if let Some(record) = reply.record {
            print(global, &record)?;
        }
    }
    bail!("the server ended the stream")
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
