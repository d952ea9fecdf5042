//! What a plan says: one step, or why there is none.

use std::fmt;

use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::{CreationTime, KeyName, Publication, RotationState, State, StepOutcome, Trigger};
use crate::domain::ids::{RotationId, SecretVersion};

/// How long an unclear mutation may yet take effect. Nothing is repeated, and no other key is
/// regenerated or published, before it has passed. ARM gives up on a request long before.
pub const SETTLE: Duration = Duration::minutes(10);

/// How long a step that is refused for a passing reason is tried again before its rotation fails: a
/// key that the data plane does not know yet, a conflict, an outage.
pub const PATIENCE: Duration = Duration::minutes(10);

/// How soon something is looked at again that is under way, or was refused for a passing reason.
pub const SOON: Duration = Duration::minutes(1);

/// How often an account is looked at when nothing is due and nothing is in flight; also the longest
/// pause after something that time alone does not heal.
pub const OBSERVATION_INTERVAL: Duration = Duration::hours(6);

/// By how much at most a look at an account at rest comes earlier, so that accounts do not meet.
pub(super) const OBSERVATION_JITTER_MINUTES: u32 = 30;

/// Longest pause after something could not be read: an outage that ends is noticed soon.
pub const UNREAD_PAUSE_MAX: Duration = Duration::minutes(15);

/// How long after its due time a rotation is reported as overdue: a few failed attempts are no news.
pub const OVERDUE_AFTER: Duration = Duration::hours(1);

/// Most regenerations that one rotation asks for: the first, and one more if that was not seen to
/// have taken place.
pub const REGENERATIONS_MAX: usize = 2;

/// How long to leave an account alone after this many looks or rotations in a row came to nothing (1
/// is the first): a minute, doubling.
#[must_use]
pub fn pause(failures: u32, longest: Duration) -> Duration {
    // 2^10 minutes are longer than any longest pause in use.
    let doublings = failures.saturating_sub(1).min(10);
    (SOON * (1_i32 << doublings)).min(longest)
}

/// What is to be done about one account now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What was observed.
    pub state: State,
    /// One thing to do.
    pub next: Next,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// The newest version of ours, published or first seen by our clock.
    pub published: Option<Publication>,
    /// When the next scheduled rotation may start; `None` before the first publication.
    pub due_at: Option<OffsetDateTime>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing; look again at this instant.
    Rest {
        /// When.
        until: OffsetDateTime,
    },
    /// A step is under way or must not be taken yet; look again at this instant.
    Wait {
        /// When.
        until: OffsetDateTime,
    },
    /// A step whose outcome was open is clear now: record it.
    Resolve {
        /// The rotation.
        rotation: RotationId,
        /// Its step.
        seq: i64,
        /// [`StepOutcome::Seen`] or [`StepOutcome::NotSeen`].
        outcome: StepOutcome,
        /// Of a publication that was seen: its version.
        version: Option<SecretVersion>,
    },
    /// Take this step for the rotation at work; where there is none, begin one first.
    Step {
        /// What a new rotation is begun for, if there is none at work.
        trigger: Trigger,
        /// The step.
        step: Step,
    },
    /// The rotation at work is over.
    End {
        /// The rotation.
        rotation: RotationId,
        /// How: succeeded, refused or failed.
        state: RotationState,
        /// Why.
        detail: String,
    },
}

/// One outside act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Step {
    /// Regenerate this key.
    Regenerate {
        /// The key.
        key: KeyName,
        /// Its creation time now, by which its regeneration will be recognised.
        created_before: Option<CreationTime>,
    },
    /// Read this key's live value, prove it, and publish it as a new version.
    Publish {
        /// The key.
        key: KeyName,
    },
    /// Switch the current version on.
    Enable {
        /// The version.
        version: SecretVersion,
    },
    /// Switch a superseded version off.
    Disable {
        /// The version.
        version: SecretVersion,
        /// The key, of which it holds a dead value.
        key: KeyName,
    },
    /// Recover the deleted secret.
    Recover,
}

impl fmt::Display for Step {
    /// As what would be done, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regenerate { key, .. } => write!(f, "regenerate {key}"),
            Self::Publish { key } => write!(f, "prove and publish the live value of {key}"),
            Self::Enable { version } => write!(f, "switch version {version} on"),
            Self::Disable { version, key } => {
                write!(f, "switch version {version} off, which holds a dead {key}")
            }
            Self::Recover => f.write_str("recover the deleted secret"),
        }
    }
}
