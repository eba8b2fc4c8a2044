//! Those in order, among all that noise: they go on talking, and judge all they hear.
//!
//! A device and svc-ota exchange messages that carry a secret; a second device and the other services only
//! listen. Whoever hears a message checks that its topic is theirs, and that its author is who the topic says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;

use super::super::client::{Client, Packet, Stream, frame, publish, read_packet};
use super::super::rig::SOON;

/// Bytes that begin every payload of the cast.
pub(super) const MARK_BYTES: usize = 16;
/// What an ear holds until the canary takes it.
const HEARD_MAX: usize = 64;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PINGRESP: u8 = 13;

/// Whose ear it is.
#[derive(Debug, Clone)]
pub(super) enum Ear {
    Device(String),
    /// The channels a service is subscribed to.
    Service(&'static [&'static str]),
}

/// What may be heard.
#[derive(Debug)]
pub(super) struct Judge {
    /// In every payload of those in order, and in no other.
    pub(super) secret: String,
    /// The ids of those in order.
    pub(super) in_order: Vec<String>,
    /// Whose a mark is: an id in topics, or a service's name.
    pub(super) authors: HashMap<String, String>,
    /// The hostile service, and where it may speak to every device.
    pub(super) hostile_service: &'static str,
    pub(super) hostile_channels: &'static [&'static str],
    pub(super) heard: AtomicU64,
    /// Connections may end now.
    pub(super) is_over: AtomicBool,
}

/// Of those in order, what the canary waits for.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message(Vec<u8>),
    Acknowledged(u8),
}

/// A client in order.
#[derive(Debug)]
pub(super) struct Sentinel {
    to: Arc<Mutex<WriteHalf<Stream>>>,
    heard: mpsc::Receiver<Heard>,
}

/// The half that listens; a task of its own.
#[derive(Debug)]
pub(super) struct Listener {
    ear: Ear,
    level: u8,
    from: ReadHalf<Stream>,
    to: Arc<Mutex<WriteHalf<Stream>>>,
    heard: mpsc::Sender<Heard>,
    judge: Arc<Judge>,
}

impl Sentinel {
    /// Splits a connected client.
    pub(super) fn new(client: Client, ear: Ear, judge: &Arc<Judge>) -> (Sentinel, Listener) {
        let (from, to) = tokio::io::split(client.stream);
        let (to, (sender, heard)) = (Arc::new(Mutex::new(to)), mpsc::channel(HEARD_MAX));
        let listener =
            Listener { ear, level: client.level, from, to: to.clone(), heard: sender, judge: judge.clone() };
        (Sentinel { to, heard }, listener)
    }

    /// Publishes to another with QoS 1, and waits until both know.
    async fn tell(&mut self, other: &mut Sentinel, topic: &str, id: u16, payload: &[u8]) -> Result<()> {
        let packet = publish(5, 0x32, topic.as_bytes(), Some(id), payload);
        self.to.lock().await.write_all(&packet).await.context("a client in order cannot write")?;
        let acknowledged = self.next().await?;
        ensure!(acknowledged == Heard::Acknowledged(0), "a message in order is answered {acknowledged:?}");
        let message = other.next().await?;
        ensure!(message == Heard::Message(payload.to_vec()), "not the message that was sent: {message:?}");
        Ok(())
    }

    async fn next(&mut self) -> Result<Heard> {
        let heard = timeout(SOON, self.heard.recv()).await.context("a client in order waits for too long")?;
        heard.context("a client in order is closed")
    }

    /// A sign of life, from those who only listen.
    async fn ping(&self) -> Result<()> {
        self.to.lock().await.write_all(&[0xc0, 0]).await.context("a client in order cannot write")
    }

    /// Closes the connection; its listener ends.
    pub(super) async fn close(self) -> Result<()> {
        self.to.lock().await.shutdown().await.context("a client in order cannot close")
    }
}

/// Messages both ways between a device and a service, the first two, each time `ended` has changed, until nobody changes
/// it any more; how many pairs.
pub(super) async fn canary(
    sentinels: &mut [Sentinel],
    id: &str,
    secret: &str,
    mut ended: watch::Receiver<u64>,
) -> Result<u64> {
    let [device, service, quiet @ ..] = sentinels else { bail!("nobody is in order") };
    let (up, down) = (format!("hf/1/{id}/up/hello"), format!("hf/1/{id}/dn/hello"));
    let mut turns = 0u64;
    loop {
        turns += 1;
        let packet_id = (turns % 0xffff) as u16 + 1;
        let payload = format!("{secret}{turns}").into_bytes();
        device.tell(service, &up, packet_id, &payload).await.context("from device to service")?;
        service.tell(device, &down, packet_id, &payload).await.context("from service to device")?;
        for sentinel in &*quiet {
            sentinel.ping().await?;
        }
        if ended.changed().await.is_err() {
            return Ok(turns);
        }
    }
}

impl Listener {
    /// To the end of the connection, which must not come before all is over.
    pub(super) async fn listen(mut self) -> Result<()> {
        while let Some(packet) = read_packet(&mut self.from).await {
            match packet.first >> 4 {
                PUBLISH => self.message(&packet).await?,
                PUBACK => {
                    let code = packet.body.get(2).copied().unwrap_or(0);
                    self.tell(Heard::Acknowledged(code));
                }
                PINGRESP => {}
                _ => bail!("{:?} hears {packet:?}", self.ear),
            }
        }
        ensure!(self.is_over(), "{:?}, in order, is closed", self.ear);
        Ok(())
    }

    async fn message(&self, packet: &Packet) -> Result<()> {
        let Message { topic, id, payload } =
            taken_apart(packet, self.level).context("a PUBLISH that is none")?;
        self.judge
            .judge(&self.ear, &topic, payload)
            .with_context(|| format!("{:?} hears {topic}", self.ear))?;
        if let Some(id) = id {
            let acknowledged = self.to.lock().await.write_all(&frame(0x40, &id)).await;
            // At the end, what still comes finds our side closed.
            ensure!(acknowledged.is_ok() || self.is_over(), "a client in order cannot write");
        }
        if payload.starts_with(self.judge.secret.as_bytes()) {
            self.tell(Heard::Message(payload.to_vec()));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.judge.is_over.load(Ordering::SeqCst)
    }

    /// Those who only listen have nobody who takes it: theirs is full at some time.
    fn tell(&self, heard: Heard) {
        let _ = self.heard.try_send(heard);
    }
}

impl Judge {
    fn judge(&self, ear: &Ear, topic: &str, payload: &[u8]) -> Result<()> {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let (id, says, channel) = parts(topic).context("it is no topic of ours")?;
        let in_order = payload.starts_with(self.secret.as_bytes());
        let author = payload.get(..MARK_BYTES).and_then(|mark| std::str::from_utf8(mark).ok());
        let author = author.and_then(|mark| self.authors.get(mark));
        match ear {
            Ear::Device(own) => {
                ensure!(id == own && says == "dn", "it is another's");
                let is_hostile_services = self.hostile_channels.contains(&channel)
                    && author.is_none_or(|author| author == self.hostile_service);
                ensure!(in_order || is_hostile_services, "no service that may has sent it");
            }
            Ear::Service(channels) => {
                ensure!(says == "up" && channels.contains(&channel), "it is no channel of this service");
                if self.in_order.iter().any(|one| one == id) {
                    ensure!(in_order, "a device in order has not sent it");
                } else {
                    ensure!(self.authors.values().any(|author| author == id), "it is nobody's");
                    ensure!(author.is_none_or(|author| author == id), "{author:?} has sent it");
                }
            }
        }
        Ok(())
    }
}

/// Id, direction, channel.
fn parts(topic: &str) -> Option<(&str, &str, &str)> {
    let mut levels = topic.strip_prefix("hf/1/")?.splitn(3, '/');
    Some((levels.next()?, levels.next()?, levels.next()?))
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    topic: String,
    /// Packet id, with QoS 1 only.
    id: Option<[u8; 2]>,
    payload: &'a [u8],
}

/// `None` as well when it is retained or QoS 2.
fn taken_apart(packet: &Packet, level: u8) -> Option<Message<'_>> {
    let (length, rest) = packet.body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let topic = String::from_utf8(topic.to_vec()).ok()?;
    let (id, rest) = match packet.first & 0x07 {
        0 => (None, rest),
        2 => rest.split_first_chunk::<2>().map(|(id, rest)| (Some(*id), rest))?,
        _ => return None,
    };
    let payload = if level == 5 { behind_properties(rest)? } else { rest };
    Some(Message { topic, id, payload })
}

fn behind_properties(bytes: &[u8]) -> Option<&[u8]> {
    let (mut length, mut at) = (0, 0);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte & 0x80 == 0 {
            return bytes.get(at + length..);
        }
        if at == 4 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTA: Ear = Ear::Service(&["hello", "update"]);

    fn judge() -> Judge {
        let authors = [("marks-of-evil-01", "dvevil"), ("marks-of-logs-01", "svc-logs")];
        Judge {
            secret: "secret".into(),
            in_order: vec!["dvgood".into()],
            authors: authors.map(|(mark, id)| (mark.to_owned(), id.to_owned())).into(),
            hostile_service: "svc-logs",
            hostile_channels: &["log"],
            heard: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_message_is_judged_by_its_topic_and_its_author() {
        let device = Ear::Device("dvgood".into());
        for (ear, topic, payload, is_good) in [
            (&device, "hf/1/dvgood/dn/hello", "secret1", true),
            (&device, "hf/1/dvgood/dn/log", "marks-of-logs-01", true),
            (&device, "hf/1/dvgood/dn/log", "marks-of-evil-01", false),
            (&device, "hf/1/dvgood/dn/update", "marks-of-logs-01", false),
            (&device, "hf/1/dvgood/dn/hello", "?", false),
            (&device, "hf/1/dvgood/up/hello", "secret1", false),
            (&device, "hf/1/dvevil/dn/hello", "secret1", false),
            (&OTA, "hf/1/dvgood/up/hello", "secret1", true),
            (&OTA, "hf/1/dvevil/up/update", "marks-of-evil-01", true),
            (&OTA, "hf/1/dvevil/up/update", "damaged", true),
            (&OTA, "hf/1/dvgood/up/hello", "marks-of-evil-01", false),
            (&OTA, "hf/1/dvevil/up/hello", "marks-of-logs-01", false),
            (&OTA, "hf/1/dvevil/up/log", "marks-of-evil-01", false),
            (&OTA, "hf/1/dvevil/dn/hello", "marks-of-evil-01", false),
            (&OTA, "hf/1/dvother/up/hello", "damaged", false),
            (&OTA, "$SYS/x", "secret1", false),
        ] {
            assert_eq!(
                judge().judge(ear, topic, payload.as_bytes()).is_ok(),
                is_good,
                "{ear:?} {topic} {payload}"
            );
        }
    }

    #[test]
    fn a_retained_or_qos_2_message_is_no_message() {
        let packet = |first| Packet { first, body: b"\0\x01t\0\x07\0x".to_vec() };
        let (retained, qos_2) = (packet(0x33), packet(0x34));
        let expected = Message { topic: "t".into(), id: Some([0, 7]), payload: b"x" };
        assert_eq!(taken_apart(&packet(0x32), 5), Some(expected));
        assert_eq!((taken_apart(&retained, 5), taken_apart(&qos_2, 5)), (None, None));
    }
}
