//! A pool of plain TCP connections, to a server that sends back each line.
//!
//! ```text
//! cargo run -p weir-pool --features tcp --example tcp -- 127.0.0.1:7
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use weir_pool::managers::tcp::{Tcp, TcpConnection};
use weir_pool::{Guard, Pool};

/// One exchange. The pool does not know the protocol: that it is over is told by `done`. If this future is dropped before, or
/// fails, the connection is closed when the guard goes, and the next user gets another.
async fn exchange(conn: &mut TcpConnection, line: &str) -> std::io::Result<String> {
    conn.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(&mut *conn).read_line(&mut answer).await?;
    conn.done();
    Ok(answer.trim_end().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7".to_owned());
    let pool = Pool::<Tcp>::builder().name("echo").max_size(4).build(Tcp::new(address))?;
    let port = |conn: &Guard<Tcp>| conn.get_ref().local_addr().map(|address| address.port());

    let mut conn = pool.acquire().await?;
    let first = port(&conn)?;
    println!("{}", exchange(&mut conn, "one").await?);
    drop(conn);

    let mut conn = pool.acquire().await?;
    println!("{}, on the same connection: {}", exchange(&mut conn, "two").await?, port(&conn)? == first);

    // Given up before the answer: the answer to "three" never meets who asks "four".
    conn.write_all(b"three\n").await?;
    drop(conn);
    let mut conn = pool.acquire().await?;
    println!("{}, on the same connection: {}", exchange(&mut conn, "four").await?, port(&conn)? == first);
    drop(conn);

    pool.close(Duration::from_secs(5)).await.map_err(|left| left.to_string())?;
    Ok(())
}
