//! How rotations, their steps and an account's status look in answers.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{
    rotation::{AccountStatus, KeyName, Publication, Rotation, RotationStep},
    time_text::to_text,
};

/// One rotation's story.
#[derive(Serialize, ToSchema)]
pub struct RotationAnswer {
    /// The rotation.
    id: Uuid,
    /// Storage account.
    #[schema(example = "acct1")]
    account: String,
    /// What it was begun for: `adoption`, `schedule`, `operator`, `break_glass` or `repair`.
    #[schema(example = "operator")]
    trigger: &'static str,
    /// The key that a break-glass names, or that the rotation has regenerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "key2")]
    key: Option<KeyName>,
    /// Why, in the words of whoever asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who asked, as the journal names them.
    requested_by: String,
    /// When.
    #[schema(format = DateTime)]
    requested_at: String,
    /// Where it stands: `requested`, `running`, `succeeded`, `refused`, `failed` or `superseded`.
    #[schema(example = "requested")]
    state: &'static str,
    /// Why it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// What was done, in order.
    steps: Vec<StepAnswer>,
}

/// One step of a rotation.
#[derive(Serialize, ToSchema)]
pub struct StepAnswer {
    /// Its place; the first is 1.
    seq: i64,
    /// What: `regenerate`, `prove`, `publish`, `enable`, `disable` or `recover`.
    #[schema(example = "regenerate")]
    kind: &'static str,
    /// The key that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "key2")]
    key: Option<KeyName>,
    /// The secret version that it is about, or that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// When its intent was recorded.
    #[schema(format = DateTime)]
    started_at: String,
    /// When its outcome was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// What became of it: `intended`, `done`, `refused`, `unclear`, `seen` or `not_seen`.
    #[schema(example = "done")]
    outcome: &'static str,
    /// What went wrong, or how it was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What the last look at an account showed.
#[derive(Serialize, ToSchema)]
pub struct StatusAnswer {
    /// `unpublished`, `fresh`, `due`, `regenerated_unpublished`, `drifted`, `not_needed`, `blocked` or
    /// `unknown`.
    #[schema(example = "fresh")]
    state: &'static str,
    /// Why.
    reasons: Vec<String>,
    /// When it was looked at.
    #[schema(format = DateTime)]
    looked_at: String,
    /// When it will be looked at again at the latest.
    #[schema(format = DateTime)]
    look_at: String,
    /// When the next rotation is due, jitter included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    due_at: Option<String>,
    /// Looks and rotations in a row that came to nothing.
    failures: u32,
    /// The newest version of the secret; absent before the adoption.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<PublicationAnswer>,
}

/// The newest version of the secret.
#[derive(Serialize, ToSchema)]
pub struct PublicationAnswer {
    /// The version.
    version: String,
    /// The key that it holds: the active one.
    #[schema(value_type = String, example = "key1")]
    key: KeyName,
    /// The rotation that published it.
    rotation: Uuid,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
}

impl From<&Rotation> for RotationAnswer {
    fn from(rotation: &Rotation) -> Self {
        Self {
            id: rotation.id.0,
            account: rotation.account.to_string(),
            trigger: rotation.trigger.as_str(),
            key: rotation.key,
            reason: rotation.reason.clone(),
            requested_by: rotation.requested_by.clone(),
            requested_at: to_text(rotation.requested_at),
            state: rotation.state.as_str(),
            detail: rotation.detail.clone(),
            ended_at: rotation.ended_at.map(to_text),
            steps: rotation.steps.iter().map(StepAnswer::from).collect(),
        }
    }
}

impl From<&RotationStep> for StepAnswer {
    fn from(step: &RotationStep) -> Self {
        Self {
            seq: step.seq,
            kind: step.kind.as_str(),
            key: step.key,
            version: step.version.as_ref().map(ToString::to_string),
            started_at: to_text(step.started_at),
            ended_at: step.ended_at.map(to_text),
            outcome: step.outcome.as_str(),
            detail: step.detail.clone(),
        }
    }
}

impl From<&AccountStatus> for StatusAnswer {
    fn from(status: &AccountStatus) -> Self {
        Self {
            state: status.state.as_str(),
            reasons: status.reasons.clone(),
            looked_at: to_text(status.looked_at),
            look_at: to_text(status.look_at),
            due_at: status.due_at.map(to_text),
            failures: status.failures,
            published: status.published.as_ref().map(PublicationAnswer::from),
        }
    }
}

impl From<&Publication> for PublicationAnswer {
    fn from(published: &Publication) -> Self {
        Self {
            version: published.version.to_string(),
            key: published.key,
            rotation: published.rotation.0,
            since: to_text(published.at),
        }
    }
}
