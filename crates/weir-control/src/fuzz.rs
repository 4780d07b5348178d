//! The entry point of the fuzz target: what must hold for any claims whatever. Built for it and for the tests only, which replay the
//! corpus.

use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::budget::{CONNECTIONS_MAX, Grantor, GrantorParams};

use crate::grantor::{CLAIM_BYTES, grant_json, read_claim};

/// Lines of the input that are taken as claims.
const CLAIMS: usize = 64;
/// The budget that they are of.
const PARAMS: GrantorParams =
    GrantorParams { total: 40, floors: 4, lease: Duration::from_secs(10), floor_lease: Duration::from_mins(1) };

/// Feeds claims to a grantor: one a line, after a byte that says how much time has passed, in quarters of a second.
///
/// # Panics
/// When an invariant is broken:
/// - What is no claim is refused with words of one line.
/// - Nobody is granted more than it says to hold, unless all that is counted is within the total; the same of floors.
/// - Nobody is granted more than it can use, or than it holds already.
/// - A grant is written as numbers that are read as the same.
pub fn grantor_claim(input: &[u8]) {
    let mut now = Instant::from_millis(1);
    let mut grantor = Grantor::new(PARAMS, now);
    for line in input.split(|byte| *byte == b'\n').take(CLAIMS) {
        let Some((pause, body)) = line.split_first() else { continue };
        now = now + Duration::from_millis(250) * u32::from(*pause);
        grantor.handle_timeout(now);
        let (member, claim, _) = match read_claim(&body[..body.len().min(CLAIM_BYTES)]) {
            Ok(claim) => claim,
            Err((_, words)) => {
                // The names of fields that are not known are among them, as the body has them.
                assert!(words.len() <= 2 * CLAIM_BYTES, "{words:?}");
                continue;
            }
        };
        let Ok(grant) = grantor.handle_claim(&member, &claim, now) else { continue };
        let (held, floor_held) = (claim.held.min(CONNECTIONS_MAX), claim.floor_held.min(CONNECTIONS_MAX));
        let snapshot = grantor.snapshot();
        if grant.share > held {
            assert!(snapshot.held + snapshot.unknown <= PARAMS.total, "{claim:?} got {grant:?}: {snapshot:?}");
            assert!(grant.share <= claim.max.max(claim.floor), "{claim:?} got {grant:?}");
        }
        if grant.floor > floor_held {
            let floors: u32 = snapshot.members.iter().map(|member| member.floor).sum();
            assert!(floors <= PARAMS.floors, "{claim:?} got {grant:?}: {snapshot:?}");
            assert!(grant.floor <= claim.floor, "{claim:?} got {grant:?}");
        }
        let json = grant_json(&grant);
        assert_eq!(json["share"].as_u64(), Some(u64::from(grant.share)));
        assert_eq!(json["lease_ms"].as_u64(), Some(grant.lease.as_millis() as u64));
        assert!(grantor.poll_timeout().is_some_and(|next| next > now), "a member's lease ends some time");
    }
    grantor.handle_timeout(now + PARAMS.floor_lease + PARAMS.lease);
    let left = grantor.snapshot();
    assert_eq!((left.held, left.unknown, left.members.len()), (0, 0, 0), "silence gives all back: {left:?}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn claims() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/grantor_claim");
        let mut count = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| grantor_claim(&input));
            assert!(outcome.is_ok(), "{} fails", path.display());
            count += 1;
        }
        assert!(count >= 10, "the corpus is there: {count} inputs");
    }
}
