//! What servers of Redis and HTTP say, and what their managers make of it: uses one after the other, as a pool would have them.

use std::future::ready;
use std::time::Duration;

use tokio::time::timeout;

use super::assert_plain;
use super::script::{Script, run};
use crate::manager::{Manager, Release};

/// Uses of one connection.
const USES: usize = 4;
/// Time that a user has, and a check.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects and uses the connection, with `use_it`, as long as it can be used again.
///
/// # Panics
/// If something does not end, or an error's text is not one bounded line.
async fn uses<M: Manager>(manager: &M, use_it: impl AsyncFn(&mut M::Connection)) {
    let mut connection = match timeout(PATIENCE, manager.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return assert_plain(&error),
        Err(_) => return,
    };
    for _ in 0..USES {
        // Given up by its user, maybe.
        let _ = timeout(PATIENCE, use_it(&mut connection)).await;
        if manager.is_broken(&mut connection) {
            break;
        }
        let verdict = manager.on_release(&mut connection);
        let ready = async {
            if verdict == Release::Reset {
                manager.reset(&mut connection).await?;
            }
            manager.check(&mut connection).await?;
            manager.on_acquire(&mut connection).await
        };
        match timeout(PATIENCE, ready).await {
            _ if verdict == Release::Close => break,
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                assert_plain(&error);
                break;
            }
            Err(_) => break,
        }
    }
    assert!(timeout(PATIENCE, manager.close(connection)).await.is_ok(), "it does not close");
}

/// Feeds a script of replies to the manager of Redis and its driver: log-in, some commands, resets and checks.
///
/// # Panics
/// If something does not end, or an error's text is not one bounded line.
#[cfg(feature = "redis")]
pub fn redis_reply(input: &[u8]) {
    use ::redis::aio::ConnectionLike as _;

    let script = Script::new(input);
    // A log-in and a database: their answers are read.
    let Ok(redis) = crate::managers::redis::Redis::new("redis://user:word@server/1") else {
        unreachable!("an address is an address")
    };
    let redis = redis.connector(move || ready(Ok(script.clone())));
    run(uses(&redis, async |connection| {
        let _ = connection.req_packed_command(&::redis::cmd("MULTI")).await;
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("GET").arg("a").cmd("LRANGE").arg("b").arg(0).arg(-1);
        let _ = connection.req_packed_commands(&pipeline, 0, 2).await;
    }));
}

/// Feeds a script of answers to the manager of HTTP/1.1 and hyper: some requests whose answers are read.
///
/// # Panics
/// If something does not end, or an error's text is not one bounded line.
#[cfg(feature = "http1")]
pub fn http1_answer(input: &[u8]) {
    use hyper::Request;
    use hyper::body::Body as _;

    let script = Script::new(input);
    let http = crate::managers::http1::Http1::<String>::with_connector(move || ready(Ok(script.clone())));
    run(uses(&http, async |connection| {
        let request = Request::post("/").header("host", "a").body("question".to_owned());
        let Ok(request) = request else { unreachable!("a request is a request") };
        let Ok(answer) = connection.send_request(request).await else { return };
        let mut body = std::pin::pin!(answer.into_body());
        while let Some(Ok(_)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
    }));
}
