//! Answers of a grantor, and what a member makes of them.

use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::budget::{Amount, Member, MemberParams};

use super::assert_plain;
use crate::budget::client::{ANSWER_BYTES, Failure, judge, read_grant};

/// Between two answers in the input.
const END: &[u8] = b"\n---\n";

/// Feeds answers to the client and what it reads to a member, a second apart.
///
/// # Panics
/// When an invariant is broken:
/// - What is refused is refused with a bounded line of text.
/// - Of an answer that says how long it is, no shorter piece is taken for it.
/// - A member never uses more than it was granted last, comes again, and has nothing left a century later.
pub fn budget_answer(input: &[u8]) {
    let mut now = Instant::from_millis(1);
    let mut member = Member::new(MemberParams { floor: 2, weight: 1, start: 3, refusal_is_proof: true }, now);
    for answer in split(input) {
        let claim = member.poll_claim(1, Amount::whole(5), 40, now);
        let granted = judge(answer).and_then(read_grant);
        match granted {
            Ok(grant) => {
                check_pieces(answer);
                if let Some(claim) = claim {
                    member.handle_grant(claim.seq, &grant, now);
                    let late = grant.lease < Duration::from_nanos(2);
                    assert!(member.share() <= grant.share || late, "{member:?}");
                }
            }
            Err(failure) => {
                assert!(matches!(failure, Failure::Other(_)), "there was an answer");
                assert_plain(&failure);
                if let Some(claim) = claim {
                    member.handle_silence(claim.seq, now);
                }
            }
        }
        assert!(member.floor() <= member.share(), "{member:?}");
        assert!(member.poll_timeout() < Instant::FAR, "it comes again: {member:?}");
        now = now + Duration::from_secs(1);
    }
    member.handle_timeout(Instant::FAR);
    assert!(member.share() == 0 || !member.is_known(), "{member:?}");
}

/// Pieces of an answer: none that is shorter is taken if its length was announced.
fn check_pieces(answer: &[u8]) {
    let head = answer.to_ascii_lowercase();
    if head.windows(15).filter(|window| window == b"content-length:").count() != 1 {
        return;
    }
    // In a field of its own, and a number.
    let announced = head.windows(17).any(|window| window == b"\r\ncontent-length:");
    for cut in 0..answer.len() {
        let taken = judge(&answer[..cut]).and_then(read_grant);
        assert!(taken.is_err() || !announced, "{cut} bytes are taken");
    }
    assert!(answer.len() <= ANSWER_BYTES);
}

fn split(input: &[u8]) -> Vec<&[u8]> {
    let mut answers = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(END.len()).position(|window| window == END) {
        answers.push(&rest[..at]);
        rest = &rest[at + END.len()..];
    }
    answers.push(rest);
    answers
}
