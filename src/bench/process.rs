//! CPU time and memory of processes, from /proc.

use std::io;

use super::BenchError;

/// USER_HZ: what a tick of /proc/PID/stat is on Linux, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds (user and system, all threads, ended ones too) that the processes used so far.
pub(super) fn cpu_seconds(pids: &[u32]) -> Result<f64, BenchError> {
    let mut sum = 0.0;
    for &pid in pids {
        sum += cpu_of(pid).map_err(|error| BenchError::Process { pid, error })?;
    }
    Ok(sum)
}

/// CPU seconds of this process.
pub(super) fn own_cpu_seconds() -> f64 {
    cpu_of(std::process::id()).unwrap_or(0.0)
}

/// Resident set of each process now, summed, bytes.
pub(super) fn memory(pids: &[u32]) -> Result<u64, BenchError> {
    let mut sum = 0;
    for &pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        sum += field(&status.map_err(|error| BenchError::Process { pid, error })?, "VmRSS:");
    }
    Ok(sum)
}

/// Greatest resident set of each process since its start, summed, bytes.
pub(super) fn peak_memory(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .map(|s| field(&s, "VmHWM:"))
        .sum()
}

fn cpu_of(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat).map(|t| t as f64 / TICKS_PER_SECOND).ok_or_else(|| io::Error::other("not as proc(5) describes it"))
}

/// Fields 14 and 15 (utime, stime). The second field is a name in parentheses that may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("12 (x) S"), None);
        let status = "VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!((field(status, "VmHWM:"), field(status, "VmRSS:")), (2 << 20, 1 << 20));
    }
}
