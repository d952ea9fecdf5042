//! The journal's transactions, and the keys that are claimed in them.
//!
//! What is recorded was decided on the role table's version that the same transaction reads. That
//! holds because nobody can change the version until it ends:
//!
//! - SQLite has one writer at a time, and `BEGIN IMMEDIATE` makes us that one.
//! - On PostgreSQL a recording transaction begins by locking the table `policy_version` in SHARE
//!   mode: replicas may record side by side, and a change, even one by hand in psql, waits. The
//!   lock is a table's and not the row's on purpose: table locks queue in order, so that a change
//!   is next after those who hold it now, whereas a steady stream of overlapping `FOR SHARE` row
//!   locks could hold it off for ever. A change takes EXCLUSIVE from the start and never raises a
//!   lock that it holds, for two that try to raise a shared one wait for each other. The isolation
//!   level is READ COMMITTED, so that the version is read as it stands after the lock was given.

use async_trait::async_trait;
use sqlx::{PgConnection, Row as _, SqliteConnection};

use super::{
    READ_TIMEOUT, bounded, classified,
    connect::{Engine, Held, Store, open_postgres, open_sqlite},
    policy, reading, rotation,
    session::{Session, Value},
};
use crate::{
    domain::{
        audit::{ChainHash, Head, Row},
        change::ChangeSet,
        ids::WriterId,
        rotation::RotationBatch,
    },
    ports::{ClaimKey, JournalStore, JournalTx, KeyClaim, Purpose, StoreError},
};

/// The table that is locked is the one that is read: one message to the database does both.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE; SELECT version FROM policy_version";
const BEGIN_RECORD: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     LOCK TABLE policy_version IN SHARE MODE; SELECT version FROM policy_version";
const BEGIN_CHANGE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     LOCK TABLE policy_version IN EXCLUSIVE MODE; SELECT version FROM policy_version";

/// A live claim of another request keeps the key; an expired one gives it up. A unique violation
/// would abort the whole group, hence the conflict clause.
const CLAIM: &str = "INSERT INTO idempotency_keys \
     (tenant_id, object_id, key, body_sha256, fact, expires_at) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (tenant_id, object_id, key) DO UPDATE SET \
     body_sha256 = excluded.body_sha256, fact = excluded.fact, expires_at = excluded.expires_at \
     WHERE idempotency_keys.expires_at <= $7";

const LIVE_CLAIM: &str = "SELECT body_sha256, fact, expires_at FROM idempotency_keys \
     WHERE tenant_id = $1 AND object_id = $2 AND key = $3 AND expires_at > $4";

const PURGE_SQLITE: &str = "DELETE FROM idempotency_keys WHERE (tenant_id, object_id, key) IN \
     (SELECT tenant_id, object_id, key FROM idempotency_keys WHERE expires_at <= $1 \
      ORDER BY expires_at LIMIT $2)";

/// Skips what a claim holds right now: it is being renewed, and waiting for it could deadlock.
const PURGE_POSTGRES: &str = "DELETE FROM idempotency_keys WHERE (tenant_id, object_id, key) IN \
     (SELECT tenant_id, object_id, key FROM idempotency_keys WHERE expires_at <= $1 \
      ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

const NEWEST_HEADS: &str = "SELECT writer, seq, hash FROM journal_heads ORDER BY at DESC LIMIT $1";

/// Each message to SQLite's thread costs more than the rows in it, so a group goes in by one
/// statement of fixed text, which stays prepared: places that are not bound are NULL, and left out.
macro_rules! append {
    ($($rows:expr),+) => {
        concat!(
            "INSERT INTO journal (writer, seq, at, kind, body, hash) \
             SELECT column1, column2, column3, column4, column5, column6 FROM (VALUES ",
            $($rows),+,
            ") WHERE column2 IS NOT NULL"
        )
    };
}
macro_rules! four {
    ($rows:expr) => {
        concat!($rows, ", ", $rows, ", ", $rows, ", ", $rows)
    };
}
const APPEND_16: &str = append!(four!(four!("(?, ?, ?, ?, ?, ?)")));
const APPEND_128: &str = append!(
    four!(four!(four!("(?, ?, ?, ?, ?, ?)"))),
    ", ",
    four!(four!(four!("(?, ?, ?, ?, ?, ?)")))
);

/// The head moves in the message that commits.
const COMMIT_SQLITE: &str = "INSERT INTO journal_heads (writer, seq, hash, at) \
     VALUES ($1, $2, $3, $4) \
     ON CONFLICT (writer) DO UPDATE \
     SET seq = excluded.seq, hash = excluded.hash, at = excluded.at; COMMIT";

/// PostgreSQL takes the whole group as arrays, and moves the head in the same message.
const APPEND_POSTGRES: &str = "WITH head AS ( \
     INSERT INTO journal_heads (writer, seq, hash, at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (writer) DO UPDATE \
     SET seq = excluded.seq, hash = excluded.hash, at = excluded.at) \
     INSERT INTO journal (writer, seq, at, kind, body, hash) \
     SELECT $1, new.seq, new.at, new.kind, new.body, new.hash \
     FROM UNNEST($5::bigint[], $6::bigint[], $7::text[], $8::bytea[], $9::bytea[]) \
     AS new (seq, at, kind, body, hash)";

/// A transaction on the connection that writes. Dropped in the middle, it takes the connection
/// with it, which ends the transaction whatever state the line is in.
pub(super) struct Tx {
    line: Line,
    /// The role table's version, as it was read under the lock.
    version: i64,
    /// Where SQLite's commit moves the head to: writer, sequence number, hash and instant.
    head: Option<(String, i64, ChainHash, i64)>,
}

enum Line {
    Sqlite(SqliteConnection, Held<SqliteConnection>),
    Postgres(PgConnection, Held<PgConnection>),
}

impl Tx {
    /// Waits for its turn and begins. A kept connection may have died since it was last used; then
    /// nothing was begun on it, and a new one is as good.
    pub(super) async fn begin(engine: &Engine, purpose: Purpose) -> Result<Self, sqlx::Error> {
        let (line, version) = match engine {
            Engine::Sqlite {
                writer, options, ..
            } => {
                let mut slot = writer.clone().lock_owned().await;
                let (conn, version) = match try_sqlite(slot.take()).await {
                    Some(begun) => begun,
                    None => begin_sqlite(open_sqlite(options).await?).await?,
                };
                (Line::Sqlite(conn, slot), version)
            }
            Engine::Postgres {
                writer, options, ..
            } => {
                let begin = match purpose {
                    Purpose::Record => BEGIN_RECORD,
                    Purpose::Change => BEGIN_CHANGE,
                };
                let mut slot = writer.clone().lock_owned().await;
                let (conn, version) = match try_postgres(slot.take(), begin).await {
                    Some(begun) => begun,
                    None => begin_postgres(open_postgres(options).await?, begin).await?,
                };
                (Line::Postgres(conn, slot), version)
            }
        };
        Ok(Self {
            line,
            version,
            head: None,
        })
    }

    pub(super) fn session(&mut self) -> Session<'_> {
        match &mut self.line {
            Line::Sqlite(conn, _) => Session::Sqlite(conn),
            Line::Postgres(conn, _) => Session::Postgres(conn),
        }
    }

    /// Makes it durable and hands the connection on.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        if let Some((writer, seq, hash, at)) = self.head.take() {
            let head = [
                Value::Text(&writer),
                Value::Int(seq),
                Value::Bytes(&hash.0),
                Value::Int(at),
            ];
            self.session().execute(COMMIT_SQLITE, &head).await?;
        } else {
            self.session().run("COMMIT").await?;
        }
        self.hand_on();
        Ok(())
    }

    async fn roll_back(mut self) -> Result<(), sqlx::Error> {
        self.session().run("ROLLBACK").await?;
        self.hand_on();
        Ok(())
    }

    fn hand_on(self) {
        match self.line {
            Line::Sqlite(conn, mut slot) => *slot = Some(conn),
            Line::Postgres(conn, mut slot) => *slot = Some(conn),
        }
    }

    async fn append(&mut self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let Some(last) = rows.last() else {
            return Ok(());
        };
        let writer = last.writer.to_string();
        match &mut self.line {
            Line::Sqlite(conn, _) => {
                append_sqlite(conn, &writer, rows).await?;
                self.head = Some((writer, last.seq, last.hash, last.at));
                Ok(())
            }
            Line::Postgres(conn, _) => append_postgres(conn, &writer, rows, last).await,
        }
    }
}

async fn try_sqlite(kept: Option<SqliteConnection>) -> Option<(SqliteConnection, i64)> {
    begin_sqlite(kept?).await.ok()
}

async fn begin_sqlite(mut conn: SqliteConnection) -> Result<(SqliteConnection, i64), sqlx::Error> {
    let version = Session::Sqlite(&mut conn)
        .fetch_int(BEGIN_SQLITE, &[])
        .await?;
    Ok((conn, version))
}

async fn try_postgres(
    kept: Option<PgConnection>,
    begin: &'static str,
) -> Option<(PgConnection, i64)> {
    begin_postgres(kept?, begin).await.ok()
}

async fn begin_postgres(
    mut conn: PgConnection,
    begin: &'static str,
) -> Result<(PgConnection, i64), sqlx::Error> {
    let rows = sqlx::raw_sql(begin).fetch_all(&mut conn).await?;
    let version = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    Ok((conn, version))
}

async fn append_sqlite(
    conn: &mut SqliteConnection,
    writer: &str,
    mut rows: &[Row],
) -> Result<(), sqlx::Error> {
    while !rows.is_empty() {
        let (sql, most) = if rows.len() <= 16 {
            (APPEND_16, 16)
        } else {
            (APPEND_128, 128)
        };
        let (chunk, rest) = rows.split_at(rows.len().min(most));
        let mut insert = sqlx::query(sql);
        for row in chunk {
            insert = insert
                .bind(writer)
                .bind(row.seq)
                .bind(row.at)
                .bind(row.kind.as_str())
                .bind(row.body.as_slice())
                .bind(row.hash.0.as_slice());
        }
        insert.execute(&mut *conn).await?;
        rows = rest;
    }
    Ok(())
}

async fn append_postgres(
    conn: &mut PgConnection,
    writer: &str,
    rows: &[Row],
    last: &Row,
) -> Result<(), sqlx::Error> {
    let done = sqlx::query(APPEND_POSTGRES)
        .bind(writer)
        .bind(last.seq)
        .bind(last.hash.0.as_slice())
        .bind(last.at)
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.body.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.hash.0.as_slice())
                .collect::<Vec<_>>(),
        )
        .execute(conn)
        .await?;
    debug_assert_eq!(done.rows_affected(), rows.len() as u64);
    Ok(())
}

#[async_trait]
impl JournalTx for Tx {
    async fn policy_version(&mut self) -> Result<i64, StoreError> {
        Ok(self.version)
    }

    async fn claim(&mut self, claim: &KeyClaim, now: i64) -> Result<bool, StoreError> {
        let (tenant, object) = (claim.tenant_id.to_string(), claim.object_id.to_string());
        let values = [
            Value::Text(&tenant),
            Value::Text(&object),
            Value::Text(claim.key.as_str()),
            Value::Bytes(&claim.body_sha256),
            Value::Text(&claim.fact),
            Value::Int(claim.expires_at),
            Value::Int(now),
        ];
        let touched = self.session().execute(CLAIM, &values).await;
        Ok(touched.map_err(classified)? == 1)
    }

    async fn change(&mut self, changes: &ChangeSet, by: &str, at: i64) -> Result<i64, StoreError> {
        policy::apply(self.session(), changes, by, at)
            .await
            .map_err(classified)
    }

    async fn rotate(&mut self, batch: &RotationBatch, at: i64) -> Result<bool, StoreError> {
        rotation::rotate(self.session(), batch, at)
            .await
            .map_err(classified)
    }

    async fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        Self::append(self, rows).await.map_err(classified)
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        Self::commit(*self)
            .await
            .map_err(|error| StoreError::Unclear(error.to_string()))
    }

    async fn abandon(self: Box<Self>) -> Result<(), StoreError> {
        self.roll_back().await.map_err(classified)
    }
}

#[async_trait]
impl JournalStore for Store {
    async fn begin(&self, purpose: Purpose) -> Result<Box<dyn JournalTx>, StoreError> {
        let tx = Tx::begin(&self.0, purpose).await.map_err(classified)?;
        Ok(Box::new(tx))
    }

    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError> {
        reading::head(self, writer).await
    }

    async fn newest_heads(&self, limit: usize) -> Result<Vec<Head>, StoreError> {
        bounded(READ_TIMEOUT, async {
            let limit = [Value::Int(reading::rows_max(limit))];
            let mut reader = self.reader().await?;
            let mut session = reader.session();
            session
                .fetch(NEWEST_HEADS, &limit, reading::read_head)
                .await
        })
        .await
    }

    async fn claim(&self, key: &ClaimKey, now: i64) -> Result<Option<KeyClaim>, StoreError> {
        let (tenant, object) = (key.tenant_id.to_string(), key.object_id.to_string());
        let values = [
            Value::Text(&tenant),
            Value::Text(&object),
            Value::Text(key.key.as_str()),
            Value::Int(now),
        ];
        bounded(READ_TIMEOUT, async {
            let mut reader = self.reader().await?;
            let read = |row: &super::session::Fields| {
                Ok(KeyClaim {
                    tenant_id: key.tenant_id,
                    object_id: key.object_id,
                    key: key.key.clone(),
                    body_sha256: reading::sha256(row.bytes(0)?)?,
                    fact: row.text(1)?.to_owned(),
                    expires_at: row.int(2)?,
                })
            };
            let found = reader.session().fetch(LIVE_CLAIM, &values, read).await?;
            Ok(found.into_iter().next())
        })
        .await
    }

    async fn purge_claims(&self, now: i64, limit: usize) -> Result<usize, StoreError> {
        let values = [Value::Int(now), Value::Int(reading::rows_max(limit))];
        bounded(READ_TIMEOUT, async {
            let removed = match &self.0 {
                Engine::Sqlite { .. } => {
                    // By the writing connection, so that it queues fairly with the journal.
                    let mut tx = Tx::begin(&self.0, Purpose::Record).await?;
                    let removed = tx.session().execute(PURGE_SQLITE, &values).await?;
                    tx.commit().await?;
                    removed
                }
                Engine::Postgres { .. } => {
                    let mut reader = self.reader().await?;
                    reader.session().execute(PURGE_POSTGRES, &values).await?
                }
            };
            Ok(usize::try_from(removed).unwrap_or(usize::MAX))
        })
        .await
    }
}
