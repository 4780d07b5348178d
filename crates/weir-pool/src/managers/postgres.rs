//! PostgreSQL, by `tokio-postgres`.
//!
//! ```no_run
//! use weir_pool::Pool;
//! use weir_pool::managers::postgres::Postgres;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::<Postgres>::builder().max_size(20).build(Postgres::new("postgres://app@db.example/shop".parse()?))?;
//! let client = pool.acquire().await?;
//! let statement = client.prepare_cached("SELECT name FROM item WHERE id = $1").await?;
//! let row = client.query_one(&statement, &[&7_i64]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a user may leave behind
//! | left | the next user |
//! |---|---|
//! | an unanswered query: the future of a query was dropped | never meets it: the connection is brought to rest first, by waiting a moment and then by a request to cancel; if that takes longer than [`Postgres::recovery`], it is closed and the next user gets another |
//! | an open transaction | by default never meets it: it is rolled back ([`Reset`]) |
//! | settings, temporary tables, locks of the session | meets them, unless [`Reset::Session`] was chosen |
//! | prepared statements of [`PostgresConnection::prepare_cached`] | finds them |
//! | a stream of rows that outlives the guard | may wait for it: drop it before the guard |
//!
//! Whether something is left is known without asking the server, so nothing of this costs a round trip where nothing was left.

mod connect;
mod statements;
pub(crate) mod wire;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Statement};

use self::connect::{Address, Opened};
use self::statements::Statements;
use self::wire::Ledger;
use super::driver::Driver;
use super::{Credentials, CredentialsError, Reset};
use crate::manager::{Manager, Release};

pub use self::connect::{SendConnect, Socket, Tls, Wire};

/// How long an unanswered query is waited for before the server is asked to cancel it: most queries are over by then, and a
/// request to cancel costs a connection.
const MOMENT: Duration = Duration::from_millis(10);
/// Prepared statements kept per connection, unless said otherwise.
const STATEMENTS: usize = 256;
/// How long a connection may take to come to rest, unless said otherwise.
const RECOVERY: Duration = Duration::from_millis(250);

/// What `DISCARD ALL` does, but for what it does to prepared statements: those are kept, ours and those that the driver keeps
/// for itself (it would use them although they are gone).
const RESET_SESSION: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT \
                             pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Opens connections to PostgreSQL. See the [module](self) for what it does about what users leave behind.
#[derive(Clone)]
pub struct Postgres<T = NoTls> {
    config: Config,
    tls: T,
    credentials: Option<Credentials>,
    init_sql: Option<String>,
    reset: Reset,
    statements: usize,
    recovery: Duration,
    cancel: bool,
}

impl Postgres {
    /// Without TLS.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tls: NoTls,
            credentials: None,
            init_sql: None,
            reset: Reset::default(),
            statements: STATEMENTS,
            recovery: RECOVERY,
            cancel: true,
        }
    }
}

impl<T> Postgres<T> {
    /// With TLS by `tls`, a connector for `tokio-postgres` that takes any stream. Whether TLS is used, and whether the server
    /// may do without, says `sslmode` of the configuration.
    #[must_use]
    pub fn tls<U: Tls>(self, tls: U) -> Postgres<U> {
        let Self { config, tls: _, credentials, init_sql, reset, statements, recovery, cancel } = self;
        Postgres { config, tls, credentials, init_sql, reset, statements, recovery, cancel }
    }

    /// Who logs in, asked at each connect; instead of user and password of the configuration (whose password stays where the login
    /// has none).
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Credentials>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// Statements that each new session begins with (`SET …`), also after [`Reset::Session`] has undone what they set. A connection on
    /// which one fails is closed; its error is that of the connect. Settings that are known before, `options` of the configuration
    /// (`-c name=value`) sets without a round trip.
    #[must_use]
    pub fn init_sql(mut self, statements: impl Into<String>) -> Self {
        self.init_sql = Some(statements.into());
        self
    }

    /// What is done with what a user has left behind.
    #[must_use]
    pub fn reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    /// Prepared statements kept per connection by [`PostgresConnection::prepare_cached`]; 256 if not set. 0 keeps none.
    #[must_use]
    pub fn statements(mut self, most: usize) -> Self {
        self.statements = most;
        self
    }

    /// How long a connection with an unanswered query may take to come to rest before its next use, within that one's deadline;
    /// 250 ms if not set. One that takes longer is closed.
    #[must_use]
    pub fn recovery(mut self, limit: Duration) -> Self {
        self.recovery = limit;
        self
    }

    /// Whether the server is asked to cancel a query whose user has gone; yes if not set. Otherwise it is waited for (see
    /// [`Postgres::recovery`]), or its connection closed, which the server may notice late.
    #[must_use]
    pub fn cancel(mut self, cancel: bool) -> Self {
        self.cancel = cancel;
        self
    }
}

impl<T: Tls> Postgres<T> {
    /// Runs what a session begins with.
    async fn init(&self, connection: &PostgresConnection) -> Result<(), PostgresError> {
        if let Some(statements) = &self.init_sql {
            connection.client.batch_execute(statements).await?;
        }
        Ok(())
    }

    /// Brings a connection to rest on which a query is unanswered.
    async fn recover(&self, connection: &PostgresConnection) -> Result<(), PostgresError> {
        let rest = async {
            let ledger = &connection.ledger;
            if timeout(MOMENT, ledger.pulse().until(|| ledger.is_quiet() || ledger.is_over())).await.is_ok() {
                return Ok(());
            }
            if self.cancel {
                connect::cancel(&self.config, &connection.client, &connection.address, &self.tls).await?;
            }
            match connection.round_trip().await {
                // It was this one that the request hit; there is only one.
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => connection.round_trip().await?,
                rest => rest?,
            }
            Ok(())
        };
        timeout(self.recovery, rest).await.unwrap_or(Err(PostgresError::Busy(self.recovery)))
    }
}

impl<T: Tls> Manager for Postgres<T> {
    type Connection = PostgresConnection;
    type Error = PostgresError;

    async fn connect(&self) -> Result<PostgresConnection, PostgresError> {
        let mut config = self.config.clone();
        if let Some(credentials) = &self.credentials {
            let login = credentials.current().await?;
            config.user(login.user);
            if let Some(password) = login.password {
                config.password(password);
            }
        }
        let opened = connect::connect(&config, &self.tls).await?;
        let mut connection = PostgresConnection::start(opened, self.statements);
        self.init(&connection).await?;
        connection.clean = connection.ledger.sent();
        Ok(connection)
    }

    async fn check(&self, connection: &mut PostgresConnection) -> Result<(), PostgresError> {
        Ok(connection.round_trip().await?)
    }

    fn is_broken(&self, connection: &mut PostgresConnection) -> bool {
        connection.client.is_closed()
    }

    async fn on_acquire(&self, connection: &mut PostgresConnection) -> Result<(), PostgresError> {
        // Mostly there is nothing to wait for.
        connection.driver.has_looked().await;
        if connection.client.is_closed() { Err(PostgresError::Closed) } else { Ok(()) }
    }

    fn on_release(&self, connection: &mut PostgresConnection) -> Release {
        let ledger = &connection.ledger;
        let open = self.reset != Reset::Nothing && !ledger.is_idle();
        let used = self.reset == Reset::Session && ledger.sent() != connection.clean;
        if !ledger.is_quiet() || open || used { Release::Reset } else { Release::Keep }
    }

    async fn reset(&self, connection: &mut PostgresConnection) -> Result<(), PostgresError> {
        connection.driver.has_looked().await;
        if !connection.ledger.is_quiet() {
            self.recover(connection).await?;
        }
        if self.reset != Reset::Nothing && !connection.ledger.is_idle() {
            connection.client.batch_execute("ROLLBACK").await?;
        }
        if self.reset == Reset::Session && connection.ledger.sent() != connection.clean {
            connection.client.batch_execute(RESET_SESSION).await?;
            self.init(connection).await?;
        }
        connection.clean = connection.ledger.sent();
        Ok(())
    }

    async fn close(&self, connection: PostgresConnection) {
        if self.cancel && !connection.ledger.is_quiet() && !connection.client.is_closed() {
            // So that the server does not go on for nobody.
            let _ = connect::cancel(&self.config, &connection.client, &connection.address, &self.tls).await;
        }
        connection.end().await;
    }
}

impl<T> fmt::Debug for Postgres<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, tls: _, credentials, init_sql, reset, statements, recovery, cancel } = self;
        f.debug_struct("Postgres")
            .field("config", config)
            .field("credentials", credentials)
            .field("init_sql", init_sql)
            .field("reset", reset)
            .field("statements", statements)
            .field("recovery", recovery)
            .field("cancel", cancel)
            .finish_non_exhaustive()
    }
}

// === the connection ===

/// A connection to PostgreSQL: a [`Client`], the task that drives it, and its prepared statements.
pub struct PostgresConnection {
    client: Client,
    driver: Driver,
    ledger: Arc<Ledger>,
    statements: Mutex<Statements>,
    address: Address,
    /// Messages sent when the session was last as new.
    clean: u64,
}

impl PostgresConnection {
    fn start(opened: Opened, statements: usize) -> Self {
        let (client, drive, ledger, address) = opened.split();
        let driver = Driver::spawn(drive, Arc::clone(ledger.pulse()));
        let clean = ledger.sent();
        Self { client, driver, ledger, statements: Mutex::new(Statements::new(statements)), address, clean }
    }

    /// Prepares a statement, or finds it prepared on this connection by an earlier user.
    ///
    /// # Cancel safety
    /// Nothing is kept if the future is dropped.
    ///
    /// # Errors
    /// If the server refuses the statement, or is gone.
    pub async fn prepare_cached(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let found = self.statements().get(sql);
        if let Some(statement) = found {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        // What goes for it is dropped outside the lock: that tells the server.
        let gone = self.statements().keep(sql, statement.clone());
        drop(gone);
        Ok(statement)
    }

    /// Forgets the prepared statements, and how many they were: after `DEALLOCATE` or `DISCARD ALL`, or when a table has changed
    /// ("cached plan must not change result type").
    pub fn forget_statements(&self) -> usize {
        self.statements().clear()
    }

    /// Statements kept.
    pub fn statements_kept(&self) -> usize {
        self.statements().len()
    }

    /// Whether no query is unanswered. Statements that are not kept are closed after their use: that is unanswered for a moment.
    pub fn is_quiet(&self) -> bool {
        self.ledger.is_quiet()
    }

    /// Whether a transaction is open, as far as the server has said.
    pub fn is_in_transaction(&self) -> bool {
        !self.ledger.is_idle()
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Statements> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for nothing; is answered after all that was asked before.
    async fn round_trip(&self) -> Result<(), tokio_postgres::Error> {
        self.client.simple_query("").await?;
        self.ledger.settle();
        Ok(())
    }

    /// Says good-bye, and waits until that is said.
    async fn end(self) {
        let Self { client, driver, statements, .. } = self;
        drop(statements);
        drop(client);
        driver.over().await;
    }
}

impl Deref for PostgresConnection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for PostgresConnection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl fmt::Debug for PostgresConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConnection")
            .field("address", &self.address)
            .field("closed", &self.client.is_closed())
            .field("quiet", &self.is_quiet())
            .field("in_transaction", &self.is_in_transaction())
            .finish_non_exhaustive()
    }
}

// === errors ===

/// Why there is no connection, or it is dead. The server's own words are part of the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// Of the driver or the server.
    #[error("{}", words(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Of the network.
    #[error("cannot reach PostgreSQL: {0}")]
    Io(#[from] std::io::Error),
    /// Of TLS.
    #[error("TLS with PostgreSQL: {0}")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody knows who logs in.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The settings contradict each other.
    #[error("settings of PostgreSQL: {0}")]
    Config(&'static str),
    /// The server is not what `target_session_attrs` asks for.
    #[error("PostgreSQL does not have the wanted session attributes (read-write or read-only)")]
    SessionAttributes,
    /// It was closed by the server.
    #[error("connection to PostgreSQL closed")]
    Closed,
    /// A query of its last user goes on.
    #[error("connection to PostgreSQL still busy with its last user's query after {0:?}")]
    Busy(Duration),
}

impl PostgresError {
    /// The server's code, if it is the server's error.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            _ => None,
        }
    }
}

/// The driver's words and those of what is behind them, which it does not repeat.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("PostgreSQL: {}: {} (SQLSTATE {})", error.severity(), error.message(), error.code().code());
    }
    let mut words = format!("PostgreSQL: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        words.push_str(": ");
        words.push_str(&error.to_string());
        source = error.source();
    }
    words
}
