//! The pool over PostgreSQL: what users leave behind, and what happens to the server.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;
use tokio_postgres_rustls::MakeRustlsConnect;
use weir_peers::{Crowd, ENDLESS, Load, SLOW_ECHO, black_hole, full_server, pass, until};
use weir_pool::managers::postgres::{Postgres, PostgresError, Tls};
use weir_pool::managers::{Credentials, Login, LoginCell, Reset};
use weir_pool::{Builder, Guard, Pool};
use weir_test::{Cable, Outage, Postgres as Server, TempDir};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn manager(server: &Server) -> Postgres {
    Postgres::new(server.url().parse().unwrap())
}

fn pool<T: Tls>(manager: Postgres<T>, settings: impl FnOnce(Builder) -> Builder) -> Pool<Postgres<T>> {
    settings(Pool::<Postgres>::builder().name("test").max_size(4).min_idle(0).acquire_timeout(ms(20_000)))
        .build(manager)
        .unwrap()
}

async fn echo<T: Tls>(guard: &Guard<Postgres<T>>, number: i64) -> Result<i64, tokio_postgres::Error> {
    let statement = guard.prepare_cached("SELECT $1::int8").await?;
    guard.query_one(&statement, &[&number]).await?.try_get(0)
}

async fn setting<T: Tls>(guard: &Guard<Postgres<T>>, name: &str) -> String {
    guard.query_one("SELECT current_setting($1)", &[&name]).await.unwrap().get(0)
}

async fn pid<T: Tls>(guard: &Guard<Postgres<T>>) -> i32 {
    guard.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

// === what users leave behind ===

#[tokio::test]
async fn an_open_transaction_is_rolled_back() {
    let server = Server::run(&[]);
    server.sql("CREATE TABLE t (n int)");
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let guard = pool.acquire().await.unwrap();
    let first = pid(&guard).await;
    guard.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    assert!(guard.is_in_transaction());
    drop(guard);
    let mut guard = pool.acquire().await.unwrap();
    assert!(!guard.is_in_transaction());
    assert_eq!(pid(&guard).await, first, "the connection itself is kept");
    let transaction = guard.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (2)", &[]).await.unwrap();
    drop(transaction);
    drop(guard);
    // One that has failed.
    let guard = pool.acquire().await.unwrap();
    guard.batch_execute("BEGIN").await.unwrap();
    guard.batch_execute("SELECT 1/0").await.unwrap_err();
    drop(guard);
    let guard = pool.acquire().await.unwrap();
    assert_eq!(guard.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(pid(&guard).await, first);
}

#[tokio::test]
async fn what_is_reset_is_a_matter_of_choice() {
    let server = Server::run(&[]);
    for (reset, open, timeout, temporary) in
        [(Reset::Nothing, true, "7s", 1_i64), (Reset::Transaction, false, "7s", 1), (Reset::Session, false, "0", 0)]
    {
        let pool = pool(manager(&server).reset(reset), |pool| pool.max_size(1));
        let guard = pool.acquire().await.unwrap();
        let first = pid(&guard).await;
        echo(&guard, 1).await.unwrap();
        guard.batch_execute("SET statement_timeout = '7s'; CREATE TEMP TABLE mine (n int)").await.unwrap();
        guard.batch_execute("BEGIN; SELECT 1").await.unwrap();
        drop(guard);
        let guard = pool.acquire().await.unwrap();
        assert_eq!(pid(&guard).await, first);
        assert_eq!(guard.is_in_transaction(), open, "{reset:?}");
        assert_eq!(setting(&guard, "statement_timeout").await, timeout, "{reset:?}");
        let tables = "SELECT count(*) FROM pg_class WHERE relname = 'mine' AND pg_table_is_visible(oid)";
        assert_eq!(guard.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), temporary, "{reset:?}");
        // Prepared statements are there in every case.
        assert_eq!(guard.statements_kept(), 1);
        assert_eq!(echo(&guard, 2).await.unwrap(), 2, "{reset:?}");
    }
}

#[tokio::test]
async fn what_a_session_begins_with_holds_after_a_reset() {
    let server = Server::run(&[]);
    let init = "SET work_mem = '5MB'; SET statement_timeout = '7s'";
    let pool = pool(manager(&server).init_sql(init).reset(Reset::Session), |b| b.max_size(1));
    for _ in 0..2 {
        let guard = pool.acquire().await.unwrap();
        assert_eq!((&*setting(&guard, "work_mem").await, &*setting(&guard, "statement_timeout").await), ("5MB", "7s"));
        guard.batch_execute("SET work_mem = '9MB'").await.unwrap();
    }
    assert_eq!(pool.stats().connects.count(), 1);
    let pool = self::pool(manager(&server).init_sql("SET nothing = 1"), |b| b.max_size(1));
    let error = pool.acquire_timeout(ms(500)).await.unwrap_err();
    assert!(error.cause().unwrap().to_string().contains("nothing"), "{error}");
}

#[tokio::test]
async fn statements_are_prepared_once_and_bounded() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server).statements(3), |pool| pool.max_size(1));
    for number in 0..50 {
        let guard = pool.acquire().await.unwrap();
        assert_eq!(echo(&guard, number).await.unwrap(), number);
    }
    let prepared = "SELECT count(*), max(statement) FROM pg_prepared_statements WHERE statement LIKE '%int8'";
    let guard = pool.acquire().await.unwrap();
    let row = guard.query_one(prepared, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (1, "SELECT $1::int8"));
    for number in 0..10 {
        let statement = guard.prepare_cached(&format!("SELECT {number}::int4")).await.unwrap();
        assert_eq!(guard.query_one(&statement, &[]).await.unwrap().get::<_, i32>(0), number);
    }
    assert_eq!(guard.statements_kept(), 3);
    let row = guard.query_one("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%int_'", &[]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 3, "those that went are gone at the server too");
    assert_eq!(guard.forget_statements(), 3);
    guard.batch_execute("DEALLOCATE ALL").await.unwrap();
    assert_eq!(echo(&guard, 5).await.unwrap(), 5);
}

#[tokio::test]
async fn a_query_that_was_given_up_meets_nobody() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let guard = pool.acquire().await.unwrap();
    let first = pid(&guard).await;
    assert_eq!(echo(&guard, 1).await.unwrap(), 1);
    timeout(ms(100), guard.query(ENDLESS, &[])).await.unwrap_err();
    assert!(!guard.is_quiet());
    drop(guard);
    let begun = Instant::now();
    let guard = pool.acquire().await.unwrap();
    assert_eq!(echo(&guard, 1).await.unwrap(), 1);
    assert!(begun.elapsed() < ms(5_000), "{:?}", begun.elapsed());
    assert_eq!(pid(&guard).await, first, "a cancelled query does not cost the connection");
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    assert_eq!(server.sql(active), "0");
}

#[tokio::test]
async fn a_query_that_does_not_end_costs_the_connection() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server).cancel(false).recovery(ms(50)), |pool| pool.max_size(1).close_timeout(ms(100)));
    let guard = pool.acquire().await.unwrap();
    let first = pid(&guard).await;
    timeout(ms(50), guard.query(ENDLESS, &[])).await.unwrap_err();
    drop(guard);
    let guard = pool.acquire().await.unwrap();
    assert_ne!(pid(&guard).await, first);
    assert_eq!(echo(&guard, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_discarded_connection_stops_the_servers_work() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool);
    let guard = pool.acquire().await.unwrap();
    timeout(ms(50), guard.query(ENDLESS, &[])).await.unwrap_err();
    guard.discard();
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> \
                  pg_backend_pid()";
    until("it is over", || server.sql(active) == "0").await;
}

#[tokio::test]
async fn a_copy_that_was_given_up_meets_nobody() {
    let server = Server::run(&[]);
    server.sql("CREATE TABLE t (n int)");
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let guard = pool.acquire().await.unwrap();
    let first = pid(&guard).await;
    let sink = guard.copy_in::<_, std::io::Cursor<Vec<u8>>>("COPY t FROM STDIN").await.unwrap();
    assert!(!guard.is_quiet(), "{guard:?}");
    drop(sink);
    drop(guard);
    for number in 0..3 {
        let guard = pool.acquire().await.unwrap();
        assert_eq!((echo(&guard, number).await.unwrap(), pid(&guard).await), (number, first));
    }
}

/// Tasks whose queries are given up at any moment: every answer that anybody gets is the one to its question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_queries_never_mix_up_answers() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool.max_size(4));
    let (answered, cancelled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..16_u64)
        .map(|task| {
            let (pool, answered, cancelled) = (pool.clone(), Arc::clone(&answered), Arc::clone(&cancelled));
            tokio::spawn(async move {
                let mut state = task + 1;
                let mut random = move |below: u64| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) % below
                };
                for round in 0..150_u64 {
                    let number = (task * 1_000 + round) as i64;
                    let mut guard = pool.acquire().await.unwrap();
                    assert!(!guard.is_in_transaction());
                    let (pause, way, patience) = (random(4) as f64 / 1_000.0, random(3), random(5_000));
                    let use_it = async {
                        let answer = match way {
                            0 => guard.query_one(SLOW_ECHO, &[&number, &pause]).await?,
                            1 => {
                                let statement = guard.prepare_cached(SLOW_ECHO).await?;
                                guard.query_one(&statement, &[&number, &pause]).await?
                            }
                            _ => {
                                let transaction = guard.transaction().await?;
                                let row = transaction.query_one(SLOW_ECHO, &[&number, &pause]).await?;
                                transaction.commit().await?;
                                row
                            }
                        };
                        answer.try_get::<_, i64>(0)
                    };
                    match timeout(Duration::from_micros(patience), use_it).await {
                        Ok(answer) => {
                            assert_eq!(answer.unwrap(), number);
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(_) => {
                            cancelled.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (answered, cancelled) = (answered.load(Ordering::SeqCst), cancelled.load(Ordering::SeqCst));
    assert!(answered > 100 && cancelled > 100, "{answered} answered, {cancelled} cancelled: that proves little");
    assert_eq!(server.sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE '%transaction%'"), "0");
}

#[tokio::test]
async fn a_panic_closes_the_connection_and_no_other() {
    let server = Server::run(&[]);
    server.sql("CREATE TABLE t (n int)");
    let pool = pool(manager(&server), |pool| pool.max_size(1));
    let task = {
        let pool = pool.clone();
        tokio::spawn(async move {
            let guard = pool.acquire().await.unwrap();
            guard.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
            panic!("a user's mistake");
        })
    };
    assert!(task.await.unwrap_err().is_panic());
    let guard = pool.acquire().await.unwrap();
    assert_eq!(guard.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 0);
    let log = server.log();
    assert_eq!(log.matches("connection authorized: user=postgres database=postgres").count(), 3, "psql and two\n{log}");
}

// === how connections are opened ===

#[tokio::test]
async fn a_password_changes_without_a_new_pool() {
    let dir = TempDir::new("postgres-passwords");
    let rules = dir.write("hba", "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n");
    let server = Server::run(&[&format!("hba_file={}", rules.display())]);
    server.sql("CREATE ROLE app LOGIN PASSWORD 'first'");
    let cell = LoginCell::new(Login::new("app", "first"));
    let pool = pool(manager(&server).credentials(cell.clone()), |pool| pool.max_size(1).acquire_timeout(ms(2_000)));
    let first = pid(&pool.acquire().await.unwrap()).await;
    server.sql("ALTER ROLE app PASSWORD 'second'");
    assert_eq!(pid(&pool.acquire().await.unwrap()).await, first, "who is in stays in");
    pool.evict();
    let error = pool.acquire().await.unwrap_err();
    assert!(error.to_string().contains("password authentication failed for user \"app\""), "{error}");
    cell.set(Login::new("app", "second"));
    let guard = pool.acquire().await.unwrap();
    assert_eq!(setting(&guard, "session_authorization").await, "app");
    assert_ne!(pid(&guard).await, first);
}

#[tokio::test]
async fn a_provider_of_credentials_is_asked_at_each_connect() {
    let server = Server::run(&[]);
    server.sql("CREATE ROLE a LOGIN; CREATE ROLE b LOGIN");
    let asked = Arc::new(AtomicU64::new(0));
    let provider = Credentials::provider({
        let asked = Arc::clone(&asked);
        move || {
            let user = if asked.fetch_add(1, Ordering::SeqCst) == 0 { "a" } else { "b" };
            async move { Ok::<_, std::io::Error>(Login { user: user.to_owned(), password: None }) }
        }
    });
    let pool = pool(manager(&server).credentials(provider), |pool| pool);
    let first = pool.acquire().await.unwrap();
    let second = pool.acquire().await.unwrap();
    assert_eq!(setting(&first, "session_authorization").await, "a");
    assert_eq!(setting(&second, "session_authorization").await, "b");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn hosts_are_tried_until_one_is_what_is_wanted() {
    let reader = Server::run(&["default_transaction_read_only=on"]);
    let writer = Server::run(&[]);
    let nobody = weir_test::free_port();
    let text = |attributes: &str| {
        format!(
            "host=127.0.0.1,127.0.0.1,127.0.0.1 port={nobody},{},{} user=postgres target_session_attrs={attributes}",
            reader.port(),
            writer.port()
        )
    };
    for (attributes, read_only) in [("any", "on"), ("read-write", "off"), ("read-only", "on")] {
        let pool = pool(Postgres::new(text(attributes).parse().unwrap()), |pool| pool);
        let guard = pool.acquire().await.unwrap();
        assert_eq!(setting(&guard, "transaction_read_only").await, read_only, "{attributes}");
    }
    let config = format!("host=127.0.0.1 port={} user=postgres target_session_attrs=read-write", reader.port());
    let pool = pool(Postgres::new(config.parse().unwrap()), |pool| pool.acquire_timeout(ms(1_000)));
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error.cause(), Some(PostgresError::SessionAttributes)), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_as_good() {
    let server = Server::run(&[]);
    let config = format!("host={} port={} user=postgres", server.socket_folder().display(), server.port());
    let pool = pool(Postgres::new(config.parse().unwrap()), |pool| pool.max_size(1));
    let guard = pool.acquire().await.unwrap();
    guard.batch_execute("BEGIN").await.unwrap();
    timeout(ms(50), guard.query(ENDLESS, &[])).await.unwrap_err();
    drop(guard);
    let guard = pool.acquire().await.unwrap();
    assert_eq!(echo(&guard, 3).await.unwrap(), 3);
    assert!(!guard.is_in_transaction());
}

#[tokio::test]
async fn with_tls_the_state_is_known_as_well() {
    let dir = TempDir::new("postgres-tls");
    let (key, certificate) = (dir.path().join("key"), dir.path().join("certificate"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]);
    let output = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let hold = Server::run(&[]);
    // The key must be the server's own, and nobody else's to read.
    let owner = std::fs::metadata(hold.socket_folder()).unwrap();
    std::os::unix::fs::chown(&key, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(hold);
    let (key, file) = (format!("ssl_key_file={}", key.display()), format!("ssl_cert_file={}", certificate.display()));
    let server = Server::run(&["ssl=on", &key, &file]);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for mode in ["require", "prefer"] {
        let config = format!("host=localhost hostaddr=127.0.0.1 port={} user=postgres sslmode={mode}", server.port());
        let manager = Postgres::new(config.parse().unwrap()).tls(MakeRustlsConnect::new(tls.clone()));
        let pool = pool(manager, |pool| pool.max_size(1));
        let guard = pool.acquire().await.unwrap();
        let first = pid(&guard).await;
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert!(guard.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0), "{mode}");
        guard.batch_execute("BEGIN").await.unwrap();
        assert!(guard.is_in_transaction(), "{mode}");
        timeout(ms(50), guard.query(ENDLESS, &[])).await.unwrap_err();
        assert!(!guard.is_quiet(), "{mode}");
        drop(guard);
        let guard = pool.acquire().await.unwrap();
        assert_eq!((echo(&guard, 3).await.unwrap(), pid(&guard).await), (3, first), "{mode}");
        assert!(!guard.is_in_transaction(), "{mode}");
    }
    // A server without TLS: by choice or not at all.
    let bare = Server::run(&[]);
    for (mode, works) in [("prefer", true), ("require", false)] {
        let config = format!("host=localhost hostaddr=127.0.0.1 port={} user=postgres sslmode={mode}", bare.port());
        let manager = Postgres::new(config.parse().unwrap()).tls(MakeRustlsConnect::new(tls.clone()));
        let pool = pool(manager, |pool| {
            pool.max_size(1).acquire_timeout(if works { ms(20_000) } else { ms(500) }).validation_timeout(ms(500))
        });
        match pool.acquire().await {
            Ok(guard) => {
                guard.batch_execute("BEGIN").await.unwrap();
                assert!(works && guard.is_in_transaction());
            }
            Err(error) => assert!(!works && error.to_string().contains("server does not support TLS"), "{error}"),
        }
    }
}

// === what happens to the server ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_costs_what_was_in_flight() {
    let mut server = Server::run(&[]);
    let size = 8;
    let pool = pool(manager(&server), |pool| pool.max_size(size));
    for at_once in [true, false] {
        let load = Load::start(&pool, 40, |guard, number| async move { echo(&guard, number).await });
        load.goes_on().await;
        if at_once {
            server.kill();
        } else {
            server.stop();
        }
        // Long enough for the pause between connects to reach its end, 1 s.
        pass(ms(2_000)).await;
        server.start();
        let recovery = load.goes_on().await;
        let (failed, refused) = load.end().await;
        assert_eq!(refused, 0, "who waits is served when the server is back");
        assert!(failed <= u64::from(size), "{failed} uses failed; {size} were in flight at most");
        assert!(
            recovery < ms(1_000 + 500),
            "served {recovery:?} after the server was back; a step of the back-off is 1 s"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_ended_by_an_administrator_are_seen_by_nobody() {
    let server = Server::run(&[]);
    let pool = pool(manager(&server), |pool| pool.max_size(10).idle_timeout(None));
    let (admin, driver) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    for round in 0..5 {
        let mut guards = Vec::new();
        for number in 0..10 {
            let guard = pool.acquire().await.unwrap();
            assert_eq!(echo(&guard, number).await.unwrap(), number, "round {round}");
            guards.push(guard);
        }
        drop(guards);
        assert_eq!(pool.snapshot().idle, 10);
        let end = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                   AND pid <> pg_backend_pid()";
        let ended: i64 = admin.query_one(end, &[]).await.unwrap().get(0);
        assert_eq!(ended, 10);
        // At once: nobody has had the time to notice.
        let users: Vec<_> = (0..10)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move { echo(&pool.acquire().await.unwrap(), number).await })
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
    let dir = TempDir::new("postgres-hole");
    let rules = dir.write("hba", "host all all 0.0.0.0/0 trust\n");
    let server = cable.there(|| Server::run(&["listen_addresses=*", &format!("hba_file={}", rules.display())]));
    let config = format!("host={} port={} user=postgres", cable.far_address(), server.port());
    let echo = |guard, number| async move { echo(&guard, number).await };
    let slow = |guard: Guard<Postgres>| async move { drop(guard.query(SLOW_ECHO, &[&1_i64, &0.3]).await) };
    for outage in [Outage::Packets, Outage::Link] {
        let figures = black_hole(&cable, outage, Postgres::new(config.parse().unwrap()), echo, slow);
        println!("{outage:?}: {figures}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_named_and_not_stormed() {
    let server = Server::run(&[]);
    server.sql("CREATE ROLE app LOGIN CONNECTION LIMIT 3");
    let config = format!("host=127.0.0.1 port={} user=app dbname=postgres", server.port());
    let words = "too many connections for role \"app\"";
    let refused = || server.log().matches(words).count() as u64;
    full_server(Postgres::new(config.parse().unwrap()), 3, words, refused).await;
}

/// Not of the user, but of the whole server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_at_its_maximum_is_not_stormed() {
    let server = Server::run(&["max_connections=8", "superuser_reserved_connections=3"]);
    server.sql("CREATE ROLE app LOGIN");
    let config = format!("host=127.0.0.1 port={} user=app dbname=postgres", server.port());
    let words = "remaining connection slots are reserved";
    let refused = || server.log().matches(words).count() as u64;
    full_server(Postgres::new(config.parse().unwrap()), 5, words, refused).await;
}

/// The form of it that takes a minute is `cargo run --release -p weir-peers --bin postgres_5000`.
#[test]
fn heavy_five_thousand_tasks_share_twenty_connections() {
    let server = Server::run(&[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let crowd = Crowd { tasks: 5_000, connections: 20, time: Duration::from_secs(10), query: ms(2) };
    let figures = runtime.block_on(crowd.run(manager(&server)));
    println!("{figures}");
    assert_eq!(figures.failed, 0, "{figures}");
    assert!(figures.most - figures.fewest <= 1, "nobody is served twice before another is served once:\n{figures}");
    assert!(figures.excess() < 0.3, "{figures}");
}
