//! MySQL and MariaDB, by `mysql_async` without its own pool.
//!
//! ```no_run
//! use mysql_async::prelude::Queryable as _;
//! use weir_pool::Pool;
//! use weir_pool::managers::mysql::Mysql;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let opts = mysql_async::Opts::from_url("mysql://app@db.example/shop")?;
//! let pool = Pool::<Mysql>::builder().max_size(20).build(Mysql::new(opts))?;
//! let mut conn = pool.acquire().await?;
//! let name: Option<String> = conn.exec_first("SELECT name FROM item WHERE id = ?", (7,)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a user may leave behind
//! | left | the next user |
//! |---|---|
//! | an unanswered query: the future of a query was dropped | gets another connection: the driver cannot go on with this one, it is closed. The server may go on with the query; see [`Mysql::kill`] |
//! | rows that nobody has read | has them read to their end by its first query |
//! | an open transaction, `autocommit` switched off | by default meets neither: it is rolled back, and `autocommit` is on ([`Reset`]) |
//! | settings, temporary tables, locks of the session | meets them, unless [`Reset::Session`] was chosen (`COM_RESET_CONNECTION`, which forgets prepared statements too) |
//! | prepared statements | finds them, in the driver's own bounded cache (`stmt_cache_size`) |
//!
//! # A session that the server has ended
//! The driver reads only when it is asked to, and its socket cannot be looked at from outside, so that the server has closed an idle
//! connection is known by a round trip only. Therefore each connection that has been idle, for however short a time, is checked
//! before it is lent: that is the default of [`Builder::validate_after`](crate::Builder::validate_after) here. One that goes
//! straight from one user to the next is not checked: where callers wait for connections, that is all of them, and a session that ends
//! then ends in use. Whoever would rather have an error now and then than a round trip sets `validate_after` to a longer time;
//! `Duration::ZERO` checks also what goes straight on. [`Pool::try_acquire`](crate::Pool::try_acquire) cannot await a check: it
//! finds nothing by default.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use mysql_async::consts::StatusFlags;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::time::timeout;

use super::{Credentials, CredentialsError, Reset};
use crate::manager::{Manager, Release};

/// How long what a user has left behind may take to be dealt with, unless said otherwise.
const RECOVERY: Duration = Duration::from_millis(250);

/// What has been idle for this long is checked: anything that was idle at all.
const IDLE_AT_ALL: Duration = Duration::from_nanos(1);

/// Opens connections to MySQL and MariaDB. See the [module](self) for what it does about what users leave behind.
#[derive(Clone, Debug)]
pub struct Mysql {
    opts: Opts,
    credentials: Option<Credentials>,
    reset: Reset,
    recovery: Duration,
    kill: bool,
}

impl Mysql {
    /// With these options. Those for the driver's own pool mean nothing here.
    pub fn new(opts: Opts) -> Self {
        Self { opts, credentials: None, reset: Reset::default(), recovery: RECOVERY, kill: false }
    }

    /// Who logs in, asked at each connect; instead of user and password of the options.
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Credentials>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// What is done with what a user has left behind.
    #[must_use]
    pub fn reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    /// How long that may take, within the deadline of the next user; 250 ms if not set. A connection that takes longer is closed.
    #[must_use]
    pub fn recovery(mut self, limit: Duration) -> Self {
        self.recovery = limit;
        self
    }

    /// Whether a query whose user has gone is ended by `KILL` over another connection; no if not set. Only where connections lead
    /// to one server: `KILL` names a session by a number, which is somebody else's on another server. On one that has been
    /// restarted since, nothing is killed.
    #[must_use]
    pub fn kill(mut self, kill: bool) -> Self {
        self.kill = kill;
        self
    }

    async fn open(&self) -> Result<Conn, MysqlError> {
        let mut opts = OptsBuilder::from_opts(self.opts.clone());
        if let Some(credentials) = &self.credentials {
            let login = credentials.current().await?;
            opts = opts.user(Some(login.user)).pass(login.password);
        }
        Ok(Conn::new(opts).await?)
    }

    async fn clean(&self, connection: &mut MysqlConnection) -> Result<(), MysqlError> {
        match self.reset {
            Reset::Nothing => {}
            Reset::Transaction => {
                connection.conn.query_drop("ROLLBACK").await?;
                if !connection.has(StatusFlags::SERVER_STATUS_AUTOCOMMIT) {
                    connection.conn.query_drop("SET autocommit = 1").await?;
                }
            }
            Reset::Session => {
                if !connection.conn.reset().await? {
                    return Err(MysqlError::CannotReset);
                }
            }
        }
        connection.used = false;
        Ok(())
    }

    /// Ends what `id` does at the server, unless the server is younger than that session.
    async fn end(&self, id: u32, age: Duration) -> Result<(), MysqlError> {
        let mut conn = self.open().await?;
        let up: Option<(String, u64)> = conn.query_first("SHOW GLOBAL STATUS LIKE 'Uptime'").await?;
        if up.is_some_and(|(_, seconds)| Duration::from_secs(seconds + 1) >= age) {
            conn.query_drop(format!("KILL {id}")).await?;
        }
        conn.disconnect().await?;
        Ok(())
    }
}

impl Manager for Mysql {
    type Connection = MysqlConnection;
    type Error = MysqlError;

    async fn connect(&self) -> Result<MysqlConnection, MysqlError> {
        let conn = self.open().await?;
        Ok(MysqlConnection { conn, opened: Instant::now(), used: false })
    }

    async fn check(&self, connection: &mut MysqlConnection) -> Result<(), MysqlError> {
        Ok(connection.conn.ping().await?)
    }

    fn is_broken(&self, connection: &mut MysqlConnection) -> bool {
        // Also while a query is unanswered: the driver would take the answer for that of the next one.
        connection.conn.is_disconnected()
    }

    fn validate_after(&self) -> Option<Duration> {
        Some(IDLE_AT_ALL)
    }

    fn on_release(&self, connection: &mut MysqlConnection) -> Release {
        let dirty = match self.reset {
            Reset::Nothing => false,
            Reset::Transaction => {
                connection.has(StatusFlags::SERVER_STATUS_IN_TRANS)
                    || !connection.has(StatusFlags::SERVER_STATUS_AUTOCOMMIT)
            }
            Reset::Session => connection.used,
        };
        if dirty { Release::Reset } else { Release::Keep }
    }

    async fn reset(&self, connection: &mut MysqlConnection) -> Result<(), MysqlError> {
        timeout(self.recovery, self.clean(connection)).await.unwrap_or(Err(MysqlError::Busy(self.recovery)))
    }

    async fn close(&self, connection: MysqlConnection) {
        let MysqlConnection { conn, opened, .. } = connection;
        if !conn.is_disconnected() {
            let _ = conn.disconnect().await;
        } else if self.kill {
            let id = conn.id();
            drop(conn);
            // What it did goes on for nobody.
            let _ = self.end(id, opened.elapsed()).await;
        }
    }
}

/// A connection to MySQL or MariaDB. It is a [`Conn`] for all uses.
#[derive(Debug)]
pub struct MysqlConnection {
    conn: Conn,
    opened: Instant,
    /// Since it was as new.
    used: bool,
}

impl MysqlConnection {
    /// Whether the server's last word had this flag. After an error it had none: then everything is possible, and a
    /// transaction may be open or `autocommit` off.
    fn has(&self, flag: StatusFlags) -> bool {
        match self.conn.last_ok_packet() {
            Some(ok) => ok.status_flags().contains(flag),
            None => flag == StatusFlags::SERVER_STATUS_IN_TRANS,
        }
    }
}

impl Deref for MysqlConnection {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for MysqlConnection {
    fn deref_mut(&mut self) -> &mut Conn {
        self.used = true;
        &mut self.conn
    }
}

/// Why there is no connection, or it is dead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MysqlError {
    /// Of the driver or the server.
    #[error(transparent)]
    Mysql(#[from] mysql_async::Error),
    /// Nobody knows who logs in.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The server is too old for [`Reset::Session`].
    #[error("the server knows no COM_RESET_CONNECTION (MySQL 5.7.3, MariaDB 10.2.4)")]
    CannotReset,
    /// What the last user has left behind is too much.
    #[error("connection to MySQL not as new after {0:?}")]
    Busy(Duration),
}
