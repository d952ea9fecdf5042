//! The journal's transactions, and the keys that are claimed in them.
//!
//! What is recorded was decided on the role table's version that the same transaction reads. That
//! holds because nobody can change the version until it ends:
//!
//! - SQLite has one writer at a time, and `BEGIN IMMEDIATE` makes us that one.
//! - On PostgreSQL a recording transaction begins by locking the table `policy_version` in SHARE mode:
//!   replicas may record side by side, and a change, even one by hand in psql, waits. The lock is a
//!   table's and not the row's on purpose: table locks queue in order, so that a change is next
//!   after those who hold it now, whereas a steady stream of overlapping `FOR SHARE` row locks could
//!   hold it off for ever. A change takes EXCLUSIVE from the start and never raises a lock that it
//!   holds, for two that try to raise a shared one wait for each other. The isolation level is READ
//!   COMMITTED, so that the version is read as it stands after the lock was given.

use async_trait::async_trait;
use sqlx::{Executor as _, PgConnection, SqliteConnection};

use super::{
    READ_TIMEOUT, bounded, classified,
    connect::{Engine, Held, Store, open_postgres, open_sqlite},
    policy, reading,
    session::{Session, Value},
};
use crate::{
    domain::{
        audit::{Head, Row},
        change::ChangeSet,
        ids::WriterId,
    },
    ports::{ClaimKey, JournalStore, JournalTx, KeyClaim, Purpose, StoreError},
};

const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
const BEGIN_RECORD: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE policy_version IN SHARE MODE";
const BEGIN_CHANGE: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE policy_version IN EXCLUSIVE MODE";

pub(super) const VERSION: &str = "SELECT version FROM policy_version";

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

/// SQLite runs one statement per message to its thread, so rows go in by sixteens, fours and ones:
/// three texts that stay prepared, whatever the size of the group.
macro_rules! row {
    () => {
        "(?, ?, ?, ?, ?, ?)"
    };
}
macro_rules! four_rows {
    () => {
        concat!(row!(), ", ", row!(), ", ", row!(), ", ", row!())
    };
}
macro_rules! insert {
    () => {
        "INSERT INTO journal (writer, seq, at, kind, body, hash) VALUES "
    };
}
const APPEND_1: &str = concat!(insert!(), row!());
const APPEND_4: &str = concat!(insert!(), four_rows!());
const APPEND_16: &str = concat!(
    insert!(),
    four_rows!(),
    ", ",
    four_rows!(),
    ", ",
    four_rows!(),
    ", ",
    four_rows!()
);

const MOVE_HEAD: &str = "INSERT INTO journal_heads (writer, seq, hash, at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, at = excluded.at";

/// PostgreSQL takes the whole group as arrays, and moves the head in the same round trip.
const APPEND_POSTGRES: &str = "WITH head AS ( \
     INSERT INTO journal_heads (writer, seq, hash, at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, at = excluded.at) \
     INSERT INTO journal (writer, seq, at, kind, body, hash) \
     SELECT $1, new.seq, new.at, new.kind, new.body, new.hash \
     FROM UNNEST($5::bigint[], $6::bigint[], $7::text[], $8::bytea[], $9::bytea[]) \
     AS new (seq, at, kind, body, hash)";

/// A transaction on the connection that writes. Dropped in the middle, it takes the connection
/// with it, which ends the transaction whatever state the line is in.
pub(super) enum Tx {
    Sqlite(SqliteConnection, Held<SqliteConnection>),
    Postgres(PgConnection, Held<PgConnection>),
}

impl Tx {
    /// Waits for its turn and begins. A kept connection may have died since it was last used; then
    /// nothing was begun on it, and a new one is as good.
    pub(super) async fn begin(engine: &Engine, purpose: Purpose) -> Result<Self, sqlx::Error> {
        match engine {
            Engine::Sqlite {
                writer, options, ..
            } => {
                let mut slot = writer.clone().lock_owned().await;
                if let Some(mut conn) = slot.take()
                    && conn.execute(BEGIN_SQLITE).await.is_ok()
                {
                    return Ok(Self::Sqlite(conn, slot));
                }
                let mut conn = open_sqlite(options).await?;
                conn.execute(BEGIN_SQLITE).await?;
                Ok(Self::Sqlite(conn, slot))
            }
            Engine::Postgres {
                writer, options, ..
            } => {
                let begin = match purpose {
                    Purpose::Record => BEGIN_RECORD,
                    Purpose::Change => BEGIN_CHANGE,
                };
                let mut slot = writer.clone().lock_owned().await;
                if let Some(mut conn) = slot.take()
                    && conn.execute(begin).await.is_ok()
                {
                    return Ok(Self::Postgres(conn, slot));
                }
                let mut conn = open_postgres(options).await?;
                conn.execute(begin).await?;
                Ok(Self::Postgres(conn, slot))
            }
        }
    }

    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(conn, _) => Session::Sqlite(conn),
            Self::Postgres(conn, _) => Session::Postgres(conn),
        }
    }

    /// Ends it by `COMMIT` or `ROLLBACK` and hands the connection on.
    pub(super) async fn end(self, how: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(mut conn, mut slot) => {
                conn.execute(how).await?;
                *slot = Some(conn);
            }
            Self::Postgres(mut conn, mut slot) => {
                conn.execute(how).await?;
                *slot = Some(conn);
            }
        }
        Ok(())
    }

    async fn append(&mut self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let Some(last) = rows.last() else {
            return Ok(());
        };
        let writer = last.writer.to_string();
        match self {
            Self::Sqlite(conn, _) => {
                append_sqlite(conn, &writer, rows).await?;
                let head = [
                    Value::Text(&writer),
                    Value::Int(last.seq),
                    Value::Bytes(&last.hash.0),
                    Value::Int(last.at),
                ];
                Session::Sqlite(conn).execute(MOVE_HEAD, &head).await?;
            }
            Self::Postgres(conn, _) => append_postgres(conn, &writer, rows, last).await?,
        }
        Ok(())
    }
}

async fn append_sqlite(
    conn: &mut SqliteConnection,
    writer: &str,
    mut rows: &[Row],
) -> Result<(), sqlx::Error> {
    while !rows.is_empty() {
        let (sql, count) = match rows.len() {
            16.. => (APPEND_16, 16),
            4..16 => (APPEND_4, 4),
            _ => (APPEND_1, 1),
        };
        let (chunk, rest) = rows.split_at(count);
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
        self.session()
            .fetch_int(VERSION, &[])
            .await
            .map_err(classified)
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

    async fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        Self::append(self, rows).await.map_err(classified)
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.end("COMMIT")
            .await
            .map_err(|error| StoreError::Unclear(error.to_string()))
    }

    async fn abandon(self: Box<Self>) -> Result<(), StoreError> {
        self.end("ROLLBACK").await.map_err(classified)
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
                    tx.end("COMMIT").await?;
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
