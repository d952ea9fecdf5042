//! The follower's step: rows that the journal has and search does not are copied, chain by chain.
//!
//! Each chain has one writer, whose rows become visible in order; so a cursor per chain misses
//! nothing, which one over all chains could not promise.

use sqlx::Executor as _;

use super::{
    connect::{Engine, Store},
    reading::rows_max,
    session::{Session, Value},
    writing::Tx,
};
use crate::{
    domain::audit::{Actor, Record},
    ports::Purpose,
};

/// Chains with news, the one with the fewest first, so that a busy chain never hides a quiet one.
const LAGGING: &str = "SELECT h.writer, COALESCE(c.seq, 0) FROM journal_heads h \
     LEFT JOIN search_cursors c ON c.writer = h.writer WHERE h.seq > COALESCE(c.seq, 0) \
     ORDER BY h.seq - COALESCE(c.seq, 0), h.writer LIMIT $1";

const NEWS: &str = "SELECT seq, at, kind, body FROM journal \
     WHERE writer = $1 AND seq > $2 ORDER BY seq LIMIT $3";

/// Nothing happens twice if two replicas copy the same row.
const COPY: &str = "INSERT INTO journal_search (at, writer, seq, kind, tenant_id, object_id, \
     account, container, issuance_id, signature_sha256) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";

const MOVE_CURSOR: &str = "INSERT INTO search_cursors (writer, seq) VALUES ($1, $2) \
     ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq WHERE search_cursors.seq < excluded.seq";

/// One replica at a time, to spare the others the work: who does not get the lock leaves it. The
/// number is an arbitrary name, ours alone in this database.
const TRY_ALONE: &str = "SELECT CASE WHEN pg_try_advisory_xact_lock(7305810921) \
     THEN 1::bigint ELSE 0::bigint END";

/// One row of the search table.
struct Found {
    at: i64,
    writer: String,
    seq: i64,
    kind: String,
    tenant_id: Option<String>,
    object_id: Option<String>,
    account: Option<String>,
    container: Option<String>,
    issuance_id: Option<String>,
    signature_sha256: Option<String>,
}

pub(super) async fn follow(store: &Store, limit: usize) -> Result<Option<usize>, sqlx::Error> {
    match &store.0 {
        Engine::Sqlite { readers, .. } => {
            // Reading and parsing hold up no writer; only the copying itself does.
            let mut reader = readers.acquire().await?;
            let news = collect(Session::Sqlite(&mut reader), limit).await?;
            drop(reader);
            if !news.is_empty() {
                let mut tx = Tx::begin(&store.0, Purpose::Record).await?;
                copy(tx.session(), &news).await?;
                tx.commit().await?;
            }
            Ok(Some(news.len()))
        }
        Engine::Postgres { readers, .. } => {
            let mut tx = readers.begin().await?;
            // Losing a copied row in a crash costs nothing: the cursor goes with it.
            tx.execute("SET LOCAL synchronous_commit = 'off'").await?;
            if Session::Postgres(&mut tx).fetch_int(TRY_ALONE, &[]).await? == 0 {
                return Ok(None);
            }
            let news = collect(Session::Postgres(&mut tx), limit).await?;
            copy(Session::Postgres(&mut tx), &news).await?;
            tx.commit().await?;
            Ok(Some(news.len()))
        }
    }
}

async fn collect(mut session: Session<'_>, limit: usize) -> Result<Vec<Found>, sqlx::Error> {
    let lagging = session
        .fetch(LAGGING, &[Value::Int(rows_max(limit))], |row| {
            Ok((row.text(0)?.to_owned(), row.int(1)?))
        })
        .await?;
    let mut news = Vec::new();
    for (writer, seq) in lagging {
        let room = limit.saturating_sub(news.len());
        if room == 0 {
            break;
        }
        let values = [
            Value::Text(&writer),
            Value::Int(seq),
            Value::Int(rows_max(room)),
        ];
        let rows = session
            .fetch(NEWS, &values, |row| {
                let kind = row.text(2)?.to_owned();
                Ok(found(
                    &writer,
                    row.int(0)?,
                    row.int(1)?,
                    kind,
                    row.bytes(3)?,
                ))
            })
            .await?;
        news.extend(rows);
    }
    Ok(news)
}

/// What search knows of a record. One that does not parse can still be found by its time and kind:
/// tampering must not stop the follower.
fn found(writer: &str, seq: i64, at: i64, kind: String, body: &[u8]) -> Found {
    let mut found = Found {
        at,
        writer: writer.to_owned(),
        seq,
        kind,
        tenant_id: None,
        object_id: None,
        account: None,
        container: None,
        issuance_id: None,
        signature_sha256: None,
    };
    let Ok(record) = Record::from_bytes(body) else {
        return found;
    };
    if let Actor::Caller {
        tenant_id,
        object_id,
        ..
    } = record.event.actor
    {
        found.tenant_id = Some(tenant_id.to_string());
        found.object_id = Some(object_id.to_string());
    }
    found.account = record.event.action.account().map(ToString::to_string);
    if let Some(asked) = record.event.action.asked() {
        found.container = Some(asked.container.to_string());
    }
    if let Some(issued) = record.event.action.issued() {
        found.issuance_id = Some(issued.id.to_string());
        found.signature_sha256 = Some(issued.signature_sha256.clone());
    }
    found
}

async fn copy(mut session: Session<'_>, news: &[Found]) -> Result<(), sqlx::Error> {
    for row in news {
        let values = [
            Value::Int(row.at),
            Value::Text(&row.writer),
            Value::Int(row.seq),
            Value::Text(&row.kind),
            Value::MaybeText(row.tenant_id.as_deref()),
            Value::MaybeText(row.object_id.as_deref()),
            Value::MaybeText(row.account.as_deref()),
            Value::MaybeText(row.container.as_deref()),
            Value::MaybeText(row.issuance_id.as_deref()),
            Value::MaybeText(row.signature_sha256.as_deref()),
        ];
        session.execute(COPY, &values).await?;
    }
    // Rows of one chain stand together and in order.
    for chain in news.chunk_by(|a, b| a.writer == b.writer) {
        if let Some(last) = chain.last() {
            let values = [Value::Text(&last.writer), Value::Int(last.seq)];
            session.execute(MOVE_CURSOR, &values).await?;
        }
    }
    Ok(())
}
