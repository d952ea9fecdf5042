//! Opening the database: what its URL may say, how its connections are set, and its migrations.

use std::{fmt, fs::OpenOptions, net::IpAddr, path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Executor as _, PgConnection, SqlStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgPool, PgSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous},
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use url::Url;

use super::session::Reader;

/// How long a statement of SQLite waits for another process that writes, such as `sas-broker apply`
/// beside a running broker.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a free or new connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the first connection, at start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest that all migrations may take, the wait for another replica's included.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);

/// What every PostgreSQL session begins with. A replica that freezes inside a transaction holds a
/// lock on the role table's version, and so a revocation; the server ends it after ten seconds. A
/// record must be durable when its answer leaves, whatever the server's default is.
const POSTGRES_SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '10s'; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

/// For the one connection that migrates: it may wait for another replica that does the same.
const POSTGRES_MIGRATION_SESSION: &str = "SET statement_timeout = 0; SET lock_timeout = '60s'";

/// Names and texts in their order. One that was released is never edited: its hash is in every
/// database that it was run on.
const SQLITE_MIGRATIONS: [(&str, &str); 2] = [
    (
        "initial",
        include_str!("../../migrations/sqlite/0001_initial.sql"),
    ),
    (
        "rotation",
        include_str!("../../migrations/sqlite/0002_rotation.sql"),
    ),
];
const POSTGRES_MIGRATIONS: [(&str, &str); 2] = [
    (
        "initial",
        include_str!("../../migrations/postgres/0001_initial.sql"),
    ),
    (
        "rotation",
        include_str!("../../migrations/postgres/0002_rotation.sql"),
    ),
];

/// Bounds of the connections.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Most connections for reading; the one that writes comes on top.
    pub readers_max: u32,
}

impl Default for StoreOptions {
    /// Four: readers are the snapshot's loader, the follower and people who search.
    fn default() -> Self {
        Self { readers_max: 4 }
    }
}

/// Why the database could not be opened. The URL, which may hold a password, is never quoted.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It does not parse, or names no database that we know.
    #[error("the database URL must be sqlite:PATH or postgres://USER@HOST/NAME")]
    Url,
    /// The file could not be created.
    #[error("the database file cannot be created: {0}")]
    File(#[from] std::io::Error),
    /// The server or the file did not open.
    #[error("the database cannot be opened: {0}")]
    Open(#[from] sqlx::Error),
    /// It did not answer.
    #[error("the database did not answer in time")]
    Timeout,
    /// A migration failed, or the database is of a newer version than this program.
    #[error("the database cannot be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// The one connection that writes, handed on in the order of asking. A waiting list of our own is
/// fair and prompt; SQLite's is neither. Whoever takes the connection out puts it back only after a
/// clear end: one that was left in the middle is dropped, and its transaction with it.
pub(super) type Slot<C> = Arc<Mutex<Option<C>>>;

/// The lent slot.
pub(super) type Held<C> = OwnedMutexGuard<Option<C>>;

pub(super) enum Engine {
    Sqlite {
        readers: SqlitePool,
        writer: Slot<SqliteConnection>,
        options: Box<SqliteConnectOptions>,
    },
    Postgres {
        readers: PgPool,
        writer: Slot<PgConnection>,
        options: Box<PgConnectOptions>,
    },
}

/// The database.
pub struct Store(pub(super) Engine);

impl fmt::Debug for Store {
    /// Names the engine only: the options hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Engine::Sqlite { .. } => "Store::Sqlite",
            Engine::Postgres { .. } => "Store::Postgres",
        })
    }
}

impl Store {
    /// Opens `sqlite:PATH` (created, for its owner alone, if it is not there) or
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME`. Beyond loopback, PostgreSQL is spoken to over TLS
    /// with the server's name verified, unless the URL says `sslmode` itself.
    ///
    /// # Errors
    /// [`ConnectError`], which never quotes the URL.
    pub async fn connect(url: &str, options: StoreOptions) -> Result<Self, ConnectError> {
        let opening = async {
            if let Some(path) = url.strip_prefix("sqlite:") {
                let path = path.strip_prefix("//").unwrap_or(path);
                return open_sqlite_store(Path::new(path), options).await;
            }
            open_postgres_store(postgres_options(url)?, options).await
        };
        tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .map_err(|_| ConnectError::Timeout)?
    }

    /// Brings the tables up to this version of the program; does nothing where they are.
    ///
    /// # Errors
    /// [`ConnectError::Migrate`], also where the database is newer than the program.
    pub async fn migrate(&self) -> Result<(), ConnectError> {
        let migrating = async {
            match &self.0 {
                Engine::Sqlite { options, .. } => {
                    let mut conn = open_sqlite(options).await?;
                    let migrator = migrator(SQLITE_MIGRATIONS);
                    // SQLite has no lock that spans the look and the leap. Whoever loses a race of
                    // two starts finds the work done on its next look; it may lose one for each
                    // migration.
                    let mut lost = 0;
                    while let Err(error) = migrator.run(&mut conn).await {
                        lost += 1;
                        if lost > SQLITE_MIGRATIONS.len() {
                            return Err(error.into());
                        }
                    }
                    conn.close().await?;
                }
                Engine::Postgres { options, .. } => {
                    let mut conn = open_postgres(options).await?;
                    conn.execute(POSTGRES_MIGRATION_SESSION).await?;
                    migrator(POSTGRES_MIGRATIONS).run(&mut conn).await?;
                    conn.close().await?;
                }
            }
            Ok(())
        };
        tokio::time::timeout(MIGRATE_TIMEOUT, migrating)
            .await
            .map_err(|_| ConnectError::Timeout)?
    }

    /// Closes every connection. What runs is left to end.
    pub async fn close(&self) {
        match &self.0 {
            Engine::Sqlite {
                readers, writer, ..
            } => {
                readers.close().await;
                writer.lock().await.take();
            }
            Engine::Postgres {
                readers, writer, ..
            } => {
                readers.close().await;
                writer.lock().await.take();
            }
        }
    }

    /// A connection to read with.
    pub(super) async fn reader(&self) -> Result<Reader, sqlx::Error> {
        Ok(match &self.0 {
            Engine::Sqlite { readers, .. } => Reader::Sqlite(readers.acquire().await?),
            Engine::Postgres { readers, .. } => Reader::Postgres(readers.acquire().await?),
        })
    }
}

fn migrator(migrations: [(&'static str, &'static str); 2]) -> Migrator {
    let migration = |(version, (name, sql)): (i64, (&'static str, &'static str))| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations((1..).zip(migrations).map(migration).collect())
}

async fn open_sqlite_store(path: &Path, bounds: StoreOptions) -> Result<Store, ConnectError> {
    // An in-memory database would be another one for each connection.
    if path.as_os_str().is_empty() || path.to_string_lossy().starts_with(':') {
        return Err(ConnectError::Url);
    }
    create_private(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // With WAL, FULL is what makes a commit durable rather than merely consistent.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let writer = open_sqlite(&options).await?;
    let readers = PoolOptions::new()
        .max_connections(bounds.readers_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options.clone());
    Ok(Store(Engine::Sqlite {
        readers,
        writer: Arc::new(Mutex::new(Some(writer))),
        options: Box::new(options),
    }))
}

/// Creates the file for its owner alone; SQLite gives its `-wal` and `-shm` the same permissions.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn postgres_options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let url: Url = url.parse().map_err(|_| ConnectError::Url)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(ConnectError::Url);
    }
    let options = PgConnectOptions::from_url(&url).map_err(|_| ConnectError::Url)?;
    let says_ssl = url
        .query_pairs()
        .any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode"));
    let options = if says_ssl || stays_here(&options) {
        options
    } else {
        options.ssl_mode(PgSslMode::VerifyFull)
    };
    Ok(options
        .application_name("sas-broker")
        .disable_statement_logging())
}

/// Whether nothing leaves the machine: a loopback host, or a socket in the file system.
fn stays_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let loopback = |ip: IpAddr| ip.is_loopback();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse().is_ok_and(loopback)
}

async fn open_postgres_store(
    options: PgConnectOptions,
    bounds: StoreOptions,
) -> Result<Store, ConnectError> {
    let writer = open_postgres(&options).await?;
    let readers = PoolOptions::new()
        .max_connections(bounds.readers_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|conn: &mut PgConnection, _| {
            Box::pin(async move { conn.execute(POSTGRES_SESSION).await.map(drop) })
        })
        .connect_lazy_with(options.clone());
    Ok(Store(Engine::Postgres {
        readers,
        writer: Arc::new(Mutex::new(Some(writer))),
        options: Box::new(options),
    }))
}

pub(super) async fn open_sqlite(
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnection::connect_with(options).await
}

pub(super) async fn open_postgres(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut conn = PgConnection::connect_with(options).await?;
    conn.execute(POSTGRES_SESSION).await?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_the_server_is_verified_unless_the_url_says_otherwise() {
        let mode = |url: &str| postgres_options(url).unwrap().get_ssl_mode();
        for here in [
            "postgres://u@localhost/d",
            "postgres://u@127.0.0.1:5433/d",
            "postgres://u@[::1]/d",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/d",
        ] {
            assert!(matches!(mode(here), PgSslMode::Prefer), "{here}");
        }
        assert!(matches!(
            mode("postgres://u@db.example/d"),
            PgSslMode::VerifyFull
        ));
        assert!(matches!(
            mode("postgres://u@127.0.0.1/d?host=db.example"),
            PgSslMode::VerifyFull
        ));
        let stated = "postgres://u@db.example/d?sslmode=disable";
        assert!(matches!(mode(stated), PgSslMode::Disable));
    }

    #[test]
    fn an_error_about_a_url_never_quotes_it() {
        for url in [
            "mysql://u:canary@h/d",
            "postgres://u:canary@h:port/d",
            "postgres://u:canary@h/d?sslmode=canary",
            "canary",
        ] {
            let error = postgres_options(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{url}");
        }
    }
}
