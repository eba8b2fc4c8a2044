//! Which member of a `$share` group gets a message: by rendezvous hashing of the device, so that one device's messages
//! stay with one member while it keeps up, and only a leaver's devices move when it goes.

/// A number that is the same for the same bytes, in every process (FNV-1a).
pub(crate) fn seed(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How strongly `member` is drawn to `device`.
fn weight(device: u64, member: u64) -> u64 {
    // The finalizer of splitmix64: every input bit reaches every output bit.
    let mut x = device ^ member.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The strongest member that takes the message: `offer(index)` says whether it did. `None`: nobody.
pub(crate) fn choose(device: u64, members: &[u64], mut offer: impl FnMut(usize) -> bool) -> Option<usize> {
    let mut below = None;
    for _ in 0..members.len() {
        // Few members (one per replica of a service): a scan a refusal is cheaper than sorting.
        let next = (0..members.len())
            .map(|index| (weight(device, members[index]), index))
            .filter(|candidate| below.is_none_or(|last| *candidate < last))
            .max()?;
        if offer(next.1) {
            return Some(next.1);
        }
        below = Some(next);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: u64 = 9_000;

    fn devices() -> impl Iterator<Item = u64> {
        (0..DEVICES).map(|n| seed(format!("dv{n:032x}").as_bytes()))
    }

    #[test]
    fn devices_spread_evenly_over_members() {
        let mut counts = [0u64; 3];
        for device in devices() {
            counts[choose(device, &[7, 8, 9], |_| true).unwrap()] += 1;
        }
        for count in counts {
            assert!(count.abs_diff(DEVICES / 3) < DEVICES / 30, "{counts:?}");
        }
    }

    #[test]
    fn one_device_stays_with_one_member_and_only_a_leavers_devices_move() {
        for device in devices() {
            let members = [7, 8, 9];
            let first = members[choose(device, &members, |_| true).unwrap()];
            assert_eq!(first, members[choose(device, &members, |_| true).unwrap()]);
            let fewer = [7, 9];
            let after = fewer[choose(device, &fewer, |_| true).unwrap()];
            assert!(first == 8 || first == after);
        }
    }

    #[test]
    fn a_member_that_refuses_is_skipped_and_each_is_asked_once() {
        for device in devices().take(100) {
            let mut asked = Vec::new();
            assert_eq!(
                choose(device, &[1, 2, 3], |index| {
                    asked.push(index);
                    false
                }),
                None
            );
            asked.sort_unstable();
            assert_eq!(asked, [0, 1, 2]);
            assert_ne!(choose(device, &[1, 2, 3], |index| index != 1), Some(1));
        }
        assert_eq!(choose(1, &[], |_| true), None);
    }
}
