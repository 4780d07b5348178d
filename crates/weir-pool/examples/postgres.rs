//! A pool of PostgreSQL connections.
//!
//! ```text
//! cargo run -p weir-pool --features postgres --example postgres -- postgres://postgres@127.0.0.1:5432/postgres
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use weir_pool::Pool;
use weir_pool::managers::postgres::Postgres;
use weir_pool::managers::{Login, LoginCell};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let config: tokio_postgres::Config = url.parse()?;

    // Who logs in is read at each connect, so it can change while the pool is in use.
    let login = LoginCell::new(Login { user: config.get_user().unwrap_or("postgres").to_owned(), password: None });
    let pool = Pool::<Postgres>::builder()
        .name("shop")
        .max_size(4)
        .acquire_timeout(Duration::from_secs(5))
        .build(Postgres::new(config).credentials(login.clone()))?;

    // A guard is a client; it goes back to the pool when it is dropped.
    let mut client = pool.acquire().await?;
    client.batch_execute("CREATE TEMP TABLE item (id int8 PRIMARY KEY, name text)").await?;

    // Prepared once per connection, however many users it has.
    let insert = client.prepare_cached("INSERT INTO item VALUES ($1, $2)").await?;
    let transaction = client.transaction().await?;
    transaction.execute(&insert, &[&1_i64, &"apple"]).await?;
    transaction.execute(&insert, &[&2_i64, &"pear"]).await?;
    transaction.commit().await?;
    let count: i64 = client.query_one("SELECT count(*) FROM item", &[]).await?.get(0);
    println!("{count} items");

    // A transaction that nobody ends is rolled back before the next user gets the connection.
    client.batch_execute("BEGIN; DELETE FROM item").await?;
    drop(client);
    let client = pool.acquire().await?;
    println!("in a transaction: {}", client.is_in_transaction());

    // A query that is given up does not stand in the way of the next user: the server is asked to cancel it.
    let slow = client.query("SELECT pg_sleep(60)", &[]);
    let given_up = tokio::time::timeout(Duration::from_millis(100), slow).await.is_err();
    drop(client);
    let client = pool.acquire().await?;
    let answer: i32 = client.query_one("SELECT 42", &[]).await?.get(0);
    println!("given up: {given_up}, the next answer: {answer}");
    drop(client);

    // A new password: change it, and close what was opened with the old one.
    login.set(login.get());
    pool.evict();

    println!("{}", pool.snapshot());
    pool.close(Duration::from_secs(5)).await.map_err(|left| left.to_string())?;
    Ok(())
}
