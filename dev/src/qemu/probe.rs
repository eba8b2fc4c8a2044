//! A hand in the machine: what lies in its memory, read and changed while its processor stands still, and places where it stops by
//! itself. For faults that nothing which runs on the machine can cause, and for moments that nothing on it can tell of.
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
/// Bytes read at once: half of what QEMU puts into an answer.
const PIECE_BYTES: usize = 1024;
/// Bytes of an instruction that a place to stop at is told with.
const THUMB_BYTES: u32 = 2;

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
        let mut read = Vec::with_capacity(bytes);
        while read.len() < bytes {
            let (at, count) = (at + read.len() as u32, PIECE_BYTES.min(bytes - read.len()));
            let answer = self.ask(&format!("m{at:x},{count:x}")).await?;
            let piece = digits(&answer).filter(|piece| piece.len() == count);
            read.extend(piece.with_context(|| format!("{at:#x} cannot be read: {answer}"))?);
        }
        Ok(read)
    }

    /// r0 to r12, the stack pointer, the link register and the program counter.
    pub async fn registers(&mut self) -> Result<[u32; 16]> {
        let answer = self.ask("g").await?;
        let bytes = digits(&answer).filter(|bytes| bytes.len() >= 64);
        let bytes = bytes.with_context(|| format!("no registers: {answer}"))?;
        Ok(std::array::from_fn(|index| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|byte| bytes[4 * index + byte]);
            u32::from_le_bytes([a, b, c, d])
        }))
    }

    /// From now on the processor stops before it executes what is at this address, whatever lies there then.
    pub async fn stop_at(&mut self, at: u32) -> Result<()> {
        match self.ask(&format!("Z1,{at:x},{THUMB_BYTES}")).await?.as_str() {
            "OK" => Ok(()),
            answer => bail!("no place to stop at {at:#x}: {answer}"),
        }
    }

    /// Lets it go on, past the place where it stands.
    pub async fn go(&mut self) -> Result<()> {
        // Where it stands it would stop again.
        self.say("s").await?;
        tokio::time::timeout(ANSWER_MAX, self.stopped()).await.context("QEMU did not step")??;
        self.say("c").await
    }

    /// Waits until it stops at one of the places. When it is not awaited to its end, nothing but dropping the machine is left.
    pub async fn stopped(&mut self) -> Result<()> {
        while !self.answer().await?.starts_with(STOPPED) {}
        Ok(())
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

    async fn say(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0, u8::wrapping_add);
        self.0.get_mut().write_all(format!("${packet}#{sum:02x}").as_bytes()).await.context("QEMU is gone")
    }

    async fn ask(&mut self, question: &str) -> Result<String> {
        let answer = async {
            self.say(question).await?;
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
        // QEMU's end ends the stream, at whatever point.
        let begun = self.0.read_until(b'$', &mut before).await?;
        self.0.read_until(b'#', &mut packet).await?;
        if begun == 0 {
            bail!("QEMU is gone");
        }
        self.0.read_exact(&mut [0; 2]).await.context("QEMU is gone")?;
        self.0.get_mut().write_all(b"+").await?;
        packet.pop();
        Ok(String::from_utf8(packet)?)
    }
}

/// Bytes in hexadecimal; none where there is something else.
fn digits(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
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

    #[tokio::test]
    async fn a_processor_that_stands_at_a_place_is_taken_past_it_and_awaited_at_the_next() -> Result<()> {
        let (ours, mut qemu) = UnixStream::pair()?;
        let mut probe = Probe(BufReader::new(ours));
        qemu.write_all(b"+$OK#9a+$T05thread:01;#07+$T05thread:01;#07").await?;
        probe.stop_at(0x1001_0010).await?;
        probe.go().await?;
        probe.stopped().await?;
        let words: String = (0..17).map(|word| format!("{word:02x}000000")).collect();
        qemu.write_all(format!("+${words}#00").as_bytes()).await?;
        assert_eq!(probe.registers().await?, std::array::from_fn(|index| index as u32));
        let mut asked = [0; 36];
        qemu.read_exact(&mut asked).await?;
        assert_eq!(String::from_utf8_lossy(&asked), "$Z1,10010010,2#98+$s#73+$c#63+$g#67+");
        drop(qemu);
        assert!(probe.stopped().await.is_err());
        Ok(())
    }
}
