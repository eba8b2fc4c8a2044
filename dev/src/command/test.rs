//! `cargo dev test`: one build, every test program, one plain last line.
//!
//! Everything is built before anything runs, since scenarios start our binaries. Full runs also hold docs/coverage.md to its
//! word, and docs/unbrickable.md: each test they name must have run and passed. The names that ran are in `target/tests-ran.txt`. A test may leave a
//! table for people (`dev::leave_report`): it is printed at the end, whatever came of the test.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dev::coverage;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::command::cargo::{FIRMWARE, Group, TestProgram, build_all_targets};
use crate::command::{firmware, soak};

/// What a filter begins with that is the name of a soak: too long for a run of everything.
const SOAK: &str = "soak-";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this; `soak-NAME` runs that soak.
    filter: Option<String>,
    /// Only the tests of this package.
    #[arg(long, short)]
    package: Option<String>,
}

impl Arguments {
    pub(crate) fn everything() -> Arguments {
        Arguments { filter: None, package: None }
    }
}

/// What ran.
#[derive(Debug, Default)]
struct Tally {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    if let Some(name) = arguments.filter.as_deref().and_then(|filter| filter.strip_prefix(SOAK)) {
        return soak::run(&soak::Arguments::of(name)).await;
    }
    let programs = build(arguments).await?;
    let mut tally = Tally::default();
    forget_reports()?;
    for program in &programs {
        run_program(program, arguments.filter.as_deref(), &mut tally).await?;
    }
    print_reports()?;
    let names: String = tally.passed.iter().map(|name| format!("{name}\n")).collect();
    std::fs::write(dev::binary_dir()?.with_file_name("tests-ran.txt"), names)?;

    let full = arguments.filter.is_none() && arguments.package.is_none();
    if full {
        check_coverage(&mut tally)?;
        check_skipped(&mut tally);
    } else if tally.passed.is_empty() && tally.failed.is_empty() {
        bail!("no test matches");
    }
    for name in &tally.failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", tally.passed.len(), tally.failed.len());
    if !tally.failed.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

/// Builds what may be needed: everything, or one package and the binaries its scenarios start.
async fn build(arguments: &Arguments) -> Result<Vec<TestProgram>> {
    let started = Instant::now();
    let mut programs = Vec::new();
    match arguments.package.as_deref() {
        Some(package) if FIRMWARE.contains(&package) || package == "wire" || package == "dev" => {
            programs.extend(build_all_targets(Group::Rest, Some(package)).await?);
        }
        package => {
            for group in Group::all() {
                programs.extend(build_all_targets(group, None).await?);
            }
            programs.retain(|program| package.is_none_or(|package| program.package == package));
            if programs.iter().any(|program| program.package == "scenarios") {
                firmware::run(&firmware::Arguments::everything()).await?;
            }
        }
    }
    println!("built in {:.1} s", started.elapsed().as_secs_f64());
    // Quick ones first; the scenarios, which need everything else to be right, last.
    programs
        .sort_by_key(|program| (program.package == "scenarios", program.file.is_some(), program.prefix()));
    Ok(programs)
}

async fn run_program(program: &TestProgram, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let started = Instant::now();
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(&program.program);
    command
        .args(filter)
        .current_dir(&program.dir)
        .env("CARGO_MANIFEST_DIR", &program.dir)
        .env("CARGO_PKG_NAME", &program.package);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("starting {}", program.program.display()))?;
    drop(command);

    let mut lines =
        BufReader::new(tokio::fs::File::from_std(std::fs::File::from(std::os::fd::OwnedFd::from(reader))))
            .lines();
    let mut said = Vec::new();
    let mut counts = (0, 0, 0);
    while let Some(line) = lines.next_line().await? {
        match parse(&line) {
            Some((name, outcome)) => {
                let name = format!("{}::{name}", program.prefix());
                match outcome {
                    Outcome::Passed => counts.0 += usize::from(tally.passed.insert(name)),
                    Outcome::Failed => counts.1 += usize::from(tally.failed.insert(name)),
                    Outcome::Ignored => counts.2 += usize::from(tally.ignored.insert(name)),
                }
            }
            None => said.push(line),
        }
    }
    let status = child.wait().await?;
    let failed = !status.success();
    if failed && counts.1 == 0 {
        // A crash of the whole program names no test.
        tally.failed.insert(format!("{} ({status})", program.prefix()));
    }
    if failed {
        println!("{}", said.join("\n"));
    }
    if failed || counts != (0, 0, 0) {
        let ignored = if counts.2 > 0 { format!(", {} ignored", counts.2) } else { String::new() };
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{:<44} {:4} passed, {} failed{ignored} {seconds:7.1} s",
            program.prefix(),
            counts.0,
            counts.1
        );
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Ignored,
}

/// A line of libtest: `test module::name ... ok`.
fn parse(line: &str) -> Option<(&str, Outcome)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    match outcome.split([',', ' ']).next()? {
        "ok" => Some((name, Outcome::Passed)),
        "FAILED" => Some((name, Outcome::Failed)),
        "ignored" => Some((name, Outcome::Ignored)),
        _ => None,
    }
}

/// Those of an earlier run are not this one's.
fn forget_reports() -> Result<()> {
    match std::fs::remove_dir_all(dev::reports_dir()?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing old reports")
        }
        _ => Ok(()),
    }
}

fn print_reports() -> Result<()> {
    let Ok(folder) = std::fs::read_dir(dev::reports_dir()?) else { return Ok(()) };
    for file in folder.flatten() {
        let text = std::fs::read_to_string(file.path()).context("reading a report")?;
        println!("\n{}\n{text}", file.path().display());
    }
    Ok(())
}

/// Every promise of docs/coverage.md must be proven by a test that just passed.
fn check_coverage(tally: &mut Tally) -> Result<()> {
    for page in ["docs/coverage.md", "docs/unbrickable.md"] {
        let file = dev::root().join(page);
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let table = coverage::parse(&text);
        for problem in &table.problems {
            tally.failed.insert(format!("{page}: {problem}"));
        }
        for row in &table.rows {
            for test in row.tests.iter().filter(|test| !tally.passed.contains(*test)) {
                let (line, promise) = (row.line, &row.promise);
                tally.failed.insert(format!("{page}:{line}: `{test}` did not run and pass ({promise})"));
            }
        }
    }
    Ok(())
}

/// With CI=true no test skips itself (STYLE, "Tests").
fn check_skipped(tally: &mut Tally) {
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        tally.failed.extend(tally.ignored.iter().map(|name| format!("{name} is skipped")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_a_test_is_read_from_its_line() {
        assert_eq!(parse("test a::b ... ok"), Some(("a::b", Outcome::Passed)));
        assert_eq!(parse("test a::b ... FAILED"), Some(("a::b", Outcome::Failed)));
        assert_eq!(parse("test a::b ... ignored, needs a board"), Some(("a::b", Outcome::Ignored)));
        assert_eq!(parse("test a - should panic ... ok"), Some(("a", Outcome::Passed)));
        assert_eq!(parse("test result: ok. 3 passed"), None);
        assert_eq!(parse("something else"), None);
    }
}
