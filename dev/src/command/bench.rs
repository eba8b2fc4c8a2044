//! `cargo dev bench`: each benchmark is a program `tests/src/bin/bench_NAME.rs`, built with optimisation, that prints one JSON object a
//! line; here they are run, shown, and held against `tests/bench-thresholds.toml`.
//!
//! A ratio compares with a peer measured in the same run, so that it means the same on every machine. Nothing here gates a test.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::command::cargo::{build_installation, cargo, programs};
use crate::command::firmware;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this benchmark.
    name: Option<String>,
    /// Print one JSON object a line and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Fail when a figure is outside tests/bench-thresholds.toml.
    #[arg(long)]
    check: bool,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Figure {
    bench: String,
    metric: String,
    unit: String,
    ours: f64,
    peer: Option<f64>,
    peer_name: Option<String>,
    ratio: Option<f64>,
}

/// What a figure must be: `[update.transfer_vs_sockets]` with `min` or `max`. It bounds the ratio, or ours when there is no peer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    min: Option<f64>,
    max: Option<f64>,
}

type Bounds = BTreeMap<String, BTreeMap<String, Bound>>;

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let names = programs("bench_", arguments.name.as_deref())?;
    build_installation(true).await?;
    for (bench, firmware) in
        [("board", firmware::Arguments::first()), ("debug", firmware::Arguments::patient())]
    {
        if names.iter().any(|name| name == bench) {
            firmware::run(&firmware).await?;
        }
    }
    let mut figures = Vec::new();
    for name in &names {
        let binary = format!("bench_{name}");
        cargo(&["build", "--quiet", "--release", "--package", "scenarios", "--bin", &binary]).await?;
        figures.extend(run_one(&binary, arguments.json).await?);
    }
    if !arguments.json {
        print!("{}", table(&figures));
    }
    if arguments.check {
        let file = dev::root().join("tests/bench-thresholds.toml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut bounds: Bounds =
            toml::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        bounds.retain(|bench, _| names.contains(bench));
        let missed = missed(&bounds, &figures);
        if !missed.is_empty() {
            bail!("outside the thresholds:\n  {}", missed.join("\n  "));
        }
        eprintln!("every threshold is kept");
    }
    Ok(())
}

async fn run_one(binary: &str, json: bool) -> Result<Vec<Figure>> {
    let program = dev::binary_dir()?.with_file_name("release").join(binary);
    let mut child = Command::new(&program)
        .stdout(Stdio::piped())
        .current_dir(dev::root())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut figures = Vec::new();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str::<Figure>(&line) {
            Ok(figure) => {
                if json {
                    println!("{line}");
                }
                figures.push(figure);
            }
            // An account for people: not for whoever reads JSON.
            Err(_) => eprintln!("{line}"),
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("{binary} failed ({status})");
    }
    Ok(figures)
}

fn table(figures: &[Figure]) -> String {
    let mut text = format!(
        "{:<10} {:<34} {:>14} {:>14} {:>8}  {}\n",
        "bench", "metric", "ours", "peer", "ratio", "unit, peer"
    );
    for figure in figures {
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.3}"));
        text += &format!(
            "{:<10} {:<34} {:>14} {:>14} {:>8}  {}{}\n",
            figure.bench,
            figure.metric,
            number(Some(figure.ours)),
            number(figure.peer),
            number(figure.ratio),
            figure.unit,
            figure.peer_name.as_ref().map(|name| format!(", {name}")).unwrap_or_default(),
        );
    }
    text
}

/// Every bound that no figure keeps, in words.
fn missed(bounds: &Bounds, figures: &[Figure]) -> Vec<String> {
    let mut missed = Vec::new();
    for (bench, metric, bound) in
        bounds.iter().flat_map(|(b, metrics)| metrics.iter().map(move |(m, bound)| (b, m, bound)))
    {
        let found: Vec<f64> = figures
            .iter()
            .filter(|figure| figure.bench == *bench && figure.metric == *metric)
            .map(|figure| figure.ratio.unwrap_or(figure.ours))
            .collect();
        if found.is_empty() {
            missed.push(format!("{bench} {metric}: not measured"));
        }
        for value in found {
            if bound.min.is_some_and(|min| value.is_nan() || value < min) {
                missed.push(format!("{bench} {metric}: {value} is below {}", bound.min.unwrap_or_default()));
            }
            if bound.max.is_some_and(|max| value.is_nan() || value > max) {
                missed.push(format!("{bench} {metric}: {value} is above {}", bound.max.unwrap_or_default()));
            }
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(line: &str) -> Figure {
        serde_json::from_str(line).expect("a figure")
    }

    #[test]
    fn a_bound_is_missed_below_above_or_when_nothing_was_measured() {
        let bounds: Bounds = toml::from_str(
            "[update.ratio]\nmin = 0.15\n[update.peak]\nmax = 100.0\n[update.other]\nmin = 1.0\n",
        )
        .expect("bounds");
        let good = [
            figure(
                r#"{"bench":"update","metric":"ratio","unit":"MiB/s","ours":30,"peer":200,"peer_name":"sockets","ratio":0.15}"#,
            ),
            figure(r#"{"bench":"update","metric":"peak","unit":"MiB","ours":100}"#),
            figure(r#"{"bench":"update","metric":"other","unit":"s","ours":2}"#),
        ];
        assert_eq!(missed(&bounds, &good), Vec::<String>::new());
        let bad = [
            figure(
                r#"{"bench":"update","metric":"ratio","unit":"MiB/s","ours":30,"peer":201,"peer_name":"sockets","ratio":0.1492}"#,
            ),
            figure(r#"{"bench":"update","metric":"peak","unit":"MiB","ours":100.1}"#),
        ];
        let missed = missed(&bounds, &bad).join("\n");
        for part in ["ratio: 0.1492 is below 0.15", "peak: 100.1 is above 100", "other: not measured"] {
            assert!(missed.contains(part), "{missed}");
        }
    }

    #[test]
    fn the_table_shows_a_figure_with_its_peer() {
        let line = r#"{"bench":"update","metric":"transfer","unit":"MiB/s","ours":30,"peer":200,"peer_name":"sockets","ratio":0.15}"#;
        let table = table(&[figure(line)]);
        assert!(
            table.contains("30.000") && table.contains("0.150") && table.contains("MiB/s, sockets"),
            "{table}"
        );
    }
}
