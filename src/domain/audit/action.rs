//! What can happen, as the journal records it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Head;
use crate::domain::{
    ids::{
        AccountName, BlobPath, ContainerName, GrantId, IssuanceId, ObjectId, RotationId,
        SecretVersion,
    },
    permission::{PermissionSet, SignedResource},
    rotation::{KeyName, RotationState, StepKind, StepOutcome, Trigger},
    time_text,
};

/// A grant that weighed in a decision, at the version that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GrantRef {
    /// The grant.
    pub id: GrantId,
    /// Its version then.
    pub version: i64,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// Storage account.
    pub account: AccountName,
    /// Container.
    pub container: ContainerName,
    /// Blob or directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<BlobPath>,
    /// Kind of resource.
    pub resource: SignedResource,
    /// Letters.
    pub permissions: PermissionSet,
}

/// A token that was, or is about to be, given out. Never its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The issuance.
    pub id: IssuanceId,
    /// Where and which verbs.
    #[serde(flatten)]
    pub asked: Asked,
    /// `st`.
    #[serde(with = "time_text::serde_text")]
    pub starts_at: OffsetDateTime,
    /// `se`.
    #[serde(with = "time_text::serde_text")]
    pub expires_at: OffsetDateTime,
    /// `sip`, if the token is bound to addresses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ip: Option<String>,
    /// `sduoid`, if the token is bound to a user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bound_to: Option<ObjectId>,
    /// `sv`.
    pub service_version: String,
    /// `skoid`: whose delegation key signed it.
    pub signed_by: ObjectId,
    /// SHA-256, in lower-case hex, of the signature's base64 text.
    pub signature_sha256: String,
    /// What decided the window.
    pub bounded_by: Vec<String>,
    /// Each grant that gave a letter.
    pub grants: Vec<GrantRef>,
    /// The role table's version that it was decided on.
    pub policy_version: i64,
}

/// A request by an authenticated caller that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Where and which verbs.
    #[serde(flatten)]
    pub asked: Asked,
    /// The stable problem code.
    pub code: String,
    /// The reasons, in words.
    pub reasons: Vec<String>,
    /// Grants that weighed in it, such as the deny that bit.
    pub grants: Vec<GrantRef>,
    /// The role table's version that it was decided on.
    pub policy_version: i64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// A writer began its chain.
    ChainOpened {
        /// Newest heads of the other chains, [`HEADS_NAMED_MAX`] at most.
        heads: Vec<Head>,
        /// The broker's version.
        build: String,
    },
    /// A token was recorded for release.
    Issued(Issued),
    /// The same, for a repeated `Idempotency-Key`: the id and window of the first time.
    Replayed(Issued),
    /// A request was refused.
    Refused(Refused),
    /// Equal refusals that followed one within a minute, folded.
    RefusalsFolded {
        /// The refusal that they repeat.
        #[serde(flatten)]
        refused: Refused,
        /// How many followed it.
        count: u64,
    },
    /// The role table was changed.
    PolicyChanged {
        /// The table's version after it.
        policy_version: i64,
        /// One line for each change.
        changes: Vec<String>,
    },
    /// A rotation was asked for, or begun by the broker itself.
    RotationOpened {
        /// The account.
        account: AccountName,
        /// The rotation.
        rotation: RotationId,
        /// What for.
        trigger: Trigger,
        /// The key that a break-glass names.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        key: Option<KeyName>,
        /// Why, in the words of whoever asked, or of the plan.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// A step of a rotation is about to be taken, or its outcome is known.
    RotationStep {
        /// The account.
        account: AccountName,
        /// The rotation.
        rotation: RotationId,
        /// Its step's place.
        step: i64,
        /// What.
        act: StepKind,
        /// What became of it.
        outcome: StepOutcome,
        /// The key that it is about.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        key: Option<KeyName>,
        /// The secret version that it is about, or that it made.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        version: Option<SecretVersion>,
        /// In words. Never a secret.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        detail: Option<String>,
    },
    /// A rotation is over.
    RotationEnded {
        /// The account.
        account: AccountName,
        /// The rotation.
        rotation: RotationId,
        /// How.
        state: RotationState,
        /// Why.
        detail: String,
    },
    /// Every delegation key of an account is revoked: announced, and then carried out.
    DelegationKeysRevoked {
        /// The account.
        account: AccountName,
        /// What became of it: intended, done, refused or unclear.
        outcome: StepOutcome,
        /// Why, in the words of whoever asked.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
}

/// Most heads that a chain's first record names: more chains than that never end between two
/// openings, and the record stays under 64 KiB.
pub const HEADS_NAMED_MAX: usize = 256;

impl Action {
    /// The value of the record's `kind`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ChainOpened { .. } => "chain_opened",
            Self::Issued(_) => "issued",
            Self::Replayed(_) => "replayed",
            Self::Refused(_) => "refused",
            Self::RefusalsFolded { .. } => "refusals_folded",
            Self::PolicyChanged { .. } => "policy_changed",
            Self::RotationOpened { .. } => "rotation_opened",
            Self::RotationStep { .. } => "rotation_step",
            Self::RotationEnded { .. } => "rotation_ended",
            Self::DelegationKeysRevoked { .. } => "delegation_keys_revoked",
        }
    }

    /// The account that the action is about, if it is about one.
    #[must_use]
    pub const fn account(&self) -> Option<&AccountName> {
        match self {
            Self::Issued(Issued { asked, .. })
            | Self::Replayed(Issued { asked, .. })
            | Self::Refused(Refused { asked, .. })
            | Self::RefusalsFolded {
                refused: Refused { asked, .. },
                ..
            } => Some(&asked.account),
            Self::RotationOpened { account, .. }
            | Self::RotationStep { account, .. }
            | Self::RotationEnded { account, .. }
            | Self::DelegationKeysRevoked { account, .. } => Some(account),
            Self::ChainOpened { .. } | Self::PolicyChanged { .. } => None,
        }
    }

    /// What was asked for, if the action is about access.
    #[must_use]
    pub const fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Issued(issued) | Self::Replayed(issued) => Some(&issued.asked),
            Self::Refused(refused) | Self::RefusalsFolded { refused, .. } => Some(&refused.asked),
            _ => None,
        }
    }

    /// The issuance, if a token was given out.
    #[must_use]
    pub const fn issued(&self) -> Option<&Issued> {
        match self {
            Self::Issued(issued) | Self::Replayed(issued) => Some(issued),
            _ => None,
        }
    }
}
