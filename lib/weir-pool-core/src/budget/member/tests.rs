use super::*;

const LEASE: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn params() -> MemberParams {
    MemberParams { floor: 2, weight: 1, start: 0, refusal_is_proof: true }
}

fn grant(share: u32) -> Grant {
    Grant { share, floor: 2, lease: LEASE, floor_lease: 6 * LEASE, renew_after: Duration::from_secs(1) }
}

/// Claims at `now`, with nothing open.
fn claim(member: &mut Member, now: Instant) -> Claim {
    member.poll_claim(0, Amount::whole(5), 40, now).unwrap()
}

/// A member that was granted 20 at 0 s.
fn granted() -> Member {
    let mut member = Member::new(params(), at(0));
    let seq = claim(&mut member, at(0)).seq;
    member.handle_grant(seq, &grant(20), at(5));
    assert_eq!((member.share(), member.floor(), member.poll_timeout()), (20, 2, at(1_005)));
    member
}

#[test]
fn before_the_first_answer_it_has_what_it_may_start_with() {
    let mut member = Member::new(MemberParams { start: 3, ..params() }, at(0));
    assert_eq!(member.share(), 3);
    let first = claim(&mut member, at(0));
    assert_eq!((first.held, first.floor_held, first.floor), (3, 0, 2));
    member.handle_silence(first.seq, at(1_000));
    member.handle_timeout(at(1_000_000));
    assert_eq!(member.share(), 3, "there is no lease that could end");
}

#[test]
fn only_the_answer_to_the_latest_claim_counts() {
    let mut member = granted();
    let lost = claim(&mut member, at(1_005));
    assert_eq!(member.poll_claim(0, Amount::whole(5), 40, at(2_000)), None, "one is under way");
    let next = claim(&mut member, at(4_005));
    assert_eq!(next.seq, lost.seq + 1);
    member.handle_grant(lost.seq, &grant(40), at(4_010));
    assert_eq!(member.share(), 20);
    member.handle_grant(next.seq, &grant(10), at(4_020));
    member.handle_grant(next.seq, &grant(40), at(4_030));
    assert_eq!(member.share(), 10, "and only once");
}

#[test]
fn it_says_what_is_open_and_says_so_soon_when_that_falls() {
    let mut member = granted();
    let told = member.poll_claim(20, Amount::whole(5), 40, at(1_005)).unwrap();
    member.handle_grant(told.seq, &grant(10), at(1_010));
    assert_eq!(member.poll_claim(20, Amount::whole(5), 40, at(1_500)), None);
    let shrunk = member.poll_claim(13, Amount::whole(5), 40, at(1_501)).unwrap();
    assert_eq!(shrunk.held, 13);
    member.handle_grant(shrunk.seq, &grant(10), at(1_510));
    assert_eq!(member.poll_claim(13, Amount::whole(5), 40, at(1_800)), None);
}

/// Also while an answer is awaited, but less and less often.
#[test]
fn it_says_what_is_new() {
    let mut member = granted();
    let ask =
        |member: &mut Member, demand, now| member.poll_claim(20, Amount::milli(demand), 40, at(now)).map(|c| c.seq);
    assert_eq!(ask(&mut member, 5_499, 900), None);
    assert_eq!(ask(&mut member, 5_500, 900), Some(2));
    assert_eq!((ask(&mut member, 9_000, 919), ask(&mut member, 9_000, 920)), (None, Some(3)));
    assert_eq!((ask(&mut member, 12_000, 959), ask(&mut member, 12_000, 960)), (None, Some(4)));
    member.handle_grant(4, &grant(20), at(970));
    assert_eq!((ask(&mut member, 12_000, 979), ask(&mut member, 20_000, 980)), (None, Some(5)));
}

#[test]
fn silence_takes_the_share_at_half_a_lease_and_the_floor_later() {
    let mut member = granted();
    let seq = claim(&mut member, at(1_005)).seq;
    member.handle_silence(seq, at(1_005) + member.answer_within());
    claim(&mut member, at(3_005));
    member.handle_timeout(at(4_999));
    assert_eq!(member.share(), 20);
    member.handle_timeout(at(5_000));
    assert_eq!(member.share(), 2);
    // 60 s less 10 % less 5 s.
    member.handle_timeout(at(48_999));
    assert_eq!(member.share(), 2);
    member.handle_timeout(at(49_000));
    assert_eq!((member.share(), member.floor()), (0, 0));
    // Heard again.
    let seq = claim(&mut member, at(60_000)).seq;
    member.handle_grant(seq, &grant(7), at(60_001));
    assert_eq!(member.share(), 7);
}

#[test]
fn refusals_keep_the_share_and_bring_back_nothing() {
    let mut member = granted();
    for second in 1..100 {
        let now = at(second * 1_100);
        let seq = claim(&mut member, now).seq;
        member.handle_refused(seq, now + Duration::from_millis(1));
        assert_eq!(member.share(), 20, "after {second} s");
    }
    let last = at(99 * 1_100);
    member.handle_timeout(last + LEASE / 2);
    assert_eq!(member.share(), 2);
    let seq = claim(&mut member, last + LEASE).seq;
    member.handle_refused(seq, last + LEASE);
    assert_eq!(member.share(), 2);

    let mut member = granted();
    member.params.refusal_is_proof = false;
    for second in 1..5 {
        let seq = claim(&mut member, at(second * 1_100)).seq;
        member.handle_refused(seq, at(second * 1_100));
    }
    member.handle_timeout(at(5_000));
    assert_eq!(member.share(), 2);
}

#[test]
fn an_answer_that_comes_after_half_a_lease_grants_nothing() {
    let mut member = granted();
    let seq = claim(&mut member, at(1_005)).seq;
    member.handle_grant(seq, &grant(40), at(6_005));
    assert_eq!(member.share(), 2);
}

#[test]
fn who_leaves_claims_no_more() {
    let mut member = granted();
    let seq = claim(&mut member, at(1_005)).seq;
    assert_eq!(member.leave(), seq + 1);
    member.handle_grant(seq, &grant(40), at(1_010));
    assert_eq!((member.share(), member.poll_timeout()), (0, Instant::FAR));
    assert_eq!(member.poll_claim(0, Amount::whole(5), 40, at(100_000)), None);
}
