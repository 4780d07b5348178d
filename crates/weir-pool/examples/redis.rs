//! A pool of Redis connections.
//!
//! ```text
//! cargo run -p weir-pool --features redis --example redis -- redis://127.0.0.1:6379
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use redis::AsyncCommands as _;
use weir_pool::Pool;
use weir_pool::managers::redis::Redis;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let pool = Pool::<Redis>::builder().name("cache").max_size(4).build(Redis::new(url.as_str())?)?;

    let mut conn = pool.acquire().await?;
    let _: () = conn.set("fruit", "apple").await?;
    let fruit: String = conn.get("fruit").await?;
    println!("{fruit}");

    // WATCH and MULTI need a connection of one's own: that is what a guard is.
    redis::cmd("WATCH").arg("fruit").exec_async(&mut *conn).await?;
    let (hits,): (u64,) = redis::pipe().atomic().incr("hits", 1).query_async(&mut *conn).await?;
    println!("hits: {hits}");

    // What a user leaves behind is undone before the next one gets the connection.
    redis::cmd("SELECT").arg(5).exec_async(&mut *conn).await?;
    drop(conn);
    let mut conn = pool.acquire().await?;
    let fruit: Option<String> = conn.get("fruit").await?;
    println!("the pool's own database again: {fruit:?}");

    // A blocking command that is given up costs its connection: its answer may come whenever it likes.
    let wait = conn.blpop::<_, Option<(String, String)>>("nobody", 60.0);
    let given_up = tokio::time::timeout(Duration::from_millis(100), wait).await.is_err();
    drop(conn);
    let mut conn = pool.acquire().await?;
    let pong: String = redis::cmd("PING").query_async(&mut *conn).await?;
    println!("given up: {given_up}, the next answer: {pong}");
    drop(conn);

    println!("{}", pool.snapshot());
    pool.close(Duration::from_secs(5)).await.map_err(|left| left.to_string())?;
    Ok(())
}
