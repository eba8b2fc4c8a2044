//! The devices this developer has debugged, by their keys: the first time the registry vouches, from then on this file does.
//!
//! A line a device: its id, its identity key (P-256, SEC1) and its debug key (X25519), in hex. A device's keys do not change while it is the
//! same device, so that one that differs is not believed, whoever vouches for it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use noise::{PublicKey, Voucher, statement};
use wire::cose::{P256, Verify as _};
use wire::{DeviceId, PublicKey as IdentityKey, Signature};

use crate::debug::keys;
use crate::keyfile::write_private;

/// Why a device is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Disbelief {
    #[error("what answers does not prove that it is {0}: its debug key is not signed by an identity key")]
    Unsigned(DeviceId),
    #[error(
        "what answers is not the device the registry knows as {0}: its identity key is another; somebody may be in between"
    )]
    Unregistered(DeviceId),
    #[error(
        "{device} is not the device it was: its {what} has changed since it was first debugged from here; somebody may be in between. \
         If the device's flash was erased, or it was replaced, forget what is known of it: `holdfast debug forget {device}`"
    )]
    Changed { device: DeviceId, what: &'static str },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pin {
    identity: String,
    debug: String,
}

#[derive(Debug)]
pub(crate) struct Pins(PathBuf);

impl Pins {
    pub(crate) fn of(home: &Path) -> Result<Pins> {
        Ok(Pins(keys::folder(home)?.join("known_devices")))
    }

    /// Whether this key is the device's, by what it says of it, by what the registry knows (SHA-256 of the identity key's
    /// SubjectPublicKeyInfo, hex) and by what was seen before; one seen first is remembered.
    pub(crate) fn check(
        &self,
        device: DeviceId,
        registered: &str,
        voucher: &Voucher,
        key: &PublicKey,
    ) -> Result<()> {
        let identity = identity(voucher).filter(|identity| {
            P256.verify(identity, &[&statement(device, key)], &Signature(voucher.signature))
        });
        let identity = identity.ok_or(Disbelief::Unsigned(device))?;
        if hex::encode(identity.hash()?.0) != registered {
            return Err(Disbelief::Unregistered(device).into());
        }
        let _alone = self.alone()?;
        let seen = Pin { identity: hex::encode(voucher.identity), debug: hex::encode(key) };
        match self.find(device)? {
            Some(pin) if pin.identity != seen.identity => {
                Err(Disbelief::Changed { device, what: "identity key" }.into())
            }
            Some(pin) if pin.debug != seen.debug => {
                Err(Disbelief::Changed { device, what: "debug key" }.into())
            }
            Some(_) => Ok(()),
            None => self.add(device, &seen),
        }
    }

    fn find(&self, device: DeviceId) -> Result<Option<Pin>> {
        let device = device.to_string();
        Ok(self.lines()?.iter().find_map(|line| {
            let mut words = line.split_whitespace();
            let (id, identity, debug) = (words.next()?, words.next()?, words.next()?);
            (id == device).then(|| Pin { identity: identity.to_owned(), debug: debug.to_owned() })
        }))
    }

    fn add(&self, device: DeviceId, pin: &Pin) -> Result<()> {
        let mut lines = self.lines()?;
        lines.push(format!("{device} {} {}", pin.identity, pin.debug));
        self.save(&lines)
    }

    /// Whether anything was known.
    pub(crate) fn forget(&self, device: DeviceId) -> Result<bool> {
        let _alone = self.alone()?;
        let (lines, device) = (self.lines()?, device.to_string());
        let kept: Vec<_> =
            lines.iter().filter(|line| line.split_whitespace().next() != Some(&device)).cloned().collect();
        if kept.len() == lines.len() {
            return Ok(false);
        }
        self.save(&kept)?;
        Ok(true)
    }

    /// The file is ours until this is dropped: of two `holdfast debug` at once neither loses what the other has seen. A file of its own, since that of
    /// the lines is replaced by each who writes it.
    fn alone(&self) -> Result<File> {
        let path = self.0.with_extension("lock");
        let locked = File::options().create(true).write(true).truncate(false).open(&path).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        locked.with_context(|| format!("cannot lock {}", path.display()))
    }

    fn lines(&self) -> Result<Vec<String>> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        }
    }

    fn save(&self, lines: &[String]) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        write_private(&self.0, text.as_bytes(), true)
    }
}

fn identity(voucher: &Voucher) -> Option<IdentityKey> {
    IdentityKey::from_sec1(&voucher.identity).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::sign::{Signer as _, SoftKey};

    fn device(number: u8) -> DeviceId {
        DeviceId::new([number; 16])
    }

    fn vouched(identity: &SoftKey, device: DeviceId, key: &PublicKey) -> (Voucher, String) {
        let mut voucher = Voucher { identity: [0; 65], signature: [0; 64] };
        // SubjectPublicKeyInfo ends with the point.
        voucher.identity.copy_from_slice(&identity.public_key().spki_der().unwrap()[26..]);
        voucher.signature.copy_from_slice(&identity.sign(&statement(device, key)).unwrap().0);
        (voucher, hex::encode(identity.public_key().hash().unwrap().0))
    }

    fn disbelief(result: Result<()>) -> Disbelief {
        result.unwrap_err().downcast::<Disbelief>().unwrap()
    }

    #[test]
    fn a_device_is_remembered_as_it_was_first_seen() {
        let home = tempfile::tempdir().unwrap();
        let pins = Pins::of(home.path()).unwrap();
        let identity = SoftKey::from_scalar(&[1; 32]).unwrap();
        for number in 1..=3 {
            let (voucher, registered) = vouched(&identity, device(number), &[number; 32]);
            pins.check(device(number), &registered, &voucher, &[number; 32]).unwrap();
            pins.check(device(number), &registered, &voucher, &[number; 32]).unwrap();
        }
        assert_eq!(pins.lines().unwrap().len(), 3);
        let (voucher, registered) = vouched(&identity, device(2), &[9; 32]);
        let changed = disbelief(pins.check(device(2), &registered, &voucher, &[9; 32]));
        assert_eq!(changed, Disbelief::Changed { device: device(2), what: "debug key" });
        assert!(changed.to_string().contains(&format!("holdfast debug forget {}", device(2))));
        let other = SoftKey::from_scalar(&[2; 32]).unwrap();
        let (voucher, registered) = vouched(&other, device(2), &[2; 32]);
        let changed = disbelief(pins.check(device(2), &registered, &voucher, &[2; 32]));
        assert_eq!(changed, Disbelief::Changed { device: device(2), what: "identity key" });
        assert!(pins.forget(device(2)).unwrap() && !pins.forget(device(2)).unwrap());
        pins.check(device(2), &registered, &voucher, &[2; 32]).unwrap();
        assert_eq!(pins.lines().unwrap().len(), 3);
    }

    #[test]
    fn what_is_seen_at_the_same_time_is_all_remembered() {
        let home = tempfile::tempdir().unwrap();
        let identity = SoftKey::from_scalar(&[1; 32]).unwrap();
        let see = |numbers: std::ops::Range<u8>| {
            // Each as a process of its own would.
            let pins = Pins::of(home.path()).unwrap();
            for number in numbers {
                let (voucher, registered) = vouched(&identity, device(number), &[number; 32]);
                pins.check(device(number), &registered, &voucher, &[number; 32]).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for first in [0, 50, 100] {
                scope.spawn(move || see(first..first + 20));
            }
        });
        assert_eq!(Pins::of(home.path()).unwrap().lines().unwrap().len(), 60);
    }

    #[test]
    fn nobody_else_vouches_for_a_device() {
        let home = tempfile::tempdir().unwrap();
        let pins = Pins::of(home.path()).unwrap();
        let identity = SoftKey::from_scalar(&[1; 32]).unwrap();
        let (voucher, registered) = vouched(&identity, device(1), &[7; 32]);
        // Another device's signature, another key, another identity, nonsense.
        let unsigned = [
            pins.check(device(2), &registered, &voucher, &[7; 32]),
            pins.check(device(1), &registered, &voucher, &[8; 32]),
            pins.check(device(1), &registered, &Voucher { identity: [4; 65], ..voucher }, &[7; 32]),
            pins.check(device(1), &registered, &Voucher { signature: [0; 64], ..voucher }, &[7; 32]),
        ];
        for result in unsigned {
            assert!(matches!(disbelief(result), Disbelief::Unsigned(_)));
        }
        let result = pins.check(device(1), &"0".repeat(64), &voucher, &[7; 32]);
        assert_eq!(disbelief(result), Disbelief::Unregistered(device(1)));
        assert!(pins.lines().unwrap().is_empty());
    }
}
