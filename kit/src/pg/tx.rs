//! One transaction on a connection of its own. Dropped without `commit`, it is rolled back.
//!
//! It begins with its first statement, and a transaction of one statement ends with it too: all go to the server together, and one answer is
//! waited for instead of three. Postgres answers in order, so a statement never runs before its BEGIN; if that failed, the statement saw no
//! scope, and so no row.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Object;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::{Error, STATEMENT_MAX, Scope};

/// A transaction.
pub struct Tx {
    /// `None` once finished.
    connection: Option<Object>,
    /// Its first statement is its only one.
    is_single: bool,
    state: Mutex<State>,
}

enum State {
    /// Nothing was sent yet; what begins it.
    New(String),
    Open,
    Ended,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("open", &self.connection.is_some()).finish()
    }
}

impl Tx {
    pub(super) fn new(connection: Object, scope: Scope, is_single: bool) -> Self {
        let tenant = match scope {
            Scope::Tenant(tenant) => tenant.to_string(),
            Scope::Every => "*".to_owned(),
        };
        // Ids hold nothing that would need quoting.
        let begin = format!(
            "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL app.tenant = '{tenant}'",
            STATEMENT_MAX.as_millis()
        );
        Self { connection: Some(connection), is_single, state: Mutex::new(State::New(begin)) }
    }

    pub async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(sql).await?;
        self.send(self.open().query(&statement, values)).await
    }

    /// Planned for these very values, each time: for queries whose best plan depends on them, such as lists by filter. Costs the planning.
    pub async fn query_planned(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        // A statement without a name is made, planned and forgotten.
        self.send(self.open().query_typed(sql, values)).await
    }

    pub async fn query_opt(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error> {
        let statement = self.prepared(sql).await?;
        self.send(self.open().query_opt(&statement, values)).await
    }

    pub async fn query_one(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        let statement = self.prepared(sql).await?;
        self.send(self.open().query_one(&statement, values)).await
    }

    /// How many rows were changed.
    pub async fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let statement = self.prepared(sql).await?;
        self.send(self.open().execute(&statement, values)).await
    }

    /// Before anything is sent with it: what follows must not wait for it.
    async fn prepared(&self, sql: &str) -> Result<Statement, Error> {
        Ok(self.open().prepare_cached(sql).await?)
    }

    /// The statement, with what begins and ends the transaction where it is the first and the last.
    async fn send<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let begin = {
            let mut state = self.state();
            match std::mem::replace(&mut *state, State::Open) {
                State::New(begin) => Some(begin),
                State::Open => None,
                State::Ended => {
                    *state = State::Ended;
                    return Err(Error::Ended);
                }
            }
        };
        let Some(begin) = begin else { return Ok(statement.await?) };
        let begin = self.open().batch_execute(&begin);
        // Biased: sent in this order, each when it is first polled.
        if !self.is_single {
            let (begun, done) = tokio::join!(biased; begin, statement);
            begun?;
            return Ok(done?);
        }
        let (begun, done, ended) =
            tokio::join!(biased; begin, statement, self.open().batch_execute("COMMIT"));
        begun?;
        // Also when the statement failed: then COMMIT rolled back.
        ended?;
        *self.state() = State::Ended;
        Ok(done?)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open)
    }

    pub async fn commit(mut self) -> Result<(), Error> {
        if self.is_open() {
            self.open().batch_execute("COMMIT").await?;
        }
        self.connection = None;
        Ok(())
    }

    pub async fn rollback(mut self) -> Result<(), Error> {
        if self.is_open() {
            self.open().batch_execute("ROLLBACK").await?;
        }
        self.connection = None;
        Ok(())
    }

    fn open(&self) -> &Object {
        self.connection.as_ref().expect("only commit and rollback take it, and they consume self")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take().filter(|_| self.is_open()) else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            // Back to the pool only once it is rolled back; the statement timeout bounds what may still run.
            Ok(runtime) => drop(runtime.spawn(async move {
                if connection.batch_execute("ROLLBACK").await.is_err() {
                    drop(Object::take(connection));
                }
            })),
            Err(_) => drop(Object::take(connection)),
        }
    }
}
