//! The next keyset, from the newest one to devices: what changes is said, what would cut devices off must be meant, root keys of
//! the newest sign, the server checks.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proto::registry::v1::CreateKeysetRequest;
use wire::cose::P256;
use wire::keyset::{Keyset, open_next, read};
use wire::sign::{KeysetSpec, Signer, assemble_keyset, sign_keyset};

use super::Publish;
use crate::args::Global;
use crate::command::fresh_request_id;
use crate::command::keyset::get;
use crate::failure::input;
use crate::keychange::{self, Change};
use crate::keyfile::write_private;
use crate::output;
use crate::session::Session;
use crate::signer::SignerRef;

/// True when the keyset was published.
pub(super) async fn next(
    global: &Global,
    session: &Session,
    changes: &[Change],
    args: &Publish,
) -> Result<bool> {
    let newest = get(session, "latest")
        .await
        .context("there is no keyset to change: `holdfast keyset init` makes the first")?;
    let current = read(&newest.signed).context("the newest keyset cannot be read")?;
    let old = keychange::spec_of(&current);
    let threshold = args.threshold.map(Change::Threshold);
    let changes: Vec<Change> = changes.iter().cloned().chain(threshold).collect();
    let new = keychange::next(&old, &changes).map_err(|error| input(error.to_string()))?;
    let differences = keychange::difference(&old, &new);
    if !global.json {
        output::line(&format!("keyset {} after {}:", new.version, old.version))?;
        differences.iter().try_for_each(|line| output::line(&format!("  {line}")))?;
    }
    warn(session, &old, &new, args.yes || args.dry_run).await?;

    let payload = new.payload()?;
    let signatures = sign(&payload, &current, &args.sign)?;
    let mut report = serde_json::json!({
        "version": new.version, "changes": differences, "signatures": signatures.len(),
        "threshold": old.root_threshold, "published": false, "dry_run": args.dry_run,
    });
    if let Some(out) = &args.out {
        write_for_others(global, out, &payload, &signatures, old.root_threshold)?;
        if global.json {
            output::document(&report)?;
        }
        return Ok(false);
    }
    if signatures.len() < usize::from(old.root_threshold) {
        if args.dry_run {
            eprintln!(
                "signed by {} of {} root keys: the server was not asked",
                signatures.len(),
                old.root_threshold
            );
            if global.json {
                output::document(&report)?;
            }
            return Ok(false);
        }
        return Err(input(format!(
            "{} of {} root keys signed: add --sign, or --out FILE to have it signed elsewhere",
            signatures.len(),
            old.root_threshold
        )));
    }
    let parts: Vec<Vec<u8>> = signatures.into_iter().map(|(_, part)| part).collect();
    let signed = assemble_keyset(&payload, &parts)?;
    open_next(&signed, &current, &P256).context("devices would refuse this keyset")?;
    let request = CreateKeysetRequest {
        parent: session.tenant(),
        signed,
        request_id: fresh_request_id(),
        validate_only: args.dry_run,
    };
    session.keysets().await?.create_keyset(request).await.context("the server refused the keyset")?;
    if let Some(published) = report.get_mut("published") {
        *published = (!args.dry_run).into();
    }
    if global.json {
        output::document(&report)?;
    } else if args.dry_run {
        output::line("the server would take it; nothing was changed")?;
    } else {
        output::line("published")?;
        consequences(&old, &new).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(!args.dry_run)
}

/// What cuts devices off is said; without consent it is not done.
async fn warn(session: &Session, old: &KeysetSpec, new: &KeysetSpec, meant: bool) -> Result<()> {
    let first = get(session, "1").await.context("the first keyset cannot be had")?.signed;
    let first = keychange::spec_of(&read(&first).context("the first keyset cannot be read")?);
    let mut warnings = Vec::new();
    if keychange::strands_first_stages(&first, new) && !keychange::strands_first_stages(&first, old) {
        warnings.push(format!(
            "fewer than {} of the root keys that boards were provisioned with stay: a first stage believes no other, so no \
             microvisor can be updated any more on a board that has one",
            first.root_threshold
        ));
    }
    if keychange::strands_connections(old, new) {
        warnings.push(
            "no broker CA stays: a device that has taken this keyset connects only to a broker with a certificate of the new \
             one; `holdfast keys add --broker-ca` first, and this when every device holds that"
                .to_owned(),
        );
    }
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if warnings.is_empty() || meant { Ok(()) } else { Err(input("not done; --yes if it is meant")) }
}

/// Each signer's key and part; every one a root key of the keyset before, and another one.
fn sign(
    payload: &[u8],
    current: &Keyset<'_>,
    signers: &[SignerRef],
) -> Result<Vec<(wire::PublicKey, Vec<u8>)>> {
    let mut signed: Vec<(wire::PublicKey, Vec<u8>)> = Vec::new();
    for signer in signers {
        let signer: Box<dyn Signer> = signer.open()?;
        let key = signer.public_key();
        if !current.root_keys.contains(&key) {
            let (key, version) = (keychange::short(&key), current.version);
            return Err(input(format!("{key} is no root key of keyset {version}: only those sign the next")));
        }
        if signed.iter().any(|(other, _)| *other == key) {
            return Err(input(format!(
                "{} is there twice: keys are counted, not signatures",
                keychange::short(&key)
            )));
        }
        signed.push((key, sign_keyset(payload, signer.as_ref())?));
    }
    Ok(signed)
}

fn write_for_others(
    global: &Global,
    out: &Path,
    payload: &[u8],
    signatures: &[(wire::PublicKey, Vec<u8>)],
    threshold: u8,
) -> Result<()> {
    write_private(out, payload, false)?;
    let mut parts = Vec::new();
    for (key, part) in signatures {
        let mut file = out.as_os_str().to_owned();
        file.push(format!(".{}.sig", keychange::short(key)));
        write_private(&PathBuf::from(&file), part, false)?;
        parts.push(file.to_string_lossy().into_owned());
    }
    if global.json {
        return Ok(());
    }
    let out = out.display();
    let missing = usize::from(threshold).saturating_sub(signatures.len());
    output::line(&format!(
        "written to {out}; {missing} more root keys must sign. Each holder, and then anybody:"
    ))?;
    output::line(&format!("  holdfast keyset sign {out} --key ROOT --out ROOT.sig"))?;
    let parts: String = parts.iter().map(|part| format!(" --signature {part}")).collect();
    output::line(&format!(
        "  holdfast keyset assemble {out}{parts} --signature ROOT.sig --out {out}.signed"
    ))?;
    output::line(&format!("  holdfast keyset upload {out}.signed"))
}

/// What follows for devices, a line each.
fn consequences(old: &KeysetSpec, new: &KeysetSpec) -> Vec<String> {
    let version = new.version;
    let mut lines = vec![format!(
        "Devices take keyset {version} at their next hello, one version after the other; `holdfast keys status` shows who has it."
    )];
    if old.release_keys.iter().any(|release| !new.release_keys.contains(release)) {
        lines.push(format!(
            "A bundle that only a key that left has signed is refused at upload from now on, and by every device that holds keyset \
             {version}. What runs already goes on running."
        ));
    }
    if old.director_key != new.director_key {
        lines.push(format!(
            "A device that holds keyset {version} obeys the new director key alone. The old one directs the others, and is deleted when \
             none is left."
        ));
    }
    lines
}
