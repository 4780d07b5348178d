//! Every interleaving of the races that matter, by loom. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p weir-limit --release --test loom`.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use weir_limit::{Cancel, Enqueued, Permits, SharedCap, Ticket};

/// Takes a permit, or waits in line.
fn acquire(permits: &Permits<u32>, name: u32) -> Result<(), Ticket> {
    if permits.try_acquire() {
        return Ok(());
    }
    match permits.enqueue(name) {
        Enqueued::Acquired(_) => Ok(()),
        Enqueued::Waiting(ticket) => Err(ticket),
        Enqueued::Full(_) => panic!("the bound is larger than the number of threads"),
    }
}

#[test]
fn never_above_the_cap() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(1), 8));
        let inside = Arc::new(AtomicU32::new(0));
        let work = |name: u32| {
            let (permits, inside) = (permits.clone(), inside.clone());
            move || {
                if acquire(&permits, name).is_ok() {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    // A waiter who gets the permit here is inside in our place, and leaves.
                    while permits.release().is_some() {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let other = thread::spawn(work(1));
        work(2)();
        other.join().unwrap();
        assert_eq!((permits.in_flight(), permits.waiting()), (0, 0), "nobody is left behind");
    });
}

#[test]
fn no_lost_wake_up() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(1), 8));
        assert!(permits.try_acquire());
        let waiters: Vec<_> = [1, 2]
            .map(|name| {
                let permits = permits.clone();
                thread::spawn(move || acquire(&permits, name).is_ok())
            })
            .into();
        let woken = permits.release();
        let acquired: Vec<bool> = waiters.into_iter().map(|thread| thread.join().unwrap()).collect();
        // The one permit went to exactly one of them, by hand-over or by taking it.
        let holders = acquired.iter().filter(|held| **held).count() + usize::from(woken.is_some());
        assert_eq!(holders, 1);
        assert_eq!((permits.in_flight(), permits.waiting()), (1, 1));
        // And the other one is reached by the next release.
        let last = permits.release().expect("the one in line");
        assert_ne!(Some(last), woken);
        assert!(!acquired[last as usize - 1]);
    });
}

#[test]
fn first_come_first_served() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(1), 8));
        assert!(permits.try_acquire());
        assert!(acquire(&permits, 1).is_err());
        let releaser = {
            let permits = permits.clone();
            thread::spawn(move || [permits.release(), permits.release()])
        };
        let second = acquire(&permits, 2);
        let [first_out, second_out] = releaser.join().unwrap();
        assert_eq!(first_out, Some(1));
        // The newcomer waited and was handed the permit, or came when it was free, or still waits
        // for nobody: then it must have acquired.
        match second {
            Ok(()) => assert_eq!(second_out, None),
            Err(_) => assert_eq!(second_out, Some(2)),
        }
        assert_eq!((permits.in_flight(), permits.waiting()), (1, 0));
    });
}

#[test]
fn cancel_or_grant_never_both_never_neither() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(1), 8));
        assert!(permits.try_acquire());
        let Err(ticket) = acquire(&permits, 1) else { panic!("the place is taken") };
        let releaser = {
            let permits = permits.clone();
            thread::spawn(move || permits.release())
        };
        let cancelled = permits.cancel(ticket);
        let granted = releaser.join().unwrap();
        match cancelled {
            Cancel::Removed(name) => {
                assert_eq!((name, granted), (1, None));
                assert_eq!(permits.in_flight(), 0);
            }
            Cancel::AlreadyGranted => {
                assert_eq!(granted, Some(1));
                assert_eq!(permits.in_flight(), 1);
                assert_eq!(permits.release(), None);
            }
        }
        assert!(permits.try_acquire(), "the place is free again and nobody waits");
    });
}

#[test]
fn a_cancel_in_the_middle_leaves_the_others_reachable() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(1), 8));
        assert!(permits.try_acquire());
        let Err(first) = acquire(&permits, 1) else { panic!("the place is taken") };
        let newcomer = {
            let permits = permits.clone();
            thread::spawn(move || acquire(&permits, 2).is_err())
        };
        assert_eq!(permits.cancel(first), Cancel::Removed(1));
        let released = permits.release();
        if newcomer.join().unwrap() {
            assert_eq!(released, Some(2), "in line before the release, so handed the permit");
        } else {
            assert_eq!(released, None);
        }
        assert_eq!((permits.in_flight(), permits.waiting()), (1, 0));
    });
}

#[test]
fn a_raised_cap_and_a_release_serve_both_waiters_once() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(1), 8));
        assert!(permits.try_acquire());
        assert!(acquire(&permits, 1).is_err());
        assert!(acquire(&permits, 2).is_err());
        let resizer = {
            let permits = permits.clone();
            thread::spawn(move || permits.set_max(Some(2)))
        };
        let released = permits.release();
        let mut served = resizer.join().unwrap();
        served.extend(released);
        served.sort_unstable();
        assert_eq!(served, [1, 2]);
        assert_eq!((permits.in_flight(), permits.waiting()), (2, 0));
    });
}

#[test]
fn nobody_slips_through_a_shrinking_cap() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(2), 8));
        assert!(permits.try_acquire());
        let taker = {
            let permits = permits.clone();
            thread::spawn(move || permits.try_acquire())
        };
        assert!(permits.set_max(Some(1)).is_empty());
        let held_at_return = permits.in_flight();
        let taken = taker.join().unwrap();
        // Taken before the cap shrank, or not at all.
        assert_eq!(permits.in_flight(), 1 + u32::from(taken));
        assert_eq!(permits.in_flight(), held_at_return);
        assert!(!permits.try_acquire());
    });
}

#[test]
fn a_grown_cap_reaches_one_who_is_just_getting_in_line() {
    loom::model(|| {
        let permits = Arc::new(Permits::<u32>::new(Some(0), 8));
        let waiter = {
            let permits = permits.clone();
            thread::spawn(move || acquire(&permits, 1).is_ok())
        };
        let granted = permits.set_max(Some(1));
        let acquired = waiter.join().unwrap();
        assert_eq!(granted.len() + usize::from(acquired), 1);
        assert_eq!((permits.in_flight(), permits.waiting()), (1, 0));
    });
}

#[test]
fn shared_cap_counts_exactly() {
    loom::model(|| {
        let cap = Arc::new(SharedCap::new(1));
        let take = |cap: Arc<SharedCap>| move || cap.try_take();
        let others = [thread::spawn(take(cap.clone())), thread::spawn(take(cap.clone()))];
        let taken = others.into_iter().map(|t| t.join().unwrap()).filter(|t| *t).count();
        assert_eq!((taken, cap.granted()), (1, 1));
        cap.give_back();
        assert_eq!(cap.granted(), 0);
    });
}
