//! Why there is no image: what is wrong with which input, and what to do about it.

use std::path::PathBuf;

use gateway_core::commission::make::Role;
use wire::bundle::BundleError;
use wire::keyset::KeysetError;
use wire::msg::UpdateReason;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with an input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} is there already: name another file, or say --force to make that board anew")]
    Exists { path: PathBuf },
    #[error("the provisioning cannot be read: take provision.json as `holdfast claim create --out` wrote it")]
    Json(#[source] serde_json::Error),
    #[error("the provisioning is for board {found:?}: make a claim with --board {wanted}")]
    Board { found: String, wanted: &'static str },
    #[error(
        "{field} of the provisioning {what}: take provision.json as `holdfast claim create --out` wrote it"
    )]
    Field { field: &'static str, what: &'static str },
    #[error("the claim ended at {ended_s} (Unix seconds): make another with `holdfast claim create`")]
    ClaimEnded { ended_s: u64 },
    #[error("hardware id {id:?}: write 1 to 64 visible ASCII characters")]
    HardwareId { id: String },
    #[error(
        "hardware id {id:?} cannot name a file: use letters, digits, `.`, `_` and `-` where ids come from a list"
    )]
    FileName { id: String },
    #[error("hardware id {id:?} is there twice: every board has its own")]
    Twice { id: String },
    #[error("{what} is {count}, and at most {max} are made at once")]
    Count { what: &'static str, count: usize, max: usize },
    #[error("{0:?}: write NAME=IPv4, at most 4 of them")]
    Host(String),
    #[error(
        "--keyset: {0}: take the tenant's first one, `holdfast keyset show 1 --out FILE`, and a claim made since"
    )]
    Keyset(KeysetError),
    #[error("{what}: {source}")]
    Bundle { what: &'static str, source: BundleError },
    #[error("--microvisor: the first stage would refuse it: {0}")]
    Microvisor(String),
    #[error("{}: a device would refuse it: {}", option(*.0), explain(*.1))]
    Application(Role, UpdateReason),
    #[error("{what} has {bytes} bytes, and there is room for {room}")]
    TooLarge { what: &'static str, bytes: usize, room: usize },
    #[error("{0} is no flash of this board: it is too short")]
    TooShort(PathBuf),
    #[error("the store cannot be written: {0}")]
    Store(String),
}

/// Whose argument it is.
fn option(role: Role) -> &'static str {
    match role {
        Role::First => "--app",
        Role::Test => "--test",
    }
}

/// What a device means by this.
fn explain(reason: UpdateReason) -> &'static str {
    match reason {
        UpdateReason::WrongBoard => "it is for another board; create it with --board an505",
        UpdateReason::WrongComponent => "it is no application",
        UpdateReason::UnknownKey => {
            "none of the keyset's release keys may sign this; sign it with one that may"
        }
        UpdateReason::BadSignature => "its signature is not that of its bytes",
        UpdateReason::MicrovisorTooOld => "it needs a newer microvisor than --microvisor",
        UpdateReason::TooLarge => "it does not fit into a slot",
        UpdateReason::DigestMismatch => "its bytes are not those its manifest names",
        UpdateReason::Malformed => "its manifest cannot be read",
        _ => "it cannot be installed",
    }
}
