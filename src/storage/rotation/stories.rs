//! Rotations and their steps, as they are read: whole stories, and the two questions about an
//! account's history that a plan asks. Each is one statement, and so one view of the database; each
//! finds what it needs by an index, however long the history is.

use super::fetch;
use crate::{
    domain::{
        ids::{AccountName, RotationId},
        rotation::{CreationTime, InFlight, Regenerated, Rotation, RotationStep},
    },
    storage::{
        connect::Store,
        reading::rows_max,
        session::{Fields, Value},
    },
};

/// Rotations, each as many times as it has steps, and at least once.
macro_rules! stories {
    ($which:expr, $order:expr) => {
        concat!(
            "SELECT r.id, r.account, r.trigger, r.key, r.reason, r.requested_by, \
             r.requested_at, r.state, r.detail, r.ended_at, s.seq, s.kind, s.key, \
             s.created_before, s.version, s.started_at, s.ended_at, s.outcome, s.detail \
             FROM (SELECT id, account, trigger, key, reason, requested_by, requested_at, state, \
             detail, ended_at FROM rotations WHERE ",
            $which,
            ") r LEFT JOIN rotation_steps s ON s.rotation = r.id ORDER BY ",
            $order,
            ", s.seq"
        )
    };
}

pub(super) const ONE: &str = stories!("id = $1 AND account = $2", "r.id");

/// Few: the unique indexes say how many.
pub(super) const OPEN: &str = stories!(
    "account = $1 AND state IN ('requested', 'running')",
    "CASE WHEN r.state = 'running' THEN 0 WHEN r.trigger = 'break_glass' THEN 1 ELSE 2 END, r.id"
);

pub(super) const PAGE: &str = stories!(
    "account = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
    "r.id DESC"
);

/// Stands after every id.
const AFTER_ALL: &str = "g";

pub(super) const AT_WORK: &str = "SELECT account FROM rotations \
     WHERE state IN ('requested', 'running') GROUP BY account \
     ORDER BY MIN(CASE WHEN trigger = 'break_glass' THEN 0 ELSE 1 END), account LIMIT $1";

pub(super) const IN_FLIGHT: &str = "SELECT rotation, seq, kind, key, created_before, started_at \
     FROM rotation_steps WHERE account = $1 AND kind IN ('regenerate', 'publish') \
     AND outcome IN ('intended', 'unclear') \
     ORDER BY started_at DESC, rotation DESC, seq DESC LIMIT 1";

macro_rules! last_of {
    ($key:literal) => {
        concat!(
            "SELECT * FROM (SELECT rotation, key, created_before, \
             COALESCE(ended_at, started_at) AS at FROM rotation_steps \
             WHERE account = $1 AND key = '",
            $key,
            "' AND kind = 'regenerate' AND outcome IN ('done', 'seen') \
             ORDER BY started_at DESC, rotation DESC, seq DESC LIMIT 1) ",
            $key
        )
    };
}
pub(super) const REGENERATED: &str = concat!(last_of!("key1"), " UNION ALL ", last_of!("key2"));

pub(super) async fn one(
    store: &Store,
    account: &AccountName,
    id: RotationId,
) -> Result<Option<Rotation>, sqlx::Error> {
    let id = id.to_string();
    let values = [Value::Text(&id), Value::Text(account.as_str())];
    Ok(stories(store, ONE, &values).await?.pop())
}

pub(super) async fn open(
    store: &Store,
    account: &AccountName,
) -> Result<Vec<Rotation>, sqlx::Error> {
    stories(store, OPEN, &[Value::Text(account.as_str())]).await
}

pub(super) async fn page(
    store: &Store,
    account: &AccountName,
    before: Option<RotationId>,
    limit: usize,
) -> Result<Vec<Rotation>, sqlx::Error> {
    let before = before.map_or(AFTER_ALL.to_owned(), |id| id.to_string());
    let values = [
        Value::Text(account.as_str()),
        Value::Text(&before),
        Value::Int(rows_max(limit)),
    ];
    stories(store, PAGE, &values).await
}

pub(super) async fn accounts_at_work(
    store: &Store,
    limit: usize,
) -> Result<Vec<AccountName>, sqlx::Error> {
    let values = [Value::Int(rows_max(limit))];
    fetch(store, AT_WORK, &values, |row| row.parsed(0)).await
}

pub(super) async fn in_flight(
    store: &Store,
    account: &AccountName,
) -> Result<Option<InFlight>, sqlx::Error> {
    let read = |row: &Fields| {
        Ok(InFlight {
            rotation: row.parsed(0)?,
            seq: row.int(1)?,
            kind: row.parsed(2)?,
            key: row.parsed(3)?,
            created_before: row.maybe_text(4)?.map(CreationTime::new),
            since: row.instant(5)?,
        })
    };
    let values = [Value::Text(account.as_str())];
    Ok(fetch(store, IN_FLIGHT, &values, read).await?.pop())
}

pub(super) async fn regenerated(
    store: &Store,
    account: &AccountName,
) -> Result<Vec<Regenerated>, sqlx::Error> {
    let read = |row: &Fields| {
        Ok(Regenerated {
            rotation: row.parsed(0)?,
            key: row.parsed(1)?,
            created_before: row.maybe_text(2)?.map(CreationTime::new),
            at: row.instant(3)?,
        })
    };
    fetch(store, REGENERATED, &[Value::Text(account.as_str())], read).await
}

/// Rows of one rotation follow each other.
async fn stories(
    store: &Store,
    sql: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<Rotation>, sqlx::Error> {
    let mut stories: Vec<Rotation> = Vec::new();
    let put = |row: &Fields| {
        let id: RotationId = row.parsed(0)?;
        if stories.last().is_none_or(|last| last.id != id) {
            stories.push(read_rotation(row, id)?);
        }
        if let (Some(last), Some(step)) = (stories.last_mut(), read_step(row)?) {
            last.steps.push(step);
        }
        Ok(())
    };
    fetch(store, sql, values, put).await?;
    Ok(stories)
}

fn read_rotation(row: &Fields, id: RotationId) -> Result<Rotation, sqlx::Error> {
    Ok(Rotation {
        id,
        account: row.parsed(1)?,
        trigger: row.parsed(2)?,
        key: row.maybe_parsed(3)?,
        reason: row.maybe_parsed(4)?,
        requested_by: row.text(5)?.to_owned(),
        requested_at: row.instant(6)?,
        state: row.parsed(7)?,
        detail: row.maybe_parsed(8)?,
        ended_at: row.maybe_instant(9)?,
        steps: Vec::new(),
    })
}

/// `None` for a rotation without steps.
fn read_step(row: &Fields) -> Result<Option<RotationStep>, sqlx::Error> {
    let Some(seq) = row.maybe_int(10)? else {
        return Ok(None);
    };
    Ok(Some(RotationStep {
        seq,
        kind: row.parsed(11)?,
        key: row.maybe_parsed(12)?,
        created_before: row.maybe_text(13)?.map(CreationTime::new),
        version: row.maybe_parsed(14)?,
        started_at: row.instant(15)?,
        ended_at: row.maybe_instant(16)?,
        outcome: row.parsed(17)?,
        detail: row.maybe_parsed(18)?,
    }))
}
