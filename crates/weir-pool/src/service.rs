//! A pool as a service of `tower`.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_service::Service;

use crate::error::{AcquireError, Refused};
use crate::guard::Guard;
use crate::manager::Manager;
use crate::pool::Pool;

type Answer<M> = Result<Guard<M>, AcquireError<<M as Manager>::Error>>;
type Waiting<M> = Pin<Box<dyn Future<Output = Answer<M>> + Send>>;

/// Lends connections of a pool: `Service<(), Response = Guard<M>>`.
///
/// # Back-pressure
/// [`Service::poll_ready`] stands in line and is ready when it *has* a connection, so that [`Service::call`] answers at once.
/// A service that is ready and is not called holds its connection; dropping it gives that back. The pool's `acquire_timeout`
/// counts from the first `poll_ready`.
///
/// That a caller's time is over, that the line is full or the database down is no end of the service, so `poll_ready`
/// becomes ready and `call` gives the error. `poll_ready` fails only when the pool is closed.
///
/// # Fairness
/// A service keeps its place in line from one `poll_ready` to the next; all services of one pool, and all other callers, are served
/// first come, first served. A clone has neither the place nor the connection of its original.
///
/// # Cancel safety
/// Dropping the service leaves the line.
pub struct PoolService<M: Manager> {
    pool: Pool<M>,
    /// Where it was made: for errors, and for leaks.
    at: &'static Location<'static>,
    state: State<M>,
}

enum State<M: Manager> {
    Away,
    /// Pinned on the heap: it is polled from one `poll_ready` to the next.
    InLine(Waiting<M>),
    Served(Answer<M>),
}

impl<M: Manager> PoolService<M> {
    /// A service over this pool. What it lends counts as asked for where this is called.
    #[track_caller]
    pub fn new(pool: Pool<M>) -> Self {
        Self { pool, at: Location::caller(), state: State::Away }
    }

    fn line_up(&self) -> Waiting<M> {
        let (pool, at) = (self.pool.clone(), self.at);
        Box::pin(async move { pool.acquire_at(at).await })
    }
}

impl<M: Manager> Clone for PoolService<M> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), at: self.at, state: State::Away }
    }
}

impl<M: Manager> Service<()> for PoolService<M> {
    type Response = Guard<M>;
    type Error = AcquireError<M::Error>;
    type Future = Lending<M>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if matches!(self.state, State::Away) {
            self.state = State::InLine(self.line_up());
        }
        if let State::InLine(waiting) = &mut self.state {
            match waiting.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if error.refused() == Refused::Closed => {
                    self.state = State::Away;
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(answer) => self.state = State::Served(answer),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives what `poll_ready` got. Without it, stands in line first.
    fn call(&mut self, (): ()) -> Lending<M> {
        Lending(match std::mem::replace(&mut self.state, State::Away) {
            State::Away => State::InLine(self.line_up()),
            state => state,
        })
    }
}

impl<M: Manager> fmt::Debug for PoolService<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolService").field(&self.pool).finish()
    }
}

/// The answer of a [`PoolService`].
pub struct Lending<M: Manager>(State<M>);

// Nothing in it is pinned in place.
impl<M: Manager> Unpin for Lending<M> {}

impl<M: Manager> Future for Lending<M> {
    type Output = Answer<M>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::InLine(waiting) => waiting.as_mut().poll(cx),
            State::Away => Poll::Pending,
            State::Served(_) => match std::mem::replace(&mut self.0, State::Away) {
                State::Served(answer) => Poll::Ready(answer),
                State::InLine(_) | State::Away => Poll::Pending,
            },
        }
    }
}

impl<M: Manager> fmt::Debug for Lending<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lending")
    }
}
