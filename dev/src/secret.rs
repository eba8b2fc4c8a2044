//! Random secrets for one stack. There is no default password anywhere, not even in development.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// `bytes` random bytes as lower-case hex: safe in a URL, in SQL and in a config file without quoting.
pub(crate) fn hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).context("reading /dev/urandom")?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}

/// Writes a file that only its owner can read, replacing an older one.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    let make = || -> std::io::Result<()> {
        let partial = path.with_extension("partial");
        let _ = std::fs::remove_file(&partial);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(content.as_bytes())?;
        std::fs::rename(&partial, path)
    };
    make().with_context(|| format!("writing {}", path.display()))
}
