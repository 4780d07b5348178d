//! bb8.

use std::io;
use std::sync::Arc;

use ::bb8::{ManageConnection, Pool, PooledConnection};

use super::{AsyncPool, Limits};
use crate::Outcome;
use crate::world::{Conn, World};

/// Opens stand-ins.
#[derive(Debug)]
pub struct Opener(Arc<World>);

impl ManageConnection for Opener {
    type Connection = Conn;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Conn> {
        Conn::connect(&self.0).await
    }

    async fn is_valid(&self, _: &mut Conn) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        false
    }
}

/// The peer.
#[derive(Clone)]
pub struct Bb8(Pool<Opener>);

impl AsyncPool for Bb8 {
    type Guard<'a> = PooledConnection<'a, Opener>;

    async fn build(world: Arc<World>, limits: Limits) -> Outcome<Self> {
        let pool = Pool::builder()
            .max_size(limits.size)
            .min_idle(limits.min_idle)
            .test_on_check_out(false)
            .connection_timeout(limits.acquire_timeout())
            .build_unchecked(Opener(world));
        Ok(Self(pool))
    }

    #[inline]
    async fn acquire(&self) -> Outcome<PooledConnection<'_, Opener>> {
        self.0.get().await.map_err(|e| e.to_string())
    }

    #[inline]
    fn conn<'a>(guard: &'a mut PooledConnection<'_, Opener>) -> &'a mut Conn {
        guard
    }
}
