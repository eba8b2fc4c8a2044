//! CPU time and memory of processes, from /proc: no part is asked, and none can look better than it is.

use std::fs;

use anyhow::{Context, Result};

/// `USER_HZ` of every Linux we run on.
const TICKS_PER_S: f64 = 100.0;
const KIB_PER_MIB: f64 = 1024.0;

/// Seconds of CPU a process has used, its ended and running children included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let own = stat(pid)?;
    let children: f64 = children(pid).into_iter().filter_map(|child| stat(child).ok()).map(|s| s.own_s).sum();
    Ok(own.own_s + own.reaped_s + children)
}

/// Highest resident memory since its start, MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "VmHWM:")
}

/// Resident memory now, MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "VmRSS:")
}

fn memory_mib(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such memory")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("kibibytes")?;
    Ok(kib / KIB_PER_MIB)
}

struct Stat {
    parent: u32,
    own_s: f64,
    reaped_s: f64,
}

fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    parse(&text).context("/proc/PID/stat")
}

/// proc(5): the name in parentheses may hold anything, so fields are counted from behind it.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_s: (ticks(11)? + ticks(12)?) / TICKS_PER_S,
        reaped_s: (ticks(13)? + ticks(14)?) / TICKS_PER_S,
    })
}

fn children(of: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_ok_and(|stat| stat.parent == of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let line = "7 (a b) c) S 3 7 7 0 -1 4 1 2 3 4 150 50 10 20 20 0 9 0 1 2 3";
        let stat = parse(line).expect("a stat line");
        assert_eq!((stat.parent, stat.own_s, stat.reaped_s), (3, 2.0, 0.3));
        assert!(parse("7 (a").is_none());
    }

    #[test]
    fn our_own_use_can_be_read() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).expect("cpu") >= 0.0);
        assert!(resident_mib(pid).expect("memory") > 1.0);
        assert!(peak_mib(pid).expect("memory") >= resident_mib(pid).expect("memory"));
    }
}
