//! What the factory and the first stage say of this board, as the core's facts.

use gateway_core::Facts;
use gateway_core::boot::first::Handover;
use gateway_core::provision::{self, Provision, ProvisionError};
use heapless::{String, Vec};
use wire::manifest::Version;

/// The version of a microvisor that names none.
const UNKNOWN: Version = Version { major: 0, minor: 0, patch: 0 };

/// The board's provisioning.
pub(crate) fn read() -> Result<Provision<'static>, ProvisionError> {
    provision::read(chip::flash::provision())
}

/// What the first stage left; nothing if no first stage started this microvisor.
pub(crate) fn handover() -> Option<Handover> {
    Handover::decode(&chip::kept::handover())
}

/// The core's facts. Revoked roots are left out; the later build time is the first lower bound of the time.
pub(crate) fn facts(provision: &Provision<'_>, handover: Option<&Handover>) -> Facts {
    let revoked = handover.map_or(0, |handover| handover.revoked);
    let believed = provision.root_key_hashes.iter().enumerate();
    let believed = believed.filter(|(index, _)| revoked >> index & 1 == 0).map(|(_, hash)| *hash);
    Facts {
        // Neither can be too long: the record's decoder has the same limits.
        hardware_id: String::try_from(provision.hardware_id).unwrap_or_default(),
        board: String::try_from(provision.board).unwrap_or_default(),
        microvisor: handover.and_then(|handover| handover.version.parse().ok()).unwrap_or(UNKNOWN),
        root_key_hashes: believed.collect::<Vec<_, _>>(),
        root_threshold: provision.root_threshold,
        build_time_s: handover.map_or(0, |handover| handover.build_time_s).max(provision.build_time_s),
    }
}
