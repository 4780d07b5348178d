//! The pool of sqlx (`sqlx-core`), over a database that has nothing but connections.
//!
//! The pool wants a whole database as its type. Rows, columns, values and statements of this one do not exist: their
//! type has no values, so their methods cannot be called, and nothing in the cycle of the pool asks for them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx_core::Error;
use sqlx_core::Url;
use sqlx_core::arguments::{Arguments, IntoArguments};
use sqlx_core::column::{Column, ColumnIndex};
use sqlx_core::connection::{ConnectOptions, Connection};
use sqlx_core::database::Database;
use sqlx_core::encode::Encode;
use sqlx_core::error::BoxDynError;
use sqlx_core::pool::{Pool, PoolConnection, PoolOptions};
use sqlx_core::row::Row;
use sqlx_core::sql_str::SqlStr;
use sqlx_core::statement::Statement;
use sqlx_core::transaction::{Transaction, TransactionManager};
use sqlx_core::type_info::TypeInfo;
use sqlx_core::types::Type;
use sqlx_core::value::{Value, ValueRef};

use super::{AsyncPool, Limits};
use crate::Outcome;
use crate::world::{Conn, World};

/// The database.
#[derive(Debug)]
pub struct Nothing;

impl Database for Nothing {
    type Connection = NothingConnection;
    type TransactionManager = NoTransactions;
    type Row = Never;
    type QueryResult = NoResult;
    type Column = Never;
    type TypeInfo = Never;
    type Value = Never;
    type ValueRef<'r> = Never;
    type Arguments = NoArguments;
    type ArgumentBuffer = ();
    type Statement = Never;

    const NAME: &'static str = "nothing";
    const URL_SCHEMES: &'static [&'static str] = &["nothing"];
}

/// A connection of it.
#[derive(Debug)]
pub struct NothingConnection(Conn);

impl Connection for NothingConnection {
    type Database = Nothing;
    type Options = Options;

    async fn close(self) -> Result<(), Error> {
        Ok(())
    }

    async fn close_hard(self) -> Result<(), Error> {
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn begin(&mut self) -> Result<Transaction<'_, Nothing>, Error> {
        Err(unsupported())
    }

    fn shrink_buffers(&mut self) {}

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn should_flush(&self) -> bool {
        false
    }
}

fn unsupported() -> Error {
    Error::Protocol("this database has nothing but connections".to_owned())
}

/// How to reach it.
#[derive(Clone, Debug)]
pub struct Options(Arc<World>);

impl FromStr for Options {
    type Err = Error;

    fn from_str(_: &str) -> Result<Self, Error> {
        Err(unsupported())
    }
}

impl ConnectOptions for Options {
    type Connection = NothingConnection;

    fn from_url(_: &Url) -> Result<Self, Error> {
        Err(unsupported())
    }

    async fn connect(&self) -> Result<NothingConnection, Error> {
        Ok(NothingConnection(Conn::connect(&self.0).await?))
    }

    fn log_statements(self, _: log::LevelFilter) -> Self {
        self
    }

    fn log_slow_statements(self, _: log::LevelFilter, _: Duration) -> Self {
        self
    }
}

/// It has no transactions.
#[derive(Debug)]
pub struct NoTransactions;

impl TransactionManager for NoTransactions {
    type Database = Nothing;

    async fn begin(_: &mut NothingConnection, _: Option<SqlStr>) -> Result<(), Error> {
        Err(unsupported())
    }

    async fn commit(_: &mut NothingConnection) -> Result<(), Error> {
        Err(unsupported())
    }

    async fn rollback(_: &mut NothingConnection) -> Result<(), Error> {
        Err(unsupported())
    }

    fn start_rollback(_: &mut NothingConnection) {}

    fn get_transaction_depth(_: &NothingConnection) -> usize {
        0
    }
}

/// What came of a query that cannot be asked.
#[derive(Default, Debug)]
pub struct NoResult;

impl Extend<NoResult> for NoResult {
    fn extend<T: IntoIterator<Item = NoResult>>(&mut self, _: T) {}
}

/// It takes no arguments.
#[derive(Default, Debug)]
pub struct NoArguments;

impl Arguments for NoArguments {
    type Database = Nothing;

    fn reserve(&mut self, _: usize, _: usize) {}

    fn add<'t, T: Encode<'t, Nothing> + Type<Nothing>>(&mut self, _: T) -> Result<(), BoxDynError> {
        Err(Box::new(unsupported()))
    }

    fn len(&self) -> usize {
        0
    }
}

impl IntoArguments<Nothing> for NoArguments {
    fn into_arguments(self) -> NoArguments {
        self
    }
}

/// What does not exist.
#[derive(Clone, PartialEq, Debug)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl TypeInfo for Never {
    fn is_null(&self) -> bool {
        match *self {}
    }

    fn name(&self) -> &str {
        match *self {}
    }
}

impl Column for Never {
    type Database = Nothing;

    fn ordinal(&self) -> usize {
        match *self {}
    }

    fn name(&self) -> &str {
        match *self {}
    }

    fn type_info(&self) -> &Never {
        match *self {}
    }
}

impl Row for Never {
    type Database = Nothing;

    fn columns(&self) -> &[Never] {
        match *self {}
    }

    fn try_get_raw<I: ColumnIndex<Self>>(&self, _: I) -> Result<Never, Error> {
        match *self {}
    }
}

impl Value for Never {
    type Database = Nothing;

    fn as_ref(&self) -> Never {
        match *self {}
    }

    fn type_info(&self) -> Cow<'_, Never> {
        match *self {}
    }

    fn is_null(&self) -> bool {
        match *self {}
    }
}

impl ValueRef<'_> for Never {
    type Database = Nothing;

    fn to_owned(&self) -> Never {
        match *self {}
    }

    fn type_info(&self) -> Cow<'_, Never> {
        match *self {}
    }

    fn is_null(&self) -> bool {
        match *self {}
    }
}

impl Statement for Never {
    type Database = Nothing;

    fn into_sql(self) -> SqlStr {
        match self {}
    }

    fn sql(&self) -> &SqlStr {
        match *self {}
    }

    fn parameters(&self) -> Option<sqlx_core::Either<&[Never], usize>> {
        match *self {}
    }

    fn columns(&self) -> &[Never] {
        match *self {}
    }

    sqlx_core::impl_statement_query!(NoArguments);
}

/// The peer.
#[derive(Clone)]
pub struct Sqlx(Pool<Nothing>);

impl AsyncPool for Sqlx {
    type Guard<'a> = PoolConnection<Nothing>;

    async fn build(world: Arc<World>, limits: Limits) -> Outcome<Self> {
        let mut options = PoolOptions::new()
            .max_connections(limits.size)
            .test_before_acquire(false)
            .acquire_timeout(limits.acquire_timeout());
        if let Some(min_idle) = limits.min_idle {
            options = options.min_connections(min_idle);
        }
        Ok(Self(options.connect_lazy_with(Options(world))))
    }

    #[inline]
    async fn acquire(&self) -> Outcome<PoolConnection<Nothing>> {
        self.0.acquire().await.map_err(|e| e.to_string())
    }

    #[inline]
    fn conn(guard: &mut PoolConnection<Nothing>) -> &mut Conn {
        &mut guard.0
    }
}
