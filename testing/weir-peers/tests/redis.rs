//! The pool over Redis: what users leave behind, and what happens to the server.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::time::{Duration, Instant};

use redis::{AsyncCommands as _, AsyncConnectionConfig, RedisError, RedisResult};
use tokio::time::timeout;
use weir_peers::{Load, black_hole, full_server, pass};
use weir_pool::managers::redis::Redis;
use weir_pool::managers::{Login, LoginCell};
use weir_pool::{Builder, Guard, Pool};
use weir_test::{Cable, Outage, Redis as Server};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn manager(server: &Server) -> Redis {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Redis::new(server.url().as_str()).unwrap().config(config)
}

fn pool(manager: Redis, settings: impl FnOnce(Builder) -> Builder) -> Pool<Redis> {
    settings(Pool::<Redis>::builder().name("test").max_size(4).min_idle(0).acquire_timeout(ms(20_000)))
        .build(manager)
        .unwrap()
}

async fn echo(mut guard: Guard<Redis>, number: i64) -> Result<i64, RedisError> {
    redis::cmd("ECHO").arg(number).query_async(&mut *guard).await
}

async fn id(guard: &mut Guard<Redis>) -> i64 {
    redis::cmd("CLIENT").arg("ID").query_async(&mut **guard).await.unwrap()
}

#[tokio::test]
async fn what_can_be_undone_is_undone() {
    let server = Server::run(&[]);
    server.command(&["set", "key", "0"]);
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let first = id(&mut pool.acquire().await.unwrap()).await;
    for left in [&["MULTI"][..], &["SELECT", "3"], &["WATCH", "key"], &["CLIENT", "SETNAME", "me"]] {
        let mut guard = pool.acquire().await.unwrap();
        let mut command = redis::cmd(left[0]);
        command.arg(&left[1..]);
        command.exec_async(&mut *guard).await.unwrap();
        drop(guard);
        let mut guard = pool.acquire().await.unwrap();
        assert_eq!(id(&mut guard).await, first, "after {left:?}");
        assert_eq!(guard.get::<_, String>("key").await.unwrap(), "0", "after {left:?}");
        // Somebody else changes what was watched: that is nobody's business any more.
        server.command(&["set", "key", "0"]);
        let set: RedisResult<(String,)> = redis::pipe().atomic().echo("x").query_async(&mut *guard).await;
        assert_eq!(set.unwrap(), ("x".to_owned(),), "after {left:?}");
    }
}

trait Echo {
    fn echo(&mut self, word: &str) -> &mut Self;
}

impl Echo for redis::Pipeline {
    fn echo(&mut self, word: &str) -> &mut Self {
        self.cmd("ECHO").arg(word)
    }
}

#[tokio::test]
async fn what_cannot_be_undone_costs_the_connection() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let mut known = vec![id(&mut pool.acquire().await.unwrap()).await];
    for left in [&["SUBSCRIBE", "news"][..], &["CLIENT", "REPLY", "SKIP"], &["HELLO", "2"]] {
        let mut guard = pool.acquire().await.unwrap();
        let mut command = redis::cmd(left[0]);
        command.arg(&left[1..]);
        let _ = timeout(ms(100), command.exec_async(&mut *guard)).await;
        drop(guard);
        let mut guard = pool.acquire().await.unwrap();
        let now = id(&mut guard).await;
        assert!(!known.contains(&now), "after {left:?}");
        known.push(now);
        assert_eq!(echo(guard, 7).await.unwrap(), 7, "after {left:?}");
    }
}

#[tokio::test]
async fn a_command_that_was_given_up_meets_nobody() {
    let server = Server::run(&["--enable-debug-command", "local"]);
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let mut guard = pool.acquire().await.unwrap();
    let first = id(&mut guard).await;
    // Short: it is waited for.
    timeout(ms(20), redis::cmd("DEBUG").arg("SLEEP").arg("0.1").exec_async(&mut *guard)).await.unwrap_err();
    drop(guard);
    let mut guard = pool.acquire().await.unwrap();
    assert_eq!(id(&mut guard).await, first);
    // One that may take for ever: the connection is closed, at once.
    timeout(ms(50), guard.blpop::<_, Option<(String, String)>>("nobody", 0.0)).await.unwrap_err();
    drop(guard);
    let begun = Instant::now();
    let mut guard = pool.acquire().await.unwrap();
    assert_ne!(id(&mut guard).await, first);
    assert!(begun.elapsed() < ms(2_000), "{:?}", begun.elapsed());
    assert_eq!(echo(guard, 5).await.unwrap(), 5);
}

/// Tasks whose commands are given up at any moment: every answer that anybody gets is the one to its question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_commands_never_mix_up_answers() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool);
    let tasks: Vec<_> = (0..16_i64)
        .map(|task| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let (mut answered, mut cancelled) = (0, 0);
                for round in 0..400 {
                    let number = task * 1_000 + round;
                    let guard = pool.acquire().await.unwrap();
                    let patience = Duration::from_micros((round * 37 + task * 11) as u64 % 400);
                    match timeout(patience, echo(guard, number)).await {
                        Ok(answer) => {
                            assert_eq!(answer.unwrap(), number);
                            answered += 1;
                        }
                        Err(_) => cancelled += 1,
                    }
                }
                (answered, cancelled)
            })
        })
        .collect();
    let (mut answered, mut cancelled) = (0, 0);
    for task in tasks {
        let (a, c) = task.await.unwrap();
        (answered, cancelled) = (answered + a, cancelled + c);
    }
    // How many are given up is a matter of the machine's speed.
    assert!(answered > 0 && answered + cancelled == 6_400, "{answered} answered, {cancelled} cancelled");
    assert_eq!(echo(pool.acquire().await.unwrap(), 1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_password_changes_without_a_new_pool() {
    let server = Server::run(&["--requirepass", "first"]);
    let cell = LoginCell::new(Login::new("", "first"));
    let pool = pool(manager(&server).credentials(cell.clone()), |pool| pool.max_size(1).acquire_timeout(ms(2_000)));
    let mut guard = pool.acquire().await.unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", "second"]).exec_async(&mut *guard).await.unwrap();
    drop(guard);
    assert_eq!(echo(pool.acquire().await.unwrap(), 1).await.unwrap(), 1, "who is in stays in");
    pool.evict();
    let error = pool.acquire().await.unwrap_err();
    assert!(error.to_string().contains("Password authentication failed"), "{error}");
    cell.set(Login::new("", "second"));
    assert_eq!(echo(pool.acquire().await.unwrap(), 2).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_named_and_not_stormed() {
    // One of them asks.
    let server = Server::run(&["--maxclients", "4"]);
    let url = format!("redis://127.0.0.1:{}", server.port());
    let mut admin = redis::Client::open(url).unwrap().get_connection().unwrap();
    let refused = || {
        let text: String = redis::cmd("INFO").arg("stats").query(&mut admin).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("rejected_connections:"));
        value.unwrap_or_else(|| panic!("no such figure: {text}")).trim().parse().unwrap()
    };
    full_server(manager(&server), 3, "max number of clients reached", refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_costs_what_was_in_flight() {
    let mut server = Server::run(&[]);
    let size = 8;
    let pool = pool(manager(&server), |pool| pool.max_size(size));
    let load = Load::start(&pool, 40, echo);
    load.goes_on().await;
    server.kill();
    pass(ms(2_000)).await;
    server.start();
    let recovery = load.goes_on().await;
    let (failed, refused) = load.end().await;
    assert_eq!(refused, 0, "who waits is served when the server is back");
    assert!(failed <= u64::from(size), "{failed} uses failed; {size} were in flight at most");
    assert!(recovery < ms(1_000 + 500), "served {recovery:?} after the server was back; a step of the back-off is 1 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_clients_are_seen_by_nobody() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool.max_size(10).idle_timeout(None));
    let mut admin = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for round in 0..20 {
        let mut guards = Vec::new();
        for _ in 0..10 {
            guards.push(pool.acquire().await.unwrap());
        }
        for guard in &mut guards {
            id(guard).await;
        }
        drop(guards);
        let kill = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).to_owned();
        let killed: i64 = kill.query_async(&mut admin).await.unwrap();
        assert_eq!(killed, 10);
        // A command that is answered after they are gone.
        redis::cmd("PING").exec_async(&mut admin).await.unwrap();
        let users: Vec<_> = (0..10)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move { echo(pool.acquire().await.unwrap(), number).await })
            })
            .collect();
        for (number, user) in users.into_iter().enumerate() {
            assert_eq!(user.await.unwrap().unwrap(), number as i64, "round {round}");
        }
    }
}

#[test]
fn a_black_hole_costs_callers_their_time_and_no_more() {
    let cable = Cable::lay();
    let server = cable.there(|| Server::run(&["--bind", "0.0.0.0", "--protected-mode", "no"]));
    let url = format!("redis://{}:{}", cable.far_address(), server.port());
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let slow = |mut guard: Guard<Redis>| async move {
        drop(redis::cmd("BLPOP").arg("nothing").arg(0.3).exec_async(&mut *guard).await);
    };
    let manager = Redis::new(url.as_str()).unwrap().config(config);
    let figures = black_hole(&cable, Outage::Packets, manager, echo, slow);
    println!("{figures}");
}
