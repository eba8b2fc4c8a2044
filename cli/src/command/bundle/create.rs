//! Making a bundle: image, manifest, signature, file.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use wire::limits::AREA_BYTES_MAX;
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version};
use wire::sign::{LayerSpec, ManifestSpec};

use super::{ComponentArg, ConfirmArg, Create};
use crate::args::Global;
use crate::debug::keys;
use crate::failure::input;
use crate::{fpu, image, symbols};

/// How an application that crashes is restarted, unless a later flag says otherwise.
const CRASH: CrashPolicy = CrashPolicy { backoff_min_ms: 100, backoff_max_ms: 60_000, hold_s: 60 };

pub(super) fn run(global: &Global, args: &Create) -> Result<()> {
    let file = std::fs::read(&args.image).with_context(|| format!("cannot read {}", args.image.display()))?;
    if file.is_empty() {
        return Err(input(format!("{} is empty", args.image.display())));
    }
    fpu::refuse(&file)?;
    if matches!(args.component, ComponentArg::Microvisor) {
        // What applications compare the minimum they need with.
        args.version.parse::<Version>().map_err(|error| input(format!("--version: {error}")))?;
    }
    let image = image::flatten(&file, AREA_BYTES_MAX as usize)?;
    let spec = ManifestSpec {
        component: match args.component {
            ComponentArg::App => Component::App,
            ComponentArg::Microvisor => Component::Microvisor,
        },
        board: args.board.clone(),
        version: args.version.clone(),
        sequence_number: args.counter,
        security_counter: args.counter,
        microvisor_min: args
            .microvisor_min
            .parse()
            .map_err(|error| input(format!("--microvisor-min: {error}")))?,
        layers: vec![LayerSpec { destination: 0, bytes: &image }],
        area_bytes: None,
        update: policy(args)?,
        debug_keys: args.debug_key.iter().map(|key| keys::public(key)).collect::<Result<_>>()?,
        crash: CRASH,
        connectivity: ConnectivityPolicy {
            check_in_s: seconds("--check-in", args.check_in)?,
            grace_s: seconds("--grace", args.grace)?,
        },
        build_time_s: build_time(args)?,
    };
    let signed = spec.sign(args.key.open()?.as_ref()).context("cannot make the bundle")?;
    std::fs::write(&args.out, signed.bundle_file(&spec))
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    keep_symbols(&args.out, &file)?;
    super::inspect::inspect(global, &args.out)
}

/// Copies the ELF file beside the bundle, where `bundle upload` looks for it; one of a bundle that was there before goes.
fn keep_symbols(out: &Path, file: &[u8]) -> Result<()> {
    let beside = symbols::beside(out);
    if image::is_elf(file) {
        return std::fs::write(&beside, file).with_context(|| format!("cannot write {}", beside.display()));
    }
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", beside.display()))
        }
        _ => Ok(()),
    }
}

fn policy(args: &Create) -> Result<UpdatePolicy> {
    Ok(UpdatePolicy {
        trial_s: seconds("--trial", args.trial)?,
        stable_s: seconds("--stable", args.stable)?,
        confirm: match args.confirm {
            ConfirmArg::Healthy => Confirm::Healthy,
            ConfirmArg::Running => Confirm::Running,
        },
        attempts_max: args.attempts,
        polite_s: seconds("--polite", args.polite)?,
        commit_after_s: args.commit_after.map(|time| seconds("--commit-after", time)).transpose()?,
    })
}

fn seconds(flag: &str, time: Duration) -> Result<u32> {
    u32::try_from(time.as_secs()).map_err(|_| input(format!("{flag} is too long")))
}

fn build_time(args: &Create) -> Result<u64> {
    match args.build_time {
        Some(time) => Ok(time),
        None => Ok(SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the clock stands before 1970")?
            .as_secs()),
    }
}
