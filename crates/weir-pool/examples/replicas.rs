//! How traffic and connections move between replicas: one is ejected and comes back, another joins, a weight changes.
//!
//! `cargo run --release -p weir-pool --example replicas`. The servers are in here: each answers a line after 5 ms.
#![allow(clippy::print_stdout, reason = "the example's output")]

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use weir_pool::{Address, Endpoint, EndpointPools, Manager, Pool, Standing, Weight};

/// A connection to a server of lines.
struct Lines(Address);

impl Manager for Lines {
    type Connection = TcpStream;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpStream> {
        let address = self.0.inet().ok_or(io::ErrorKind::Unsupported)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn check(&self, stream: &mut TcpStream) -> io::Result<()> {
        ask(stream).await
    }
}

async fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"?").await?;
    stream.read_u8().await.map(drop)
}

/// A replica: what it has answered, and how many connections it has.
struct Replica {
    endpoint: Endpoint,
    answered: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Replica {
    async fn start(name: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = Address::from(listener.local_addr()?);
        let (answered, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let replica = Self {
            endpoint: Endpoint { name: name.into(), ..Endpoint::new(address) },
            answered: Arc::clone(&answered),
            open: Arc::clone(&open),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answered, open) = (Arc::clone(&answered), Arc::clone(&open));
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    let _ = serve(stream, &answered).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(replica)
    }

    fn weighing(&self, weight: u16) -> Endpoint {
        Endpoint { weight: Weight::new(weight), ..self.endpoint.clone() }
    }
}

async fn serve(mut stream: TcpStream, answered: &AtomicUsize) -> io::Result<()> {
    loop {
        let line = stream.read_u8().await?;
        sleep(Duration::from_millis(5)).await;
        answered.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&[line]).await?;
    }
}

/// What happened in one part of the story.
#[derive(Debug)]
pub struct Part {
    /// What was done before.
    pub what: &'static str,
    /// For each replica: its share of the answers in percent, and its connections.
    pub replicas: Vec<(usize, usize)>,
    /// Answers in all.
    pub answers: usize,
    /// Callers that got no connection.
    pub failed: usize,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24}", self.what)?;
        for (name, (percent, open)) in ["a", "b", "c"].iter().zip(&self.replicas) {
            write!(f, " {name}: {percent:>3} % on {open:>2} connections ")?;
        }
        write!(f, " {} answers, {} failed", self.answers, self.failed)
    }
}

struct Story {
    pools: EndpointPools<Lines>,
    replicas: Vec<Replica>,
    failed: Arc<AtomicUsize>,
    time: Duration,
}

impl Story {
    /// Waits until all endpoints but the ejected ones are used, and those have no connections; then counts for a while.
    async fn part(&self, what: &'static str, connections: [usize; 3]) -> Result<Part, Box<dyn Error>> {
        let begun = Instant::now();
        let open = || self.replicas.iter().map(|replica| replica.open.load(Ordering::SeqCst)).collect::<Vec<_>>();
        while open() != connections {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{what}: not in time: {}", self.pools.snapshot()).into());
            }
            sleep(Duration::from_millis(5)).await; // tidy: allow(sleep) looks again, within a time
        }
        let answers =
            || self.replicas.iter().map(|replica| replica.answered.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let (before, failed) = (answers(), self.failed.load(Ordering::SeqCst));
        sleep(self.time).await; // tidy: allow(sleep) the time over which is counted
        let counts: Vec<usize> = answers().iter().zip(&before).map(|(after, before)| after - before).collect();
        let all = counts.iter().sum::<usize>();
        let replicas = counts.iter().zip(open()).map(|(count, open)| (count * 100 / all.max(1), open)).collect();
        let part = Part { what, replicas, answers: all, failed: self.failed.load(Ordering::SeqCst) - failed };
        println!("{part}");
        Ok(part)
    }
}

/// The story, with so much time for each part.
///
/// # Errors
/// If a socket cannot be had, or things do not come about in time.
pub async fn run(time: Duration) -> Result<Vec<Part>, Box<dyn Error>> {
    let replicas = vec![Replica::start("a").await?, Replica::start("b").await?, Replica::start("c").await?];
    let (a, b, c) = (
        |weight| replicas[0].weighing(weight),
        |weight| replicas[1].weighing(weight),
        |weight| replicas[2].weighing(weight),
    );

    let settings = Pool::<Lines>::builder().name("lines").max_size(12).min_idle(2);
    let pools = EndpointPools::<Lines>::builder(settings).build(|endpoint| Lines(endpoint.address.clone()))?;
    pools.set_endpoints(vec![a(1), b(1)])?;

    let (failed, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = Vec::new();
    for _ in 0..36 {
        let (pools, failed, over) = (pools.clone(), Arc::clone(&failed), Arc::clone(&over));
        callers.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let asked = match pools.acquire().await {
                    Ok(mut stream) => ask(&mut stream).await.is_ok(),
                    Err(_) => false,
                };
                failed.fetch_add(usize::from(!asked), Ordering::SeqCst);
            }
        }));
    }

    let address = replicas[1].endpoint.address.clone();
    let lists = [vec![a(1), b(1), c(1)], vec![a(1), b(1), c(4)], vec![b(1), c(1)]];
    let story = Story { pools: pools.clone(), replicas, failed, time };
    let mut parts = vec![story.part("a and b", [6, 6, 0]).await?];
    pools.eject(&address, Duration::from_mins(1));
    parts.push(story.part("b is ejected", [12, 0, 0]).await?);
    pools.restore(&address);
    parts.push(story.part("b is restored", [6, 6, 0]).await?);
    let [joined, heavier, left] = lists;
    pools.set_endpoints(joined)?;
    parts.push(story.part("c joins", [4, 4, 4]).await?);
    pools.set_endpoints(heavier)?;
    parts.push(story.part("c weighs four times more", [2, 2, 8]).await?);
    pools.set_endpoints(left)?;
    parts.push(story.part("a leaves, b is c's equal", [0, 6, 6]).await?);
    println!("{}", pools.snapshot());
    debug_assert!(pools.snapshot().endpoints.iter().all(|endpoint| endpoint.standing == Standing::Up));

    over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await?;
    }
    pools.close(Duration::from_secs(5)).await.map_err(|left| left.to_string())?;
    Ok(parts)
}

#[tokio::main]
#[allow(dead_code, reason = "a test runs the story by itself")]
async fn main() -> Result<(), Box<dyn Error>> {
    run(Duration::from_secs(2)).await.map(drop)
}
