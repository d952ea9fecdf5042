//! The right to rotate: a lease in the database, as the one process sees it that holds it.
//!
//! Its fencing token guards every write to the database. ARM and the vault cannot check it, so a
//! mutation begins only while enough of the lease is left for it to end, and a successor leaves that
//! much time before its first. A process that freezes between that check and its request cannot be
//! stopped; the next look finds what it did.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use uuid::Uuid;

use super::rotate::RotateError;
use crate::{
    domain::rotation::Fence,
    ports::{Clock, Entropy, Lease, OUTSIDE_CALL_TIMEOUT, Rotations, StoreError},
};

/// How long the lease is held without renewal: two ticks, so that one that is late loses nothing.
pub const LEASE: Duration = Duration::from_secs(120);

/// Time beyond a call's own limit that must be left of the lease, for clocks that differ and a
/// process that is slow to send.
pub const MUTATION_MARGIN: Duration = Duration::from_secs(10);

/// How much of the lease must be left when a mutation begins; also how long a successor waits.
pub const MUTATION: Duration =
    Duration::from_secs(OUTSIDE_CALL_TIMEOUT.as_secs() + MUTATION_MARGIN.as_secs());

const _: () = assert!(
    LEASE.as_secs() >= 2 * MUTATION.as_secs(),
    "a renewed lease outlasts a call with room to spare"
);

/// The lease, held or sought.
pub struct Tenure {
    records: Arc<dyn Rotations>,
    clock: Arc<dyn Clock>,
    holder: Uuid,
    held: Mutex<Option<Lease>>,
}

impl Tenure {
    /// Nothing is taken yet.
    #[must_use]
    pub fn new(records: Arc<dyn Rotations>, clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> Self {
        let holder = entropy.uuid_v7(clock.now());
        Self {
            records,
            clock,
            holder,
            held: Mutex::default(),
        }
    }

    /// Takes the lease or renews it; false while another process holds it.
    ///
    /// # Errors
    /// If the database does not answer; what is held is then held on, until it expires.
    pub async fn take(&self) -> Result<bool, StoreError> {
        let held = self.lease().map(|lease| lease.fence);
        let now = self.clock.now();
        let lease = self
            .records
            .lease(self.holder, held, now, LEASE, MUTATION)
            .await?;
        let taken = lease.is_some();
        *self.lock() = lease;
        Ok(taken)
    }

    /// Renews the lease if half of it is over; false if it is not held.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn keep(&self) -> Result<bool, StoreError> {
        if self.left() < LEASE / 2 {
            return self.take().await;
        }
        Ok(self.fence().is_some())
    }

    /// The token of the lease, if it is held. Whether it still counts, the database says.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.lease().map(|lease| lease.fence)
    }

    /// Makes sure that a mutation which begins now ends before the lease does.
    ///
    /// # Errors
    /// [`RotateError::LeaseLost`], [`RotateError::Handover`], or the database's.
    pub async fn ready_to_mutate(&self) -> Result<(), RotateError> {
        if self.left() < MUTATION && !self.take().await? {
            return Err(RotateError::LeaseLost);
        }
        let Some(lease) = self.lease() else {
            return Err(RotateError::LeaseLost);
        };
        if self.clock.now() < lease.mutations_from {
            return Err(RotateError::Handover);
        }
        if self.left() < MUTATION {
            return Err(RotateError::LeaseLost);
        }
        Ok(())
    }

    /// Gives the lease back, so that another process need not wait for its end.
    ///
    /// # Errors
    /// If the database does not answer; then it ends by itself.
    pub async fn give_back(&self) -> Result<(), StoreError> {
        let held = self.lock().take();
        match held {
            Some(lease) => self.records.give_back(lease.fence).await,
            None => Ok(()),
        }
    }

    fn left(&self) -> Duration {
        let until = |lease: Lease| until(lease.expires_at, self.clock.now());
        self.lease().map_or(Duration::ZERO, until)
    }

    fn lease(&self) -> Option<Lease> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn until(end: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(end - now).unwrap_or(Duration::ZERO)
}
