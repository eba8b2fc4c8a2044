//! `holdfast telemetry`: what applications published, as they meant it.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Subcommand;
use proto::logs::v1::{ListTelemetryRequest, TailTelemetryRequest, TailTelemetryResponse, TelemetryMessage};
use tonic::Streaming;

use crate::args::Global;
use crate::command::again::{goes_on, opened};
use crate::command::{PAGE_SIZE, collect, parse_duration};
use crate::output;
use crate::session::Session;

const MESSAGE: &str = "holdfast.logs.v1.TelemetryMessage";
/// Bytes of data in a line for people; `--json` has all of it.
const SHOWN_BYTES_MAX: usize = 64;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read what is stored, oldest first.
    #[command(after_help = "Example:\n  holdfast telemetry list dv… --since 1h --json")]
    List(List),
    /// Read the last messages and go on as they arrive, until Ctrl-C.
    #[command(after_help = "Example:\n  holdfast telemetry tail dv… -n 0")]
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    device: String,
    /// Only the last so long, as in 1h.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Stop after so many; 0 means all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    device: String,
    /// How many stored messages to begin with.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=1000))]
    last: i32,
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    match command {
        Command::List(args) => list(global, &session, args).await,
        Command::Tail(args) => follow(global, &session, args).await,
    }
}

async fn list(global: &Global, session: &Session, args: &List) -> Result<()> {
    let mut client = session.logs().await?;
    let parent = session.name("devices", &args.device);
    let start_time =
        args.since.and_then(|since| SystemTime::now().checked_sub(since)).map(prost_types::Timestamp::from);
    let messages = collect(args.limit, async |page_token| {
        let request = ListTelemetryRequest {
            parent: parent.clone(),
            page_size: PAGE_SIZE,
            page_token,
            start_time,
            end_time: None,
        };
        let reply = client.list_telemetry(request).await?.into_inner();
        Ok((reply.messages, reply.next_page_token))
    });
    let mut seen = Seen::default();
    messages.await?.iter().try_for_each(|message| print(global, message, &mut seen))
}

/// A stream that ends, with its token, its server or its connection, is opened again to go on where it ended.
async fn follow(global: &Global, session: &Session, args: &Tail) -> Result<()> {
    let parent = session.name("devices", &args.device);
    let (mut token, mut seen) = (String::new(), Seen::default());
    let mut stream = tail(session, &parent, args.last, &token).await?;
    loop {
        match stream.message().await {
            Ok(Some(reply)) => {
                token.clone_from(&reply.resume_token);
                show(global, reply, &mut seen)?;
            }
            Err(status) if !goes_on(&status) => return Err(status.into()),
            Ok(None) | Err(_) => {
                let (parent, token) = (&parent, &token);
                stream =
                    opened(global, async |session: &Session| tail(session, parent, args.last, token).await)
                        .await?;
            }
        }
    }
}

async fn tail(
    session: &Session,
    parent: &str,
    last: i32,
    resume_token: &str,
) -> Result<Streaming<TailTelemetryResponse>> {
    let request =
        TailTelemetryRequest { parent: parent.to_owned(), last, resume_token: resume_token.to_owned() };
    Ok(session.logs().await?.tail_telemetry(request).await?.into_inner())
}

fn show(global: &Global, reply: TailTelemetryResponse, seen: &mut Seen) -> Result<()> {
    if reply.missed > 0 && !global.json {
        eprintln!("({} messages went by too fast to show; `holdfast telemetry list` has them)", reply.missed);
    }
    reply.message.map_or(Ok(()), |message| print(global, &message, seen))
}

/// What was told to be dropped so far, of which boot.
#[derive(Debug, Default)]
struct Seen {
    boot: String,
    dropped: i64,
}

impl Seen {
    /// How many more were dropped since the message before.
    fn newly_dropped(&mut self, message: &TelemetryMessage) -> i64 {
        let before = if self.boot == message.boot { self.dropped } else { 0 };
        *self = Seen { boot: message.boot.clone(), dropped: message.dropped_before.max(before) };
        self.dropped - before
    }
}

fn print(global: &Global, message: &TelemetryMessage, seen: &mut Seen) -> Result<()> {
    if global.json {
        return output::json(MESSAGE, message);
    }
    let dropped = seen.newly_dropped(message);
    if dropped > 0 {
        output::line(&format!("--- {dropped} messages had no room on the device ---"))?;
    }
    let seconds = message.uptime_us / 1_000_000;
    let micros = message.uptime_us % 1_000_000;
    output::line(&format!(
        "{} boot {} {seconds:>6}.{micros:06} {:20} {}",
        output::time(message.receive_time.as_ref()),
        message.boot_count,
        output::printable(&message.content_type),
        shown(&message.content_type, &message.data)
    ))
}

/// Text as text, if that is what it says it is; the rest in hex.
fn shown(content_type: &str, data: &[u8]) -> String {
    let is_text = content_type.starts_with("text/") || content_type.starts_with("application/json");
    match std::str::from_utf8(data) {
        Ok(text) if is_text => output::printable(text),
        _ if data.len() > SHOWN_BYTES_MAX => {
            format!("{}… {} bytes", hex::encode(&data[..SHOWN_BYTES_MAX]), data.len())
        }
        _ => hex::encode(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_nothing_reaches_the_terminal_as_it_is() {
        assert_eq!(shown("application/json", b"{\"t\":21}"), "{\"t\":21}");
        assert_eq!(shown("text/plain", b"a\x1b[2J"), "a\u{fffd}[2J");
        assert_eq!(shown("", b"ab"), "6162");
        assert_eq!(shown("text/plain", &[0xFF, 1]), "ff01");
        assert!(shown("", &[7; 100]).ends_with("07… 100 bytes"));
    }

    #[test]
    fn what_was_dropped_is_told_once() {
        let message = |boot: &str, dropped_before| TelemetryMessage {
            boot: boot.into(),
            dropped_before,
            ..Default::default()
        };
        let mut seen = Seen::default();
        let told = [("a", 0), ("a", 3), ("a", 3), ("a", 5), ("b", 1)]
            .map(|(boot, dropped)| seen.newly_dropped(&message(boot, dropped)));
        assert_eq!(told, [0, 3, 0, 2, 1]);
    }
}
