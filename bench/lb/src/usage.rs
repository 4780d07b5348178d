//! What processes have used, read from `/proc`.

use std::collections::BTreeMap;

/// Counters of a process and all its descendants at one moment.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Usage {
    /// User time in seconds, in steps of a clock tick.
    pub user_secs: f64,
    /// System time in seconds, in steps of a clock tick.
    pub sys_secs: f64,
    /// Time on a processor in seconds, exact (schedstat); threads that have ended are missing.
    pub cpu_secs: f64,
    /// Voluntary and involuntary context switches.
    pub switches: u64,
    /// Resident memory in MiB.
    pub rss_mib: f64,
    /// Largest resident memory so far in MiB.
    pub peak_rss_mib: f64,
}

impl Usage {
    /// What was used since `earlier`; memory is that of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_secs: self.user_secs - earlier.user_secs,
            sys_secs: self.sys_secs - earlier.sys_secs,
            cpu_secs: self.cpu_secs - earlier.cpu_secs,
            switches: self.switches.saturating_sub(earlier.switches),
            ..*self
        }
    }
}

/// `root` and its descendants.
pub fn family(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(fields) = stat_fields(pid) {
            children.entry(number(&fields, 1) as u32).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    found
}

/// The sum over `root` and its descendants.
pub fn read(root: u32) -> Usage {
    let tick = rustix::param::clock_ticks_per_second() as f64;
    let mut sum = Usage::default();
    for pid in family(root) {
        let Some(fields) = stat_fields(pid) else {
            continue;
        };
        sum.user_secs += number(&fields, 11) as f64 / tick;
        sum.sys_secs += number(&fields, 12) as f64 / tick;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        sum.rss_mib += status_value(&status, "VmRSS:") as f64 / 1_024.0;
        sum.peak_rss_mib += status_value(&status, "VmHWM:") as f64 / 1_024.0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let schedstat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanos: u64 = schedstat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
            sum.cpu_secs += nanos as f64 / 1e9;
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sum.switches += status_value(&status, "voluntary_ctxt_switches:")
                + status_value(&status, "nonvoluntary_ctxt_switches:");
        }
    }
    sum
}

/// Busy seconds of all processors since the machine started.
pub fn machine_busy_secs() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    let total: u64 = numbers.iter().take(8).sum();
    total.saturating_sub(idle) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The fields of `/proc/PID/stat` after the name: index 0 is the state, 1 the parent.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets: what counts starts after the last bracket.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], at: usize) -> u64 {
    fields.get(at).and_then(|field| field.parse().ok()).unwrap_or_default()
}

fn status_value(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let before = read(std::process::id());
        assert!(before.rss_mib > 0.1 && before.peak_rss_mib >= before.rss_mib, "{before:?}");
        let mut x = 1_u64;
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 30 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let used = read(std::process::id()).since(&before);
        assert!(used.cpu_secs > 0.001, "{used:?}");
        assert!(family(std::process::id()).contains(&std::process::id()));
        assert!(machine_busy_secs() > 0.0);
    }
}
