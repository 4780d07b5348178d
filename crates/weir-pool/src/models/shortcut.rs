//! The shortcut past the lock, opened at each occasion. It has two lanes here, and the threads are on the first unless they say otherwise.
//!
//! | planted | fails |
//! |---|---|
//! | the lock does not close the shortcut | all of them: deadlock, or figures that are wrong |
//! | who gets in line does not | `each_has_its_lane`: deadlock |
//! | only the first lane is closed; one that is open is opened again | `each_has_its_lane`: a connection is lost |
//! | a connection that is out when it is closed finds its way back in | `who_waits_is_served…`: deadlock |
//! | … by the mark of another one | test `one_that_was_lent_when_it_was_evicted…` |
//! | what was counted past the lock is counted again by it | `the_books_are_right…`, `what_is_seen…` |
//! | a connection that finds it closed is not booked | `the_books_are_right…` |

use std::task::{Context, Poll, Waker};

use loom::thread::spawn;

use super::{Client, acquire, by_hand, end, model, pool, use_it, warm_pool};
use crate::Pool;
use crate::shortcut::thread::set_number;

fn open_often(pool: &Pool<Client>) {
    pool.shared.lock().aside.turns.set_least();
}

/// Two want the one connection again and again: it is in one hand, nobody waits in vain, and all uses are counted.
#[test]
fn the_books_are_right_whoever_takes_which_way() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        open_often(&pool);
        drop(acquire(&pool));
        let other = pool.clone();
        let other = spawn(move || {
            drop(acquire(&other));
        });
        drop(acquire(&pool));
        drop(acquire(&pool));
        other.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.acquired, stats.uses, stats.holds.count()), (4, 4, 4));
        end(&server, pool, housekeeper);
    });
}

/// The connection is out when somebody gets in line.
#[test]
fn who_waits_is_served_by_who_came_past_the_lock() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        open_often(&pool);
        drop(acquire(&pool));
        let guard = acquire(&pool);
        let other = pool.clone();
        let waiter = spawn(move || drop(acquire(&other)));
        drop(guard);
        waiter.join().unwrap();
        let state = pool.snapshot();
        assert_eq!((state.idle, state.active), (1, 0), "{state}");
        end(&server, pool, housekeeper);
    });
}

/// Somebody looks while it is used: what he sees is a state that there was.
#[test]
fn what_is_seen_meanwhile_is_true() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        open_often(&pool);
        drop(acquire(&pool));
        let other = pool.clone();
        let user = spawn(move || {
            drop(acquire(&other));
            drop(acquire(&other));
        });
        let seen = pool.stats();
        let state = pool.snapshot();
        assert!((1..=3).contains(&seen.uses), "{}", seen.uses);
        assert!(seen.acquired >= seen.uses && seen.acquired <= seen.uses + 1, "{} of {}", seen.uses, seen.acquired);
        assert_eq!(state.idle + state.active, 1, "{state}");
        user.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.acquired, stats.uses), (3, 3));
        end(&server, pool, housekeeper);
    });
}

/// The last handle goes while the connection is put back in.
#[test]
fn the_last_handle_goes_while_it_is_put_in() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        open_often(&pool);
        drop(acquire(&pool));
        let guard = acquire(&pool);
        let user = spawn(move || drop(guard));
        drop(pool);
        user.join().unwrap();
        housekeeper.join().unwrap();
        assert_eq!(server.open.load(std::sync::atomic::Ordering::SeqCst), 0, "a connection was lost");
    });
}

/// The runtime ends, and with it the housekeeper, while the connection is put back in.
#[test]
fn the_housekeeper_ends_while_it_is_put_in() {
    model(|| {
        let (server, pool, housekeeper, first) = by_hand();
        open_often(&pool);
        drop(first);
        let other = pool.clone();
        let user = spawn(move || {
            for _ in 0..2 {
                let mut asks = Box::pin(other.acquire());
                let mut cx = Context::from_waker(Waker::noop());
                match asks.as_mut().poll(&mut cx) {
                    Poll::Ready(Ok(guard)) => use_it(&guard),
                    Poll::Ready(Err(_)) | Poll::Pending => return,
                }
            }
        });
        drop(housekeeper);
        user.join().unwrap();
        assert_eq!(server.open.load(std::sync::atomic::Ordering::SeqCst), 0, "a connection was lost");
        drop(pool);
    });
}

/// Two with lanes of their own, each with a connection in it.
#[test]
fn each_has_its_lane() {
    model(|| {
        let (server, pool, housekeeper) = warm_pool(2);
        let first = acquire(&pool);
        // The housekeeper looks again.
        pool.suspend();
        pool.resume();
        drop(acquire(&pool));
        drop(first);
        open_often(&pool);
        let other = pool.clone();
        let other = spawn(move || {
            set_number(1);
            drop(acquire(&other));
            drop(acquire(&other));
            drop(acquire(&other));
        });
        drop(acquire(&pool));
        drop(acquire(&pool));
        other.join().unwrap();
        let (stats, state) = (pool.stats(), pool.snapshot());
        assert_eq!((stats.acquired, stats.uses, stats.holds.count()), (7, 7, 7));
        assert_eq!((state.idle, state.active), (2, 0), "{state}");
        end(&server, pool, housekeeper);
    });
}

/// The only connection is in the lane of one when the other comes, whose lane is closed; and the other way round.
#[test]
fn what_is_in_the_lane_of_another_is_not_out_of_reach() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        open_often(&pool);
        drop(acquire(&pool));
        let other = pool.clone();
        let other = spawn(move || {
            set_number(1);
            drop(acquire(&other));
            drop(acquire(&other));
        });
        drop(acquire(&pool));
        other.join().unwrap();
        drop(acquire(&pool));
        let (stats, state) = (pool.stats(), pool.snapshot());
        assert_eq!((stats.acquired, stats.uses), (5, 5));
        assert_eq!((state.idle, state.active), (1, 0), "{state}");
        end(&server, pool, housekeeper);
    });
}

/// A connection is taken out of its lane and not put in again: it needs a reset, say.
#[test]
fn one_that_does_not_go_back_into_its_lane_leaves_nothing_there() {
    model(|| {
        let (server, pool, housekeeper) = pool(1);
        open_often(&pool);
        drop(acquire(&pool));
        let other = pool.clone();
        let other = spawn(move || {
            set_number(1);
            drop(acquire(&other));
        });
        // Its user leaves it to be reset.
        let mut guard = acquire(&pool);
        guard.leave_to_be_reset();
        drop(guard);
        other.join().unwrap();
        drop(acquire(&pool));
        drop(acquire(&pool));
        let (stats, state) = (pool.stats(), pool.snapshot());
        assert_eq!((stats.acquired, stats.uses), (5, 5));
        assert_eq!((state.idle, state.active), (1, 0), "{state}");
        end(&server, pool, housekeeper);
    });
}
