//! The writes of a batch, inside the journal's transaction.
//!
//! A write that does not fit what is stored refuses the whole batch, record and all: its author
//! looked at a story that has moved on, and must look again. So an outcome that is known is never
//! overwritten, a rotation ends once, and the journal never tells what the tables do not.

use super::{lease, outbox, status};
use crate::{
    domain::{
        ids::{AccountName, RotationId, SecretVersion},
        rotation::{CreationTime, KeyName, Rotation, RotationBatch, RotationStep, RotationWrite},
        time_text,
    },
    storage::{
        policy,
        session::{Session, Value},
    },
};

/// The unique indexes say how many may be open. A violation would abort the transaction, hence the
/// conflict clause, which counts instead.
const OPEN: &str = "INSERT INTO rotations (id, account, trigger, key, reason, requested_by, \
     requested_at, state, detail, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
     ON CONFLICT DO NOTHING";

const START: &str = "UPDATE rotations SET state = 'running' WHERE id = $1 AND state = 'requested'";

/// Nothing is begun for a rotation that is over, and no step is written over another.
const INTEND: &str = "INSERT INTO rotation_steps (rotation, seq, account, kind, key, \
     created_before, version, started_at, ended_at, outcome, detail) \
     SELECT $1, $2, account, $3, $4, $5, $6, $7, $8, $9, $10 FROM rotations \
     WHERE id = $1 AND state IN ('requested', 'running') ON CONFLICT DO NOTHING";

/// Also after the rotation is over: what was under way is still observed.
const CONCLUDE: &str = "UPDATE rotation_steps SET outcome = $3, version = COALESCE($4, version), \
     detail = COALESCE($5, detail), ended_at = $6 \
     WHERE rotation = $1 AND seq = $2 AND outcome IN ('intended', 'unclear')";

/// The key that a break-glass names is not another's to choose.
const PIN: &str = "UPDATE rotations SET key = $2 WHERE id = $1 \
     AND state IN ('requested', 'running') AND (trigger <> 'break_glass' OR key = $2)";

const END: &str = "UPDATE rotations SET state = $2, detail = $3, ended_at = $4 \
     WHERE id = $1 AND state IN ('requested', 'running')";

const RAISE_KEY_GENERATION: &str = "INSERT INTO delegation_key_generations \
     (account, generation, raised_at) VALUES ($1, 1, $2) ON CONFLICT (account) DO UPDATE SET \
     generation = delegation_key_generations.generation + 1, raised_at = excluded.raised_at";

/// Makes every write of a batch, in order. False, and then the transaction may only be abandoned,
/// if the lease is not held under the batch's fence, or if a write does not fit what is stored:
///
/// - `Open` where one is open already, or with an id that is taken;
/// - `Start` of what is not requested, `Intend`, `Pin` or `End` of what is over or unknown;
/// - `Intend` of a step that is there already; `Pin` of another key than a break-glass names;
/// - `Conclude` of a step that is unknown, or whose outcome is known: only an open one changes.
///
/// The others always fit. `Look` is the newest look's; but it does not put off one that somebody
/// asked for after it began. `Wake` before the first look has nothing to do: that look comes anyway.
/// `Notify` of an event that waits already leaves it as it is.
pub(in crate::storage) async fn rotate(
    mut session: Session<'_>,
    batch: &RotationBatch,
    at: i64,
) -> Result<bool, sqlx::Error> {
    if !lease::admits(&mut session, batch.fence).await? {
        return Ok(false);
    }
    let raises = batch.raises_policy_version();
    if raises {
        policy::start_change(&mut session).await?;
    }
    for write in &batch.writes {
        if !make(&mut session, write, at).await? {
            return Ok(false);
        }
    }
    if raises {
        policy::end_change(&mut session).await?;
    }
    Ok(true)
}

/// False if it does not fit.
async fn make(
    session: &mut Session<'_>,
    write: &RotationWrite,
    at: i64,
) -> Result<bool, sqlx::Error> {
    match write {
        RotationWrite::Open(rotation) => open(session, rotation).await,
        RotationWrite::Start { rotation } => touch(session, START, *rotation, &[]).await,
        RotationWrite::Intend { rotation, step } => intend(session, *rotation, step).await,
        RotationWrite::Conclude {
            rotation,
            seq,
            outcome,
            version,
            detail,
            at,
        } => {
            let values = [
                Value::Int(*seq),
                Value::Text(outcome.as_str()),
                Value::MaybeText(version.as_ref().map(SecretVersion::as_str)),
                Value::MaybeText(detail.as_deref()),
                Value::Int(time_text::to_micros(*at)),
            ];
            touch(session, CONCLUDE, *rotation, &values).await
        }
        RotationWrite::Pin { rotation, key } => {
            touch(session, PIN, *rotation, &[Value::Text(key.as_str())]).await
        }
        RotationWrite::End {
            rotation,
            state,
            detail,
            at,
        } => {
            let values = [
                Value::Text(state.as_str()),
                Value::Text(detail),
                Value::Int(time_text::to_micros(*at)),
            ];
            touch(session, END, *rotation, &values).await
        }
        RotationWrite::Look(status) => status::look(session, status).await.map(|()| true),
        RotationWrite::Wake { account, at } => {
            status::wake(session, account, *at).await.map(|()| true)
        }
        RotationWrite::DropDelegationKeys { account } => raise_key_generation(session, account, at)
            .await
            .map(|()| true),
        RotationWrite::Notify(notification) => {
            outbox::add(session, notification).await.map(|()| true)
        }
    }
}

/// Runs a statement whose first value is the rotation; true if it met one row.
async fn touch(
    session: &mut Session<'_>,
    sql: &'static str,
    rotation: RotationId,
    values: &[Value<'_>],
) -> Result<bool, sqlx::Error> {
    let rotation = rotation.to_string();
    let values = [&[Value::Text(&rotation)], values].concat();
    Ok(session.execute(sql, &values).await? == 1)
}

async fn open(session: &mut Session<'_>, rotation: &Rotation) -> Result<bool, sqlx::Error> {
    let values = [
        Value::Text(rotation.account.as_str()),
        Value::Text(rotation.trigger.as_str()),
        Value::MaybeText(rotation.key.map(KeyName::as_str)),
        Value::MaybeText(rotation.reason.as_deref()),
        Value::Text(&rotation.requested_by),
        Value::Int(time_text::to_micros(rotation.requested_at)),
        Value::Text(rotation.state.as_str()),
        Value::MaybeText(rotation.detail.as_deref()),
        Value::MaybeInt(rotation.ended_at.map(time_text::to_micros)),
    ];
    if !touch(session, OPEN, rotation.id, &values).await? {
        return Ok(false);
    }
    for step in &rotation.steps {
        if !intend(session, rotation.id, step).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn intend(
    session: &mut Session<'_>,
    rotation: RotationId,
    step: &RotationStep,
) -> Result<bool, sqlx::Error> {
    let values = [
        Value::Int(step.seq),
        Value::Text(step.kind.as_str()),
        Value::MaybeText(step.key.map(KeyName::as_str)),
        Value::MaybeText(step.created_before.as_ref().map(CreationTime::as_str)),
        Value::MaybeText(step.version.as_ref().map(SecretVersion::as_str)),
        Value::Int(time_text::to_micros(step.started_at)),
        Value::MaybeInt(step.ended_at.map(time_text::to_micros)),
        Value::Text(step.outcome.as_str()),
        Value::MaybeText(step.detail.as_deref()),
    ];
    touch(session, INTEND, rotation, &values).await
}

async fn raise_key_generation(
    session: &mut Session<'_>,
    account: &AccountName,
    at: i64,
) -> Result<(), sqlx::Error> {
    let values = [Value::Text(account.as_str()), Value::Int(at)];
    session.execute(RAISE_KEY_GENERATION, &values).await?;
    Ok(())
}
