//! The outbox: what the webhook has not accepted yet.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{fetch, write_alone};
use crate::{
    domain::{
        rotation::{Notification, NotificationKind},
        time_text,
    },
    storage::{
        connect::Store,
        corrupt,
        reading::rows_max,
        session::{Fields, Session, Value},
    },
};

/// Most notifications that wait. A webhook that has accepted none of so many has been away for
/// weeks; the oldest give way, for the journal has what they tell.
const NOTIFICATIONS_MAX: i64 = 5_000;

/// Most that give way to one new notification.
const DROPPED_AT_ONCE_MAX: i64 = 100;

const ADD: &str = "INSERT INTO notifications \
     (id, kind, account, rotation, at, data, attempts, next_attempt_at) \
     VALUES ($1, $2, $3, $4, $5, $6, 0, $5) ON CONFLICT DO NOTHING";

const BOUND: &str = "DELETE FROM notifications WHERE id IN \
     (SELECT id FROM notifications ORDER BY at DESC, id DESC LIMIT $1 OFFSET $2)";

/// The sign keeps SQLite from walking all that wait by their age, to find those that are due.
pub(super) const DUE: &str = "SELECT id, kind, account, rotation, at, data, attempts FROM notifications \
     WHERE next_attempt_at <= $1 ORDER BY +at, id LIMIT $2";

const REMOVE: &str = "DELETE FROM notifications WHERE id = $1";

const POSTPONE: &str = "UPDATE notifications \
     SET attempts = attempts + 1, next_attempt_at = $2 WHERE id = $1";

/// Adds one, due at once, and lets the oldest go where there are too many.
pub(super) async fn add(
    session: &mut Session<'_>,
    notification: &Notification,
) -> Result<(), sqlx::Error> {
    let id = text(notification.id);
    let rotation = notification.rotation.map(|id| id.to_string());
    let values = [
        Value::Text(&id),
        Value::Text(notification.kind.event_type()),
        Value::Text(notification.account.as_str()),
        Value::MaybeText(rotation.as_deref()),
        Value::Int(time_text::to_micros(notification.at)),
        Value::Text(&notification.data),
    ];
    session.execute(ADD, &values).await?;
    let bound = [
        Value::Int(DROPPED_AT_ONCE_MAX),
        Value::Int(NOTIFICATIONS_MAX),
    ];
    let dropped = session.execute(BOUND, &bound).await?;
    if dropped > 0 {
        tracing::warn!(
            dropped,
            "too many notifications wait for the webhook; the oldest go"
        );
    }
    Ok(())
}

pub(super) async fn due(
    store: &Store,
    now: OffsetDateTime,
    limit: usize,
) -> Result<Vec<(Notification, u32)>, sqlx::Error> {
    let values = [
        Value::Int(time_text::to_micros(now)),
        Value::Int(rows_max(limit)),
    ];
    fetch(store, DUE, &values, read).await
}

pub(super) async fn remove(store: &Store, id: Uuid) -> Result<(), sqlx::Error> {
    let id = text(id);
    write_alone(store, REMOVE, &[Value::Text(&id)], |_| Ok(())).await?;
    Ok(())
}

pub(super) async fn postpone(
    store: &Store,
    id: Uuid,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let id = text(id);
    let values = [Value::Text(&id), Value::Int(time_text::to_micros(at))];
    write_alone(store, POSTPONE, &values, |_| Ok(())).await?;
    Ok(())
}

fn text(id: Uuid) -> String {
    id.as_hyphenated().to_string()
}

fn read(row: &Fields) -> Result<(Notification, u32), sqlx::Error> {
    let kind = row.text(1)?;
    let named = |known: &NotificationKind| known.event_type() == kind;
    let notification = Notification {
        id: row.parsed(0)?,
        kind: NotificationKind::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| corrupt("a notification of unknown kind"))?,
        account: row.parsed(2)?,
        rotation: row.maybe_parsed(3)?,
        at: row.instant(4)?,
        data: row.text(5)?.to_owned(),
    };
    let attempts = u32::try_from(row.int(6)?).map_err(corrupt)?;
    Ok((notification, attempts))
}
