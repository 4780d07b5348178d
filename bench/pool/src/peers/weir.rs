//! weir-pool.

use std::io;
use std::sync::Arc;

use weir_pool::{Guard, Manager, Pool};

use super::{AsyncPool, Limits};
use crate::Outcome;
use crate::world::{Conn, World};

/// Opens stand-ins.
#[derive(Debug)]
pub struct Opener(Arc<World>);

impl Manager for Opener {
    type Connection = Conn;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Conn> {
        Conn::connect(&self.0).await
    }

    async fn check(&self, _: &mut Conn) -> io::Result<()> {
        Ok(())
    }
}

/// The peer.
#[derive(Clone)]
pub struct Weir(Pool<Opener>);

impl AsyncPool for Weir {
    type Guard<'a> = Guard<Opener>;

    async fn build(world: Arc<World>, limits: Limits) -> Outcome<Self> {
        let mut builder =
            Pool::<Opener>::builder().max_size(limits.size).acquire_timeout(limits.acquire_timeout()).name("bench");
        if let Some(min_idle) = limits.min_idle {
            builder = builder.min_idle(min_idle);
        }
        builder.build(Opener(world)).map(Self).map_err(|e| e.to_string())
    }

    #[inline]
    async fn acquire(&self) -> Outcome<Guard<Opener>> {
        self.0.acquire().await.map_err(|e| e.to_string())
    }

    #[inline]
    fn conn(guard: &mut Guard<Opener>) -> &mut Conn {
        guard
    }
}
