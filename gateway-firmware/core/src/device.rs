//! One device: its store, keys, slots and application behind the calls that `net` makes.
//!
//! A board boots it once and calls [`Device::poll`] whenever the returned time comes, after every call that changed
//! something, and when the application's status changed. Nothing here waits.

use heapless::{String, Vec};
use wire::DeploymentId;
use wire::directive::DirectiveError;
use wire::key::{Digest, KeyHash};
use wire::keyset::KeysetError;
use wire::limits::{BOARD_BYTES_MAX, HARDWARE_ID_BYTES_MAX, ROOT_KEYS_MAX, VERSION_BYTES_MAX};
use wire::manifest::Version;
use wire::msg::UpdateReason;

use crate::store::StoreError;
use crate::update::State;

/// What a board is from its making on.
#[derive(Debug, Clone)]
pub struct Facts {
    pub hardware_id: String<HARDWARE_ID_BYTES_MAX>,
    pub board: String<BOARD_BYTES_MAX>,
    pub microvisor: Version,
    /// Hashes of the root keys that may sign the first keyset, revoked ones left out.
    pub root_key_hashes: Vec<KeyHash, ROOT_KEYS_MAX>,
    /// How many of them must have signed it.
    pub root_threshold: u8,
    /// The first lower bound of the time, Unix seconds.
    pub build_time_s: u64,
}

/// One start of the microvisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId {
    pub counter: u32,
    pub random: u64,
}

/// When [`Device::poll`] is wanted again at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    /// At once: there is more work to do.
    Now,
    At(u64),
    /// Only when something happens.
    Never,
}

/// Part of a layer the device wants now: a run of missing bytes in one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub layer: Digest,
    /// First byte missing: a multiple of BLOCK_BYTES, and the only offset `take_block` takes.
    pub offset: u32,
    /// First byte after it that is not asked for now; grows as blocks arrive.
    pub end: u32,
}

/// The update under way, for `up/update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rises whenever there is something new to say in this boot.
    pub sequence: u32,
    pub deployment: DeploymentId,
    pub manifest: Digest,
    pub state: State,
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub attempts: u8,
}

/// What a slot holds, for `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotReport {
    pub status: wire::msg::SlotStatus,
    pub manifest: Option<Digest>,
    pub version: String<VERSION_BYTES_MAX>,
    pub security_counter: u64,
    pub running: bool,
}

/// Counted since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub app_crashes: u32,
    pub app_starts: u32,
    pub directives_refused: u32,
    pub blocks_refused: u32,
}

/// What a valid directive led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Something changed; `progress`, `results` or the time bound say what.
    Acted,
    /// It asks for what is so already.
    Already,
    /// Refused with a result that is kept until acknowledged.
    Refused(UpdateReason),
    /// Cannot be acted on now (a trial is on, or results wait to be acknowledged); to be sent again after the next hello.
    Later,
}

/// Why a directive was ignored and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectiveRefused {
    /// No identity, no keyset, or no hello was sent in this boot.
    NotReady,
    Directive(DirectiveError),
    /// The order does not fit the state: `go` for another deployment, `commit` for what is not confirmed.
    Misplaced,
    Store(StoreError),
}

/// Why a block was not taken; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockRefused {
    /// Not the next block of what is wanted: a repetition, a gap, another layer, or nothing is wanted.
    NotWanted,
    /// Not a whole block (or the layer's shorter last one).
    Length,
    /// Its bytes are not what the manifest says; ask again.
    Digest,
    /// It could not be written; the update was given up with a result.
    Flash,
}

/// Why a keyset was refused; the one held stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysetRefused {
    /// Longer than KEYSET_BYTES_MAX or refused by its rules.
    Keyset(KeysetError),
    Store(StoreError),
}

// A running device. See each call; every one returns at once.
//
// ```text
// Device::boot(ports, facts) -> Result<Device<B>, BootError>
// poll(&mut self) -> Next
// boot_id(&self) -> BootId            boot_reason(&self) -> BootReason       now_ms(&self) -> u64
// device_id(&self) -> Option<DeviceId>
// device_id() / tenant_id() -> Option;  identity_record(&mut self, into: &mut [u8]) -> Result<Option<&[u8]>, StoreError>   net's own bytes
// enrolled(&mut self, DeviceId, TenantId, record: &[u8] (<= IDENTITY_BYTES_MAX), first_keyset: &[u8]) -> Result<(), KeysetRefused>   (also renewal)
// enrolment_state(&mut self, into: &'a mut [u8]) / save_enrolment_state(&mut self, &[u8])   <= 128 bytes, net's own
// keyset(&self) -> Option<Keyset<'_>>  keyset_version(&self) -> u32          offer_keyset(&mut self, &[u8]) -> Result<u32, KeysetRefused>
// time_bound_s(&self) -> u64
// hello_sent(&mut self, nonce: Nonce)                                        only directives answering it are heard
// hear(&mut self, directive: &[u8], envelope: &[u8]) -> Result<Heard, DirectiveRefused>     every kind, time included
// wanted(&self) -> Option<Wanted>      take_block(&mut self, &Digest, offset: u32, &[u8]) -> Result<(), BlockRefused>
// progress(&self) -> Option<Progress>  results(&self) -> &[UpdateResult]     acknowledge(&mut self, BootId, sequence: u32) -> Result<bool, StoreError>
// slots(&self) -> [SlotReport; 2]      floor(&mut self) -> u64               counters(&self) -> Counters
// take_notice(&mut self) -> Option<Notice>
// ```
