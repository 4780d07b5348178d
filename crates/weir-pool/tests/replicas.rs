//! Against real sockets: the example's story, and servers that die and come back.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

#[path = "../examples/replicas.rs"]
#[allow(unreachable_pub, reason = "an example's items are nobody's")]
mod story;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_pool::{Address, Endpoint, EndpointPools, Manager, Pool, Refused, Standing};
use weir_test::{Origin, Reply};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_tells_its_story() {
    let parts = story::run(Duration::from_millis(400)).await.unwrap();
    assert_eq!(parts.iter().map(|part| part.failed).sum::<usize>(), 0, "{parts:?}");
    assert!(parts.iter().all(|part| part.answers > 20), "{parts:?}");
    let percents: Vec<Vec<usize>> =
        parts.iter().map(|part| part.replicas.iter().map(|(percent, _)| *percent).collect()).collect();
    assert_eq!((percents[1][1], percents[5][0]), (0, 0), "who is out gets nothing: {parts:?}");
    assert!(percents[3][2] >= 20 && percents[4][2] >= 50, "a newcomer's share, and more with more weight: {parts:?}");
    assert!(percents[4][2] > percents[4][0] + percents[4][1], "{parts:?}");
}

/// HTTP by hand, on a connection that stays open.
struct Http(Address);

impl Manager for Http {
    type Connection = TcpStream;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0.inet().ok_or(io::ErrorKind::Unsupported)?).await
    }

    async fn check(&self, stream: &mut TcpStream) -> io::Result<()> {
        get(stream).await
    }

    fn is_broken(&self, stream: &mut TcpStream) -> bool {
        // Nothing to read: not closed by the other end.
        !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

async fn get(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut bytes = [0; 512];
        match stream.read(&mut bytes).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&bytes[..n]),
        }
    }
    Ok(())
}

fn eventually(what: &str, holds: impl FnMut() -> bool) {
    tokio::task::block_in_place(|| weir_test::eventually(Duration::from_secs(30), what, holds));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_one_ejected_one_killed_one_restarted() {
    let start = |port| Origin::start_on(port, |_| Reply::text("ok"));
    let mut servers = vec![start(0), start(0), start(0)];
    let addresses: Vec<Address> = servers.iter().map(|server| Address::from(server.address())).collect();
    let settings = Pool::<Http>::builder().name("web").max_size(9).min_idle(1).acquire_timeout(Duration::from_secs(10));
    let pools = EndpointPools::<Http>::builder(settings).build(|endpoint| Http(endpoint.address.clone())).unwrap();
    pools.set_endpoints(addresses.iter().cloned().map(Endpoint::new).collect()).unwrap();

    let (over, refused, broken) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..18)
        .map(|_| {
            let (pools, over) = (pools.clone(), Arc::clone(&over));
            let (refused, broken) = (Arc::clone(&refused), Arc::clone(&broken));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    match pools.acquire().await {
                        Ok(mut stream) => {
                            if get(&mut stream).await.is_err() {
                                // Counted first: without the connection the endpoint may be known to be away at once.
                                broken.fetch_add(1, Ordering::SeqCst);
                                stream.discard();
                            }
                        }
                        // The test has failed, and its runtime ends.
                        Err(error) if error.refused() == Refused::Closed => return,
                        Err(_) => drop(refused.fetch_add(1, Ordering::SeqCst)),
                    }
                }
            })
        })
        .collect();
    // Looked at all the time while something is waited for.
    let within = || {
        let size = pools.snapshot().size();
        assert!(size <= 9, "{size} connections of 9");
        true
    };
    // Its standing, and the connections that its pool has, or may get by a connect that was begun already.
    let seen = |at: usize| {
        let snapshot = pools.snapshot();
        let mut found = snapshot.endpoints.iter().filter(|seen| seen.endpoint.address == addresses[at]);
        found.next().map(|seen| (seen.standing, seen.pool.active + seen.pool.idle + seen.pool.opening))
    };
    eventually("all serve", || within() && servers.iter().all(|server| server.answered() > 20));

    // Ejected: empty within a second, and nobody comes.
    pools.eject(&addresses[0], Duration::from_mins(5));
    let begun = Instant::now();
    // Both must say so: the server does not know yet of a connection that it has not accepted, although it is in use.
    eventually("it is empty", || seen(0) == Some((Standing::Out, 0)) && servers[0].open_connections() == 0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let answered = servers[0].answered();
    let others = servers[1].answered() + servers[2].answered();
    eventually("the others serve", || within() && servers[1].answered() + servers[2].answered() > others + 200);
    assert_eq!(servers[0].answered(), answered);
    assert_eq!(broken.load(Ordering::SeqCst), 0);

    // Killed: only what is in flight breaks.
    let port = servers[1].port();
    drop(servers.remove(1));
    eventually("it refuses", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    // A connect that had succeeded before that may be news only now; from a moment without one nothing can come any more.
    eventually("it is known to be away", || within() && seen(1) == Some((Standing::Down, 0)));
    let lost = broken.load(Ordering::SeqCst);
    assert!(lost <= 18, "{lost}: those in flight, and those lent before the news came");
    let others = servers[1].answered();
    eventually("the last one serves", || within() && servers[1].answered() > others + 200);
    assert_eq!(broken.load(Ordering::SeqCst), lost);

    // Both come back.
    pools.restore(&addresses[0]);
    let again = start(port);
    eventually("all serve", || within() && servers[0].answered() > answered + 20 && again.answered() > 20);
    eventually("a share for each", || {
        within() && pools.snapshot().endpoints.iter().all(|seen| seen.pool.max_size == 3)
    });
    assert_eq!(refused.load(Ordering::SeqCst), 0, "nobody was refused");

    over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    pools.close(Duration::from_secs(10)).await.unwrap();
    eventually("all is closed", || servers[0].open_connections() + again.open_connections() == 0);
}

/// A server that accepts connections and answers nothing while it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_left_out_until_it_answers() {
    let hang = Arc::new((Mutex::new(false), Condvar::new()));
    let set = |hangs| {
        *hang.0.lock().unwrap() = hangs;
        hang.1.notify_all();
    };
    let hanging = Arc::clone(&hang);
    let servers = [
        Origin::start(move |_| {
            let (hangs, told) = &*hanging;
            drop(told.wait_while(hangs.lock().unwrap(), |hangs| *hangs).unwrap());
            Reply::text("ok")
        }),
        Origin::start(|_| Reply::text("ok")),
    ];
    let addresses: Vec<Address> = servers.iter().map(|server| Address::from(server.address())).collect();
    let settings = Pool::<Http>::builder().name("web").max_size(6).connect_timeout(Duration::from_millis(500));
    let pools = EndpointPools::<Http>::builder(settings.acquire_timeout(Duration::from_secs(10)))
        .build(|endpoint| Http(endpoint.address.clone()))
        .unwrap();
    pools.set_endpoints(addresses.iter().cloned().map(Endpoint::new).collect()).unwrap();
    let [over, served, failed, refused] = [(); 4].map(|()| Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let [over, served, failed, refused] = [&over, &served, &failed, &refused].map(Arc::clone);
            let pools = pools.clone();
            tokio::spawn(async move {
                while over.load(Ordering::SeqCst) == 0 {
                    let Ok(mut stream) = pools.acquire().await else {
                        refused.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    if let Ok(Ok(())) = timeout(Duration::from_millis(200), get(&mut stream)).await {
                        served.fetch_add(1, Ordering::SeqCst);
                    } else {
                        failed.fetch_add(1, Ordering::SeqCst);
                        stream.discard();
                    }
                }
            })
        })
        .collect();
    let seen = || pools.snapshot().endpoints.into_iter().find(|seen| seen.endpoint.address == addresses[0]).unwrap();
    let (served, failed) = (|| served.load(Ordering::SeqCst), || failed.load(Ordering::SeqCst));
    eventually("both serve", || servers.iter().all(|server| server.answered() > 20));

    set(true);
    eventually("it is left out", || seen().standing != Standing::Up);
    let out = Instant::now();
    eventually("it is empty", || seen().pool.active + seen().pool.idle == 0);
    assert!(out.elapsed() < Duration::from_secs(1), "{:?}: {}", out.elapsed(), pools.snapshot());
    let lost = failed();
    assert!((5..=16).contains(&lost), "{lost}: those in a row that it takes, and those that were there by then");
    eventually("it is tried, and does not answer", || seen().pool.failing_for.is_some());
    let before = served();
    eventually("the other one serves", || served() > before + 200);
    assert_eq!(failed(), lost, "nobody comes to it again");

    set(false);
    let answered = servers[0].answered();
    eventually("it is back", || seen().standing == Standing::Up && servers[0].answered() > answered + 50);
    assert_eq!((failed(), refused.load(Ordering::SeqCst)), (lost, 0));
    over.store(1, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    pools.close(Duration::from_secs(10)).await.unwrap();
}
