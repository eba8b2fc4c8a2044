//! Tokens that watches go on from: sealed, since the feed's numbers would tell one tenant how busy the others are; good for one tenant and
//! filter only, at every replica.

use kit::seal::MasterKey;

use crate::error::Error;
use crate::model::{Invalid, Position, PresencePosition, Progress};

/// Longest token that is looked at.
pub(crate) const RESUME_TOKEN_BYTES_MAX: usize = 8192;

const FIELD: &str = "resume_token";

/// As it is written: last, holes, since and count, after, seconds.
type Written = (i64, Vec<(i64, i64)>, Option<(u64, u64)>, Option<String>, u64);

/// None: the empty token.
pub(super) fn read_token(master: &MasterKey, owner: &str, token: &str) -> Result<Option<Progress>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let refused = || Invalid::new(FIELD, "is not of a watch with this parent and filter; start without one");
    if token.len() > RESUME_TOKEN_BYTES_MAX {
        return Err(refused().into());
    }
    let plain = master.open_token(token, owner).map_err(|_| refused())?;
    let (last, holes, presence, after, at_s): Written =
        serde_json::from_slice(&plain).map_err(|_| refused())?;
    let presence = presence.map(|(since, count)| PresencePosition { since, count });
    Ok(Some(Progress { position: Position::new(last, holes), presence, after, at_s }))
}

pub(super) fn token(master: &MasterKey, owner: &str, progress: &Progress) -> Result<String, Error> {
    let position = &progress.position;
    let presence = progress.presence.map(|presence| (presence.since, presence.count));
    let written: Written =
        (position.last(), position.holes().to_vec(), presence, progress.after.clone(), progress.at_s);
    let plain = serde_json::to_vec(&written).expect("numbers and text are JSON");
    Ok(master.seal_token(&plain, owner)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::RANGES_MAX;

    fn progress(ranges: usize) -> Progress {
        let holes = (0..ranges as i64).map(|n| (i64::MAX - 9 * n - 20, i64::MAX - 9 * n - 19)).rev();
        Progress {
            position: Position::new(i64::MAX - 10, holes),
            presence: Some(PresencePosition { since: u64::MAX, count: u64::MAX }),
            after: Some(wire::DeviceId::new([1; 16]).to_string()),
            at_s: u64::MAX,
        }
    }

    #[test]
    fn a_token_is_read_for_its_tenant_and_filter_by_whoever_has_the_master_key() {
        let master = MasterKey::new(&[1; 32]);
        let longest = token(&master, "a", &progress(RANGES_MAX)).unwrap();
        assert!(longest.len() <= RESUME_TOKEN_BYTES_MAX, "{}", longest.len());
        let read = read_token(&MasterKey::new(&[1; 32]), "a", &longest).unwrap();
        assert_eq!(read, Some(progress(RANGES_MAX)));
        assert_eq!(read_token(&master, "a", "").unwrap(), None);
        for (owner, text) in [
            ("b", longest.as_str()),
            ("a", "x"),
            ("a", "é\u{0}"),
            ("a", &longest[1..]),
            ("a", &"A".repeat(9000)),
        ] {
            let refused = read_token(&master, owner, text).unwrap_err();
            assert!(matches!(refused, Error::Invalid(Invalid { field: FIELD, .. })), "{refused}");
        }
        assert!(read_token(&MasterKey::new(&[2; 32]), "a", &longest).is_err());
    }
}
