//! What one transaction writes about an account's rotations, and what the journal says of it. Rows
//! and records are put together in here only, so that none can lack the other.

use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;

use super::Rotator;
use crate::{
    domain::{
        audit::{Action, Actor, AuditEvent},
        ids::{AccountName, RotationId, SecretVersion},
        rotation::{
            AccountStatus, Fence, InFlight, KeyName, Notification, NotificationKind, Rotation,
            RotationBatch, RotationState, RotationStep, RotationWrite, State, StepKind,
            StepOutcome, step::OVERDUE_AFTER,
        },
        time_text::{to_micros, to_text},
    },
    ports::Entropy,
};

/// Where the rotation at work comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// It is begun now.
    New(Rotation),
    /// It was asked for, and is taken up now.
    Queued(Rotation),
    /// It runs.
    Running(Rotation),
}

impl At {
    pub(super) const fn rotation(&self) -> &Rotation {
        match self {
            Self::New(rotation) | Self::Queued(rotation) | Self::Running(rotation) => rotation,
        }
    }
}

/// A step whose outcome is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenStep {
    pub(super) rotation: RotationId,
    pub(super) seq: i64,
    pub(super) kind: StepKind,
    pub(super) key: Option<KeyName>,
}

impl OpenStep {
    pub(super) fn of(rotation: RotationId, step: &RotationStep) -> Self {
        Self {
            rotation,
            seq: step.seq,
            kind: step.kind,
            key: step.key,
        }
    }
}

impl From<&InFlight> for OpenStep {
    fn from(flying: &InFlight) -> Self {
        Self {
            rotation: flying.rotation,
            seq: flying.seq,
            kind: flying.kind,
            key: Some(flying.key),
        }
    }
}

/// A step's outcome, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub(super) outcome: StepOutcome,
    pub(super) version: Option<SecretVersion>,
    pub(super) detail: Option<String>,
}

pub(super) struct Draft {
    account: AccountName,
    entropy: Arc<dyn Entropy>,
    now: OffsetDateTime,
    writes: Vec<RotationWrite>,
    actions: Vec<Action>,
}

impl Draft {
    pub(super) fn new(rotator: &Rotator, account: &AccountName) -> Self {
        Self {
            account: account.clone(),
            entropy: Arc::clone(&rotator.entropy),
            now: rotator.clock.now(),
            writes: vec![],
            actions: vec![],
        }
    }

    /// Begins the rotation at work or takes it up, where that is still to be done.
    pub(super) fn enter(&mut self, at: &At, found: State) {
        match at {
            At::Running(_) => {}
            At::Queued(rotation) => {
                let rotation = rotation.id;
                self.writes.push(RotationWrite::Start { rotation });
            }
            At::New(rotation) => {
                self.actions.push(Action::RotationOpened {
                    account: self.account.clone(),
                    rotation: rotation.id,
                    trigger: rotation.trigger,
                    key: rotation.key,
                    reason: rotation.reason.clone(),
                });
                self.writes.push(RotationWrite::Open(rotation.clone()));
                if found == State::Drifted {
                    let why = json!({ "reason": rotation.reason });
                    self.notify(NotificationKind::Drift, Some(rotation.id), &why);
                }
            }
        }
    }

    /// The key that the rotation regenerates.
    pub(super) fn pin(&mut self, rotation: RotationId, key: KeyName) {
        self.writes.push(RotationWrite::Pin { rotation, key });
    }

    /// A step, whose outcome is open or known already.
    pub(super) fn intend(&mut self, rotation: RotationId, mut step: RotationStep) {
        step.detail = step.detail.map(plain);
        let conclusion = Conclusion {
            outcome: step.outcome,
            version: step.version.clone(),
            detail: step.detail.clone(),
        };
        self.say(rotation, step.seq, step.kind, step.key, &conclusion);
        self.writes.push(RotationWrite::Intend { rotation, step });
    }

    /// The outcome of a step that was open.
    pub(super) fn conclude(&mut self, step: OpenStep, mut conclusion: Conclusion) {
        conclusion.detail = conclusion.detail.map(plain);
        let OpenStep {
            rotation,
            seq,
            kind,
            key,
        } = step;
        self.say(rotation, seq, kind, key, &conclusion);
        let published = kind == StepKind::Publish && conclusion.outcome.took_place();
        if let Some(version) = conclusion.version.as_ref().filter(|_| published) {
            let what = json!({ "key": key, "version": version });
            self.notify(NotificationKind::Published, Some(rotation), &what);
        }
        self.writes.push(RotationWrite::Conclude {
            rotation,
            seq,
            outcome: conclusion.outcome,
            version: conclusion.version,
            detail: conclusion.detail,
            at: self.now,
        });
    }

    pub(super) fn end(&mut self, rotation: &Rotation, state: RotationState, detail: &str) {
        let (rotation, detail) = (rotation.id, plain(detail.to_owned()));
        if state == RotationState::Failed {
            let why = json!({ "reason": detail });
            self.notify(NotificationKind::Failed, Some(rotation), &why);
        }
        self.actions.push(Action::RotationEnded {
            account: self.account.clone(),
            rotation,
            state,
            detail: detail.clone(),
        });
        self.writes.push(RotationWrite::End {
            rotation,
            state,
            detail,
            at: self.now,
        });
    }

    /// Tells once that a due time has passed without a rotation.
    pub(super) fn overdue(&mut self, status: &mut AccountStatus) {
        let passed = |due: &OffsetDateTime| self.now >= *due + OVERDUE_AFTER;
        let due = status.due_at.filter(passed);
        let needed = status.state != State::NotNeeded;
        if let Some(due) = due.filter(|due| needed && status.overdue_told != Some(*due)) {
            let what = json!({
                "due_at": to_text(due), "state": status.state, "reasons": status.reasons,
            });
            self.notify(NotificationKind::Overdue, None, &what);
            status.overdue_told = Some(due);
        }
    }

    pub(super) fn look(&mut self, status: AccountStatus) {
        self.writes.push(RotationWrite::Look(status));
    }

    /// Outcomes that are known, for the metrics.
    pub(super) fn outcomes(&self) -> Vec<(StepKind, StepOutcome)> {
        let known = |action: &Action| match action {
            Action::RotationStep { act, outcome, .. } if !outcome.is_open() => {
                Some((*act, *outcome))
            }
            _ => None,
        };
        self.actions.iter().filter_map(known).collect()
    }

    pub(super) fn finish(self, fence: Fence) -> (Vec<AuditEvent>, RotationBatch) {
        let event = |action| AuditEvent {
            at: to_micros(self.now),
            actor: Actor::Broker,
            client: None,
            request_id: None,
            action,
        };
        let batch = RotationBatch {
            fence: Some(fence),
            writes: self.writes,
        };
        (self.actions.into_iter().map(event).collect(), batch)
    }

    fn say(
        &mut self,
        rotation: RotationId,
        step: i64,
        act: StepKind,
        key: Option<KeyName>,
        conclusion: &Conclusion,
    ) {
        self.actions.push(Action::RotationStep {
            account: self.account.clone(),
            rotation,
            step,
            act,
            outcome: conclusion.outcome,
            key,
            version: conclusion.version.clone(),
            detail: conclusion.detail.clone(),
        });
    }

    fn notify(
        &mut self,
        kind: NotificationKind,
        rotation: Option<RotationId>,
        data: &serde_json::Value,
    ) {
        self.writes.push(RotationWrite::Notify(Notification {
            id: self.entropy.uuid_v7(self.now),
            kind,
            account: self.account.clone(),
            rotation,
            at: self.now,
            data: data.to_string(),
        }));
    }
}

/// Longest detail that is kept, in characters: what Azure says about an error is shorter.
const DETAIL_CHARS_MAX: usize = 1_000;

/// A detail without control characters, which PostgreSQL would refuse or a terminal obey.
pub(super) fn plain(detail: String) -> String {
    let kept = detail.chars().filter(|c| !c.is_control());
    kept.take(DETAIL_CHARS_MAX).collect()
}
