//! The key a developer debugs with: X25519, made here, in a file of its owner's alone (PKCS#8, RFC 8410), never printed.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noise::{KEY_BYTES, PublicKey, StaticKey};

use crate::failure::input;
use crate::keyfile::write_private;

/// RFC 8410 §7: what comes before the 32 bytes, whatever they are.
const HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

#[derive(Debug)]
pub(crate) struct DebugKey(StaticKey);

/// Where what belongs to debugging is kept; made for its owner alone.
pub(crate) fn folder(home: &Path) -> Result<PathBuf> {
    let folder = home.join("debug");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Where the key is, unless somebody says otherwise.
pub(crate) fn place(home: &Path) -> PathBuf {
    home.join("debug").join("key.pem")
}

/// The file beside a key with its public half: 64 hex digits.
pub(crate) fn public_place(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".pub");
    path.into()
}

impl DebugKey {
    /// Makes a key and writes both halves; an existing file is an error.
    pub(crate) fn create(path: &Path) -> Result<DebugKey> {
        let secret: [u8; KEY_BYTES] = rand::random();
        let body = STANDARD.encode([&HEAD[..], &secret].concat());
        write_private(path, format!("{BEGIN}\n{body}\n{END}\n").as_bytes(), false)?;
        let key = DebugKey(StaticKey::new(secret));
        key.write_public(&public_place(path))?;
        Ok(key)
    }

    fn write_public(&self, path: &Path) -> Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o644).open(path);
        file.and_then(|mut file| writeln!(file, "{}", self.public_hex()))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Refuses a file that others can read: who has the key halts devices.
    pub(crate) fn load(path: &Path) -> Result<DebugKey> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(input(format!(
                    "there is no debug key {}: make one with `holdfast debug key create`, and have a bundle signed that names it",
                    path.display()
                )));
            }
            other => other.with_context(|| format!("cannot read the key {}", path.display()))?,
        };
        let mode = std::fs::metadata(path)?.mode();
        if mode & 0o077 != 0 {
            return Err(input(format!(
                "{0} can be read by others (mode {1:03o}): `chmod 600 {0}`, or make another key if others may have it",
                path.display(),
                mode & 0o777
            )));
        }
        let secret = decode(&text).ok_or_else(|| {
            input(format!(
                "{} is not an X25519 private key in PKCS#8 PEM: `holdfast debug key create` makes one",
                path.display()
            ))
        })?;
        Ok(DebugKey(StaticKey::new(secret)))
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.0.public()
    }

    pub(crate) fn public_hex(&self) -> String {
        hex::encode(self.public())
    }

    pub(crate) fn into_static(self) -> StaticKey {
        self.0
    }
}

fn decode(text: &str) -> Option<[u8; KEY_BYTES]> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    der.strip_prefix(&HEAD)?.try_into().ok()
}

/// A public key as people give it: 64 hex digits, or a file that holds them.
pub(crate) fn public(text: &str) -> Result<PublicKey> {
    let digits = |text: &str| hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    if let Some(key) = digits(text) {
        return Ok(key);
    }
    let from_file = std::fs::read_to_string(text).ok().and_then(|content| digits(&content));
    from_file.ok_or_else(|| {
        input(format!("`{text}` is neither 64 hex digits nor a file with them: `holdfast debug key show` prints a key's public half"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_for_its_owner_alone_and_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let folder = folder(home.path()).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let path = place(home.path());
        let key = DebugKey::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(DebugKey::create(&path).is_err());
        assert_eq!(DebugKey::load(&path).unwrap().public_hex(), key.public_hex());
        assert!(!format!("{key:?}").contains(&key.public_hex()));
    }

    #[test]
    fn the_public_half_is_taken_as_digits_or_as_a_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key.pem");
        let key = DebugKey::create(&path).unwrap();
        let beside = public_place(&path);
        assert_eq!(public(&key.public_hex()).unwrap(), public(beside.to_str().unwrap()).unwrap());
        let secret = path.to_str().unwrap();
        for bad in ["", "abcd", "/nonexistent", secret] {
            assert!(public(bad).unwrap_err().to_string().contains("holdfast debug key show"), "{bad}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused_with_advice() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key.pem");
        assert!(DebugKey::load(&path).unwrap_err().to_string().contains("debug key create"));
        DebugKey::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(DebugKey::load(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::remove_file(&path).unwrap();
        write_private(&path, b"hello", false).unwrap();
        assert!(DebugKey::load(&path).unwrap_err().to_string().contains("debug key create"));
    }

    #[test]
    fn it_reads_what_openssl_writes() {
        // openssl genpkey -algorithm X25519, and the public half that openssl pkey says it has.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq\n-----END PRIVATE KEY-----\n";
        let secret = decode(pem).unwrap();
        // RFC 7748 §6.1, Alice.
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(hex::encode(StaticKey::new(secret).public()), public);
    }
}
