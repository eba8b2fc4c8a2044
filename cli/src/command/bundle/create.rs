//! Making a bundle: image, manifest, signature, file.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use wire::limits::{AREA_BYTES_MAX, MICROVISOR_TRIAL_S_MAX};
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version};
use wire::sign::{LayerSpec, ManifestSpec};

use super::{ComponentArg, ConfirmArg, Create};
use crate::args::Global;
use crate::debug::keys;
use crate::failure::input;
use crate::{fpu, image, symbols};

/// How an application that crashes is restarted.
const CRASH: CrashPolicy =
    CrashPolicy { backoff_min_ms: 100, backoff_max_ms: 60_000, hold_s: 60, debug_hold_s: 0, memory_bytes: 0 };

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
        crash: CrashPolicy {
            debug_hold_s: seconds("--debug-hold", args.debug_hold)?,
            memory_bytes: args.crash_memory,
            ..CRASH
        },
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
        trial_s: trial_s(args.component, args.trial)?,
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

fn trial_s(component: ComponentArg, trial: Duration) -> Result<u32> {
    let trial_s = seconds("--trial", trial)?;
    match component {
        ComponentArg::Microvisor if trial_s > MICROVISOR_TRIAL_S_MAX => {
            let most = MICROVISOR_TRIAL_S_MAX;
            Err(input(format!("--trial is {trial_s} s, and a microvisor's at most {most} s (a day)")))
        }
        _ => Ok(trial_s),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microvisors_trial_ends_within_a_day() {
        let day = Duration::from_secs(MICROVISOR_TRIAL_S_MAX.into());
        let longer = day + Duration::from_secs(1);
        assert_eq!(trial_s(ComponentArg::Microvisor, day).unwrap(), MICROVISOR_TRIAL_S_MAX);
        let refused = trial_s(ComponentArg::Microvisor, longer).unwrap_err();
        assert!(refused.to_string().contains("at most 86400 s"), "{refused}");
        assert_eq!(trial_s(ComponentArg::App, longer).unwrap(), MICROVISOR_TRIAL_S_MAX + 1);
    }
}
