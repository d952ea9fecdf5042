//! What the database knows about rotations: the lease, the stories, what the last looks showed, and
//! what the webhook is yet to be told. Nothing here decides what is rotated, and no key is ever here.
//!
//! Stories and looks are written inside the journal's transactions, by [`rotate`], so that a write
//! and its record are one. The lease and the outbox have writes of their own, one statement each:
//! they say who is at work and what was delivered, not what was done.
//!
//! Every batch begins by locking the row of the lease. So there is one at a time, whatever replica
//! it comes from: none slips past a takeover, none deadlocks with another, and what one read stays
//! so until its commit. Batches are few; the recording of tokens does not wait for that lock.

mod lease;
mod outbox;
mod status;
mod stories;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

pub(super) use self::write::rotate;
use super::{
    READ_TIMEOUT, bounded,
    connect::{Engine, Store},
    session::{Fields, Value},
    writing::Tx,
};
use crate::{
    domain::{
        ids::{AccountName, RotationId},
        rotation::{AccountStatus, Fence, InFlight, Notification, Regenerated, Rotation},
    },
    ports::{Lease, Purpose, Rotations, StoreError},
};

#[async_trait]
impl Rotations for Store {
    async fn lease(
        &self,
        holder: Uuid,
        held: Option<Fence>,
        now: OffsetDateTime,
        ttl: Duration,
        handover: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let terms = lease::Terms::new(holder, now, ttl, handover);
        bounded(READ_TIMEOUT, async {
            if let Some(fence) = held
                && let Some(lease) = lease::renew(self, &terms, fence).await?
            {
                return Ok(Some(lease));
            }
            lease::take(self, &terms).await
        })
        .await
    }

    async fn give_back(&self, fence: Fence) -> Result<(), StoreError> {
        bounded(READ_TIMEOUT, lease::give_back(self, fence)).await
    }

    async fn statuses(
        &self,
        after: Option<&AccountName>,
        limit: usize,
    ) -> Result<Vec<AccountStatus>, StoreError> {
        bounded(READ_TIMEOUT, status::page(self, after, limit)).await
    }

    async fn status(&self, account: &AccountName) -> Result<Option<AccountStatus>, StoreError> {
        bounded(READ_TIMEOUT, status::of(self, account)).await
    }

    async fn open_rotations(&self, account: &AccountName) -> Result<Vec<Rotation>, StoreError> {
        bounded(READ_TIMEOUT, stories::open(self, account)).await
    }

    async fn accounts_at_work(&self, limit: usize) -> Result<Vec<AccountName>, StoreError> {
        bounded(READ_TIMEOUT, stories::accounts_at_work(self, limit)).await
    }

    async fn in_flight(&self, account: &AccountName) -> Result<Option<InFlight>, StoreError> {
        bounded(READ_TIMEOUT, stories::in_flight(self, account)).await
    }

    async fn regenerated(&self, account: &AccountName) -> Result<Vec<Regenerated>, StoreError> {
        bounded(READ_TIMEOUT, stories::regenerated(self, account)).await
    }

    async fn rotation(
        &self,
        account: &AccountName,
        id: RotationId,
    ) -> Result<Option<Rotation>, StoreError> {
        bounded(READ_TIMEOUT, stories::one(self, account, id)).await
    }

    async fn rotations(
        &self,
        account: &AccountName,
        before: Option<RotationId>,
        limit: usize,
    ) -> Result<Vec<Rotation>, StoreError> {
        bounded(READ_TIMEOUT, stories::page(self, account, before, limit)).await
    }

    async fn notifications(
        &self,
        now: OffsetDateTime,
        limit: usize,
    ) -> Result<Vec<(Notification, u32)>, StoreError> {
        bounded(READ_TIMEOUT, outbox::due(self, now, limit)).await
    }

    async fn drop_notification(&self, id: Uuid) -> Result<(), StoreError> {
        bounded(READ_TIMEOUT, outbox::remove(self, id)).await
    }

    async fn postpone_notification(&self, id: Uuid, at: OffsetDateTime) -> Result<(), StoreError> {
        bounded(READ_TIMEOUT, outbox::postpone(self, id, at)).await
    }
}

/// One query, and so one view of the database, on either engine.
async fn fetch<T>(
    store: &Store,
    sql: &'static str,
    values: &[Value<'_>],
    map: impl FnMut(&Fields) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, sqlx::Error> {
    let mut reader = store.reader().await?;
    reader.session().fetch(sql, values, map).await
}

/// One writing statement as a transaction of its own. On SQLite it goes by the connection that
/// writes, so that it queues fairly with the journal.
async fn write_alone<T>(
    store: &Store,
    sql: &'static str,
    values: &[Value<'_>],
    map: impl FnMut(&Fields) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, sqlx::Error> {
    match &store.0 {
        Engine::Sqlite { .. } => {
            let mut tx = Tx::begin(&store.0, Purpose::Record).await?;
            let rows = tx.session().fetch(sql, values, map).await?;
            tx.commit().await?;
            Ok(rows)
        }
        Engine::Postgres { .. } => fetch(store, sql, values, map).await,
    }
}
