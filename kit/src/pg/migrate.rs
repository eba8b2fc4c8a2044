//! Migrations: each service moves its own schema, one process at a time.
//!
//! refinery takes no lock and would keep one history for all; here the history is `{schema}.migrations`, and a
//! transaction of its own holds an advisory lock while another connection migrates.

use super::{Error, Pg};

/// Longest a schema name may be.
pub(super) const SCHEMA_BYTES_MAX: usize = 32;

impl Pg {
    /// Brings `schema` to the newest migration. Replicas that start together wait for one another.
    pub async fn migrate(&self, schema: &str, mut runner: refinery::Runner) -> Result<(), Error> {
        assert!(
            !schema.is_empty()
                && schema.len() <= SCHEMA_BYTES_MAX
                && schema.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "a schema's name is a literal of the service"
        );
        let mut locked = self.pool.get().await?;
        let lock = locked.transaction().await?;
        lock.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('holdfast migrate ' || $1, 0))",
            &[&schema],
        )
        .await?;

        // Its session is refinery's; it does not go back to the pool.
        let mut connection = deadpool_postgres::Object::take(self.pool.get().await?);
        runner.set_migration_table_name(format!("{schema}.migrations"));
        let report = runner.run_async(&mut *connection).await.map_err(|e| Error::Migration(Box::new(e)))?;
        for migration in report.applied_migrations() {
            tracing::info!(schema, %migration, "migrated");
        }
        lock.commit().await?;
        Ok(())
    }
}
