//! One transaction on a connection of its own. Dropped without `commit`, it is rolled back.

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::{Error, STATEMENT_MAX, Scope};

/// A transaction.
pub struct Tx {
    /// `None` once finished.
    connection: Option<Object>,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("open", &self.connection.is_some()).finish()
    }
}

impl Tx {
    pub(super) async fn begin(connection: Object, scope: Scope) -> Result<Self, Error> {
        let tenant = match scope {
            Scope::Tenant(tenant) => tenant.to_string(),
            Scope::Every => "*".to_owned(),
        };
        // One round trip. Ids hold nothing that would need quoting.
        let begin = format!(
            "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL app.tenant = '{tenant}'",
            STATEMENT_MAX.as_millis()
        );
        // Made first, so that a cancelled begin is rolled back too.
        let tx = Self { connection: Some(connection) };
        tx.open().batch_execute(&begin).await?;
        Ok(tx)
    }

    pub async fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let statement = self.open().prepare_cached(sql).await?;
        Ok(self.open().query(&statement, values).await?)
    }

    /// Planned for these very values, each time: for queries whose best plan depends on them, such as lists by filter. Costs the planning.
    pub async fn query_planned(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        // A statement without a name is made, planned and forgotten.
        Ok(self.open().query_typed(sql, values).await?)
    }

    pub async fn query_opt(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error> {
        let statement = self.open().prepare_cached(sql).await?;
        Ok(self.open().query_opt(&statement, values).await?)
    }

    pub async fn query_one(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        let statement = self.open().prepare_cached(sql).await?;
        Ok(self.open().query_one(&statement, values).await?)
    }

    /// How many rows were changed.
    pub async fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let statement = self.open().prepare_cached(sql).await?;
        Ok(self.open().execute(&statement, values).await?)
    }

    pub async fn commit(mut self) -> Result<(), Error> {
        self.open().batch_execute("COMMIT").await?;
        self.connection = None;
        Ok(())
    }

    pub async fn rollback(mut self) -> Result<(), Error> {
        self.open().batch_execute("ROLLBACK").await?;
        self.connection = None;
        Ok(())
    }

    fn open(&self) -> &Object {
        self.connection.as_ref().expect("only commit and rollback take it, and they consume self")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
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
