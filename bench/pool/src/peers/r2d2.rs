//! r2d2.

use std::io;
use std::sync::Arc;

use ::r2d2::{ManageConnection, Pool, PooledConnection};

use super::{BlockingPool, Limits};
use crate::Outcome;
use crate::world::{BlockingConn, World};

/// Opens stand-ins.
#[derive(Debug)]
pub struct Opener(Arc<World>);

impl ManageConnection for Opener {
    type Connection = BlockingConn;
    type Error = io::Error;

    fn connect(&self) -> io::Result<BlockingConn> {
        BlockingConn::connect(&self.0)
    }

    fn is_valid(&self, _: &mut BlockingConn) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut BlockingConn) -> bool {
        false
    }
}

/// The peer.
#[derive(Clone)]
pub struct R2d2(Pool<Opener>);

impl BlockingPool for R2d2 {
    type Guard = PooledConnection<Opener>;

    fn build(world: Arc<World>, limits: Limits) -> Outcome<Self> {
        let pool = Pool::builder()
            .max_size(limits.size)
            .min_idle(limits.min_idle)
            .test_on_check_out(false)
            .connection_timeout(limits.acquire_timeout())
            .build_unchecked(Opener(world));
        Ok(Self(pool))
    }

    #[inline]
    fn acquire(&self) -> Outcome<PooledConnection<Opener>> {
        self.0.get().map_err(|e| e.to_string())
    }

    #[inline]
    fn conn(guard: &mut PooledConnection<Opener>) -> &mut BlockingConn {
        guard
    }
}
