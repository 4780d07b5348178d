//! mobc.

use std::io;
use std::sync::Arc;

use ::mobc::{Connection, Manager, Pool, async_trait};

use super::{AsyncPool, Limits};
use crate::Outcome;
use crate::world::{Conn, World};

/// Opens stand-ins.
#[derive(Debug)]
pub struct Opener(Arc<World>);

#[async_trait]
impl Manager for Opener {
    type Connection = Conn;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Conn> {
        Conn::connect(&self.0).await
    }

    async fn check(&self, conn: Conn) -> io::Result<Conn> {
        Ok(conn)
    }
}

/// The peer.
pub struct Mobc(Pool<Opener>);

impl Clone for Mobc {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl AsyncPool for Mobc {
    type Guard<'a> = Connection<Opener>;

    async fn build(world: Arc<World>, limits: Limits) -> Outcome<Self> {
        let size = u64::from(limits.size);
        let pool = Pool::builder()
            .max_open(size)
            // It keeps two by default and would open the others again and again.
            .max_idle(size)
            .test_on_check_out(false)
            .get_timeout(Some(limits.acquire_timeout()))
            .build(Opener(world));
        Ok(Self(pool))
    }

    #[inline]
    async fn acquire(&self) -> Outcome<Connection<Opener>> {
        self.0.get().await.map_err(|e| e.to_string())
    }

    #[inline]
    fn conn(guard: &mut Connection<Opener>) -> &mut Conn {
        guard
    }
}
