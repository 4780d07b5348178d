//! What the kernel knows of this process, read from `/proc/self` when somebody asks.

use std::fs;

/// A reading. A value that could not be read is `None` and is left out of the metrics.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ProcessStats {
    /// CPU time used in user and kernel mode, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory resident, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit of descriptors; `None` also if unlimited.
    pub max_fds: Option<u64>,
    /// When the process started, in seconds since the Unix epoch.
    pub start_time_seconds: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl ProcessStats {
    /// Reads everything now: five small files and one directory of `/proc`.
    pub fn read() -> Self {
        let mut stats = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| Self::parse(&text, rustix::param::clock_ticks_per_second(), boot_time()?))
            .unwrap_or_default();
        stats.resident_bytes = stats.resident_bytes.map(|pages| pages * rustix::param::page_size() as u64);
        // The directory itself is open while it is listed.
        stats.open_fds = fs::read_dir("/proc/self/fd").ok().map(|dir| (dir.count() as u64).saturating_sub(1));
        stats.max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        stats
    }

    /// The part that `/proc/PID/stat` tells (`proc_pid_stat(5)`); `resident_bytes` still counts pages.
    fn parse(stat: &str, ticks: u64, boot_time: u64) -> Option<Self> {
        // The second field, the name in parentheses, may hold anything: count from the last `)`.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |nth: usize| fields.get(nth - 3)?.parse::<u64>().ok();
        let seconds = |value: u64| value as f64 / ticks.max(1) as f64;
        Some(Self {
            cpu_seconds: Some(seconds(number(14)? + number(15)?)),
            threads: number(20),
            start_time_seconds: number(22).map(|start| boot_time as f64 + seconds(start)),
            virtual_bytes: number(23),
            resident_bytes: number(24),
            open_fds: None,
            max_fds: None,
        })
    }
}

fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 5 0 0 0 250 50 0 0 20 0 3 0 1000 4096 7 18446744073709551615";
        let stats = ProcessStats::parse(stat, 100, 1_000).unwrap();
        assert_eq!(stats.cpu_seconds, Some(3.0));
        assert_eq!(stats.threads, Some(3));
        assert_eq!(stats.start_time_seconds, Some(1_010.0));
        assert_eq!(stats.virtual_bytes, Some(4_096));
        assert_eq!(stats.resident_bytes, Some(7));
        assert_eq!(ProcessStats::parse("", 100, 0), None);
        assert_eq!(ProcessStats::parse("1 (a) S 1", 100, 0), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let stats = ProcessStats::read();
        assert!(stats.resident_bytes.unwrap() > 100_000);
        assert!(stats.virtual_bytes.unwrap() >= stats.resident_bytes.unwrap());
        assert!(stats.open_fds.unwrap() >= 3);
        assert!(stats.threads.unwrap() >= 1);
        assert!(stats.start_time_seconds.unwrap() > 1.0e9);
        assert!(stats.cpu_seconds.is_some());
    }
}
