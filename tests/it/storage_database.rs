//! One database for each test, on both engines: a SQLite file always, PostgreSQL where
//! `SAS_BROKER_TEST_POSTGRES_URL` names a server (as a role that may create databases).

use std::sync::atomic::{AtomicU64, Ordering};

use sas_broker::storage::{Store, StoreOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use url::Url;

const POSTGRES_URL: &str = "SAS_BROKER_TEST_POSTGRES_URL";

/// A database of its own.
pub(crate) struct Database {
    /// What `Store::connect` takes.
    pub(crate) url: String,
    dir: Option<TempDir>,
    admin: Option<(String, String)>,
}

/// Runs a test on an empty database of each engine that is there.
pub(crate) async fn on_each_engine(test: impl AsyncFn(&Database)) {
    let database = Database::sqlite().await;
    test(&database).await;
    on_postgres(test).await;
}

/// Runs a test on an empty PostgreSQL database, if a server is there.
pub(crate) async fn on_postgres(test: impl AsyncFn(&Database)) {
    on_blank_postgres(async |database: &Database| {
        database.store().await.migrate().await.unwrap();
        test(database).await;
    })
    .await;
}

/// Runs a test on a database without any table, of each engine that is there.
pub(crate) async fn on_each_blank_engine(test: impl AsyncFn(&Database)) {
    test(&Database::blank_sqlite()).await;
    on_blank_postgres(test).await;
}

async fn on_blank_postgres(test: impl AsyncFn(&Database)) {
    match std::env::var(POSTGRES_URL) {
        Ok(server) => {
            let database = Database::postgres(server).await;
            test(&database).await;
            database.drop().await;
        }
        Err(_) => eprintln!("SKIPPED on PostgreSQL: {POSTGRES_URL} is not set"),
    }
}

impl Database {
    pub(crate) async fn sqlite() -> Self {
        let database = Self::blank_sqlite();
        database.store().await.migrate().await.unwrap();
        database
    }

    fn blank_sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            url: format!("sqlite:{}", dir.path().join("broker.db").display()),
            dir: Some(dir),
            admin: None,
        }
    }

    async fn postgres(server: String) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sas_broker_test_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(&server).await.unwrap();
        // A run that was killed may have left one of this name behind.
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        admin.execute(AssertSqlSafe(drop)).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        admin.execute(AssertSqlSafe(create)).await.unwrap();
        let mut url: Url = server.parse().unwrap();
        url.set_path(&name);
        Self {
            url: url.into(),
            dir: None,
            admin: Some((server, name)),
        }
    }

    async fn drop(self) {
        if let Some((server, name)) = self.admin {
            let mut admin = PgConnection::connect(&server).await.unwrap();
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            admin.execute(AssertSqlSafe(drop)).await.unwrap();
        }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.dir.is_some()
    }

    /// Another process, as it were: connections of its own.
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.url, StoreOptions::default())
            .await
            .unwrap()
    }

    /// Runs statements as somebody with sqlite3 or psql would.
    pub(crate) async fn by_hand(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.is_sqlite() {
            let mut conn = SqliteConnection::connect(&self.url).await?;
            conn.execute(sqlx::raw_sql(sql)).await?;
            conn.close().await
        } else {
            let mut conn = PgConnection::connect(&self.url).await?;
            conn.execute(sqlx::raw_sql(sql)).await?;
            conn.close().await
        }
    }
}
