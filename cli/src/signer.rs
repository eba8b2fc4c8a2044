//! Who signs manifests and keysets: a key file, or any command that can (PKCS#11, a cloud KMS, a smart card).
//!
//! A command reads the message on its stdin and writes an ASN.1 DER ECDSA signature (P-256 with SHA-256) on its
//! stdout: what `openssl dgst -sha256 -sign` does.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use p256::ecdsa::Signature;
use p256::pkcs8::DecodePublicKey;
use wire::sign::{SignError, Signer};

use crate::keyfile::KeyFile;

/// How help texts describe a signer.
pub(crate) const SIGNER_HELP: &str =
    "a private key file, or `exec:PUBLIC.pem:COMMAND` where COMMAND signs stdin";

/// `FILE`, or `exec:PUBLIC.pem:COMMAND`.
#[derive(Debug, Clone)]
pub(crate) enum SignerRef {
    File(PathBuf),
    Command { public: PathBuf, command: String },
}

impl FromStr for SignerRef {
    type Err = String;

    fn from_str(text: &str) -> Result<SignerRef, String> {
        let Some(rest) = text.strip_prefix("exec:") else {
            return Ok(SignerRef::File(text.into()));
        };
        match rest.split_once(':') {
            Some((public, command)) if !public.is_empty() && !command.is_empty() => {
                Ok(SignerRef::Command { public: public.into(), command: command.to_owned() })
            }
            _ => Err("write exec:PUBLIC.pem:COMMAND".to_owned()),
        }
    }
}

impl SignerRef {
    pub(crate) fn open(&self) -> Result<Box<dyn Signer>> {
        match self {
            SignerRef::File(path) => Ok(Box::new(KeyFile::load(path)?.into_signer())),
            SignerRef::Command { public, command } => {
                let pem = std::fs::read_to_string(public)
                    .with_context(|| format!("cannot read {}", public.display()))?;
                let key = p256::PublicKey::from_public_key_pem(&pem)
                    .ok()
                    .with_context(|| format!("{} is not a P-256 public key in PEM", public.display()))?;
                let public = wire::PublicKey::from_sec1(&key.to_sec1_bytes())?;
                Ok(Box::new(CommandSigner { public, command: command.clone() }))
            }
        }
    }
}

#[derive(Debug)]
struct CommandSigner {
    public: wire::PublicKey,
    command: String,
}

impl Signer for CommandSigner {
    fn public_key(&self) -> wire::PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<wire::Signature, SignError> {
        self.run(message).map_err(|error| SignError::Signer(format!("`{}`: {error:#}", self.command)))
    }
}

impl CommandSigner {
    fn run(&self, message: &[u8]) -> Result<wire::Signature> {
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start")?;
        // Messages are a few hundred bytes, less than a pipe holds: writing before reading cannot block.
        child.stdin.take().context("no stdin")?.write_all(message).context("does not read its stdin")?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("failed with {}", output.status);
        }
        let signature =
            Signature::from_der(&output.stdout).ok().context("did not print an ASN.1 DER ECDSA signature")?;
        let signature = wire::Signature(signature.to_bytes().into());
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::pkcs8::{EncodePublicKey, LineEnding};
    use wire::cose::{P256, Verify};

    #[test]
    fn openssl_can_be_the_signer() {
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("key.pem");
        KeyFile::create(&private).unwrap();
        let der = KeyFile::load(&private).unwrap().public_der().unwrap();
        let public =
            p256::PublicKey::from_public_key_der(&der).unwrap().to_public_key_pem(LineEnding::LF).unwrap();
        let public_file = folder.path().join("public.pem");
        std::fs::write(&public_file, public).unwrap();
        let text = format!("exec:{}:openssl dgst -sha256 -sign {}", public_file.display(), private.display());
        let signer = text.parse::<SignerRef>().unwrap().open().unwrap();
        let signature = signer.sign(b"message").unwrap();
        assert!(P256.verify(&signer.public_key(), &[b"message"], &signature));
    }

    #[test]
    fn a_command_that_fails_or_babbles_is_an_error_that_names_it() {
        for command in ["false", "echo hello"] {
            let public =
                KeyFile::create(&tempfile::tempdir().unwrap().path().join("k")).unwrap().public_key();
            let signer = CommandSigner { public, command: command.to_owned() };
            assert!(signer.sign(b"message").unwrap_err().to_string().contains(command));
        }
    }
}
