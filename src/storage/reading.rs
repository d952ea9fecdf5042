//! The journal for those who read it: verification pages over it, people search in it.

use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::{
    READ_TIMEOUT, bounded,
    connect::Store,
    corrupt, follow,
    session::{Fields, Value},
};
use crate::{
    domain::{
        audit::{ChainHash, Head, Row},
        ids::WriterId,
    },
    ports::{AuditFilter, JournalReader, StoreError},
};

const ROWS: &str = "SELECT writer, seq, at, kind, body, hash FROM journal \
     WHERE (writer, seq) > ($1, $2) ORDER BY writer, seq LIMIT $3";

const ROW: &str = "SELECT writer, seq, at, kind, body, hash FROM journal \
     WHERE writer = $1 AND seq = $2";

const HEADS: &str = "SELECT writer, seq, hash FROM journal_heads \
     WHERE writer > $1 ORDER BY writer LIMIT $2";

const HEAD: &str = "SELECT writer, seq, hash FROM journal_heads WHERE writer = $1";

/// The search table finds, the journal answers.
const SEARCH: &str = "SELECT j.writer, j.seq, j.at, j.kind, j.body, j.hash FROM journal_search s \
     JOIN journal j ON j.writer = s.writer AND j.seq = s.seq WHERE s.at >= $1 AND s.at < $2";

/// A limit as the databases take it.
pub(super) fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn sha256(bytes: &[u8]) -> Result<[u8; 32], sqlx::Error> {
    bytes
        .try_into()
        .map_err(|_| corrupt(format!("a hash of {} bytes", bytes.len())))
}

pub(super) fn read_head(row: &Fields) -> Result<Head, sqlx::Error> {
    Ok(Head {
        writer: row.parsed(0)?,
        seq: row.int(1)?,
        hash: ChainHash(sha256(row.bytes(2)?)?),
    })
}

pub(super) fn read_row(row: &Fields) -> Result<Row, sqlx::Error> {
    Ok(Row {
        writer: row.parsed(0)?,
        seq: row.int(1)?,
        at: row.int(2)?,
        kind: row.text(3)?.to_owned(),
        body: row.bytes(4)?.to_owned(),
        hash: ChainHash(sha256(row.bytes(5)?)?),
    })
}

pub(super) async fn head(store: &Store, writer: WriterId) -> Result<Option<Head>, StoreError> {
    let writer = writer.to_string();
    let mut found = fetch(store, HEAD, &[Value::Text(&writer)], read_head).await?;
    Ok(found.pop())
}

async fn fetch<T>(
    store: &Store,
    sql: &'static str,
    values: &[Value<'_>],
    map: impl FnMut(&Fields) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, StoreError> {
    bounded(READ_TIMEOUT, async {
        let mut reader = store.reader().await?;
        reader.session().fetch(sql, values, map).await
    })
    .await
}

#[async_trait]
impl JournalReader for Store {
    async fn rows(
        &self,
        after: Option<(WriterId, i64)>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        // The empty text stands before every writer.
        let (writer, seq) = after.map_or((String::new(), 0), |(w, seq)| (w.to_string(), seq));
        let values = [
            Value::Text(&writer),
            Value::Int(seq),
            Value::Int(rows_max(limit)),
        ];
        fetch(self, ROWS, &values, read_row).await
    }

    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError> {
        head(self, writer).await
    }

    async fn row(&self, writer: WriterId, seq: i64) -> Result<Option<Row>, StoreError> {
        let writer = writer.to_string();
        let values = [Value::Text(&writer), Value::Int(seq)];
        Ok(fetch(self, ROW, &values, read_row).await?.pop())
    }

    async fn heads(&self, after: Option<WriterId>, limit: usize) -> Result<Vec<Head>, StoreError> {
        let writer = after.map_or(String::new(), |writer| writer.to_string());
        let values = [Value::Text(&writer), Value::Int(rows_max(limit))];
        fetch(self, HEADS, &values, read_head).await
    }

    async fn follow(&self, limit: usize) -> Result<Option<usize>, StoreError> {
        bounded(READ_TIMEOUT, follow::follow(self, limit)).await
    }

    async fn search(
        &self,
        filter: &AuditFilter,
        before: Option<(i64, WriterId, i64)>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let texts = Texts::of(filter, before);
        let (sql, values) = search_query(filter, &texts, before, limit);
        bounded(READ_TIMEOUT, async {
            let mut reader = self.reader().await?;
            let mut session = reader.session();
            // Put together from constants; what a person typed is bound.
            session.fetch(AssertSqlSafe(sql), &values, read_row).await
        })
        .await
    }
}

/// Ids of a filter in their stored form, to be borrowed while the query runs.
struct Texts {
    object_id: Option<String>,
    issuance_id: Option<String>,
    before_writer: String,
}

impl Texts {
    fn of(filter: &AuditFilter, before: Option<(i64, WriterId, i64)>) -> Self {
        Self {
            object_id: filter.object_id.map(|id| id.to_string()),
            issuance_id: filter.issuance_id.map(|id| id.as_hyphenated().to_string()),
            before_writer: before.map_or(String::new(), |(_, writer, _)| writer.to_string()),
        }
    }
}

/// A condition only for each filter that is set, so that the planner sees which index serves.
fn search_query<'a>(
    filter: &'a AuditFilter,
    texts: &'a Texts,
    before: Option<(i64, WriterId, i64)>,
    limit: usize,
) -> (String, Vec<Value<'a>>) {
    let mut sql = SEARCH.to_owned();
    let mut values = vec![
        Value::Int(filter.from.unwrap_or(i64::MIN)),
        Value::Int(filter.until.unwrap_or(i64::MAX)),
    ];
    let equal = [
        ("object_id", texts.object_id.as_deref()),
        ("account", filter.account.as_deref()),
        ("container", filter.container.as_deref()),
        ("kind", filter.kind.as_deref()),
        ("issuance_id", texts.issuance_id.as_deref()),
        ("signature_sha256", filter.signature_sha256.as_deref()),
    ];
    for (column, value) in equal {
        if let Some(value) = value {
            values.push(Value::Text(value));
            sql.push_str(&format!(" AND s.{column} = ${}", values.len()));
        }
    }
    if let Some((at, _, seq)) = before {
        let next = values.len() + 1;
        sql.push_str(&format!(
            " AND (s.at, s.writer, s.seq) < (${next}, ${}, ${})",
            next + 1,
            next + 2
        ));
        values.extend([
            Value::Int(at),
            Value::Text(&texts.before_writer),
            Value::Int(seq),
        ]);
    }
    values.push(Value::Int(rows_max(limit)));
    sql.push_str(&format!(
        " ORDER BY s.at DESC, s.writer DESC, s.seq DESC LIMIT ${}",
        values.len()
    ));
    (sql, values)
}
