//! The real database behind a fault: every read, every statement of a transaction and every commit is
//! an outside call.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sas_broker::{
    domain::{
        audit::{Head, Row},
        change::ChangeSet,
        ids::{AccountName, RotationId, WriterId},
        rotation::{
            AccountStatus, Fence, InFlight, Notification, Regenerated, Rotation, RotationBatch,
        },
        snapshot::PolicyTable,
    },
    ports::{
        ClaimKey, JournalStore, JournalTx, KeyClaim, Lease, PolicyStore, Purpose, Rotations,
        StoreError,
    },
    storage::Store,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::faults::{Call, Fault, Faults};

pub(super) struct FaultyStore {
    inner: Arc<Store>,
    faults: Arc<Faults>,
}

struct FaultyTx {
    inner: Box<dyn JournalTx>,
    faults: Arc<Faults>,
}

fn struck<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("struck".to_owned()))
}

/// A call without effect of its own: what is not heard of it is lost.
async fn meet<T>(
    faults: &Faults,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match faults.meet(Call::Database).await {
        None => work.await,
        Some(Fault::DiesAfter) => {
            drop(work.await);
            faults.die().await
        }
        Some(_) => struck(),
    }
}

impl FaultyStore {
    pub(super) fn new(inner: Arc<Store>, faults: &Arc<Faults>) -> Self {
        Self {
            inner,
            faults: Arc::clone(faults),
        }
    }
}

/// The whole of a trait goes through the fault: `async_trait` sees the methods only if one macro
/// writes all of them.
macro_rules! through {
    ($trait:ident { $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* }) => {
        #[async_trait]
        impl $trait for FaultyStore {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$out, StoreError> {
                meet(&self.faults, self.inner.$name($($arg),*)).await
            })*
        }
    };
}

through! { PolicyStore {
    version() -> i64;
    load() -> PolicyTable;
} }

through! { Rotations {
    lease(
        holder: Uuid,
        held: Option<Fence>,
        now: OffsetDateTime,
        ttl: Duration,
        handover: Duration
    ) -> Option<Lease>;
    give_back(fence: Fence) -> ();
    statuses(after: Option<&AccountName>, limit: usize) -> Vec<AccountStatus>;
    status(account: &AccountName) -> Option<AccountStatus>;
    open_rotations(account: &AccountName) -> Vec<Rotation>;
    accounts_at_work(limit: usize) -> Vec<AccountName>;
    in_flight(account: &AccountName) -> Option<InFlight>;
    regenerated(account: &AccountName) -> Vec<Regenerated>;
    rotation(account: &AccountName, id: RotationId) -> Option<Rotation>;
    rotations(
        account: &AccountName,
        before: Option<RotationId>,
        limit: usize
    ) -> Vec<Rotation>;
    notifications(now: OffsetDateTime, limit: usize) -> Vec<(Notification, u32)>;
    drop_notification(id: Uuid) -> ();
    postpone_notification(id: Uuid, at: OffsetDateTime) -> ();
} }

#[async_trait]
impl JournalStore for FaultyStore {
    async fn begin(&self, purpose: Purpose) -> Result<Box<dyn JournalTx>, StoreError> {
        let inner = meet(&self.faults, JournalStore::begin(&*self.inner, purpose)).await?;
        Ok(Box::new(FaultyTx {
            inner,
            faults: Arc::clone(&self.faults),
        }))
    }

    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError> {
        meet(&self.faults, JournalStore::head(&*self.inner, writer)).await
    }

    async fn newest_heads(&self, limit: usize) -> Result<Vec<Head>, StoreError> {
        meet(&self.faults, self.inner.newest_heads(limit)).await
    }

    async fn claim(&self, key: &ClaimKey, now: i64) -> Result<Option<KeyClaim>, StoreError> {
        meet(&self.faults, self.inner.claim(key, now)).await
    }

    async fn purge_claims(&self, now: i64, limit: usize) -> Result<usize, StoreError> {
        meet(&self.faults, self.inner.purge_claims(now, limit)).await
    }
}

#[async_trait]
impl JournalTx for FaultyTx {
    async fn policy_version(&mut self) -> Result<i64, StoreError> {
        self.inner.policy_version().await
    }

    async fn claim(&mut self, claim: &KeyClaim, now: i64) -> Result<bool, StoreError> {
        meet(&self.faults, self.inner.claim(claim, now)).await
    }

    async fn change(&mut self, changes: &ChangeSet, by: &str, at: i64) -> Result<i64, StoreError> {
        meet(&self.faults, self.inner.change(changes, by, at)).await
    }

    async fn rotate(&mut self, batch: &RotationBatch, at: i64) -> Result<bool, StoreError> {
        meet(&self.faults, self.inner.rotate(batch, at)).await
    }

    async fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        meet(&self.faults, self.inner.append(rows)).await
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { inner, faults } = *self;
        match faults.meet(Call::Commit).await {
            None => inner.commit().await,
            Some(Fault::DiesAfter) => {
                drop(inner.commit().await);
                faults.die().await
            }
            Some(Fault::Unheard) => {
                inner.commit().await?;
                Err(StoreError::Unclear("struck".to_owned()))
            }
            Some(_) => {
                inner.abandon().await?;
                Err(StoreError::Unclear("struck".to_owned()))
            }
        }
    }

    async fn abandon(self: Box<Self>) -> Result<(), StoreError> {
        self.inner.abandon().await
    }
}
