//! What the device is told and what it tells: the types of its calls.

use heapless::{String, Vec};
use wire::directive::DirectiveError;
use wire::keyset::KeysetError;
use wire::limits::{BOARD_BYTES_MAX, HARDWARE_ID_BYTES_MAX, ROOT_KEYS_MAX, VERSION_BYTES_MAX};
use wire::manifest::{Component, Version};
use wire::msg::{CrashKind, SlotStatus, UpdateReason};
use wire::{DeploymentId, Digest, KeyHash};

use crate::commission::Stage;
use crate::store::StoreError;
use crate::update::State;
use crate::update::slots::LayoutError;

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

/// Why a device cannot start at all. Anything less leaves it online, if only without an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootError {
    Layout(LayoutError),
    Store(StoreError),
    /// No randomness for the boot id.
    Entropy,
}

/// One start of the microvisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId {
    pub counter: u32,
    pub random: u64,
}

/// When [`Device::poll`](super::Device::poll) is wanted again at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    /// At once: there is more work to do.
    Now,
    /// Milliseconds since boot.
    At(u64),
    /// Only when something happens.
    Never,
}

/// A run of missing bytes in one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub layer: Digest,
    /// First byte missing: a multiple of BLOCK_BYTES, and the only offset `take_block` takes.
    pub offset: u32,
    /// First byte after it that is not to be asked for yet; grows as blocks arrive.
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
    pub component: Component,
    /// 0 or 1.
    pub index: u8,
    pub status: SlotStatus,
    /// Nothing when empty.
    pub manifest: Option<Digest>,
    pub version: String<VERSION_BYTES_MAX>,
    pub security_counter: u64,
    pub running: bool,
}

/// Slots of both components.
pub const SLOTS_MAX: usize = 4;

/// Counted since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub app_crashes: u32,
    pub app_starts: u32,
    pub directives_refused: u32,
    pub blocks_refused: u32,
}

/// Something worth a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A torn record was left behind and put in order.
    StoreRepaired,
    /// A torn record was left behind and could not be put in order yet.
    StoreUnrepaired,
    /// The store was empty and made anew.
    StoreFormatted,
    /// The store could not be written.
    StoreFailed(StoreError),
    AppStarted {
        slot: u8,
        trial: bool,
    },
    AppCrashed,
    AppHung,
    /// It ended by this, and a report of that number tells how.
    CrashReport {
        sequence: u32,
        kind: CrashKind,
    },
    /// It asked to be started anew.
    AppRestarts,
    /// No slot holds a version that may be started.
    NoApp,
    /// The confirmed slot is damaged; the version before it runs.
    FellBack(UpdateReason),
    /// The update moved.
    Update(State),
    UpdateRefused(UpdateReason),
    FloorRaised(u64),
    /// The counter could not be read; the floor is what the confirmed version has.
    FloorMended(u64),
    /// The microvisor that runs was acknowledged: it is the one from now on.
    MicrovisorConfirmed,
    /// The trial of a microvisor ended, and the one before runs, or is about to.
    MicrovisorReverted(UpdateReason),
    MicrovisorFloorRaised(u64),
    /// The first stage believes these provisioned roots no more: bit n is root n.
    RootsRevoked(u8),
    KeysetAccepted(u32),
    /// Where the board's making stands: at a start that is not a product's, and when the test is over.
    Commission(Stage),
}

/// Notices kept until taken; the oldest is dropped first.
pub const NOTICES_MAX: usize = 16;

/// What a valid directive led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Something changed; `progress`, `results` or the time bound say what.
    Acted,
    /// It asks for what is so already.
    Already,
    /// Refused with a result that is kept until acknowledged.
    Refused(UpdateReason),
    /// Cannot be acted on now (a trial is on, or results wait to be acknowledged); to be sent again after a later hello.
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
    Keyset(KeysetError),
    Store(StoreError),
}

impl From<StoreError> for BootError {
    fn from(error: StoreError) -> Self {
        BootError::Store(error)
    }
}

impl From<StoreError> for DirectiveRefused {
    fn from(error: StoreError) -> Self {
        DirectiveRefused::Store(error)
    }
}

impl From<StoreError> for KeysetRefused {
    fn from(error: StoreError) -> Self {
        KeysetRefused::Store(error)
    }
}

impl From<KeysetError> for KeysetRefused {
    fn from(error: KeysetError) -> Self {
        KeysetRefused::Keyset(error)
    }
}
