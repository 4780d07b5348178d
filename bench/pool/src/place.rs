//! Which processors pools and the stub server run on.
//!
//! A wake-up of a thread on the same processor costs a third of one on another that sleeps, and the scheduler decides anew in
//! every run which of the two it is: with one task on a socket that is most of what is measured. Fixed places take it out.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// Where the processes of a run go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// Where the scheduler puts them.
    #[default]
    Free,
    /// All on the first processor.
    Together,
    /// The stub server on the last processor, the pools on the others.
    Apart,
}

/// One of the two sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The stub server.
    Server,
    /// The pools.
    Pools,
}

impl Place {
    /// Reads one.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn parse(text: &str) -> Outcome<Self> {
        match text {
            "free" => Ok(Self::Free),
            "together" => Ok(Self::Together),
            "apart" => Ok(Self::Apart),
            _ => Err(format!("--place is free, together or apart, not {text:?}")),
        }
    }

    /// Those of `processors` that a side gets; none if they are too few.
    fn choose(self, side: Side, processors: &[usize]) -> Option<&[usize]> {
        let (last, others) = processors.split_last()?;
        match (self, side) {
            (Self::Free, _) => Some(processors),
            (Self::Together, _) => processors.get(..1),
            (Self::Apart, _) if others.is_empty() => None,
            (Self::Apart, Side::Server) => Some(std::slice::from_ref(last)),
            (Self::Apart, Side::Pools) => Some(others),
        }
    }
}

/// The processors that this process may use.
///
/// # Errors
/// Of the system call.
pub fn processors() -> Outcome<Vec<usize>> {
    let set = sched_getaffinity(None).map_err(|e| format!("the processors of this process: {e}"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// What this thread starts from now on runs there.
///
/// # Errors
/// If there are too few processors, or of the system call.
pub fn start_on(place: Place, side: Side, processors: &[usize]) -> Outcome {
    if place == Place::Free {
        return Ok(());
    }
    let chosen = place.choose(side, processors).ok_or("--place apart needs two processors")?;
    let mut set = CpuSet::new();
    for &cpu in chosen {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|e| format!("processors {chosen:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_gets_its_processors() {
        let all = [2, 3, 5];
        let both = |place: Place| (place.choose(Side::Server, &all).unwrap(), place.choose(Side::Pools, &all).unwrap());
        assert_eq!(both(Place::Free), (&all[..], &all[..]));
        assert_eq!(both(Place::Together), (&[2][..], &[2][..]));
        assert_eq!(both(Place::Apart), (&[5][..], &[2, 3][..]));
        assert_eq!(Place::Apart.choose(Side::Pools, &[4]), None);
    }

    #[test]
    fn what_is_started_stays_there() {
        let processors = processors().unwrap();
        // A thread of its own: the others of this test program go on where they are.
        let seen = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                start_on(Place::Together, Side::Pools, &processors).unwrap();
                std::process::Command::new("sh").args(["-c", "grep Cpus_allowed_list /proc/self/status"]).output()
            });
            thread.join().unwrap().unwrap()
        });
        let first = processors[0].to_string();
        assert_eq!(String::from_utf8(seen.stdout).unwrap().split_whitespace().last(), Some(first.as_str()));
    }
}
