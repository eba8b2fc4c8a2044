//! Transactions, migrations and hints against a real Postgres.

use std::time::{Duration, Instant};

use dev::{Options, Part, Service, Stack};
use kit::Shutdown;
use kit::pg::{Hint, Pg, STATEMENT_MAX, Scope};
use tokio::time::timeout;
use wire::TenantId;

use crate::pki::Pki;

mod embedded {
    refinery::embed_migrations!("tests/shell/migrations");
}

const PATIENCE: Duration = Duration::from_secs(60);
const OWN: TenantId = TenantId::new([1; 16]);
const FOREIGN: TenantId = TenantId::new([2; 16]);

struct Database {
    stack: Stack,
    pki: Pki,
}

impl Database {
    async fn start() -> Self {
        let stack = Stack::start(Options::only([Part::Postgres])).await.unwrap();
        Self { stack, pki: Pki::new() }
    }

    /// One more process of the service.
    fn pg(&self) -> Pg {
        Pg::new(&self.stack.postgres_url(Service::Ota).unwrap(), &self.pki.tls("svc-ota")).unwrap()
    }
}

async fn insert(pg: &Pg, tenant: TenantId, name: &str) -> Result<(), kit::pg::Error> {
    let tx = pg.tx(tenant).await?;
    let sql = "INSERT INTO ota.probe VALUES ($1, $2)";
    tx.execute(sql, &[&tenant.to_string(), &name]).await?;
    tx.commit().await
}

async fn count(pg: &Pg, scope: impl Into<Scope>) -> i64 {
    let tx = pg.tx(scope).await.unwrap();
    let row = tx.query_one("SELECT count(*) FROM ota.probe", &[]).await.unwrap();
    tx.rollback().await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let database = Database::start().await;
    let replicas = [database.pg(), database.pg(), database.pg()];
    let migrate = |pg: &Pg| {
        let pg = pg.clone();
        async move { pg.migrate("ota", embedded::migrations::runner()).await }
    };
    let (a, b, c) = tokio::join!(migrate(&replicas[0]), migrate(&replicas[1]), migrate(&replicas[2]));
    a.and(b).and(c).unwrap();
    assert_eq!(database.stack.sql("SELECT count(*) FROM ota.migrations").unwrap().trim(), "1");
    migrate(&replicas[0]).await.unwrap();
}

#[tokio::test]
async fn a_transaction_sees_its_scope_and_leaves_nothing_behind() {
    let database = Database::start().await;
    let pg = database.pg();
    pg.migrate("ota", embedded::migrations::runner()).await.unwrap();
    insert(&pg, OWN, "one").await.unwrap();
    assert_eq!((count(&pg, OWN).await, count(&pg, FOREIGN).await, count(&pg, Scope::Every).await), (1, 0, 1));

    // A row of another tenant cannot be written either.
    let tx = pg.tx(OWN).await.unwrap();
    let foreign = tx.execute("INSERT INTO ota.probe VALUES ($1, 'x')", &[&FOREIGN.to_string()]).await;
    assert!(foreign.is_err());
    drop(tx);

    // Dropped without commit: gone, and the connection is whole again.
    let tx = pg.tx(OWN).await.unwrap();
    tx.execute("INSERT INTO ota.probe VALUES ($1, 'dropped')", &[&OWN.to_string()]).await.unwrap();
    let timeout = tx.query_one("SHOW statement_timeout", &[]).await.unwrap();
    assert_eq!(timeout.get::<_, &str>(0), format!("{}s", STATEMENT_MAX.as_secs()));
    drop(tx);
    assert_eq!(count(&pg, Scope::Every).await, 1);

    // Two of the same name: the constraint is named, and asking is not a fault of ours.
    let twice = insert(&pg, OWN, "one").await.unwrap_err();
    assert_eq!(twice.constraint(), Some("probe_name"));
    for _ in 0..kit::pg::CONNECTIONS_MAX * 2 {
        assert!(insert(&pg, OWN, "one").await.is_err());
    }
    assert_eq!(count(&pg, OWN).await, 1);
}

#[tokio::test]
async fn a_transaction_of_one_statement_is_whole_in_one_answer() {
    let database = Database::start().await;
    let pg = database.pg();
    pg.migrate("ota", embedded::migrations::runner()).await.unwrap();
    let counted = async |scope: Scope| {
        let tx = pg.one(scope).await.unwrap();
        tx.query_one("SELECT count(*) FROM ota.probe", &[]).await.unwrap().get::<_, i64>(0)
    };
    let (own, foreign) = (OWN.to_string(), FOREIGN.to_string());
    let tx = pg.one(OWN).await.unwrap();
    assert_eq!(tx.execute("INSERT INTO ota.probe VALUES ($1, 'one')", &[&own]).await.unwrap(), 1);
    // It is committed by now, whether anybody says so or not; another statement is refused.
    let again = tx.execute("INSERT INTO ota.probe VALUES ($1, 'two')", &[&own]).await.unwrap_err();
    assert!(matches!(again, kit::pg::Error::Ended), "{again}");
    drop(tx);
    assert_eq!((counted(OWN.into()).await, counted(FOREIGN.into()).await), (1, 0));

    // One that fails changes nothing, and its connection is whole again: more often than there are connections.
    for _ in 0..kit::pg::CONNECTIONS_MAX * 2 {
        let tx = pg.one(OWN).await.unwrap();
        assert!(tx.execute("INSERT INTO ota.probe VALUES ($1, 'x')", &[&foreign]).await.is_err());
    }
    assert_eq!(counted(Scope::Every).await, 1);

    // One that was never used leaves nothing either.
    drop(pg.one(OWN).await.unwrap());
    pg.tx(OWN).await.unwrap().commit().await.unwrap();
    assert_eq!(counted(Scope::Every).await, 1);
}

#[tokio::test]
async fn an_absent_database_is_unavailable_and_comes_back_by_itself() {
    let database = Database::start().await;
    let pg = database.pg();
    pg.migrate("ota", embedded::migrations::runner()).await.unwrap();
    database.stack.stop(Part::Postgres).await.unwrap();
    let away = insert(&pg, OWN, "one").await.unwrap_err();
    assert!(away.is_transient(), "{away}");
    let status = tonic::Status::from(away);
    assert_eq!(kit::status::reason(&status).as_deref(), Some("UNAVAILABLE"));
    database.stack.start_service(Part::Postgres).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = insert(&pg, OWN, "one").await {
        assert!(error.is_transient() && Instant::now() < deadline, "{error}");
    }
    assert_eq!(count(&pg, OWN).await, 1);
}

#[tokio::test]
async fn hints_arrive_and_a_new_connection_says_that_some_were_missed() {
    let database = Database::start().await;
    let shutdown = Shutdown::new();
    let (mut hints, listen) = database.pg().listen("probe", shutdown.clone());
    let task = tokio::spawn(listen);
    let next = async |hints: &mut tokio::sync::mpsc::Receiver<Hint>| {
        timeout(PATIENCE, hints.recv()).await.expect("a hint comes").expect("it listens on")
    };
    assert_eq!(next(&mut hints).await, Hint::Missed);
    database.stack.sql("NOTIFY probe, 'one'").unwrap();
    assert_eq!(next(&mut hints).await, Hint::Notified("one".into()));
    database.stack.restart(Part::Postgres).await.unwrap();
    assert_eq!(next(&mut hints).await, Hint::Missed);
    database.stack.sql("NOTIFY probe, 'two'").unwrap();
    assert_eq!(next(&mut hints).await, Hint::Notified("two".into()));
    shutdown.begin();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}
