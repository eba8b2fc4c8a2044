//! docs/tutorial.md, typed as it stands: every command, in one shell, against `cargo dev up`; and what it prints.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// How long the whole page may take on a busy machine.
const TUTORIAL_MAX: Duration = Duration::from_secs(300);
/// The page's name of the installation; ours is another, so that a developer's own is left alone.
const NAME: &str = "--name tutorial";

/// What would build what is built already.
const BOARD: &str = "cargo dev board ";

/// What is typed, and what is then read.
#[derive(Debug, Default)]
struct Block {
    commands: String,
    expected: Vec<String>,
}

/// The fenced blocks of a page: `sh`, each with the `text` behind it; `sh up` is the other terminal's.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fence = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(kind), None) => {
                fence = Some(kind);
                if kind == "sh" {
                    blocks.push(Block::default());
                }
            }
            (Some(_), Some(_)) => fence = None,
            (None, Some("sh")) => {
                if let Some(block) = blocks.last_mut() {
                    block.commands.push_str(&format!("{line}\n"));
                }
            }
            (None, Some("text")) => blocks.last_mut().into_iter().for_each(|b| b.expected.push(line.into())),
            (None, _) => {}
        }
    }
    blocks
}

/// Whether the lines of `said` are the expected ones; a line of `…` alone stands for any number of lines, and `…` in a
/// line for any text.
fn fits(expected: &[String], said: &[&str]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((any, rest)) if any == "…" => (0..=said.len()).any(|skipped| fits(rest, &said[skipped..])),
        Some((line, rest)) => said
            .split_first()
            .is_some_and(|(first, more)| fits_line(line, first.trim_end()) && fits(rest, more)),
    }
}

fn fits_line(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else { return pattern == text };
    let (middle, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    let Some(mut text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else {
        return false;
    };
    middle.split('…').all(|part| {
        let found = text.split_once(part);
        text = found.map_or("", |(_, after)| after);
        found.is_some()
    })
}

#[test]
fn expected_lines_match_what_they_should_and_nothing_else() {
    let fit = |expected: &[&str], said: &[&str]| {
        fits(&expected.iter().map(|l| (*l).into()).collect::<Vec<_>>(), said)
    };
    assert!(fit(&["a…c"], &["abc"]) && fit(&["…", "b"], &["x", "y", "b"]) && fit(&["b", "…"], &["b"]));
    assert!(fit(&["a … c … e"], &["a b c d e"]));
    assert!(!fit(&["a…c"], &["abd"]) && !fit(&["b"], &["b", "c"]) && !fit(&["…", "b"], &["x"]));
    assert!(!fit(&["abc"], &["xabc"]) && !fit(&["abc"], &["abcx"]));
}

#[tokio::test]
async fn every_command_of_the_tutorial_works_and_prints_what_the_page_says() -> Result<()> {
    let page = std::fs::read_to_string(dev::root().join("docs/tutorial.md"))?;
    ensure!(
        page.contains("```sh up\ncargo dev up --name tutorial\n```"),
        "the first terminal's command is another"
    );
    let blocks = blocks(&page);
    ensure!(blocks.len() >= 6, "the page has lost its commands");
    let name = format!("tutorial-{}", std::process::id());
    let state = dev::dot_dev().join(&name);
    let tutorial = async {
        let mut up = up(&name).await?;
        let said = type_in(&blocks, &name).await;
        interrupt(&mut up).await?;
        check(&blocks, &said?)
    };
    let outcome = tokio::time::timeout(TUTORIAL_MAX, tutorial).await.context("the page takes too long");
    if matches!(outcome, Ok(Ok(()))) {
        std::fs::remove_dir_all(&state)?;
    } else {
        eprintln!("its installation is in {}", state.display());
    }
    outcome?
}

async fn up(name: &str) -> Result<Child> {
    let mut command = Command::new(dev::binary("dev")?);
    command
        .args(["up", "--built", "--name", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut up = command.spawn()?;
    let mut lines = BufReader::new(up.stdout.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("up after") {
            // What it says later must have somewhere to go.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(up);
        }
    }
    bail!("`cargo dev up` ended")
}

async fn interrupt(up: &mut Child) -> Result<()> {
    let pid = up.id().context("`cargo dev up` ended by itself")?;
    dev::signal(i32::try_from(pid)?, dev::Signal::Interrupt)?;
    let status = up.wait().await?;
    ensure!(status.success(), "`cargo dev up` ended with {status}");
    Ok(())
}

/// All blocks in one shell that stops at the first failure; what each printed.
async fn type_in(blocks: &[Block], name: &str) -> Result<Vec<String>> {
    // `cargo dev`, without building.
    let shims = tempfile::tempdir()?;
    shim(&shims.path().join("cargo"))?;
    let mut shell = Command::new("bash")
        .arg("-e")
        .current_dir(dev::root())
        .env("TMPDIR", shims.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut script = format!("exec 2>&1\nPATH='{}':\"$PATH\"\n", shims.path().display());
    for block in blocks {
        let commands = block.commands.replace(NAME, &format!("--name {name}"));
        script.push_str(&commands.replace(BOARD, &format!("{BOARD}--built ")));
        script.push_str("echo '-- next block'\n");
    }
    let mut stdin = shell.stdin.take().context("no input")?;
    stdin.write_all(script.as_bytes()).await?;
    drop(stdin);
    let output = shell.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the shell ended with {}:\n{said}", output.status);
    Ok(said.split("-- next block\n").map(str::to_owned).collect())
}

fn shim(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let dev = dev::binary("dev")?;
    std::fs::write(file, format!("#!/bin/sh\nshift\nexec '{}' \"$@\"\n", dev.display()))?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?)
}

fn check(blocks: &[Block], said: &[String]) -> Result<()> {
    for (block, said) in blocks.iter().zip(said) {
        let lines: Vec<&str> = said.lines().collect();
        ensure!(
            block.expected.is_empty() || fits(&block.expected, &lines),
            "after\n{}the page says\n{}\nand it was\n{said}",
            block.commands,
            block.expected.join("\n")
        );
    }
    Ok(())
}
