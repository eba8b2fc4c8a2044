//! A serial line of a board: its lines as they come, to be awaited.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};

/// Lines kept; whoever reads later than that has missed some. The log file has them all.
const LINES_MAX: usize = 100_000;
/// Lines that an error quotes.
const TAIL_LINES_MAX: usize = 25;
/// Bytes of a line; the rest of a longer one counts as the next.
const LINE_BYTES_MAX: u64 = 4096;

/// One line, and when it was whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place among all lines since power on.
    pub number: usize,
    pub text: String,
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Lines {
    /// How many came, with those no longer kept.
    count: usize,
    kept: VecDeque<Line>,
    ended: bool,
}

impl Lines {
    fn push(&mut self, text: String) {
        self.kept.push_back(Line { number: self.count, text, at: Instant::now() });
        self.count += 1;
        if self.kept.len() > LINES_MAX {
            self.kept.pop_front();
        }
    }

    /// What is kept from this number on.
    fn from(&self, number: usize) -> impl Iterator<Item = &Line> {
        let gone = self.count - self.kept.len();
        self.kept.iter().skip(number.saturating_sub(gone))
    }
}

/// What came over a serial line since power on, and the way back.
#[derive(Clone, Debug)]
pub struct Console {
    name: &'static str,
    lines: watch::Receiver<Lines>,
    output: Arc<Mutex<OwnedWriteHalf>>,
}

impl Console {
    /// Reads until the other end is gone.
    pub(super) fn read(name: &'static str, stream: UnixStream) -> Console {
        let (sender, lines) = watch::channel(Lines::default());
        let (input, output) = stream.into_split();
        tokio::spawn(async move {
            let mut input = BufReader::new(input);
            while let Some(line) = next(&mut input).await {
                sender.send_modify(|lines| lines.push(line));
            }
            sender.send_modify(|lines| lines.ended = true);
        });
        Console { name, lines, output: Arc::new(Mutex::new(output)) }
    }

    /// Sends bytes to the board; QEMU keeps them until the board reads.
    pub async fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut output = self.output.lock().await;
        output.write_all(bytes).await.with_context(|| format!("the {} is gone", self.name))
    }

    /// How many lines came so far: where the next has its number.
    pub fn count(&self) -> usize {
        self.lines.borrow().count
    }

    /// The first line since power on that contains the text.
    pub async fn line(&self, text: &str, within: Duration) -> Result<Line> {
        self.line_after(0, text, within).await
    }

    /// The first line from this number on that contains the text; an error quotes the last lines.
    pub async fn line_after(&self, number: usize, text: &str, within: Duration) -> Result<Line> {
        let found = self.find(number, |line| line.contains(text));
        match tokio::time::timeout(within, found).await {
            Ok(found) => {
                found?.with_context(|| format!("no `{text}` before the board ended\n{}", self.tail()))
            }
            Err(_) => bail!("no `{text}` within {within:?}\n{}", self.tail()),
        }
    }

    /// The line of this number, or the oldest that is kept; none when the board has ended.
    pub async fn next(&self, number: usize) -> Result<Option<Line>> {
        self.find(number, |_| true).await
    }

    /// What is kept of all lines.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.borrow().kept.iter().cloned().collect()
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        let lines = self.lines.borrow();
        let tail = lines.from(lines.count.saturating_sub(TAIL_LINES_MAX)).map(|line| line.text.as_str());
        format!("--- end of the {}\n{}", self.name, tail.collect::<Vec<_>>().join("\n"))
    }

    async fn find(&self, from: usize, wanted: impl Fn(&str) -> bool) -> Result<Option<Line>> {
        let mut lines = self.lines.clone();
        let (mut seen, mut found) = (from, None);
        let look = |lines: &Lines| {
            found = lines.from(seen).find(|line| wanted(&line.text)).cloned();
            seen = seen.max(lines.count);
            found.is_some() || lines.ended
        };
        lines.wait_for(look).await.with_context(|| format!("the {} is no longer read", self.name))?;
        Ok(found)
    }
}

/// A line without its end; none at the end of the stream.
async fn next(input: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    // A broken connection is the end of the machine like an orderly one.
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await.unwrap_or(0);
    (read > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_line_is_found_whether_it_came_before_or_comes_after() -> Result<()> {
        let (board, mut qemu) = UnixStream::pair()?;
        let console = Console::read("console", board);
        console.send(b"!").await?;
        assert_eq!(qemu.read_u8().await?, b'!');
        qemu.write_all(b"one\r\ntwo\nha").await?;
        assert_eq!(console.line("two", SOON).await?.number, 1);
        let later = tokio::spawn({
            let console = console.clone();
            async move { console.line_after(1, "half", SOON).await }
        });
        qemu.write_all(b"lf\none\n").await?;
        assert_eq!(later.await??.text, "half");
        assert_eq!(console.line_after(1, "one", SOON).await?.number, 3);
        assert_eq!(console.next(2).await?.map(|line| line.text), Some("half".to_owned()));
        Ok(())
    }

    #[tokio::test]
    async fn what_never_comes_is_an_error_that_quotes_what_did() -> Result<()> {
        let (board, mut qemu) = UnixStream::pair()?;
        let console = Console::read("console", board);
        qemu.write_all(b"all there is\n").await?;
        console.line("all", SOON).await?;
        let late = console.line("more", Duration::ZERO).await.expect_err("it never came").to_string();
        assert!(late.contains("all there is"), "{late}");
        drop(qemu);
        assert!(console.line("more", SOON).await.expect_err("it has ended").to_string().contains("ended"));
        assert_eq!(console.next(9).await?, None);
        Ok(())
    }

    #[test]
    fn the_oldest_lines_go_first() {
        let mut lines = Lines::default();
        (0..=LINES_MAX).for_each(|number| lines.push(number.to_string()));
        assert_eq!(lines.from(0).next().map(|line| line.number), Some(1));
        assert_eq!(lines.from(LINES_MAX).map(|line| line.number).collect::<Vec<_>>(), [LINES_MAX]);
    }
}
