//! A pool of HTTP/1.1 connections to one server.
//!
//! ```text
//! cargo run -p weir-pool --features http1 --example http1 -- 127.0.0.1:8080
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use weir_pool::Pool;
use weir_pool::managers::http1::Http1;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let pool = Pool::<Http1<Empty<Bytes>>>::builder()
        .name("api")
        .max_size(4)
        // Below the server's keep-alive time, so that the pool closes first.
        .idle_timeout(Some(Duration::from_secs(30)))
        .build(Http1::<Empty<Bytes>>::new(address.as_str()))?;

    for path in ["/", "/again"] {
        let mut conn = pool.acquire().await?;
        let request = Request::get(path).header("host", address.as_str()).body(Empty::new())?;
        let response = conn.send_request(request).await?;
        let status = response.status();
        // Read to its end while the guard is held: a connection with an answer half read is of use to nobody.
        let body = response.into_body().collect().await?.to_bytes();
        println!("{path}: {status}, {} bytes", body.len());
    }

    println!("{}", pool.snapshot());
    pool.close(Duration::from_secs(5)).await.map_err(|left| left.to_string())?;
    Ok(())
}
