//! What the rotation of keys needs from the outside: ARM, the vault, the data plane, and its part of
//! the database.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{
    account::Account,
    ids::{AccountName, RotationId, SecretVersion},
    rotation::{
        AccountStatus, Fence, InFlight, KeyName, Notification, Regenerated, Rotation, StepKind,
        StepOutcome,
        observation::{AccountFacts, SecretFacts},
    },
};

/// Why an outside call did not succeed, sorted by what follows from it. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// Azure wants to be left alone for a while. Nothing took place.
    #[error("throttled")]
    Throttled {
        /// For how long, if it says; for every account of the subscription or vault.
        retry_after: Option<Duration>,
    },
    /// Another operation holds the resource. Nothing took place; it is worth another try.
    #[error("busy: {0}")]
    Busy(String),
    /// A lock forbids it, until somebody takes it away. Nothing took place.
    #[error("locked: {0}")]
    Locked(String),
    /// The broker's identity may not, or cannot sign in. Nothing took place.
    #[error("refused: {0}")]
    Denied(String),
    /// The resource is not there. Nothing took place.
    #[error("gone: {0}")]
    Gone(String),
    /// The account's entry or the configuration does not allow the call. Nothing was sent.
    #[error("{0}")]
    Misconfigured(String),
    /// It certainly did not take place, for a passing or an unknown reason.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It may have taken place, or may yet.
    #[error("unclear: {0}")]
    Unclear(String),
}

impl OutsideError {
    /// Whether somebody has to do something before another try makes sense.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Locked(_) | Self::Denied(_) | Self::Gone(_) | Self::Misconfigured(_) => true,
            Self::Throttled { .. } | Self::Busy(_) | Self::Unavailable(_) | Self::Unclear(_) => {
                false
            }
        }
    }
}

/// The live value of one account key.
#[derive(Debug, Clone)]
pub struct AccountKey {
    /// Which.
    pub name: KeyName,
    /// Its base64 text.
    pub value: SecretString,
}

/// Azure Resource Manager, as it manages storage accounts. Every call is bounded in time by
/// [`OUTSIDE_CALL_TIMEOUT`] and never repeats a mutation by itself.
#[async_trait]
pub trait StorageAccounts: Send + Sync {
    /// Reads the account: no key.
    async fn look(&self, account: &Account) -> Result<AccountFacts, OutsideError>;
    /// Reads the live value of a key.
    async fn key(&self, account: &Account, key: KeyName) -> Result<AccountKey, OutsideError>;
    /// Regenerates a key. Not idempotent: after [`OutsideError::Unclear`] look before repeating.
    async fn regenerate_key(&self, account: &Account, key: KeyName) -> Result<(), OutsideError>;
    /// How long a change of the account's keys that is not urgent has to wait, so that Azure's limits
    /// are kept and something is left for what is urgent; `None` if it need not. Nothing is sent to
    /// know.
    fn wait(&self, account: &Account) -> Option<Duration>;
    /// Revokes every user delegation key of the account. Idempotent.
    async fn revoke_user_delegation_keys(&self, account: &Account) -> Result<(), OutsideError>;
}

/// A version that is to be published.
#[derive(Debug)]
pub struct NewVersion {
    /// The secret's value.
    pub value: SecretString,
    /// Its media type.
    pub content_type: &'static str,
    /// `exp`, in whole seconds.
    pub expires: OffsetDateTime,
    /// Its tags.
    pub tags: BTreeMap<&'static str, String>,
}

/// Key Vault, as it keeps the secret of one account. The account's rotation policy says which.
/// Every call is bounded in time by [`OUTSIDE_CALL_TIMEOUT`] and never repeats a mutation by itself.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Lists the secret's versions: no value.
    async fn look(&self, account: &Account) -> Result<SecretFacts, OutsideError>;
    /// Publishes a version. Not idempotent: after [`OutsideError::Unclear`] look before repeating.
    async fn publish(
        &self,
        account: &Account,
        version: NewVersion,
    ) -> Result<SecretVersion, OutsideError>;
    /// Switches a version on or off. Idempotent.
    async fn set_enabled(
        &self,
        account: &Account,
        version: &SecretVersion,
        enabled: bool,
    ) -> Result<(), OutsideError>;
    /// Begins to recover the deleted secret. Idempotent.
    async fn recover(&self, account: &Account) -> Result<(), OutsideError>;
}

/// What a Shared Key call with a key showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The Blob service accepts the key.
    Accepted,
    /// It does not know the key, or not yet.
    Rejected,
    /// The account refuses Shared Key altogether (`KeyBasedAuthenticationNotPermitted`).
    Disallowed,
    /// It could not be asked: no route, a network rule, no answer in time, or one of no meaning.
    Unreachable(String),
}

/// The data plane, as it proves a key. Bounded in time by [`OUTSIDE_CALL_TIMEOUT`].
#[async_trait]
pub trait KeyProof: Send + Sync {
    /// Makes one reading Shared Key call with the key.
    async fn prove(&self, account: &Account, key: &AccountKey) -> Proof;
}

/// Longest that one outside call of a rotation takes, retries of reads and sign-in included.
pub const OUTSIDE_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The right to run rotations: one holder at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What guards every write of the holder.
    pub fence: Fence,
    /// Until when it is held, by the holders' clocks.
    pub expires_at: OffsetDateTime,
    /// From when on the holder may begin an outside mutation: at once, or after a call of the
    /// holder before it, who did not give the lease back, would have ended.
    pub mutations_from: OffsetDateTime,
}

/// What the database knows about rotations. Writes go through the journal.
#[async_trait]
pub trait Rotations: Send + Sync {
    /// Takes the lease, or renews it if `held` is its token; until `now + ttl`. `None` while
    /// another process holds it. A lease that was not given back is taken over once it has expired,
    /// with a new token and `mutations_from = now + handover`.
    async fn lease(
        &self,
        holder: Uuid,
        held: Option<Fence>,
        now: OffsetDateTime,
        ttl: Duration,
        handover: Duration,
    ) -> Result<Option<Lease>, StoreError>;
    /// Gives the lease back, if it is still held.
    async fn give_back(&self, fence: Fence) -> Result<(), StoreError>;
    /// At most `limit` accounts' statuses after an account, in the order of names.
    async fn statuses(
        &self,
        after: Option<&AccountName>,
        limit: usize,
    ) -> Result<Vec<AccountStatus>, StoreError>;
    /// One account's status; `None` before the first look.
    async fn status(&self, account: &AccountName) -> Result<Option<AccountStatus>, StoreError>;
    /// Rotations of an account that are not over, with their steps: the one that runs first, then
    /// those of a break-glass, then the others, each by age.
    async fn open_rotations(&self, account: &AccountName) -> Result<Vec<Rotation>, StoreError>;
    /// Accounts that have a rotation that is not over, at most `limit`: those with a break-glass first,
    /// then in the order of names. They may have left the role table.
    async fn accounts_at_work(&self, limit: usize) -> Result<Vec<AccountName>, StoreError>;
    /// The newest regeneration or publication of the account whose outcome is open.
    async fn in_flight(&self, account: &AccountName) -> Result<Option<InFlight>, StoreError>;
    /// The last regeneration of each key of the account that took place.
    async fn regenerated(&self, account: &AccountName) -> Result<Vec<Regenerated>, StoreError>;
    /// One rotation with its steps.
    async fn rotation(
        &self,
        account: &AccountName,
        id: RotationId,
    ) -> Result<Option<Rotation>, StoreError>;
    /// At most `limit` rotations with their steps, newest first, before one of an earlier page.
    async fn rotations(
        &self,
        account: &AccountName,
        before: Option<RotationId>,
        limit: usize,
    ) -> Result<Vec<Rotation>, StoreError>;
    /// At most `limit` notifications whose next attempt is due at `now`, oldest first, with the
    /// number of attempts so far.
    async fn notifications(
        &self,
        now: OffsetDateTime,
        limit: usize,
    ) -> Result<Vec<(Notification, u32)>, StoreError>;
    /// A notification was accepted, or is given up.
    async fn drop_notification(&self, id: Uuid) -> Result<(), StoreError>;
    /// A notification was not accepted: the next attempt is at `at`.
    async fn postpone_notification(&self, id: Uuid, at: OffsetDateTime) -> Result<(), StoreError>;
}

/// Why a notification was not accepted. It names neither the receiver's answer nor the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook did not accept the event: {0}")]
pub struct NotAccepted(pub String);

/// Longest that it takes to tell the webhook of one event: a receiver that is alive answers at once,
/// and does its work later.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The webhook that is told about rotations.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Sends one event, within [`NOTIFY_TIMEOUT`]. The receiver may see it again.
    async fn send(&self, notification: &Notification) -> Result<(), NotAccepted>;
}

/// Counts steps, for the metrics.
pub trait StepMeter: Send + Sync {
    /// A step's outcome was recorded.
    fn count(&self, act: StepKind, outcome: StepOutcome);
}

/// Counts nothing: for a process that serves no metrics.
impl StepMeter for () {
    fn count(&self, _: StepKind, _: StepOutcome) {}
}
