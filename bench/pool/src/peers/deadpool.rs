//! deadpool.

use std::io;
use std::sync::Arc;

use ::deadpool::Runtime;
use ::deadpool::managed::{Manager, Metrics, Object, Pool, RecycleResult, Timeouts};

use super::{AsyncPool, Limits};
use crate::Outcome;
use crate::world::{Conn, World};

/// Opens stand-ins.
#[derive(Debug)]
pub struct Opener(Arc<World>);

impl Manager for Opener {
    type Type = Conn;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Conn> {
        Conn::connect(&self.0).await
    }

    async fn recycle(&self, _: &mut Conn, _: &Metrics) -> RecycleResult<io::Error> {
        Ok(())
    }
}

/// The peer.
#[derive(Clone)]
pub struct Deadpool(Pool<Opener>);

impl AsyncPool for Deadpool {
    type Guard<'a> = Object<Opener>;

    async fn build(world: Arc<World>, limits: Limits) -> Outcome<Self> {
        let mut builder = Pool::builder(Opener(world)).max_size(limits.size as usize);
        if limits.acquire_timeout.is_some() {
            let limit = limits.acquire_timeout;
            builder =
                builder.runtime(Runtime::Tokio1).timeouts(Timeouts { wait: limit, create: limit, recycle: limit });
        }
        builder.build().map(Self).map_err(|e| e.to_string())
    }

    #[inline]
    async fn acquire(&self) -> Outcome<Object<Opener>> {
        self.0.get().await.map_err(|e| e.to_string())
    }

    #[inline]
    fn conn(guard: &mut Object<Opener>) -> &mut Conn {
        guard
    }
}
