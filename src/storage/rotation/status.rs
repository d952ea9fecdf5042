//! What the last look at each account showed, and when to look again.

use time::OffsetDateTime;

use super::fetch;
use crate::{
    domain::{
        ids::{AccountName, SecretVersion},
        rotation::{AccountStatus, KeyName, Publication},
        time_text,
    },
    storage::{
        connect::Store,
        corrupt,
        reading::rows_max,
        session::{Fields, Session, Value},
    },
};

/// Somebody may ask for a look while another is under way, which cannot have seen what they ask
/// for: such a look does not put theirs off. Their instant is read before they commit, and perhaps by
/// another machine's clock, hence the half minute; it costs one look more.
const LOOK: &str = "INSERT INTO rotation_status (account, state, reasons, looked_at, look_at, \
     published_version, published_key, published_rotation, published_at, due_at, failures, \
     overdue_told) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (account) DO UPDATE SET state = excluded.state, reasons = excluded.reasons, \
     looked_at = excluded.looked_at, \
     look_at = CASE WHEN rotation_status.woken_at > excluded.looked_at - 30000000 \
         AND rotation_status.woken_at < excluded.look_at \
         THEN rotation_status.woken_at ELSE excluded.look_at END, \
     published_version = excluded.published_version, published_key = excluded.published_key, \
     published_rotation = excluded.published_rotation, published_at = excluded.published_at, \
     due_at = excluded.due_at, failures = excluded.failures, overdue_told = excluded.overdue_told";

const WAKE: &str = "UPDATE rotation_status SET woken_at = $2, \
     look_at = CASE WHEN look_at > $2 THEN $2 ELSE look_at END WHERE account = $1";

macro_rules! statuses {
    ($which:expr) => {
        concat!(
            "SELECT account, state, reasons, looked_at, look_at, published_version, \
             published_key, published_rotation, published_at, due_at, failures, overdue_told \
             FROM rotation_status WHERE ",
            $which
        )
    };
}
pub(super) const ONE: &str = statuses!("account = $1");
pub(super) const PAGE: &str = statuses!("account > $1 ORDER BY account LIMIT $2");

pub(super) async fn of(
    store: &Store,
    account: &AccountName,
) -> Result<Option<AccountStatus>, sqlx::Error> {
    let values = [Value::Text(account.as_str())];
    Ok(fetch(store, ONE, &values, read).await?.pop())
}

pub(super) async fn page(
    store: &Store,
    after: Option<&AccountName>,
    limit: usize,
) -> Result<Vec<AccountStatus>, sqlx::Error> {
    // The empty text stands before every account.
    let after = after.map_or("", AccountName::as_str);
    let values = [Value::Text(after), Value::Int(rows_max(limit))];
    fetch(store, PAGE, &values, read).await
}

pub(super) async fn look(
    session: &mut Session<'_>,
    status: &AccountStatus,
) -> Result<(), sqlx::Error> {
    let reasons = serde_json::to_string(&status.reasons).expect("sentences are plain text");
    let published = status.published.as_ref();
    let rotation = published.map(|published| published.rotation.to_string());
    let values = [
        Value::Text(status.account.as_str()),
        Value::Text(status.state.as_str()),
        Value::Text(&reasons),
        Value::Int(time_text::to_micros(status.looked_at)),
        Value::Int(time_text::to_micros(status.look_at)),
        Value::MaybeText(published.map(|published| published.version.as_str())),
        Value::MaybeText(published.map(|published| published.key.as_str())),
        Value::MaybeText(rotation.as_deref()),
        Value::MaybeInt(published.map(|published| time_text::to_micros(published.at))),
        Value::MaybeInt(status.due_at.map(time_text::to_micros)),
        Value::Int(status.failures.into()),
        Value::MaybeInt(status.overdue_told.map(time_text::to_micros)),
    ];
    session.execute(LOOK, &values).await.map(drop)
}

pub(super) async fn wake(
    session: &mut Session<'_>,
    account: &AccountName,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let values = [
        Value::Text(account.as_str()),
        Value::Int(time_text::to_micros(at)),
    ];
    session.execute(WAKE, &values).await.map(drop)
}

fn read(row: &Fields) -> Result<AccountStatus, sqlx::Error> {
    Ok(AccountStatus {
        account: row.parsed(0)?,
        state: row.parsed(1)?,
        reasons: serde_json::from_str(row.text(2)?).map_err(corrupt)?,
        looked_at: row.instant(3)?,
        look_at: row.instant(4)?,
        published: read_publication(row)?,
        due_at: row.maybe_instant(9)?,
        failures: u32::try_from(row.int(10)?).map_err(corrupt)?,
        overdue_told: row.maybe_instant(11)?,
    })
}

fn read_publication(row: &Fields) -> Result<Option<Publication>, sqlx::Error> {
    let Some(version): Option<SecretVersion> = row.maybe_parsed(5)? else {
        return Ok(None);
    };
    let key: KeyName = row.parsed(6)?;
    Ok(Some(Publication {
        version,
        key,
        rotation: row.parsed(7)?,
        at: row.instant(8)?,
    }))
}
