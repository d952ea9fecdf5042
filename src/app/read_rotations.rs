//! Read what is known of an account's rotations: its status, its stories, every step of one.

use std::sync::Arc;

use super::policy::PolicyCache;
use crate::{
    domain::{
        ids::{AccountName, RotationId},
        permit::{Permit, ReadRotations},
        rotation::{AccountStatus, Rotation},
    },
    ports::{Rotations, StoreError},
};

/// Most rotations on one page; each comes with its steps.
pub const PAGE_MAX: usize = 200;
/// Rotations on a page that names no size: more than a year of weekly ones.
pub const PAGE_DEFAULT: usize = 50;

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Neither in the role table nor in the history.
    #[error("the role table holds no account of this name")]
    UnknownAccount,
    /// No rotation of the account has this id.
    #[error("the account has no rotation of this id")]
    UnknownRotation,
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One page of an account's rotations.
#[derive(Debug, PartialEq, Eq)]
pub struct RotationPage {
    /// What the last look at the account showed; `None` before the first.
    pub status: Option<AccountStatus>,
    /// The rotations, newest first.
    pub rotations: Vec<Rotation>,
    /// The last one's id, before which the next page begins; `None` on the last page.
    pub next: Option<RotationId>,
}

/// The use case.
pub struct RotationReader {
    policy: Arc<PolicyCache>,
    rotations: Arc<dyn Rotations>,
}

impl RotationReader {
    /// A reader of these rotations.
    #[must_use]
    pub const fn new(policy: Arc<PolicyCache>, rotations: Arc<dyn Rotations>) -> Self {
        Self { policy, rotations }
    }

    /// At most `limit` ([`PAGE_MAX`] at most) rotations before one of an earlier page.
    ///
    /// # Errors
    /// [`ReadError`]. An account that was taken out of the role table keeps its history.
    pub async fn page(
        &self,
        _permit: &Permit<ReadRotations>,
        account: &AccountName,
        before: Option<RotationId>,
        limit: usize,
    ) -> Result<RotationPage, ReadError> {
        let limit = limit.min(PAGE_MAX);
        let status = self.rotations.status(account).await?;
        let mut rotations = self.rotations.rotations(account, before, limit + 1).await?;
        let known = status.is_some() || !rotations.is_empty();
        if !known && self.policy.fresh().await?.account(account).is_none() {
            return Err(ReadError::UnknownAccount);
        }
        let more = rotations.len() > limit;
        rotations.truncate(limit);
        let next = rotations.last().filter(|_| more).map(|last| last.id);
        Ok(RotationPage {
            status,
            rotations,
            next,
        })
    }

    /// One rotation with all its steps.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn one(
        &self,
        _permit: &Permit<ReadRotations>,
        account: &AccountName,
        id: RotationId,
    ) -> Result<Rotation, ReadError> {
        let found = self.rotations.rotation(account, id).await?;
        found.ok_or(ReadError::UnknownRotation)
    }
}
