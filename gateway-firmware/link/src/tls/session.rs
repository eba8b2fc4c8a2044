//! One TLS session over lent bytes: records in, records out.
//!
//! Memory follows what the server sends and ends where it must: until the server is known to be ours, a record or handshake
//! message of more than [`HANDSHAKE_BYTES_MAX`] ends the session; later one record is held, as it came or decrypted, and
//! nothing more is taken before that is read. No call works on more than what is held.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use gateway_core::net::link::End;
use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

use super::end_of;

/// A whole protected record (RFC 8446 §5.2).
pub const RECORD_BYTES_MAX: usize = 5 + (1 << 14) + 256;
/// A record, or the parts of one handshake message, before the handshake is complete. A server's chain of four is half of it.
pub const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;
/// Records of ours, header included and protection not.
pub const SEND_RECORD_BYTES_MAX: usize = 2 * 1024;
/// Room for a record that waits: what is smaller is taken in lumps of this size.
const LUMP_BYTES: usize = 2 * 1024;
/// Header, inner type and tag of a record.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;
/// What rustls may put before application data: an answer to a request for new keys.
const KEY_UPDATE_BYTES: usize = 64;
/// Steps of the machine in one call; each step that counts has taken or given bytes.
const STEPS_MAX: usize = 64;
const HEADER_BYTES: usize = 5;

type Client = rustls::client::ClientConnectionData;

/// A session under way.
pub struct Session {
    tls: UnbufferedClientConnection,
    inbound: Vec<u8>,
    filled: usize,
    outbound: Vec<u8>,
    /// Decrypted bytes that nobody has read, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    /// rustls holds a decrypted record.
    readable: bool,
    open: bool,
    end: Option<End>,
}

impl Session {
    pub fn start(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, End> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(|error| end_of(&error, true))?;
        Ok(Self {
            tls,
            inbound: Vec::new(),
            filled: 0,
            outbound: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            readable: false,
            open: false,
            end: None,
        })
    }

    /// The handshake is done on our side; the server may still refuse us.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// There is something to read.
    pub fn is_readable(&self) -> bool {
        self.readable || self.taken < self.plain.len()
    }

    /// Where received bytes go; then `received`. Empty while there is something to read.
    pub fn room(&mut self) -> &mut [u8] {
        if self.is_readable() || self.end.is_some() {
            return &mut [];
        }
        let wanted = self.wanted().min(self.bytes_max());
        if self.inbound.len() < wanted {
            self.inbound.reserve_exact(wanted - self.inbound.len());
            self.inbound.resize(wanted, 0);
        }
        self.inbound.get_mut(self.filled..).unwrap_or_default()
    }

    /// The first `count` bytes of `room` were received; then `turn`.
    pub fn received(&mut self, count: usize) {
        self.filled = self.inbound.len().min(self.filled + count);
    }

    /// Bytes to send; then `sent`. There may be some after the session has ended: why.
    pub fn pending(&self) -> &[u8] {
        &self.outbound
    }

    pub fn sent(&mut self, count: usize) {
        self.outbound.drain(..count.min(self.outbound.len()));
    }

    /// Understands what was received, up to the next bytes to read.
    pub fn turn(&mut self) -> Result<(), End> {
        for _ in 0..STEPS_MAX {
            if self.is_readable() || !self.step()? {
                break;
            }
        }
        if !self.is_readable() && self.filled >= self.bytes_max() {
            return Err(self.fail(if self.open { End::Lost } else { End::Unreachable }));
        }
        Ok(())
    }

    /// Takes decrypted bytes; none are left when it returns 0.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        if self.taken == self.plain.len() && self.readable && !into.is_empty() {
            return self.take_record(into);
        }
        let count = into.len().min(self.plain.len() - self.taken);
        into[..count].copy_from_slice(&self.plain[self.taken..self.taken + count]);
        self.taken += count;
        self.tidy();
        count
    }

    /// Protects as much as one record takes. 0 until the session is open, and while there are bytes to send.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, End> {
        if let Some(end) = self.end {
            return Err(end);
        }
        if !self.open || bytes.is_empty() {
            return Ok(0);
        }
        let bytes = &bytes[..bytes.len().min(SEND_RECORD_BYTES_MAX - HEADER_BYTES)];
        for _ in 0..STEPS_MAX {
            if !self.outbound.is_empty() {
                return Ok(0);
            }
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.inbound[..self.filled]);
            let written = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    self.outbound.resize(bytes.len() + RECORD_OVERHEAD_BYTES + KEY_UPDATE_BYTES, 0);
                    let written = traffic.encrypt(bytes, &mut self.outbound);
                    self.outbound.truncate(*written.as_ref().unwrap_or(&0));
                    Some(written.map(|_| bytes.len()).map_err(|_| End::Lost))
                }
                // Somebody may be unable to read before this is written.
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        self.plain.extend_from_slice(record.map_err(|_| End::Lost)?.payload);
                    }
                    self.readable = false;
                    None
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outbound)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(_) => Some(Ok(0)),
                Err(error) => Some(Err(end_of(&error, false))),
            };
            self.discard(discard);
            match written {
                Some(Ok(count)) => return Ok(count),
                Some(Err(end)) => return Err(self.fail(end)),
                None => {}
            }
        }
        Ok(0)
    }

    /// Says goodbye, where that is still possible.
    pub fn close(&mut self) {
        if !self.open || self.end.is_some() {
            return;
        }
        self.end = Some(End::Done);
        let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut self.inbound[..self.filled]);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let mut goodbye = [0; KEY_UPDATE_BYTES];
            if let Ok(count) = traffic.queue_close_notify(&mut goodbye) {
                self.outbound.extend_from_slice(&goodbye[..count]);
            }
        }
    }

    /// One state of rustls; whether there may be another at once.
    fn step(&mut self) -> Result<bool, End> {
        if let Some(end) = self.end {
            return Err(end);
        }
        let UnbufferedStatus { discard, state } =
            self.tls.process_tls_records(&mut self.inbound[..self.filled]);
        let more = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outbound).map(|()| true),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(true)
            }
            Ok(ConnectionState::ReadTraffic(_)) => {
                self.readable = true;
                Ok(false)
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                self.open = true;
                Ok(false)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(false),
            // The other side has closed, in the middle of a handshake or after it.
            Ok(_) => Err(if self.open { End::Lost } else { End::Unreachable }),
            Err(error) => Err(end_of(&error, !self.open)),
        };
        self.discard(discard);
        more.map_err(|end| self.fail(end))
    }

    /// Ends the session, with the alert that rustls has for the other side.
    fn fail(&mut self, end: End) -> End {
        self.end = Some(end);
        // Never without something to send: the records that failed would be understood once more.
        for _ in 0..STEPS_MAX {
            if !self.tls.wants_write() {
                break;
            }
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.inbound[..self.filled]);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { break };
            if encode(data, &mut self.outbound).is_err() {
                break;
            }
            self.discard(discard);
        }
        end
    }

    fn take_record(&mut self, into: &mut [u8]) -> usize {
        let mut count = 0;
        let UnbufferedStatus { discard, state } =
            self.tls.process_tls_records(&mut self.inbound[..self.filled]);
        if let Ok(ConnectionState::ReadTraffic(mut traffic)) = state
            && let Some(Ok(record)) = traffic.next_record()
        {
            count = into.len().min(record.payload.len());
            let (now, later) = record.payload.split_at(count);
            into[..count].copy_from_slice(now);
            self.plain.extend_from_slice(later);
        }
        self.readable = false;
        self.discard(discard);
        count
    }

    /// How many bytes `inbound` should hold: the record that has begun, or the next lump.
    fn wanted(&self) -> usize {
        let length = self.inbound[..self.filled]
            .get(3..HEADER_BYTES)
            .map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let record = HEADER_BYTES + length;
        if record > self.filled { record.max(LUMP_BYTES) } else { self.filled + LUMP_BYTES }
    }

    fn bytes_max(&self) -> usize {
        if self.open { RECORD_BYTES_MAX } else { HANDSHAKE_BYTES_MAX }
    }

    fn discard(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.inbound.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.tidy();
    }

    /// Gives back what a large record took.
    fn tidy(&mut self) {
        if self.inbound.len() > LUMP_BYTES && self.filled <= LUMP_BYTES {
            self.inbound.truncate(self.filled);
            self.inbound.shrink_to_fit();
        }
        if self.taken > 0 && self.taken == self.plain.len() {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
    }
}

fn encode(mut data: EncodeTlsData<'_, Client>, outbound: &mut Vec<u8>) -> Result<(), End> {
    let at = outbound.len();
    let mut bytes = SEND_RECORD_BYTES_MAX;
    // Once, or once more with what it said that it takes.
    for _ in 0..2 {
        outbound.resize(at + bytes, 0);
        match data.encode(&mut outbound[at..]) {
            Ok(count) => {
                outbound.truncate(at + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => bytes = size.required_size,
            Err(EncodeError::AlreadyEncoded) => break,
        }
    }
    outbound.truncate(at);
    Err(End::Lost)
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("open", &self.open)
            .field("filled", &self.filled)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
