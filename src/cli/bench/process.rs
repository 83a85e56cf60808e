//! What the system knows about a process.

use std::io;
use std::path::PathBuf;

/// Counters of a process.
#[derive(Clone, Copy)]
pub(super) struct Process {
    pub(super) cpu_us: u64,
    pub(super) memory_peak_bytes: u64,
}

impl Process {
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        let stat = read(pid, "stat")?;
        let strange = || io::Error::other(format!("/proc/{pid}/stat has an unknown form"));
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(strange)?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Self {
            cpu_us: ticks * TICK_US,
            memory_peak_bytes: field(&read(pid, "status")?, "VmHWM:") * 1_024,
        })
    }
}

/// Memory of a process that is in use now.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    /// Resident, shared pages in full.
    pub(super) rss_bytes: u64,
    /// Resident, shared pages divided by those who share them.
    pub(super) pss_bytes: u64,
}

impl Memory {
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        let rollup = read(pid, "smaps_rollup")?;
        Ok(Self {
            rss_bytes: field(&rollup, "Rss:") * 1_024,
            pss_bytes: field(&rollup, "Pss:") * 1_024,
        })
    }
}

/// Bytes that a process has caused to be written to disk.
pub(super) fn written_bytes(pid: u32) -> io::Result<u64> {
    Ok(field(&read(pid, "io")?, "write_bytes:"))
}

fn read(pid: u32, file: &str) -> io::Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    std::fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The first number of the line that starts with `name`; 0 where the system does not tell.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Microseconds of one tick in `/proc/PID/stat`.
const TICK_US: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory() {
        let pid = std::process::id();
        assert!(Process::read(pid).expect("readable").memory_peak_bytes > 0);
        let memory = Memory::read(pid).expect("readable");
        assert!(memory.rss_bytes >= memory.pss_bytes && memory.pss_bytes > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Process::read(0).err().expect("refused").to_string();
        assert!(error.contains("/proc/0/stat"), "{error}");
    }
}
