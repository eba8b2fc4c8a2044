//! What a demonstration is at: on a terminal a table of all steps that stays below what scrolls by, elsewhere a line when a step
//! begins and one when it is done.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// The steps of a demonstration, in the order they are run.
#[derive(Debug)]
pub(crate) struct Steps {
    table: Option<MultiProgress>,
    titles: &'static [&'static str],
    rows: Vec<ProgressBar>,
}

impl Steps {
    pub(crate) fn new(titles: &'static [&'static str]) -> Steps {
        // Bars are drawn on stderr; both, or what scrolls by would be drawn over.
        let live = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let table = live.then(MultiProgress::new);
        let row = |table: &MultiProgress, title: &'static str| {
            let row = table.add(ProgressBar::new_spinner().with_style(style("  · {msg:.dim}")));
            row.set_message(title);
            row.tick();
            row
        };
        let rows = table.iter().flat_map(|table| titles.iter().map(|title| row(table, title))).collect();
        Steps { table, titles, rows }
    }

    /// Runs one step, which may take `max`, and shows how long it took or that it failed.
    pub(crate) async fn run<T>(
        &self,
        number: usize,
        max: Duration,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (title, started) = (self.titles[number], Instant::now());
        match self.rows.get(number) {
            Some(row) => {
                row.set_style(style("  {spinner:.cyan} {msg}  {elapsed:.dim}"));
                row.reset_elapsed();
                row.enable_steady_tick(TICK);
            }
            None => println!("\n== {title}"),
        }
        let late = || format!("{title}: not within {max:?}");
        let outcome = match tokio::time::timeout(max, step).await {
            Ok(outcome) => outcome.context(title),
            Err(late_by) => Err(late_by).with_context(late),
        };
        let seconds = format!("{:.1} s", started.elapsed().as_secs_f64());
        match (self.rows.get(number), outcome.is_ok()) {
            (Some(row), true) => end(row, "  {prefix:.green} {msg}", "✓", format!("{title}  {seconds}")),
            (Some(row), false) => end(row, "  {prefix:.red} {msg}", "✗", format!("{title}  {seconds}")),
            (None, true) => println!("   done in {seconds}"),
            (None, false) => {}
        }
        outcome
    }

    /// A line of what happens, above the table.
    pub(crate) fn say(&self, line: &str) {
        match &self.table {
            // It fails when the terminal is gone: there is nobody to tell.
            Some(table) => drop(table.println(format!("    {line}"))),
            None => println!("   {line}"),
        }
    }
}

fn end(row: &ProgressBar, template: &str, mark: &'static str, message: String) {
    row.set_style(style(template));
    row.set_prefix(mark);
    row.finish_with_message(message);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template of ours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_fails_or_takes_too_long_names_itself() {
        let steps = Steps::new(&["one", "two"]);
        assert_eq!(steps.run(0, TICK, async { Ok(1) }).await.unwrap(), 1);
        let failed = steps.run(1, TICK, async { anyhow::bail!("no luck") as Result<()> }).await.unwrap_err();
        assert_eq!(format!("{failed:#}"), "two: no luck");
        let late = steps.run(1, Duration::ZERO, std::future::pending::<Result<()>>()).await.unwrap_err();
        assert!(format!("{late:#}").starts_with("two: not within 0ns"), "{late:#}");
    }

    #[test]
    fn every_template_is_one() {
        for template in [
            "  · {msg:.dim}",
            "  {spinner:.cyan} {msg}  {elapsed:.dim}",
            "  {prefix:.green} {msg}",
            "  {prefix:.red} {msg}",
        ] {
            style(template);
        }
    }
}
