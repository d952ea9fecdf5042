//! What is written about rotations: batches, each of which is one transaction together with the
//! journal's records of it.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{AccountStatus, KeyName, Rotation, RotationState, RotationStep, StepOutcome};
use crate::domain::ids::{AccountName, RotationId, SecretVersion};

/// The lease under which the scheduler writes. Its token grows with every holder, so that a process
/// that lost the lease, and does not know it yet, writes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The token.
    pub token: i64,
}

/// Writes that stand or fall together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationBatch {
    /// Nothing is written unless this is still the token of the lease. `None` for what operators
    /// ask, which anybody may write.
    pub fence: Option<Fence>,
    /// In order.
    pub writes: Vec<RotationWrite>,
}

impl RotationBatch {
    /// Whether one of the writes raises the role table's version.
    #[must_use]
    pub fn raises_policy_version(&self) -> bool {
        let drops =
            |write: &RotationWrite| matches!(write, RotationWrite::DropDelegationKeys { .. });
        self.writes.iter().any(drops)
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationWrite {
    /// A new rotation, requested or running. An account has at most one that is not over besides
    /// those of a break-glass, and at most one of a break-glass for each key; where there is one
    /// already, the whole batch is refused.
    Open(Rotation),
    /// A requested rotation is taken up.
    Start {
        /// The rotation.
        rotation: RotationId,
    },
    /// A step's intent.
    Intend {
        /// The rotation.
        rotation: RotationId,
        /// The step; its outcome is open, or already known for a step without any effect.
        step: RotationStep,
    },
    /// A step's outcome.
    Conclude {
        /// The rotation.
        rotation: RotationId,
        /// The step.
        seq: i64,
        /// What became of it.
        outcome: StepOutcome,
        /// Of a publication: the version that it made.
        version: Option<SecretVersion>,
        /// In words.
        detail: Option<String>,
        /// When it was known.
        at: OffsetDateTime,
    },
    /// The rotation's key: the one that it regenerates.
    Pin {
        /// The rotation.
        rotation: RotationId,
        /// The key.
        key: KeyName,
    },
    /// The rotation is over.
    End {
        /// The rotation.
        rotation: RotationId,
        /// How.
        state: RotationState,
        /// Why.
        detail: String,
        /// When.
        at: OffsetDateTime,
    },
    /// What a look at an account showed.
    Look(AccountStatus),
    /// Look at this account at the next tick, whatever its status says.
    Wake {
        /// The account.
        account: AccountName,
        /// From when on.
        at: OffsetDateTime,
    },
    /// Every delegation key of the account that is older than this write is dropped by every
    /// replica before it releases another token; raises the role table's version.
    DropDelegationKeys {
        /// The account.
        account: AccountName,
    },
    /// Tell the webhook, if one is configured; until it has accepted.
    Notify(Notification),
}

/// What the webhook is told: a `CloudEvents` 1.0 event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The event's id; the receiver may see it twice.
    pub id: Uuid,
    /// What happened.
    pub kind: NotificationKind,
    /// To which account.
    pub account: AccountName,
    /// In which rotation.
    pub rotation: Option<RotationId>,
    /// When.
    pub at: OffsetDateTime,
    /// The event's `data`, as JSON. Never a secret.
    pub data: String,
}

/// What the webhook is told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationKind {
    /// A new version was published.
    Published,
    /// A rotation failed.
    Failed,
    /// A rotation is overdue.
    Overdue,
    /// The current version was found not to be what it should be.
    Drift,
}

impl NotificationKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Published, Self::Failed, Self::Overdue, Self::Drift];

    /// The `CloudEvents` `type`.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Published => "sas-broker.rotation.published.v1",
            Self::Failed => "sas-broker.rotation.failed.v1",
            Self::Overdue => "sas-broker.rotation.overdue.v1",
            Self::Drift => "sas-broker.rotation.drift.v1",
        }
    }
}
