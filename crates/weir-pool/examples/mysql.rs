//! A pool of MySQL or MariaDB connections.
//!
//! ```text
//! cargo run -p weir-pool --features mysql --example mysql -- mysql://root@127.0.0.1:3306/mysql
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use mysql_async::Opts;
use mysql_async::prelude::Queryable as _;
use weir_pool::Pool;
use weir_pool::managers::Reset;
use weir_pool::managers::mysql::Mysql;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mysql://root@127.0.0.1:3306/mysql".to_owned());

    // `Reset::Session` brings the session back to where it started after each use: settings, temporary tables, locks. Without it
    // only an open transaction is rolled back.
    let manager = Mysql::new(Opts::from_url(&url)?).reset(Reset::Session);
    let pool = Pool::<Mysql>::builder().name("shop").max_size(4).build(manager)?;

    let mut conn = pool.acquire().await?;
    conn.query_drop("CREATE TEMPORARY TABLE item (id INT PRIMARY KEY, name TEXT)").await?;
    conn.exec_batch("INSERT INTO item VALUES (?, ?)", [(1, "apple"), (2, "pear")]).await?;
    let names: Vec<String> = conn.query("SELECT name FROM item ORDER BY id").await?;
    println!("{}", names.join(", "));
    conn.query_drop("SET @mine = 1").await?;
    drop(conn);

    let mut conn = pool.acquire().await?;
    let mine: Option<Option<i64>> = conn.query_first("SELECT @mine").await?;
    println!("left of the last user: {:?}", mine.flatten());

    // A query that is given up costs its connection: the driver could not tell its answer from the next one.
    let slow = conn.query_drop("DO SLEEP(60)");
    let given_up = tokio::time::timeout(Duration::from_millis(100), slow).await.is_err();
    drop(conn);
    let mut conn = pool.acquire().await?;
    let answer: Option<i64> = conn.query_first("SELECT 42").await?;
    println!("given up: {given_up}, the next answer: {answer:?}");
    drop(conn);

    println!("{}", pool.snapshot());
    pool.close(Duration::from_secs(5)).await.map_err(|left| left.to_string())?;
    Ok(())
}
