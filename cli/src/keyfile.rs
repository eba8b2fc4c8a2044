//! Private keys as files: made here, P-256, PKCS#8 PEM, readable by their owner only, never overwritten.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use p256::pkcs8::DecodePublicKey;
use wire::sign::{Signer as _, SoftKey};

/// A P-256 key whose private half is in this process.
#[derive(Debug)]
pub(crate) struct KeyFile {
    key: SoftKey,
}

impl KeyFile {
    /// Makes a key and writes it; an existing file is an error.
    pub(crate) fn create(path: &Path) -> Result<KeyFile> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let key = KeyFile { key: fresh() };
        write_private(path, key.pem()?.as_bytes(), false)?;
        Ok(key)
    }

    pub(crate) fn load(path: &Path) -> Result<KeyFile> {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the key {}", path.display()))?;
        match SoftKey::from_pkcs8_pem(&pem) {
            Ok(key) => Ok(KeyFile { key }),
            Err(_) => bail!(
                "{} is not a P-256 private key in PKCS#8 PEM; `holdfast key generate` makes one",
                path.display()
            ),
        }
    }

    /// The public half of the key in a file, which may hold that half alone.
    pub(crate) fn public_in(path: &Path) -> Result<wire::PublicKey> {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the key {}", path.display()))?;
        match p256::PublicKey::from_public_key_pem(&pem) {
            Ok(key) => Ok(wire::PublicKey::from_sec1(&key.to_sec1_bytes())?),
            Err(_) => Ok(KeyFile::load(path)?.public_key()),
        }
    }

    /// The key in the file, made first when there is none.
    pub(crate) fn load_or_create(path: &Path) -> Result<KeyFile> {
        if path.exists() { KeyFile::load(path) } else { KeyFile::create(path) }
    }

    /// PKCS#8 PEM: a secret.
    pub(crate) fn pem(&self) -> Result<String> {
        self.key.to_pkcs8_pem().context("cannot encode the key")
    }

    /// Its public half: SubjectPublicKeyInfo, DER.
    pub(crate) fn public_der(&self) -> Result<Vec<u8>> {
        Ok(self.public_key().spki_der().context("cannot encode the key")?.to_vec())
    }

    /// Its public half as manifests and keysets name it.
    pub(crate) fn public_key(&self) -> wire::PublicKey {
        self.key.public_key()
    }

    /// The key as something that signs.
    pub(crate) fn into_signer(self) -> SoftKey {
        self.key
    }
}

/// A key from the operating system's randomness; the few values that are no scalar are drawn again.
fn fresh() -> SoftKey {
    loop {
        if let Ok(key) = SoftKey::from_scalar(&rand::random()) {
            return key;
        }
    }
}

/// Writes a file that only its owner can read. Replacing is atomic; without `replace` an existing file is an error.
pub(crate) fn write_private(path: &Path, content: &[u8], replace: bool) -> Result<()> {
    let temporary = path.with_extension("new");
    let target = if replace { temporary.as_path() } else { path };
    if replace {
        std::fs::remove_file(target).or_else(ignore_missing)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .with_context(|| format!("cannot create {}", target.display()))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", target.display()))?;
    if replace {
        std::fs::rename(target, path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/root.pem");
        let key = KeyFile::create(&path).unwrap();
        assert!(KeyFile::create(&path).is_err());
        assert_eq!(KeyFile::load(&path).unwrap().public_der().unwrap(), key.public_der().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_public_half_is_read_from_either_half() {
        use p256::pkcs8::{EncodePublicKey, LineEnding};
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = (folder.path().join("key.pem"), folder.path().join("public.pem"));
        let key = KeyFile::create(&private).unwrap();
        let half = p256::PublicKey::from_public_key_der(&key.public_der().unwrap()).unwrap();
        std::fs::write(&public, half.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        for file in [private, public] {
            assert_eq!(KeyFile::public_in(&file).unwrap(), key.public_key());
        }
        std::fs::write(folder.path().join("x"), "hello").unwrap();
        assert!(KeyFile::public_in(&folder.path().join("x")).is_err());
    }

    #[test]
    fn something_else_than_a_key_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        std::fs::write(&path, "hello").unwrap();
        assert!(KeyFile::load(&path).unwrap_err().to_string().contains("holdfast key generate"));
    }
}
