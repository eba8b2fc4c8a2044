//! `holdfast logs`: what a device said.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use proto::logs::v1::{ListRecordsRequest, LogRecord, TailRecordsRequest, TailRecordsResponse};
use tonic::Streaming;

use crate::args::Global;
use crate::command::again::{goes_on, opened};
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
    /// What a device said within the last so long.
    pub(crate) fn since(device: &str, since: Duration) -> Args {
        Args { follow: false, since: Some(since), ..Args::following(device) }
    }

    /// What it says from now on.
    pub(crate) fn following(device: &str) -> Args {
        Args { device: device.to_owned(), follow: true, last: 0, since: None, level: None, limit: 0 }
    }

    fn level(&self) -> String {
        self.level
            .and_then(|level| level.to_possible_value())
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Writes what a device says from now on at the end of a file, until it is given up.
pub(crate) async fn into_file(global: &Global, device: &str, file: &std::path::Path) -> Result<()> {
    let mut open = std::fs::OpenOptions::new();
    let opened = open.append(true).create(true).open(file);
    let mut opened = opened.with_context(|| format!("cannot write {}", file.display()))?;
    let session = Session::open(global).await?;
    let parent = session.name("devices", device);
    follow(global, &session, &Args::following(device), parent, &mut |reply| {
        reply.record.map_or(Ok(()), |record| Ok(writeln!(opened, "{}", lines(&record))?))
    })
    .await
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<()> {
    let session = Session::open(global).await?;
    let parent = session.name("devices", &args.device);
    if args.follow {
        follow(global, &session, args, parent, &mut |reply| show(global, reply)).await
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

/// A stream that ends, with its token, its server or its connection, is opened again to go on where it ended.
async fn follow(
    global: &Global,
    session: &Session,
    args: &Args,
    parent: String,
    show: &mut dyn FnMut(TailRecordsResponse) -> Result<()>,
) -> Result<()> {
    let mut token = String::new();
    let mut stream = tail(session, args, &parent, &token).await?;
    loop {
        match stream.message().await {
            Ok(Some(reply)) => {
                token.clone_from(&reply.resume_token);
                show(reply)?;
            }
            Err(status) if !goes_on(&status) => return Err(status.into()),
            Ok(None) | Err(_) => {
                let (parent, token) = (&parent, &token);
                stream = opened(global, async |session: &Session| tail(session, args, parent, token).await)
                    .await?;
            }
        }
    }
}

async fn tail(
    session: &Session,
    args: &Args,
    parent: &str,
    resume_token: &str,
) -> Result<Streaming<TailRecordsResponse>> {
    let request = TailRecordsRequest {
        parent: parent.to_owned(),
        last: args.last,
        level: args.level(),
        resume_token: resume_token.to_owned(),
    };
    Ok(session.logs().await?.tail_records(request).await?.into_inner())
}

fn show(global: &Global, reply: TailRecordsResponse) -> Result<()> {
    if reply.missed > 0 && !global.json {
        eprintln!("({} records went by too fast to show; `holdfast logs` without -f has them)", reply.missed);
    }
    reply.record.map_or(Ok(()), |record| print(global, &record))
}

fn print(global: &Global, record: &LogRecord) -> Result<()> {
    if global.json {
        return output::json("holdfast.logs.v1.LogRecord", record);
    }
    output::line(&lines(record))
}

/// A record for people, and before it what is missing.
fn lines(record: &LogRecord) -> String {
    let gap = match record.gap_before {
        0 => String::new(),
        gap => format!("--- {gap} records were dropped by the device here ---\n"),
    };
    let seconds = record.uptime_us / 1_000_000;
    let micros = record.uptime_us % 1_000_000;
    format!(
        "{gap}{} boot {} {seconds:>6}.{micros:06} {:5} {:10} {}",
        output::time(record.receive_time.as_ref()),
        record.boot_count,
        record.level,
        record.source,
        output::printable(&record.text)
    )
}
