//! Which processors pools and the stub server run on.
//!
//! With one task on a socket this is most of what is measured: on two processors of a virtual machine a request took 17 µs with
//! both sides on the same one and 55 to 85 µs with each on its own, and the scheduler decides anew in every run. Fixed places take
//! that out.

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
    /// The stub server on the first processor, the pools on the others.
    Apart,
}

/// The processors of the two sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sides {
    /// Of the stub server.
    pub server: Vec<usize>,
    /// Of the pools.
    pub pools: Vec<usize>,
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

    /// Where the two sides go, of the processors that this process may use; `None` leaves it to the scheduler.
    ///
    /// # Errors
    /// If there are too few processors, or of the system call.
    pub fn sides(self) -> Outcome<Option<Sides>> {
        if self == Self::Free {
            return Ok(None);
        }
        let set = sched_getaffinity(None).map_err(|e| format!("the processors of this process: {e}"))?;
        let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
        self.divide(&processors).map(Some).ok_or_else(|| "--place apart needs two processors".to_owned())
    }

    /// `None` if they are too few.
    fn divide(self, processors: &[usize]) -> Option<Sides> {
        let (server, pools) = match self {
            Self::Free => (processors, processors),
            Self::Together => (processors.get(..1)?, processors.get(..1)?),
            Self::Apart => processors.split_at_checked(1)?,
        };
        (!pools.is_empty()).then(|| Sides { server: server.to_vec(), pools: pools.to_vec() })
    }
}

/// What this thread starts from now on runs there.
///
/// # Errors
/// Of the system call.
pub fn start_on(processors: &[usize]) -> Outcome {
    let mut set = CpuSet::new();
    for &cpu in processors {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|e| format!("processors {processors:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_gets_its_processors() {
        let sides = |place: Place| place.divide(&[2, 3, 5]).map(|sides| (sides.server, sides.pools));
        assert_eq!(sides(Place::Together), Some((vec![2], vec![2])));
        assert_eq!(sides(Place::Apart), Some((vec![2], vec![3, 5])));
        assert_eq!(Place::Apart.divide(&[4]), None);
        assert_eq!(Place::Free.sides(), Ok(None));
    }

    #[test]
    fn what_is_started_stays_there() {
        let first = Place::Together.sides().unwrap().unwrap().pools;
        // A thread of its own: the others of this test program go on where they are.
        let seen = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                start_on(&first).unwrap();
                std::process::Command::new("sh").args(["-c", "grep Cpus_allowed_list /proc/self/status"]).output()
            });
            thread.join().unwrap().unwrap()
        });
        let expected = first[0].to_string();
        assert_eq!(String::from_utf8(seen.stdout).unwrap().split_whitespace().last(), Some(expected.as_str()));
    }
}
