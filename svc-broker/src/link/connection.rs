//! One client from CONNECT to its end.
//!
//! Holds: CONNACK is the first packet out; nothing is read or delivered before svc-registry allowed the connection and
//! the one it replaces is gone; reading and writing never wait for each other; the will is published by every end but
//! a clean DISCONNECT, an administrative one and our own shutdown, and before a successor is seated.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kit::{Shutdown, trace};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::Span;
use wire::Topic;
use wire::rule::{Action, Identity, Verdict, verdict};
use wire::topic::TopicId;

use super::hub::{Hub, Outcome};
use super::input::{self, Connect, Input, Publish, Version, Violation, Will};
use super::mailbox::{Batch, Mailbox, Message};
use super::metrics::{Loss, Metrics};
use super::output::{self, Welcome, ack, reason};
use super::reader::{ReadError, Reader};
use super::writer;
use crate::app::{Connections, Guest, Why};
use crate::grpc::Authority;
use crate::model::connect::{self, Ask, Grant, Refusal, WillAsk, silence_max};
use crate::model::filter::Filter;
use crate::model::limits::{Bounds, CLOSE_TIMEOUT, Limits};
use crate::model::pace::Pace;
use crate::model::peer::{Listener, Peer};
use crate::model::share;

/// A CONNECT is read with a small buffer: who sends it is not yet anybody.
const CONNECT_READ_BYTES: usize = 1024;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) connections: Arc<Connections>,
    /// As many CONNECTs as svc-registry is asked about at once.
    pub(crate) deciding: Semaphore,
    pub(crate) hub: Hub,
    pub(crate) authority: Authority,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

/// How a live connection ended.
#[derive(Debug)]
enum End {
    /// DISCONNECT by the client.
    Clean {
        with_will: bool,
    },
    Read(ReadError),
    Violation(Violation),
    /// Not a packet for this long.
    Silent,
    /// Too many refused publishes and subscriptions; for MQTT 3.1.1 one publish is.
    Denied,
    /// It takes nothing any more.
    Write,
    Asked(Why),
}

impl End {
    const fn name(&self) -> &'static str {
        match self {
            End::Clean { .. } => "disconnect",
            End::Read(ReadError::Violation(violation)) | End::Violation(violation) => violation.name(),
            End::Read(_) => "lost",
            End::Silent => "keepalive",
            End::Denied => "denied",
            End::Write => "write",
            End::Asked(Why::TakenOver) => "taken_over",
            End::Asked(Why::Disconnected) => "administrative",
            End::Asked(Why::Shutdown) => "shutdown",
        }
    }

    /// What the client is told, if it can still be told.
    const fn code(&self) -> Option<u8> {
        match self {
            End::Clean { .. } | End::Write => None,
            End::Read(ReadError::Violation(violation)) | End::Violation(violation) => Some(violation.code()),
            End::Read(_) => None,
            End::Silent => Some(reason::KEEP_ALIVE),
            End::Denied => Some(reason::NOT_AUTHORIZED),
            End::Asked(Why::TakenOver) => Some(reason::TAKEN_OVER),
            End::Asked(Why::Disconnected) => Some(reason::ADMINISTRATIVE),
            End::Asked(Why::Shutdown) => Some(reason::SHUTTING_DOWN),
        }
    }

    const fn wants_will(&self) -> bool {
        match self {
            End::Clean { with_will } => *with_will,
            End::Asked(why) => matches!(why, Why::TakenOver),
            _ => true,
        }
    }
}

/// Serves a client whose certificate was verified.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, peer: Peer, front: Arc<Front>) {
    // On the heap while it lasts: the question to svc-registry takes more than a connection, which lasts.
    let Some(mut arrived) = Box::pin(arrive(stream, peer, &front)).await else { return };
    let (reader, to) = (&mut arrived.reader, &mut arrived.to);
    arrived.session.run(reader, to, &mut arrived.guest).await;
    let Arrived { reader, to, guest, .. } = arrived;
    // The socket is gone before the guest leaves its seat to a successor.
    drop(reader.into_inner().unsplit(to));
    drop(guest);
}

/// A client that was let in, with its socket and seat.
struct Arrived<'a, S> {
    session: Session<'a>,
    reader: Reader<ReadHalf<S>>,
    to: WriteHalf<S>,
    guest: Guest,
}

/// From CONNECT to the decision; `None`: it was refused, or never asked.
async fn arrive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    front: &Front,
) -> Option<Arrived<'_, S>> {
    let listener = peer.listener;
    let (from, mut to) = tokio::io::split(stream);
    let mut reader = Reader::new(from, CONNECT_READ_BYTES, front.bounds.connect_bytes_max);
    let patience = Duration::from_millis(front.bounds.connect_ms_max as u64);
    let connect = match front.shutdown.or(timeout(patience, first(&mut reader))).await {
        Some(Ok(Ok(connect))) => connect,
        Some(Ok(Err(error))) => {
            not_connected(&mut to, front, listener, &error).await;
            return None;
        }
        Some(Err(_)) => {
            front.metrics.connect(listener, "connect_timeout");
            return None;
        }
        None => {
            front.metrics.connect(listener, "shutdown");
            return None;
        }
    };
    let version = connect.version;
    let heard = Instant::now();
    // In the table before anybody is asked: a revocation that comes meanwhile ends this connection too.
    let mut span = trace::Span::server("connect", None);
    span.set("common_name", peer.common_name.clone());
    let admitted = match front.connections.enter(&peer) {
        Ok(guest) => span.scope(admit(guest, &peer, &connect, front)).await,
        Err(refusal) => Err(refusal),
    };
    let (guest, grant) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            span.failed(refusal.name().to_owned());
            refuse(&mut to, front, &peer, version, refusal).await;
            return None;
        }
    };
    front.metrics.connect(listener, "ok");
    front.metrics.decided(heard.elapsed());
    let limits = listener.limits(&front.bounds);
    reader.grant(limits.read_bytes, limits.packet_bytes_max);
    let session = Session::new(front, &peer, connect, grant, limits);
    Some(Arrived { session, reader, to, guest })
}

async fn first<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> Result<Connect, ReadError> {
    Ok(input::connect(reader.frame().await?)?)
}

/// Decides, asks svc-registry, and takes the client id; ends early when told to.
async fn admit(
    mut guest: Guest,
    peer: &Peer,
    connect: &Connect,
    front: &Front,
) -> Result<(Guest, Grant), Refusal> {
    let will =
        connect.will.as_ref().map(|will| WillAsk { topic: &will.topic, qos: will.qos, retain: will.retain });
    let ask = Ask {
        client_id: &connect.client_id,
        keep_alive_s: connect.keep_alive_s,
        will,
        authentication: connect.authentication,
    };
    let grant = connect::decide(peer, &ask, &front.bounds)?;
    // After a restart everyone asks at once: svc-registry hears as many as it can answer, the rest come again.
    let deciding = front.deciding.try_acquire().map_err(|_| Refusal::Busy)?;
    let patience = Duration::from_millis(front.bounds.authorize_ms_max as u64);
    let answer = tokio::select! {
        answer = timeout(patience, front.authority.authorize(peer)) => answer,
        _ = guest.asked() => return Err(Refusal::Stopped),
    };
    match answer {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => return Err(refusal),
        Err(_) => return Err(Refusal::Unavailable),
    }
    drop(deciding);
    guest.take(&peer.client_key(&connect.client_id)).await?;
    Ok((guest, grant))
}

async fn refuse<W: AsyncWrite + Unpin>(
    to: &mut W,
    front: &Front,
    peer: &Peer,
    version: Version,
    refusal: Refusal,
) {
    front.metrics.connect(peer.listener, refusal.name());
    tracing::info!(common_name = peer.common_name, reason = refusal.name(), "connection refused");
    let mut out = BytesMut::new();
    output::refusal(&mut out, version, refusal.codes());
    last_words(to, &out).await;
}

async fn not_connected<W: AsyncWrite + Unpin>(
    to: &mut W,
    front: &Front,
    listener: Listener,
    error: &ReadError,
) {
    let ReadError::Violation(violation) = error else { return front.metrics.connect(listener, "closed") };
    front.metrics.connect(listener, violation.name());
    if *violation == Violation::Version {
        // MQTT 3.1.1 §3.1.2.2: the one answer every version reads.
        let mut out = BytesMut::new();
        output::refusal(&mut out, Version::V4, Refusal::Version.codes());
        last_words(to, &out).await;
    }
}

/// A packet and the end of the stream, for as long as that is worth.
async fn last_words<W: AsyncWrite + Unpin>(to: &mut W, packet: &[u8]) {
    let _ = timeout(CLOSE_TIMEOUT, async {
        to.write_all(packet).await?;
        to.shutdown().await
    })
    .await;
}

/// A client that was let in.
struct Session<'a> {
    front: &'a Front,
    version: Version,
    identity: Identity,
    seed: u64,
    mailbox: Arc<Mailbox>,
    welcome: Welcome,
    silence_max: Duration,
    will: Option<Will>,
    /// Subscribed in the hub: services.
    filters: Vec<Filter>,
    listener: Listener,
    limits: Limits,
    messages: Pace,
    bytes: Pace,
    denials: usize,
    span: Span,
}

impl<'a> Session<'a> {
    fn new(front: &'a Front, peer: &Peer, connect: Connect, grant: Grant, limits: Limits) -> Self {
        let mailbox =
            Mailbox::new(connect.version, limits, connect.receive_maximum, connect.packet_bytes_max);
        let span =
            tracing::info_span!("client", common_name = peer.common_name, client_id = connect.client_id);
        Self {
            front,
            version: connect.version,
            identity: grant.identity,
            seed: share::seed(peer.client_key(&connect.client_id).as_bytes()),
            mailbox: Arc::new(mailbox),
            welcome: Welcome {
                keep_alive_s: grant.keep_alive_s,
                packet_bytes_max: limits.packet_bytes_max,
                shared: peer.listener == Listener::Service,
            },
            silence_max: silence_max(grant.keep_alive_s),
            will: connect.will,
            filters: Vec::new(),
            listener: peer.listener,
            limits,
            messages: Pace::new(limits.publishes_per_s),
            bytes: Pace::new(limits.publish_bytes_per_s),
            denials: 0,
            span,
        }
    }

    /// Until it ends, with all that is to be said.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        reader: &mut Reader<ReadHalf<S>>,
        to: &mut WriteHalf<S>,
        guest: &mut Guest,
    ) {
        let mailbox = self.mailbox.clone();
        self.front.metrics.connected(self.listener);
        mailbox.reply(|out| output::welcome(out, self.version, self.welcome)).await;
        if let Some(id) = own_topics(self.identity) {
            self.front.hub.attach(id, &mailbox);
        }
        let front = self.front;
        let patience = Duration::from_millis(front.bounds.write_ms_max as u64);
        let end = tokio::select! {
            end = self.read(reader) => end,
            error = writer::write_all(to, &mailbox, patience, &front.metrics) => {
                tracing::debug!(%error, "cannot write");
                End::Write
            }
            why = guest.asked() => End::Asked(why),
        };
        self.leave(&end);
        Box::pin(close(to, &mailbox, self.version, end.code())).await;
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, reader: &mut Reader<R>) -> End {
        let silence = tokio::time::sleep(self.silence_max);
        tokio::pin!(silence);
        loop {
            let frame = tokio::select! {
                biased;
                frame = reader.frame() => frame,
                () = &mut silence => return End::Silent,
            };
            // MQTT 5 §3.1.2.10 counts packets, not bytes: a byte now and then keeps nobody alive.
            silence.as_mut().reset(Instant::now() + self.silence_max);
            let mut frame = match frame {
                Ok(frame) => Some(frame),
                Err(error) => return End::Read(error),
            };
            while let Some(bytes) = frame.take() {
                match input::packet(self.version, bytes) {
                    Ok(packet) => {
                        if let Some(end) = self.packet(packet).await {
                            return end;
                        }
                    }
                    Err(violation) => return End::Violation(violation),
                }
                frame = match reader.buffered() {
                    Ok(frame) => frame,
                    Err(violation) => return End::Violation(violation),
                };
            }
        }
    }

    async fn packet(&mut self, packet: Input) -> Option<End> {
        let version = self.version;
        match packet {
            Input::Publish(publish) => return self.publish(publish).await,
            Input::PubAck(id) => self.mailbox.acknowledge(id),
            Input::Ping => self.mailbox.reply(output::pong).await,
            Input::Subscribe { id, filters } => {
                let codes: Vec<u8> =
                    filters.iter().map(|(filter, qos)| self.subscribe(filter, *qos)).collect();
                self.mailbox.reply(|out| output::suback(out, version, id, &codes)).await;
            }
            Input::Unsubscribe { id, filters } => {
                let codes: Vec<u8> = filters.iter().map(|filter| self.unsubscribe(filter)).collect();
                self.mailbox.reply(|out| output::unsuback(out, version, id, &codes)).await;
            }
            Input::Disconnect { with_will } => return Some(End::Clean { with_will }),
        }
        self.is_denied_enough().then_some(End::Denied)
    }

    fn is_denied_enough(&self) -> bool {
        self.denials >= self.front.bounds.denials_max
    }

    async fn publish(&mut self, publish: Publish) -> Option<End> {
        self.pace(publish.topic.len() + publish.payload.len() + publish.properties.len()).await;
        let id = publish.id;
        let code = match self.allowed(Action::Publish, &publish.topic) {
            Some(name) => {
                let message = Message {
                    name,
                    topic: publish.topic,
                    payload: publish.payload,
                    properties: publish.properties,
                    qos: u8::from(id.is_some()),
                };
                let outcome = self.front.hub.route(&message);
                // A device's word on whose trace it belongs to is worth nothing.
                if let Some(trace) = publish.trace.filter(|_| self.listener == Listener::Service) {
                    let topic = String::from_utf8_lossy(&message.topic).into_owned();
                    trace::mark(trace, "route", &[("topic", topic), ("outcome", format!("{outcome:?}"))]);
                }
                match outcome {
                    Outcome::Delivered => ack::SUCCESS,
                    Outcome::Nobody => ack::NO_SUBSCRIBER,
                    Outcome::Dropped => ack::QUOTA,
                }
            }
            // MQTT 3.1.1 §3.3.5: it cannot be told, so it is closed.
            None if self.version == Version::V4 => return Some(End::Denied),
            None => ack::NOT_AUTHORIZED,
        };
        if let Some(id) = id {
            let version = self.version;
            self.mailbox.reply(|out| output::puback(out, version, id, code)).await;
        }
        self.is_denied_enough().then_some(End::Denied)
    }

    /// Reads on only when this client's rate allows: who sends faster is slowed down by its own socket.
    async fn pace(&mut self, bytes: usize) {
        let now = std::time::Instant::now();
        let mut longest = Duration::ZERO;
        for (pace, units, bound) in
            [(&mut self.messages, 1, "publishes_per_s"), (&mut self.bytes, bytes, "publish_bytes_per_s")]
        {
            let wait = pace.take(units, now);
            if !wait.is_zero() {
                self.front.metrics.paced(bound);
            }
            longest = longest.max(wait);
        }
        if !longest.is_zero() {
            tokio::time::sleep(longest).await;
        }
    }

    /// The topic, if this client may do that with it; a no is counted and logged.
    fn allowed(&mut self, action: Action, topic: &[u8]) -> Option<Topic> {
        let text = std::str::from_utf8(topic).ok();
        match text
            .map_or(Verdict::Deny(wire::rule::Reason::Malformed), |text| verdict(self.identity, action, text))
        {
            Verdict::Allow => text.and_then(|text| Topic::parse(text).ok()),
            Verdict::Deny(reason) => {
                self.denied(action, &String::from_utf8_lossy(topic), reason);
                None
            }
        }
    }

    fn denied(&mut self, action: Action, topic: &str, reason: wire::rule::Reason) {
        self.denials += 1;
        self.front.metrics.dropped(Loss::Denied);
        let topic: String = topic.chars().take(wire::limits::FILTER_BYTES_MAX).collect();
        tracing::warn!(parent: &self.span, ?action, topic, %reason, "denied");
    }

    /// SUBACK code.
    fn subscribe(&mut self, text: &str, qos: u8) -> u8 {
        let no = |code| if self.version == Version::V4 { ack::FAILURE } else { code };
        let (denied, quota) = (no(ack::NOT_AUTHORIZED), no(ack::QUOTA));
        if let Verdict::Deny(reason) = verdict(self.identity, Action::Subscribe, text) {
            self.denied(Action::Subscribe, text, reason);
            return denied;
        }
        let Some(filter) = Filter::parse(text) else { return denied };
        let qos = qos.min(1);
        let held = match self.identity {
            Identity::Service(_) => self.subscribe_service(filter, qos),
            Identity::Device(_) | Identity::Claimant(_) => self.mailbox.subscribe(&filter, qos),
        };
        if held { qos } else { quota }
    }

    fn subscribe_service(&mut self, filter: Filter, qos: u8) -> bool {
        if !self.filters.contains(&filter) {
            if self.filters.len() >= self.limits.subscriptions_max {
                return false;
            }
            self.filters.push(filter.clone());
        }
        self.front.hub.subscribe(&filter, self.seed, &self.mailbox, qos);
        true
    }

    /// UNSUBACK code.
    fn unsubscribe(&mut self, text: &str) -> u8 {
        let Some(filter) = Filter::parse(text) else { return ack::NO_SUBSCRIPTION };
        let held = match self.identity {
            Identity::Service(_) => {
                let before = self.filters.len();
                self.filters.retain(|held| *held != filter);
                self.front.hub.unsubscribe(&filter, &self.mailbox);
                self.filters.len() < before
            }
            Identity::Device(_) | Identity::Claimant(_) => self.mailbox.unsubscribe(&filter),
        };
        if held { ack::SUCCESS } else { ack::NO_SUBSCRIPTION }
    }

    /// Out of the hub, will published: nothing of this session is left but its socket.
    fn leave(&mut self, end: &End) {
        match own_topics(self.identity) {
            Some(id) => self.front.hub.detach(id, &self.mailbox),
            None => self.front.hub.forget(&self.mailbox),
        }
        if let Some(will) = self.will.take().filter(|_| end.wants_will()) {
            self.publish_will(will);
        }
        self.front.metrics.disconnected(self.listener);
        self.front.metrics.closed(self.listener, end.name());
        tracing::debug!(parent: &self.span, reason = end.name(), ?end, "connection ended");
    }

    /// Asked again when it is due: what was allowed at CONNECT must still be.
    fn publish_will(&mut self, will: Will) {
        if let Some(name) = self.allowed(Action::Will, &will.topic) {
            let (topic, payload, qos) = (will.topic, will.payload, will.qos);
            self.front.hub.route(&Message { name, topic, payload, properties: Bytes::new(), qos });
        }
    }
}

/// What is still in the mailbox, a word why (MQTT 5), and the end of the stream; briefly.
async fn close<W: AsyncWrite + Unpin>(to: &mut W, mailbox: &Mailbox, version: Version, code: Option<u8>) {
    let Some(code) = code else { return drop(timeout(CLOSE_TIMEOUT, to.shutdown()).await) };
    let _ = timeout(CLOSE_TIMEOUT, async {
        let mut batch = Batch::default();
        mailbox.take(&mut batch);
        writer::write(to, &mut batch.pieces, CLOSE_TIMEOUT).await?;
        let mut out = BytesMut::new();
        output::disconnect(&mut out, version, code);
        to.write_all(&out).await?;
        to.shutdown().await
    })
    .await;
}

/// Whose `dn` topics this client hears.
fn own_topics(identity: Identity) -> Option<TopicId> {
    match identity {
        Identity::Device(id) => Some(TopicId::Device(id)),
        Identity::Claimant(id) => Some(TopicId::Enroll(id)),
        Identity::Service(_) => None,
    }
}
