//! Drawing members at random, in proportion to their weights, exactly and without state.
//!
//! The first draw uses Vose's alias table (M. Vose, "A linear algorithm for generating random numbers
//! with a given distribution", 1991): one column, one comparison, O(1). A second member that must
//! differ from the first is drawn from the running sums with the first one's interval cut out,
//! O(log n), with no redraw. With members to avoid (a retry) the draw scans the group, O(n).

use weir_core::hash::reduce;

use crate::Avoid;
use crate::group::Group;

#[derive(Debug)]
pub(crate) struct Draw {
    columns: Box<[Column]>,
    /// Sum of the weights up to and including each member.
    ends: Box<[u64]>,
}

/// A column of the alias table: stay with probability `keep / 2^32`, else go to `other`.
#[derive(Clone, Copy, Debug)]
struct Column {
    keep: u32,
    other: u32,
}

impl Draw {
    pub(crate) fn new(group: &Group) -> Self {
        let mut end = 0;
        let ends = (0..group.len())
            .map(|at| {
                end += group.weight(at);
                end
            })
            .collect();
        Self { columns: alias_table(group), ends }
    }

    /// A member by weight; `random` is uniform over 64 bits. The group must not be empty.
    pub(crate) fn one(&self, random: u64) -> usize {
        // The column comes from the high bits, the comparison from the low 32: independent, since a
        // group has far fewer than 2^32 members.
        let column = reduce(random, self.columns.len() as u64) as usize;
        let Column { keep, other } = self.columns[column];
        if (random as u32) < keep { column } else { other as usize }
    }

    /// A member by weight among all but `first`. There must be at least two.
    pub(crate) fn other_than(&self, first: usize, random: u64) -> usize {
        let start = if first == 0 { 0 } else { self.ends[first - 1] };
        let cut = self.ends[first] - start;
        let total = self.ends[self.ends.len() - 1];
        let mut at = reduce(random, total - cut);
        if at >= start {
            at += cut;
        }
        self.ends.partition_point(|&end| end <= at)
    }

    /// The member in whose interval the point `random` (uniform over 64 bits) falls.
    pub(crate) fn interval(&self, random: u64) -> usize {
        let at = reduce(random, self.ends[self.ends.len() - 1]);
        self.ends.partition_point(|&end| end <= at)
    }
}

/// A member by weight among those that are free and are not `except`; `None` if there is none.
pub(crate) fn draw_free(group: &Group, avoid: &Avoid, except: Option<usize>, random: u64) -> Option<usize> {
    let free = |&at: &usize| Some(at) != except && group.is_free(at, avoid);
    let total: u64 = (0..group.len()).filter(free).map(|at| group.weight(at)).sum();
    let mut left = reduce(random, total);
    (0..group.len()).filter(free).find(|&at| {
        let here = left < group.weight(at);
        left = left.saturating_sub(group.weight(at));
        here
    })
}

/// Vose's construction in whole numbers: `weight · n` shared out in columns of the total weight.
fn alias_table(group: &Group) -> Box<[Column]> {
    let n = group.len();
    let total = group.total_weight();
    let mut columns: Box<[Column]> = (0..n).map(|at| Column { keep: u32::MAX, other: at as u32 }).collect();
    let mut mass: Vec<u64> = (0..n).map(|at| group.weight(at) * n as u64).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&at| mass[at] < total);
    while let (Some(&poor), Some(&rich)) = (small.last(), large.last()) {
        small.pop();
        columns[poor] =
            Column { keep: ((u128::from(mass[poor]) << 32) / u128::from(total)) as u32, other: rich as u32 };
        // The rich one fills up the poor one's column.
        mass[rich] -= total - mass[poor];
        if mass[rich] < total {
            large.pop();
            small.push(rich);
        }
    }
    columns
}
