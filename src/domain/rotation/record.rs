//! The stories that the database keeps: rotations, their steps, and what the last look at an
//! account showed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{CreationTime, KeyName};
use crate::domain::ids::{AccountName, InvalidName, RotationId, SecretVersion};

/// Declares an enum of words that the database, the API and the journal share.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$word_doc])* $word,)* }

        impl $name {
            /// Every word.
            pub const ALL: &[Self] = &[$(Self::$word),*];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let named = Self::ALL.iter().copied().find(|word| word.as_str() == text);
                named.ok_or(InvalidName::new(stringify!($name), "is not a known word"))
            }
        }
    };
}

words! {
    /// What a rotation was begun for.
    Trigger {
        /// The first publication of an account's key; nothing is regenerated.
        Adoption = "adoption",
        /// It was due.
        Schedule = "schedule",
        /// An operator asked, without naming a key.
        Operator = "operator",
        /// An operator named a key that must die now.
        BreakGlass = "break_glass",
        /// What the vault says and what ARM says had come apart.
        Repair = "repair",
    }
}

words! {
    /// Where a rotation stands.
    RotationState {
        /// Waits for the holder of the lease.
        Requested = "requested",
        /// Is at work.
        Running = "running",
        /// Published what it was to publish.
        Succeeded = "succeeded",
        /// Was not begun, for a reason that is no fault: its overlap has not passed, for example.
        Refused = "refused",
        /// Gave up. What it left is observed and put right by another.
        Failed = "failed",
        /// A break-glass went before it.
        Superseded = "superseded",
    }
}

impl RotationState {
    /// Whether it is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Requested | Self::Running)
    }
}

words! {
    /// One act of a rotation.
    StepKind {
        /// `regenerateKey` on one key.
        Regenerate = "regenerate",
        /// A Shared Key call with the key that is about to be published.
        Prove = "prove",
        /// A new version of the secret.
        Publish = "publish",
        /// The current version is switched on again.
        Enable = "enable",
        /// A superseded version, whose key is dead, is switched off.
        Disable = "disable",
        /// The deleted secret is recovered.
        Recover = "recover",
    }
}

words! {
    /// What became of a step.
    StepOutcome {
        /// Its intent is recorded; nothing more is known.
        Intended = "intended",
        /// It took place.
        Done = "done",
        /// It certainly did not take place.
        Refused = "refused",
        /// It may or may not have taken place, or may yet.
        Unclear = "unclear",
        /// It was unclear, and was then observed to have taken place.
        Seen = "seen",
        /// It was unclear, and had not taken place when it could no longer be expected to.
        NotSeen = "not_seen",
    }
}

impl StepOutcome {
    /// Whether it is still open what became of the step.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Unclear)
    }

    /// Whether it took place.
    #[must_use]
    pub const fn took_place(self) -> bool {
        matches!(self, Self::Done | Self::Seen)
    }
}

words! {
    /// What the last look at an account showed.
    State {
        /// No version of ours yet.
        Unpublished = "unpublished",
        /// The current version holds a live key, and no rotation is due.
        Fresh = "fresh",
        /// A rotation is due.
        Due = "due",
        /// The alternate key was regenerated and is not published yet.
        RegeneratedUnpublished = "regenerated_unpublished",
        /// The current version is not what it should be: its key is dead, it is switched off, or a
        /// foreign one lies over it.
        Drifted = "drifted",
        /// The account refuses Shared Key.
        NotNeeded = "not_needed",
        /// Something that time alone does not heal: a lock, a permission, a secret that is not ours.
        Blocked = "blocked",
        /// Something could not be read.
        Unknown = "unknown",
    }
}

/// One rotation, with its steps in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Its id, which grows with time.
    pub id: RotationId,
    /// The account.
    pub account: AccountName,
    /// What it was begun for.
    pub trigger: Trigger,
    /// The key that a break-glass names, or that the rotation has regenerated.
    pub key: Option<KeyName>,
    /// Why, in the words of whoever asked.
    pub reason: Option<String>,
    /// Who asked, as the journal names them.
    pub requested_by: String,
    /// When.
    pub requested_at: OffsetDateTime,
    /// Where it stands.
    pub state: RotationState,
    /// Why it stands there.
    pub detail: Option<String>,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
    /// What was done, in order.
    pub steps: Vec<RotationStep>,
}

/// One step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationStep {
    /// Its place in the rotation; the first is 1.
    pub seq: i64,
    /// What.
    pub kind: StepKind,
    /// The key that it is about.
    pub key: Option<KeyName>,
    /// Of a regeneration: the key's creation time before it.
    pub created_before: Option<CreationTime>,
    /// The secret version that it is about, or that it made.
    pub version: Option<SecretVersion>,
    /// When its intent was recorded.
    pub started_at: OffsetDateTime,
    /// When its outcome was recorded.
    pub ended_at: Option<OffsetDateTime>,
    /// What became of it.
    pub outcome: StepOutcome,
    /// What went wrong, or how it was proved. Never a secret.
    pub detail: Option<String>,
}

/// A mutation whose outcome is not known: the call was about to be sent when its intent was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// The rotation that it belongs to.
    pub rotation: RotationId,
    /// The step.
    pub seq: i64,
    /// [`StepKind::Regenerate`] or [`StepKind::Publish`].
    pub kind: StepKind,
    /// The key that it regenerates or publishes.
    pub key: KeyName,
    /// Of a regeneration: the key's creation time before it.
    pub created_before: Option<CreationTime>,
    /// When its intent was recorded, by our clock.
    pub since: OffsetDateTime,
}

/// A regeneration that certainly took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regenerated {
    /// The rotation that did it.
    pub rotation: RotationId,
    /// The key.
    pub key: KeyName,
    /// The key's creation time before it, which no key has any more.
    pub created_before: Option<CreationTime>,
    /// When its outcome was recorded, by our clock.
    pub at: OffsetDateTime,
}

/// What the last look at an account showed, and when to look again. One row for each account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatus {
    /// The account.
    pub account: AccountName,
    /// Its state.
    pub state: State,
    /// Why.
    pub reasons: Vec<String>,
    /// When it was looked at.
    pub looked_at: OffsetDateTime,
    /// When to look again at the latest.
    pub look_at: OffsetDateTime,
    /// The newest version of ours.
    pub published: Option<Publication>,
    /// When the next rotation is due, jitter included.
    pub due_at: Option<OffsetDateTime>,
    /// Looks and rotations in a row that came to nothing.
    pub failures: u32,
    /// The due time that was reported as overdue already.
    pub overdue_told: Option<OffsetDateTime>,
}

/// The newest version of ours, by our own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The version.
    pub version: SecretVersion,
    /// The key that it holds.
    pub key: KeyName,
    /// The rotation that published it.
    pub rotation: RotationId,
    /// When it was published, or first seen.
    pub at: OffsetDateTime,
}
