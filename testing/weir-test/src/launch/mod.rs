//! Launchers of real servers: each writes its configuration into a folder of its own, listens on ports
//! of its own and is killed with its whole process group when dropped.

mod database;
mod grantor;
mod haproxy;
mod mariadb;
mod nginx;
mod postgres;
mod redis;
mod weir;

pub use grantor::Grantor;
pub use haproxy::Haproxy;
pub use mariadb::Mariadb;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use redis::Redis;
pub use weir::{Weir, WeirOptions, weir_binary};

use std::net::{Ipv4Addr, SocketAddr};

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
