//! One file per command.

use anyhow::Result;

use crate::args::{Args, Command};

pub(crate) mod again;
pub(crate) mod bootstrap;
pub(crate) mod broker;
pub(crate) mod bundle;
pub(crate) mod claim;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod crash;
pub(crate) mod debug;
pub(crate) mod debug_session;
pub(crate) mod debugging;
pub(crate) mod deploy;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod factory;
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod keyset;
pub(crate) mod logs;
pub(crate) mod manual;
pub(crate) mod new;
pub(crate) mod root;
pub(crate) mod run;
pub(crate) mod telemetry;
pub(crate) mod tenant;
pub(crate) mod token;

/// Items a page when a list is read to its end.
pub(crate) const PAGE_SIZE: i32 = 500;

pub(crate) async fn run(args: &Args) -> Result<()> {
    let global = &args.global;
    match &args.command {
        Command::Bootstrap(args) => bootstrap::run(global, args).await,
        Command::Context(command) => context::run(global, command),
        Command::Token(args) => token::run(global, args).await,
        Command::Tenant(command) => tenant::run(global, command).await,
        Command::Root(command) => root::run(global, command).await,
        Command::Key(command) => key::run(global, command).await,
        Command::Keys(command) => keys::run(global, command).await,
        Command::Keyset(command) => keyset::run(global, command).await,
        Command::Claim(command) => claim::run(global, command).await,
        Command::Device(command) => device::run(global, command).await,
        Command::New(command) => new::run(global, command),
        Command::Run(args) => run::run(global, args).await,
        Command::Bundle(command) => bundle::run(global, command).await,
        Command::Deploy(args) => deploy::run(global, args).await,
        Command::Deployment(command) => deploy::command(global, command).await,
        Command::Logs(args) => logs::run(global, args).await,
        Command::Crash(command) => crash::run(global, command).await,
        Command::Telemetry(command) => telemetry::run(global, command).await,
        Command::Doctor(args) => doctor::run(global, args).await,
        Command::Debug(args) => debug::run(global, args).await,
        Command::DebugSession(command) => debug_session::run(global, command).await,
        Command::Debugging(command) => debugging::run(global, command).await,
        Command::Broker(command) => broker::run(global, command),
        Command::Factory(command) => factory::run(global, command),
        Command::Completion(args) => completion::run(args),
        Command::Manual(command) => manual::run(command),
    }
}

/// A name for one call, so that whatever repeats it on the way does not do it twice.
pub(crate) fn fresh_request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Reads a paged list to its end, or to `limit` items (0: no limit). `page` is called with a page token and gives the
/// items and the next token.
pub(crate) async fn collect<T>(
    limit: usize,
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String)>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (items, next) = page(token).await?;
        all.extend(items);
        if limit > 0 && all.len() >= limit {
            all.truncate(limit);
            return Ok(all);
        }
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// `90s`, `15m`, `12h`, `30d`, or plain seconds.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        unit => return Err(format!("`{unit}` is not a unit: use s, m, h or d, as in 90s or 30d")),
    };
    let count: u64 =
        digits.parse().map_err(|_| format!("`{text}` is not a duration: write 90s, 15m, 12h or 30d"))?;
    let seconds = count.checked_mul(factor).ok_or_else(|| format!("`{text}` is too long"))?;
    Ok(std::time::Duration::from_secs(seconds))
}

/// `4096`, `16K`, or `16KiB`.
pub(crate) fn parse_size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" | "KiB" => 1024,
        unit => return Err(format!("`{unit}` is not a unit: write 4096 or 16K")),
    };
    let count: u32 = digits.parse().map_err(|_| format!("`{text}` is not a size: write 4096 or 16K"))?;
    count.checked_mul(factor).ok_or_else(|| format!("`{text}` is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let sizes = ["0", "4096", "16K", "64KiB"].map(|text| parse_size(text).unwrap());
        assert_eq!(sizes, [0, 4096, 16_384, 65_536]);
        for bad in ["", "K", "1M", "-1", "4194304K", "16k", "1é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("90").unwrap().as_secs(), 90);
        assert_eq!(parse_duration("2h").unwrap().as_secs(), 7200);
        assert_eq!(parse_duration("30d").unwrap().as_secs(), 2_592_000);
        for bad in ["", "h", "1w", "-1s", "99999999999999999999d", "18446744073709551615d", "1é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_or_its_limit() {
        let mut calls = Vec::new();
        let all = collect(0, async |token: String| {
            calls.push(token.clone());
            Ok(if token.is_empty() { (vec![1, 2], "next".to_owned()) } else { (vec![3], String::new()) })
        });
        assert_eq!(all.await.unwrap(), [1, 2, 3]);
        assert_eq!(calls, ["", "next"]);
        let two = collect(2, async |_| Ok((vec![1, 2, 3], "more".to_owned()))).await.unwrap();
        assert_eq!(two, [1, 2]);
    }
}
