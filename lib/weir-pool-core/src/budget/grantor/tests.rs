use super::*;

const LEASE: Duration = Duration::from_secs(10);
const FLOOR_LEASE: Duration = Duration::from_mins(1);

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn params() -> GrantorParams {
    GrantorParams { total: 40, floors: 4, lease: LEASE, floor_lease: FLOOR_LEASE }
}

/// A grantor that has waited for members from before: its clock stands at 100 s.
fn settled() -> Grantor {
    let mut grantor = Grantor::new(params(), at(0));
    grantor.handle_timeout(at(100));
    assert_eq!(grantor.snapshot().free, 40);
    grantor
}

fn claim(seq: u64, held: u32, demand: u32) -> Claim {
    Claim { seq, held, floor_held: 0, floor: 1, weight: 1, demand: Amount::whole(demand), max: 40 }
}

fn share(grantor: &mut Grantor, name: &str, claim: &Claim, now: Instant) -> u32 {
    grantor.handle_claim(name, claim, now).unwrap().share
}

#[test]
fn the_first_member_gets_all_and_gives_when_another_comes() {
    let mut grantor = settled();
    assert_eq!(share(&mut grantor, "a", &claim(1, 0, 5), at(100)), 40);
    // Nothing is free yet.
    assert_eq!(share(&mut grantor, "b", &claim(1, 0, 5), at(101)), 0);
    // Told to shrink, but it still has 30 open.
    let told = grantor.handle_claim("a", &claim(2, 40, 5), at(102)).unwrap();
    assert_eq!((told.share, told.renew_after < Duration::from_secs(1)), (20, true));
    assert_eq!(share(&mut grantor, "b", &claim(2, 0, 5), at(102)), 0);
    assert_eq!(share(&mut grantor, "a", &claim(3, 30, 5), at(103)), 20);
    assert_eq!(share(&mut grantor, "b", &claim(3, 0, 5), at(103)), 10);
    assert_eq!(share(&mut grantor, "a", &claim(4, 20, 5), at(104)), 20);
    assert_eq!(share(&mut grantor, "b", &claim(4, 10, 5), at(104)), 20);
    assert_eq!(grantor.snapshot().held, 40);
}

#[test]
fn what_was_granted_counts_until_a_later_claim_says_otherwise() {
    let mut grantor = settled();
    assert_eq!(share(&mut grantor, "a", &claim(1, 0, 5), at(100)), 40);
    assert_eq!(grantor.snapshot().free, 0);
    // The answer was lost: its next claim says that it holds nothing.
    assert_eq!(share(&mut grantor, "b", &claim(1, 0, 5), at(101)), 0);
    assert_eq!(share(&mut grantor, "a", &claim(2, 0, 5), at(102)), 20);
    assert_eq!(share(&mut grantor, "b", &claim(2, 0, 5), at(102)), 20);
}

#[test]
fn a_late_claim_changes_nothing() {
    let mut grantor = settled();
    assert_eq!(share(&mut grantor, "a", &claim(5, 0, 5), at(100)), 40);
    let before = grantor.snapshot();
    for seq in [4, 5] {
        assert_eq!(grantor.handle_claim("a", &claim(seq, 0, 0), at(101)), Err(Refused::Stale));
    }
    assert!(!grantor.handle_leave("a", 5, at(101)));
    assert_eq!(grantor.snapshot(), before);
    assert!(grantor.handle_leave("a", 6, at(101)));
    assert_eq!(grantor.handle_claim("a", &claim(5, 40, 5), at(102)), Err(Refused::Stale));
    assert_eq!((grantor.snapshot().free, grantor.snapshot().members.len()), (40, 0));
}

#[test]
fn a_silent_member_keeps_its_floor_and_then_nothing() {
    let mut grantor = settled();
    let with_floor = Claim { floor: 3, ..claim(1, 0, 5) };
    let grant = grantor.handle_claim("a", &with_floor, at(100)).unwrap();
    assert_eq!((grant.share, grant.floor), (40, 3));
    assert_eq!(grantor.poll_timeout(), Some(at(110)));
    grantor.handle_timeout(Instant::from_millis(109_999));
    assert_eq!(grantor.snapshot().free, 0);
    grantor.handle_timeout(at(110));
    let snapshot = grantor.snapshot();
    assert_eq!((snapshot.free, snapshot.held, snapshot.members[0].silent), (37, 3, true));
    // One is left of the floors, so the next member gets no more.
    assert_eq!(grantor.handle_claim("b", &with_floor, at(111)).map(|g| (g.share, g.floor)), Ok((37, 1)));
    assert_eq!(grantor.poll_timeout(), Some(at(121)));
    grantor.handle_timeout(at(160));
    assert_eq!(grantor.snapshot().members.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(grantor.snapshot().free, 39);
}

#[test]
fn after_a_start_only_what_members_say_they_hold_is_confirmed() {
    let mut grantor = Grantor::new(params(), at(0));
    let known = |seq, held| Claim { floor_held: 1, ..claim(seq, held, 40) };
    assert_eq!(grantor.handle_claim("a", &known(7, 12), at(1)).map(|g| (g.share, g.floor)), Ok((12, 1)));
    assert_eq!(share(&mut grantor, "new", &claim(1, 0, 40), at(2)), 0);
    assert_eq!(share(&mut grantor, "b", &known(9, 20), at(3)), 20);
    assert_eq!((grantor.snapshot().unknown, grantor.snapshot().free), (8, 0));
    assert_eq!(share(&mut grantor, "a", &known(8, 12), at(9)), 12);
    // After a lease, those who have not claimed hold their floors at most: 2 of 4.
    assert_eq!(grantor.poll_timeout(), Some(at(10)));
    grantor.handle_timeout(at(10));
    assert_eq!((grantor.snapshot().unknown, grantor.snapshot().free), (2, 6));
    assert_eq!(share(&mut grantor, "new", &claim(2, 0, 40), at(10)), 6);
    grantor.handle_timeout(at(60));
    assert_eq!(grantor.snapshot().unknown, 0);
}

/// When all claim what they held, nobody can be unknown: nothing is set aside.
#[test]
fn a_restart_takes_nothing_from_members_that_hold_everything() {
    let mut grantor = Grantor::new(params(), at(0));
    for second in 0..30 {
        let seq = 50 + second;
        assert_eq!(share(&mut grantor, "a", &claim(seq, 10, 10), at(second)), 10);
        assert_eq!(share(&mut grantor, "b", &claim(seq, 30, 30), at(second)), 30);
    }
}

/// Who waits is told at once what others' claims change.
#[test]
fn who_waits_is_told_when_there_is_news() {
    let mut grantor = settled();
    assert_eq!(share(&mut grantor, "a", &claim(1, 0, 30), at(100)), 40);
    let with_floor = |seq, held, demand| Claim { floor_held: 1, ..claim(seq, held, demand) };
    assert_eq!(grantor.handle_patient_claim("a", &with_floor(2, 40, 30), at(100)), Ok(None));
    assert_eq!(grantor.poll_grants(at(100)), []);
    // b comes: it gets nothing yet, and a is told to shrink.
    let first = grantor.handle_patient_claim("b", &claim(1, 0, 10), at(101)).unwrap().unwrap();
    assert_eq!((first.share, first.floor), (0, 1));
    let told = grantor.poll_grants(at(101));
    let [(name, 2, grant)] = &*told else { panic!("{told:?}") };
    assert_eq!((&**name, grant.share, grantor.poll_grants(at(101))), ("a", 30, vec![]));
    assert_eq!(grantor.handle_patient_claim("b", &with_floor(2, 0, 10), at(101)), Ok(None));
    // a has closed some: b has them.
    let still = grantor.handle_patient_claim("a", &with_floor(3, 36, 30), at(102)).unwrap().unwrap();
    assert_eq!((still.share, still.renew_after > Duration::ZERO), (30, true));
    let told = grantor.poll_grants(at(102));
    assert_eq!(told.iter().map(|(name, seq, grant)| (&**name, *seq, grant.share)).collect::<Vec<_>>(), [("b", 2, 4)]);
    assert_eq!(grantor.handle_patient_claim("b", &with_floor(3, 4, 10), at(102)), Ok(None));
    // One that has waited for long enough is told what it has, once.
    assert_eq!(grantor.handle_impatience("b", 3, at(103)).map(|grant| grant.share), Some(4));
    assert_eq!(grantor.handle_impatience("b", 3, at(103)), None);
    assert_eq!(grantor.handle_patient_claim("b", &with_floor(4, 4, 10), at(103)), Ok(None));
    assert!(grantor.handle_leave("a", 9, at(104)));
    assert_eq!(grantor.poll_grants(at(104)).iter().map(|(.., grant)| grant.share).collect::<Vec<_>>(), [40]);
}

#[test]
fn a_lower_total_shrinks_and_grants_nothing_until_it_holds() {
    let mut grantor = Grantor::new(GrantorParams { total: 20, ..params() }, at(0));
    assert_eq!(share(&mut grantor, "a", &claim(1, 20, 40), at(1)), 20);
    assert_eq!(share(&mut grantor, "b", &claim(1, 20, 40), at(1)), 20);
    assert_eq!(share(&mut grantor, "a", &claim(2, 20, 40), at(10)), 10);
    assert_eq!(share(&mut grantor, "b", &claim(2, 20, 40), at(10)), 10);
    assert_eq!(share(&mut grantor, "a", &claim(3, 10, 40), at(11)), 10);
    assert_eq!(grantor.snapshot().free, 0);
}

#[test]
fn members_are_bounded() {
    let mut grantor = settled();
    for member in 0..MEMBERS_MAX {
        assert!(grantor.handle_claim(&member.to_string(), &claim(1, 0, 1), at(100)).is_ok());
    }
    assert_eq!(grantor.handle_claim("one-more", &claim(1, 0, 1), at(100)), Err(Refused::Full));
    // Those without anything are forgotten after a lease.
    assert!(grantor.handle_claim("one-more", &claim(1, 0, 1), at(111)).is_ok());
}
