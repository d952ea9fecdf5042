//! What the use cases need from the outside, as traits, one per aggregate. Adapters implement them;
//! nothing here knows how. "Not found" is `Ok(None)`, never an error.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    account::Account,
    audit::{Head, Row},
    caller::{IssuerKeys, TokenVersion, UnfitIssuer},
    change::ChangeSet,
    ids::{IdempotencyKey, ObjectId, TenantId, WriterId},
    rotation::RotationBatch,
    sas::UserDelegationKey,
    snapshot::PolicyTable,
};

mod rotation;

pub use self::rotation::{
    AccountKey, KeyProof, Lease, NOTIFY_TIMEOUT, NewVersion, NotAccepted, Notifier,
    OUTSIDE_CALL_TIMEOUT, OutsideError, Proof, Rotations, StepMeter, StorageAccounts, Vault,
};

/// The one source of the current instant.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The one source of randomness.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `bytes` with unpredictable ones.
    fn fill(&self, bytes: &mut [u8]);

    /// A time-ordered `UUIDv7` for `now`.
    fn uuid_v7(&self, now: OffsetDateTime) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// Why an issuer's keys could not be fetched. No text in it comes from a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySourceError {
    /// No answer, or not in time.
    #[error("the identity provider is unreachable: {0}")]
    Unreachable(String),
    /// An answer that is no success.
    #[error("the identity provider answered with status {0}")]
    Status(u16),
    /// An answer that cannot be read.
    #[error("the identity provider's answer is unusable: {0}")]
    Malformed(&'static str),
    /// An answer about somebody else, or without usable keys.
    #[error(transparent)]
    Unfit(#[from] UnfitIssuer),
}

/// Entra's discovery documents and signing keys.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The issuer of one directory's tokens of one version, with the keys that it publishes now.
    async fn fetch(
        &self,
        tenant_id: TenantId,
        version: TokenVersion,
    ) -> Result<IssuerKeys, KeySourceError>;
}

/// Why the database could not serve. It is never the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It did not answer, or refused: nothing was changed.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The outcome of a COMMIT is unknown.
    #[error("the database did not confirm the commit: {0}")]
    Unclear(String),
    /// A stored value is not what this version writes.
    #[error("the database holds an unreadable value: {0}")]
    Corrupt(String),
}

/// The role table.
#[async_trait]
pub trait PolicyStore: Send + Sync {
    /// The counter alone: one row.
    async fn version(&self) -> Result<i64, StoreError>;
    /// The whole table at one version, read in one transaction.
    async fn load(&self) -> Result<PolicyTable, StoreError>;
}

/// An idempotency key's claim, committed with the effect that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaim {
    /// Whose key: keys of different callers never meet.
    pub tenant_id: TenantId,
    /// Whose key.
    pub object_id: ObjectId,
    /// The key.
    pub key: IdempotencyKey,
    /// SHA-256 of the method, path and body that it was first used with.
    pub body_sha256: [u8; 32],
    /// What was recorded, as JSON. Never a token.
    pub fact: String,
    /// Unix microseconds after which the key is free again.
    pub expires_at: i64,
}

/// The key of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimKey {
    /// Whose key.
    pub tenant_id: TenantId,
    /// Whose key.
    pub object_id: ObjectId,
    /// The key.
    pub key: IdempotencyKey,
}

/// What a journal transaction is for, which decides how it locks the role table's version. It is
/// said at the start, because raising a lock half-way is how two replicas deadlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To record decisions: the version may not change until it ends, but others may record too.
    Record,
    /// To change the role table: nobody else may record or change until it ends.
    Change,
}

/// The journal, as its one writer per process sees it.
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// Begins the transaction of one group commit, or of one change. It locks the role table's
    /// version against change until it ends, so that what is recorded in it was decided on the
    /// version that it reads.
    async fn begin(&self, purpose: Purpose) -> Result<Box<dyn JournalTx>, StoreError>;
    /// Where a chain ends; `None` if it has no record.
    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError>;
    /// The heads of the `limit` chains that were written last.
    async fn newest_heads(&self, limit: usize) -> Result<Vec<Head>, StoreError>;
    /// A claim that has not expired at `now` (Unix microseconds).
    async fn claim(&self, key: &ClaimKey, now: i64) -> Result<Option<KeyClaim>, StoreError>;
    /// Removes at most `limit` claims that have expired at `now` (Unix microseconds); returns how
    /// many.
    async fn purge_claims(&self, now: i64, limit: usize) -> Result<usize, StoreError>;
}

/// One group commit. Dropped without `commit`, it changes nothing. After an error it may only be
/// dropped.
#[async_trait]
pub trait JournalTx: Send {
    /// The role table's version, which stays so until this transaction ends.
    async fn policy_version(&mut self) -> Result<i64, StoreError>;
    /// Takes the key unless a live claim holds it at `now` (Unix microseconds): true if taken.
    async fn claim(&mut self, claim: &KeyClaim, now: i64) -> Result<bool, StoreError>;
    /// Makes every edit and raises the version by one, to the number that it returns; only in a
    /// transaction begun for [`Purpose::Change`]. The caller has checked `based_on`.
    /// `at` is Unix microseconds, `by` the author, for the rows' own columns.
    async fn change(&mut self, changes: &ChangeSet, by: &str, at: i64) -> Result<i64, StoreError>;
    /// Makes every write of the batch, in order; `at` is Unix microseconds. False, and then the
    /// transaction may only be abandoned, if the lease is no longer the one that the batch was made
    /// under, if a rotation that it opens is open already, or if a story that it goes on with has
    /// moved on: a step whose outcome is known is not concluded again, a rotation that is over not
    /// ended again or added to.
    async fn rotate(&mut self, batch: &RotationBatch, at: i64) -> Result<bool, StoreError>;
    /// Appends rows of one chain, in order, and moves its head to the last of them.
    async fn append(&mut self, rows: &[Row]) -> Result<(), StoreError>;
    /// Makes it durable. Any error is [`StoreError::Unclear`]: it may or may not have happened.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
    /// Ends it without effect. A mere drop does so too, but costs the connection, which is then in
    /// an unknown state.
    async fn abandon(self: Box<Self>) -> Result<(), StoreError>;
}

/// Filters of a journal search; absent ones match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// From this instant on, in Unix microseconds.
    pub from: Option<i64>,
    /// Until right before this instant, in Unix microseconds.
    pub until: Option<i64>,
    /// Of this person or application.
    pub object_id: Option<ObjectId>,
    /// About this account.
    pub account: Option<String>,
    /// About this container.
    pub container: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this issuance.
    pub issuance_id: Option<Uuid>,
    /// Of the token with this signature: SHA-256 of its base64 text, in lower-case hex.
    pub signature_sha256: Option<String>,
}

/// The journal, as those see it who read it.
#[async_trait]
pub trait JournalReader: Send + Sync {
    /// At most `limit` rows after a place, in the order (writer, sequence); for verification.
    async fn rows(
        &self,
        after: Option<(WriterId, i64)>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;
    /// Where a chain ends; `None` if it has no head.
    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError>;
    /// One row.
    async fn row(&self, writer: WriterId, seq: i64) -> Result<Option<Row>, StoreError>;
    /// At most `limit` heads after a writer, in the order of writers.
    async fn heads(&self, after: Option<WriterId>, limit: usize) -> Result<Vec<Head>, StoreError>;
    /// Copies at most `limit` rows that search does not know yet into the search table, in one
    /// transaction; returns how many, or `None` if another replica is at it just now.
    async fn follow(&self, limit: usize) -> Result<Option<usize>, StoreError>;
    /// At most `limit` rows, newest first, before a cursor (`at`, writer, sequence) of an earlier
    /// page.
    async fn search(
        &self,
        filter: &AuditFilter,
        before: Option<(i64, WriterId, i64)>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;
}

/// A wanted user delegation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The account that it signs for.
    pub account: Arc<Account>,
    /// Wanted start.
    pub starts_at: OffsetDateTime,
    /// Wanted expiry, at most seven days after the start.
    pub expires_at: OffsetDateTime,
    /// The directory of the users that tokens are bound to, if it is not the account's own.
    pub delegated_tenant: Option<TenantId>,
}

/// Why there is no delegation key. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFetchError {
    /// Azure wants to be left alone for a while.
    #[error("Azure throttles requests for delegation keys")]
    Throttled {
        /// For how long, if it says.
        retry_after: Option<Duration>,
    },
    /// The broker's identity may not, or cannot sign in.
    #[error("the broker's identity is refused: {0}")]
    Denied(String),
    /// No answer, or none that makes sense.
    #[error("no delegation key could be had: {0}")]
    Unavailable(String),
    /// The account names a signing identity or an endpoint that the configuration does not allow.
    #[error("{0}")]
    Misconfigured(String),
}

/// Azure's Blob service, as the source of user delegation keys.
#[async_trait]
pub trait DelegationKeys: Send + Sync {
    /// Asks for one key, within a bounded time.
    async fn fetch(&self, request: &KeyRequest) -> Result<UserDelegationKey, KeyFetchError>;
}
