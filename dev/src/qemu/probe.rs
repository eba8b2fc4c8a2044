//! A hand in the machine: what lies in its memory, read and changed while its processor stands still. For faults that nothing
//! which runs on the machine can cause.
//!
//! It is a small part of GDB's remote protocol (GDB manual, appendix E). Addresses are what the stopped processor would reach:
//! the secure world's only while it stands in the secure world.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long QEMU may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How a stop reply begins.
const STOPPED: char = 'T';

/// A machine that stands still for as long as this is there.
#[derive(Debug)]
pub struct Probe(BufReader<UnixStream>);

impl Probe {
    /// Stops it.
    pub(super) async fn attach(socket: &Path) -> Result<Probe> {
        let stream = UnixStream::connect(socket).await.context("the machine was started without a probe")?;
        let mut probe = Probe(BufReader::new(stream));
        // Answered when it stands.
        probe.ask("qAttached").await?;
        Ok(probe)
    }

    /// What lies there.
    pub async fn read(&mut self, at: u32, bytes: usize) -> Result<Vec<u8>> {
        let answer = self.ask(&format!("m{at:x},{bytes:x}")).await?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let read: Option<Vec<u8>> = answer.as_bytes().chunks(2).map(byte).collect();
        read.filter(|read| read.len() == bytes).with_context(|| format!("{at:#x} cannot be read: {answer}"))
    }

    /// Puts these bytes there.
    pub async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.ask(&format!("M{at:x},{:x}:{digits}", bytes.len())).await?.as_str() {
            "OK" => Ok(()),
            answer => bail!("{at:#x} cannot be written: {answer}"),
        }
    }

    /// Lets it go on.
    pub async fn detach(mut self) -> Result<()> {
        self.ask("D").await.map(drop)
    }

    async fn ask(&mut self, question: &str) -> Result<String> {
        let sum = question.bytes().fold(0, u8::wrapping_add);
        let answer = async {
            self.0.get_mut().write_all(format!("${question}#{sum:02x}").as_bytes()).await?;
            loop {
                let answer = self.answer().await?;
                // That it stands is said whenever it is so, between answers.
                if !answer.starts_with(STOPPED) {
                    return Ok(answer);
                }
            }
        };
        tokio::time::timeout(ANSWER_MAX, answer)
            .await
            .with_context(|| format!("QEMU did not answer to `{question}`"))?
    }

    /// `$...#xx`, acknowledged; what comes before it is an acknowledgement.
    async fn answer(&mut self) -> Result<String> {
        let (mut before, mut packet) = (Vec::new(), Vec::new());
        self.0.read_until(b'$', &mut before).await?;
        self.0.read_until(b'#', &mut packet).await?;
        self.0.read_exact(&mut [0; 2]).await.context("QEMU is gone")?;
        self.0.get_mut().write_all(b"+").await?;
        packet.pop();
        Ok(String::from_utf8(packet)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_framed_and_what_is_answered_is_read() -> Result<()> {
        let (ours, mut qemu) = UnixStream::pair()?;
        let mut probe = Probe(BufReader::new(ours));
        qemu.write_all(b"+$T02thread:01;#04$0aff#28+$E14#aa").await?;
        assert_eq!(probe.read(0x1000_003c, 2).await?, [0x0a, 0xff]);
        assert!(probe.write(0x20, &[1]).await.expect_err("refused").to_string().contains("E14"));
        let mut asked = [0; 16];
        qemu.read_exact(&mut asked).await?;
        assert_eq!(&asked, b"$m1000003c,2#82+");
        Ok(())
    }
}
