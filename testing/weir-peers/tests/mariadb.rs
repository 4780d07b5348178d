//! The pool over MariaDB: what users leave behind, and what happens to the server.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Opts, OptsBuilder, Row};
use tokio::time::timeout;
use weir_peers::{Load, black_hole, full_server, pass, until};
use weir_pool::managers::mysql::{Mysql, MysqlConnection};
use weir_pool::managers::{Login, LoginCell, Reset};
use weir_pool::{Builder, Guard, Pool};
use weir_test::{Cable, Mariadb, Outage};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn manager(server: &Mariadb) -> Mysql {
    // By TCP, although the server is on this machine.
    let opts = OptsBuilder::from_opts(Opts::from_url(&server.url()).unwrap()).prefer_socket(false);
    Mysql::new(opts.into())
}

fn pool(manager: Mysql, settings: impl FnOnce(Builder) -> Builder) -> Pool<Mysql> {
    settings(Pool::<Mysql>::builder().name("test").max_size(4).min_idle(0).acquire_timeout(ms(20_000)))
        .build(manager)
        .unwrap()
}

async fn echo(mut guard: Guard<Mysql>, number: i64) -> Result<i64, mysql_async::Error> {
    let answer: Option<i64> = guard.exec_first("SELECT ?", (number,)).await?;
    Ok(answer.unwrap_or(-1))
}

async fn first<T: mysql_async::prelude::FromRow + Send + 'static>(conn: &mut MysqlConnection, sql: &str) -> T {
    conn.query_first(sql).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_open_transaction_is_rolled_back() {
    let server = Mariadb::run(&[]);
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (n INT) ENGINE = InnoDB");
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let mut conn = pool.acquire().await.unwrap();
    let id = conn.id();
    conn.query_drop("START TRANSACTION").await.unwrap();
    conn.query_drop("INSERT INTO d.t VALUES (1)").await.unwrap();
    drop(conn);
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(first::<i64>(&mut conn, "SELECT @@in_transaction").await, 0);
    // After an error, nothing is known: it is rolled back all the same.
    conn.query_drop("START TRANSACTION").await.unwrap();
    conn.query_drop("INSERT INTO d.t VALUES (2)").await.unwrap();
    conn.query_drop("SELEKT").await.unwrap_err();
    drop(conn);
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(first::<i64>(&mut conn, "SELECT COUNT(*) FROM d.t").await, 0);
    conn.query_drop("SET autocommit = 0").await.unwrap();
    conn.query_drop("INSERT INTO d.t VALUES (3)").await.unwrap();
    drop(conn);
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(first::<i64>(&mut conn, "SELECT @@autocommit").await, 1);
    assert_eq!(first::<i64>(&mut conn, "SELECT COUNT(*) FROM d.t").await, 0);
    // The driver's own, dropped.
    let mut transaction = conn.start_transaction(mysql_async::TxOpts::default()).await.unwrap();
    transaction.query_drop("INSERT INTO d.t VALUES (4)").await.unwrap();
    drop(transaction);
    drop(conn);
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(first::<i64>(&mut conn, "SELECT COUNT(*) FROM d.t").await, 0);
    assert_eq!(conn.id(), id, "the connection itself is kept");
}

#[tokio::test]
async fn what_is_reset_is_a_matter_of_choice() {
    let server = Mariadb::run(&[]);
    for (reset, open, left) in
        [(Reset::Nothing, 1, Some(7)), (Reset::Transaction, 0, Some(7)), (Reset::Session, 0, None)]
    {
        let pool = pool(manager(&server).reset(reset), |pool| pool.max_size(1));
        let mut conn = pool.acquire().await.unwrap();
        let id = conn.id();
        conn.query_drop("SET @left = 7").await.unwrap();
        conn.query_drop("START TRANSACTION").await.unwrap();
        drop(conn);
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(conn.id(), id);
        assert_eq!(first::<i64>(&mut conn, "SELECT @@in_transaction").await, open, "{reset:?}");
        assert_eq!(first::<Option<i64>>(&mut conn, "SELECT @left").await, left, "{reset:?}");
    }
}

#[tokio::test]
async fn rows_that_nobody_has_read_meet_nobody() {
    let server = Mariadb::run(&[]);
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let mut conn = pool.acquire().await.unwrap();
    let mut result = conn.query_iter("SELECT seq FROM mysql.seq_1_to_10000").await.unwrap();
    let row: Option<Row> = result.next().await.unwrap();
    assert_eq!(row.unwrap().get::<i64, _>(0), Some(1));
    drop(result);
    drop(conn);
    assert_eq!(echo(pool.acquire().await.unwrap(), 9).await.unwrap(), 9);
}

#[tokio::test]
async fn a_query_that_was_given_up_costs_the_connection() {
    let server = Mariadb::run(&[]);
    let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'DO SLEEP%'";
    for (kill, goes_on) in [(true, "0"), (false, "1")] {
        let pool = pool(manager(&server).kill(kill), |pool| pool.max_size(1));
        let mut conn = pool.acquire().await.unwrap();
        let id = conn.id();
        timeout(ms(200), conn.query_drop("DO SLEEP(1000)")).await.unwrap_err();
        drop(conn);
        let conn = pool.acquire().await.unwrap();
        assert_ne!(conn.id(), id);
        assert_eq!(echo(conn, 3).await.unwrap(), 3);
        until(&format!("with kill = {kill}"), || server.sql(running) == goes_on).await;
    }
}

/// Tasks whose queries are given up at any moment: every answer that anybody gets is the one to its question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_queries_never_mix_up_answers() {
    let server = Mariadb::run(&["--max-connections=500"]);
    let pool = pool(manager(&server), |pool| pool);
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let (mut answered, mut cancelled) = (0, 0);
                for round in 0..60_u64 {
                    let number = (task * 1_000 + round) as i64;
                    let mut guard = pool.acquire().await.unwrap();
                    let pause = (round * 7 + task) % 4;
                    let sql = format!("SELECT {number} + SLEEP(0.00{pause})");
                    match timeout(Duration::from_micros(round * 1_103 % 5_000), guard.query_first(sql)).await {
                        Ok(answer) => {
                            let answer: Option<f64> = answer.unwrap();
                            assert_eq!(answer.map(|answer| answer as i64), Some(number));
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
    assert!(answered > 50 && cancelled > 50, "{answered} answered, {cancelled} cancelled: that proves little");
}

#[tokio::test]
async fn a_password_changes_without_a_new_pool() {
    let server = Mariadb::run(&[]);
    server.sql("CREATE USER app@'%' IDENTIFIED BY 'first'");
    let cell = LoginCell::new(Login::new("app", "first"));
    let opts = OptsBuilder::from_opts(Opts::from_url(&server.url()).unwrap()).db_name(None::<String>);
    let manager = Mysql::new(opts.into()).credentials(cell.clone());
    let pool = pool(manager, |pool| pool.max_size(1).acquire_timeout(ms(2_000)));
    let id = pool.acquire().await.unwrap().id();
    server.sql("ALTER USER app@'%' IDENTIFIED BY 'second'");
    assert_eq!(pool.acquire().await.unwrap().id(), id, "who is in stays in");
    pool.evict();
    let error = pool.acquire().await.unwrap_err();
    assert!(error.to_string().contains("Access denied for user 'app'"), "{error}");
    cell.set(Login::new("app", "second"));
    let mut conn = pool.acquire().await.unwrap();
    assert!(first::<String>(&mut conn, "SELECT CURRENT_USER()").await.starts_with("app@"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_named_and_not_stormed() {
    let server = Mariadb::run(&["--max-connections=10"]);
    server.sql("CREATE USER app@'%'");
    let url = format!("mysql://app@127.0.0.1:{}", server.port());
    // One more than the maximum is let in if it may do everything: `root`, who asks.
    full_server(Mysql::new(Opts::from_url(&url).unwrap()), 10, "Too many connections", || refused(&server)).await;
}

/// Not of the server, but of the user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_at_its_maximum_is_named_and_no_storm() {
    let server = Mariadb::run(&[]);
    server.sql("CREATE USER app@'%' WITH MAX_USER_CONNECTIONS 2");
    let url = format!("mysql://app@127.0.0.1:{}", server.port());
    let words = "has exceeded the 'max_user_connections' resource";
    full_server(Mysql::new(Opts::from_url(&url).unwrap()), 2, words, || refused(&server)).await;
}

/// Connections that the server did not grant.
fn refused(server: &Mariadb) -> u64 {
    let status = server.sql("SHOW GLOBAL STATUS LIKE 'Aborted_connects'");
    status.split_whitespace().last().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_costs_what_was_in_flight() {
    let mut server = Mariadb::run(&[]);
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

/// The driver does not read while it is idle, so a connection that was used a moment ago and killed since looks alive: by default,
/// each that was idle is checked before it is lent. Whoever has chosen to check less is safe from what was idle for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_sessions_are_seen_by_nobody() {
    let server = Mariadb::run(&[]);
    let unset: fn(Builder) -> Builder = |pool| pool;
    let longer: fn(Builder) -> Builder = |pool| pool.validate_after(Some(ms(300)));
    for (settings, pause) in [(unset, Duration::ZERO), (unset, ms(20)), (longer, ms(400))] {
        let pool = pool(manager(&server), |pool| settings(pool.max_size(6).idle_timeout(None)));
        let mut admin = mysql_async::Conn::from_url(server.url()).await.unwrap();
        for round in 0..5 {
            let mut guards = Vec::new();
            for _ in 0..6 {
                guards.push(pool.acquire().await.unwrap());
            }
            let ids: Vec<u32> = guards.iter().map(|guard| guard.id()).collect();
            drop(guards);
            for id in ids {
                admin.query_drop(format!("KILL {id}")).await.unwrap();
            }
            pass(pause).await;
            let users: Vec<_> = (0..6)
                .map(|number| {
                    let pool = pool.clone();
                    tokio::spawn(async move { echo(pool.acquire().await.unwrap(), number).await })
                })
                .collect();
            for (number, user) in users.into_iter().enumerate() {
                assert_eq!(user.await.unwrap().unwrap(), number as i64, "round {round}, {pause:?}");
            }
        }
        admin.disconnect().await.unwrap();
    }
}

/// A check is for what was idle: a connection that goes from one user straight to the next has none, so where callers wait, nobody
/// pays for it. The server counts the checks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_pays_for_no_check() {
    let server = Mariadb::run(&[]);
    let pings = || -> u64 {
        let status = server.sql("SHOW GLOBAL STATUS LIKE 'Com_admin_commands'");
        status.split_whitespace().last().unwrap().parse().unwrap()
    };
    let pool = pool(manager(&server), |pool| pool.max_size(4).min_idle(4).idle_timeout(None));
    pool.warm_up(4, ms(20_000)).await.unwrap();
    let before = pings();
    for number in 0..50 {
        assert_eq!(echo(pool.acquire().await.unwrap(), number).await.unwrap(), number);
    }
    // The log-outs of `sql` are counted, too.
    let alone = pings() - before;
    assert!((50..60).contains(&alone), "{alone} checks for 50 callers one after the other");
    let before = pings();
    let uses = pool.stats().uses;
    let load = Load::start(&pool, 40, echo);
    while pool.stats().uses < uses + 2_000 {
        load.goes_on().await;
    }
    assert_eq!(load.end().await, (0, 0));
    let (checks, uses) = (pings() - before, pool.stats().uses - uses);
    // At the beginning and at the end there are fewer callers than connections.
    assert!(checks < uses / 20, "{checks} checks for {uses} callers who wait");
}

#[test]
fn a_black_hole_costs_callers_their_time_and_no_more() {
    let cable = Cable::lay();
    let server = cable.there(|| Mariadb::run(&["--bind-address=0.0.0.0"]));
    cable.there(|| server.sql("CREATE USER app@'%'"));
    let url = format!("mysql://app@{}:{}", cable.far_address(), server.port());
    let slow = |mut guard: Guard<Mysql>| async move { drop(guard.query_drop("DO SLEEP(0.3)").await) };
    // The server's socket is a file, which no network is in the way of.
    let opts = OptsBuilder::from_opts(Opts::from_url(&url).unwrap()).prefer_socket(false);
    let figures = black_hole(&cable, Outage::Packets, Mysql::new(opts.into()), echo, slow);
    println!("{figures}");
}
