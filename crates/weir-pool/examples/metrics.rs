//! The metrics of two pools for Prometheus, served by nothing but tokio.
//!
//! `cargo run -p weir-pool --example metrics -- 127.0.0.1:9099`, then `curl http://127.0.0.1:9099/metrics`
#![allow(clippy::print_stdout, reason = "the example's output")]

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use weir_pool::metrics::{CONTENT_TYPE, Hikari, Pools};
use weir_pool::{Manager, Pool};

/// Longest request that is read.
const REQUEST_MAX: usize = 8 * 1024;
/// How long a scrape may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A database in name only.
struct Imaginary;

impl Manager for Imaginary {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        sleep(Duration::from_millis(5)).await; // tidy: allow(sleep) what a connect takes
        Ok(0)
    }

    async fn check(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9099".to_owned());
    let pools = Pools::new();
    let orders = Pool::<Imaginary>::builder().name("orders").max_size(10).build(Imaginary)?;
    let users = Pool::<Imaginary>::builder().name("users").max_size(4).build(Imaginary)?;
    pools.add(&orders)?;
    pools.add(&users)?;
    tokio::spawn(work(orders));
    tokio::spawn(work(users));
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/metrics", listener.local_addr()?);
    serve(listener, pools).await?;
    Ok(())
}

/// Uses the pool, for something to be seen.
async fn work(pool: Pool<Imaginary>) {
    loop {
        if let Ok(mut connection) = pool.acquire().await {
            *connection += 1;
            sleep(Duration::from_millis(3)).await; // tidy: allow(sleep) what a use takes
        }
    }
}

/// Answers scrapes until the listener fails.
pub(crate) async fn serve(listener: TcpListener, pools: Pools) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let pools = pools.clone();
        tokio::spawn(async move { timeout(LIMIT, answer(stream, &pools)).await });
    }
}

async fn answer(mut stream: TcpStream, pools: &Pools) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        ("200 OK", pools.exposition().hikari(Hikari::Micrometer).to_string())
    } else {
        ("404 Not Found", "see /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
