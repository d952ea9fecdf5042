//! The lease: one row, whose token grows with every holder and guards what the holder writes.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::write_alone;
use crate::{
    domain::{rotation::Fence, time_text},
    ports::Lease,
    storage::{
        connect::Store,
        session::{Fields, Session, Value},
    },
};

/// An expired lease that nobody took over is still its holder's: nobody acted in between.
const RENEW: &str = "UPDATE leases SET expires_at = $1 \
     WHERE id = 1 AND token = $2 AND holder = $3 RETURNING token, expires_at, mutations_from";

/// Nobody's, an expired one, one that ends later than any lease can (its holder's clock ran ahead), or one of this very process, which has forgotten its token: an answer
/// got lost. Only a lease that was given back ends with all calls of its holder; and even then a
/// wait that the holder itself had to keep is not over. No wait is longer than the handover, as it
/// might be after a clock went wrong.
const TAKE: &str = "UPDATE leases SET token = token + 1, holder = $1, expires_at = $2, \
     mutations_from = CASE \
         WHEN holder IS NOT NULL OR mutations_from > $4 THEN $4 \
         WHEN mutations_from > $3 THEN mutations_from \
         ELSE $3 END \
     WHERE id = 1 AND (holder IS NULL OR holder = $1 OR expires_at <= $3 \
         OR expires_at > $2 + 60000000) \
     RETURNING token, expires_at, mutations_from";

const GIVE_BACK: &str = "UPDATE leases SET holder = NULL WHERE id = 1 AND token = $1";

/// The token under which somebody holds the lease.
const HELD: &str = "SELECT CASE WHEN holder IS NOT NULL THEN token END FROM leases WHERE id = 1";

/// SQLite's transactions are alone anyway. A takeover that is not committed yet is waited for, and
/// what is read is what it left.
const HELD_AND_LOCKED: &str =
    "SELECT CASE WHEN holder IS NOT NULL THEN token END FROM leases WHERE id = 1 FOR UPDATE";

/// On which terms the lease is asked for, as the database takes them.
pub(super) struct Terms {
    holder: String,
    now: i64,
    expires_at: i64,
    handed_over_at: i64,
}

impl Terms {
    pub(super) fn new(
        holder: Uuid,
        now: OffsetDateTime,
        ttl: Duration,
        handover: Duration,
    ) -> Self {
        let now = time_text::to_micros(now);
        let after = |time: Duration| {
            let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
            now.saturating_add(micros)
        };
        Self {
            holder: holder.as_hyphenated().to_string(),
            now,
            expires_at: after(ttl),
            handed_over_at: after(handover),
        }
    }
}

fn read(row: &Fields) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        fence: Fence { token: row.int(0)? },
        expires_at: row.instant(1)?,
        mutations_from: row.instant(2)?,
    })
}

pub(super) async fn renew(
    store: &Store,
    terms: &Terms,
    fence: Fence,
) -> Result<Option<Lease>, sqlx::Error> {
    let values = [
        Value::Int(terms.expires_at),
        Value::Int(fence.token),
        Value::Text(&terms.holder),
    ];
    Ok(write_alone(store, RENEW, &values, read).await?.pop())
}

pub(super) async fn take(store: &Store, terms: &Terms) -> Result<Option<Lease>, sqlx::Error> {
    let values = [
        Value::Text(&terms.holder),
        Value::Int(terms.expires_at),
        Value::Int(terms.now),
        Value::Int(terms.handed_over_at),
    ];
    Ok(write_alone(store, TAKE, &values, read).await?.pop())
}

pub(super) async fn give_back(store: &Store, fence: Fence) -> Result<(), sqlx::Error> {
    let token = [Value::Int(fence.token)];
    write_alone(store, GIVE_BACK, &token, |_| Ok(())).await?;
    Ok(())
}

/// Locks the lease until the transaction ends, whether or not it is asked for; true if what is
/// guarded by `fence` may be written. A lease that was given back guards nothing any more.
pub(super) async fn admits(
    session: &mut Session<'_>,
    fence: Option<Fence>,
) -> Result<bool, sqlx::Error> {
    let sql = match session {
        Session::Sqlite(_) => HELD,
        Session::Postgres(_) => HELD_AND_LOCKED,
    };
    let held = session.fetch(sql, &[], |row| row.maybe_int(0)).await?;
    let held = held.into_iter().next().flatten();
    Ok(fence.is_none_or(|fence| held == Some(fence.token)))
}
