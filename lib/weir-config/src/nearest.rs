//! "Did you mean": the nearest known word by edit distance.

/// The candidate nearest to `word`, if one is near enough to be a slip of the fingers: at most a third
/// of its letters wrong (a swap of neighbours counts once), or the same letters but for case, `-` and `_`.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer word is no slip of a known one, and the table below is quadratic.
    const MAX_CHARS: usize = 64;
    if word.chars().count() > MAX_CHARS {
        return None;
    }
    let plain = simplify(word);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = simplify(candidate);
        if other.len() > MAX_CHARS {
            continue;
        }
        let far = distance(&plain, &other);
        let near_enough = far <= (plain.len().max(other.len()) / 3).max(1);
        let part =
            plain.len() >= 4 && (other.starts_with(&plain[..]) || plain.starts_with(&other[..]) && other.len() >= 4);
        let rank = if near_enough {
            far
        } else if part {
            MAX_CHARS
        } else {
            continue;
        };
        if best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn simplify(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, y) in b.iter().enumerate() {
            let substituted = last[j] + usize::from(x != y);
            row[j + 1] = substituted.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_not_strangers() {
        let known = ["endpoints", "balance", "least_connections", "path_prefix"];
        assert_eq!(nearest("endpoint", known), Some("endpoints"));
        assert_eq!(nearest("blaance", known), Some("balance"));
        assert_eq!(nearest("leastConnections", known), Some("least_connections"));
        assert_eq!(nearest("least-conn", known), Some("least_connections"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(nearest(&"e".repeat(1000), known), None);
    }
}
