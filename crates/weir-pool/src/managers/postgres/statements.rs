//! Prepared statements of one connection, bounded: the one that was not asked for the longest goes first.

use std::collections::HashMap;

use tokio_postgres::Statement;

/// Statements by their text.
#[derive(Debug)]
pub(crate) struct Statements<S = Statement> {
    /// With the moment of the last use, counted in uses.
    kept: HashMap<Box<str>, (S, u64)>,
    max: usize,
    uses: u64,
}

impl<S: Clone> Statements<S> {
    /// At most `max`; 0 keeps none.
    pub(crate) fn new(max: usize) -> Self {
        Self { kept: HashMap::new(), max, uses: 0 }
    }

    pub(crate) fn get(&mut self, sql: &str) -> Option<S> {
        self.uses += 1;
        let (statement, used) = self.kept.get_mut(sql)?;
        *used = self.uses;
        Some(statement.clone())
    }

    /// Keeps a statement; gives back what had to go for it.
    pub(crate) fn keep(&mut self, sql: &str, statement: S) -> Option<S> {
        if self.max == 0 {
            return None;
        }
        self.uses += 1;
        if let Some((old, _)) = self.kept.insert(sql.into(), (statement, self.uses)) {
            return Some(old);
        }
        if self.kept.len() <= self.max {
            return None;
        }
        // A walk over some hundred at most, at a time when the server had to be asked anyway.
        let oldest = self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(sql, _)| sql.clone())?;
        self.kept.remove(&oldest).map(|(statement, _)| statement)
    }

    pub(crate) fn clear(&mut self) -> usize {
        let count = self.kept.len();
        self.kept.clear();
        count
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_unused_for_longest_goes() {
        let mut statements = Statements::new(2);
        assert_eq!(statements.keep("a", 1), None);
        assert_eq!(statements.keep("b", 2), None);
        assert_eq!(statements.get("a"), Some(1));
        assert_eq!(statements.keep("c", 3), Some(2));
        assert_eq!((statements.get("a"), statements.get("b"), statements.get("c")), (Some(1), None, Some(3)));
        assert_eq!(statements.keep("c", 4), Some(3));
        assert_eq!((statements.len(), statements.clear(), statements.len()), (2, 2, 0));
        assert_eq!(Statements::new(0).keep("a", 1), None);
    }
}
