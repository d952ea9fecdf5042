//! What the rotation at work needs next, or what begins where there is none.

use time::OffsetDateTime;

use super::{
    CreationTimes, KeyName, Publication, Rotation, RotationState, RotationStep, StepKind,
    StepOutcome, Trigger,
    finding::Finding,
    plan::Planner,
    policy::DeletedSecret,
    step::{Next, PATIENCE, REGENERATIONS_MAX, SOON, Step},
};
use crate::domain::{ids::SecretVersion, time_text::to_text};

/// One account, read and without anything in flight.
pub(super) struct Work<'a> {
    pub(super) planner: &'a Planner<'a>,
    pub(super) created: &'a CreationTimes,
    pub(super) finding: &'a Finding,
    pub(super) published: Option<&'a Publication>,
    pub(super) due_at: Option<OffsetDateTime>,
    pub(super) dead: &'a [(SecretVersion, KeyName)],
}

type Planned = (Next, Vec<String>);

impl Work<'_> {
    /// The account refuses Shared Key: no rotation is needed, not even one that is under way.
    pub(super) fn unneeded(&self) -> Planned {
        let why = "the account refuses Shared Key, so that a key opens nothing";
        match self.planner.own.open.first() {
            Some(rotation) => end(rotation, given_up(rotation), why),
            None => (self.planner.rest(None), vec![why.to_owned()]),
        }
    }

    pub(super) fn next(&self) -> Planned {
        let open = &self.planner.own.open;
        let Some(rotation) = open.first() else {
            return self.begin();
        };
        let breaks = |other: &Rotation| other.trigger == Trigger::BreakGlass;
        if rotation.state == RotationState::Running && !breaks(rotation) && open.iter().any(breaks)
        {
            return end(
                rotation,
                RotationState::Superseded,
                "a break-glass goes before it",
            );
        }
        if let Some(waiting) = self.hold(rotation) {
            return waiting;
        }
        match (rotation.trigger, rotation.key) {
            (Trigger::BreakGlass, Some(key)) if !has_regenerated(rotation) => {
                self.break_glass(rotation, key)
            }
            _ => match self.put_right() {
                Some((step, _)) => self.take(rotation, step),
                None => self.carry_on(rotation),
            },
        }
    }

    /// A step that was refused for a passing reason is tried again for a while.
    fn hold(&self, rotation: &Rotation) -> Option<Planned> {
        let refused = |step: &&RotationStep| {
            step.outcome == StepOutcome::Refused && step.kind != StepKind::Disable
        };
        let trailing = rotation.steps.iter().rev().take_while(refused);
        let (last, first) = trailing.fold((None, None), |(last, _), step| {
            (last.or(Some(step)), Some(step))
        });
        let (last, first) = last.zip(first)?;
        let said = last.detail.as_deref().unwrap_or("no reason was given");
        let until = last.ended_at.unwrap_or(last.started_at) + SOON;
        if self.planner.now < until {
            let why = format!("{} was refused and is tried again: {said}", last.kind);
            return Some((Next::Wait { until }, vec![why]));
        }
        // By attempts, not by the clock: an outage between two of them is no attempt.
        if last.started_at + SOON - first.started_at >= PATIENCE {
            let why = format!("{} was refused for too long: {said}", last.kind);
            return Some(end(rotation, RotationState::Failed, &why));
        }
        None
    }

    /// The step that puts right what is wrong with the secret, if something is and can be.
    fn put_right(&self) -> Option<(Step, Trigger)> {
        Some(match self.finding {
            Finding::Unpublished { key } => (Step::Publish { key: *key }, Trigger::Adoption),
            Finding::Covered { key } | Finding::Dead { key } => {
                (Step::Publish { key: *key }, Trigger::Repair)
            }
            Finding::AlternateRegenerated { current } => {
                let key = current.other();
                (Step::Publish { key }, Trigger::Repair)
            }
            Finding::SwitchedOff { version } => {
                let version = version.clone();
                (Step::Enable { version }, Trigger::Repair)
            }
            Finding::Deleted => (Step::Recover, Trigger::Repair),
            Finding::Foreign | Finding::Sound { .. } => return None,
        })
    }

    /// The secret is deleted: brings it back, if the policy lets us.
    pub(super) fn recover(&self) -> Planned {
        let Some(rotation) = self.planner.own.open.first() else {
            return self.begin();
        };
        // A rotation does not end while one of its steps may yet take place.
        match self.hold(rotation) {
            Some(waiting @ (Next::Wait { .. }, _)) => waiting,
            _ => self.take(rotation, Step::Recover),
        }
    }

    /// Takes a step for a rotation, unless the secret lets none be taken.
    fn take(&self, rotation: &Rotation, step: Step) -> Planned {
        if let Some(blocked) = self.blocked() {
            return blocked;
        }
        let patient = |asked: OffsetDateTime| self.planner.now - asked < PATIENCE;
        let hidden = matches!(self.finding, Finding::Deleted | Finding::Unpublished { .. });
        if hidden && recovered_at(rotation).is_some_and(patient) {
            // It takes the vault a while, in which the secret is neither deleted nor there; the look
            // that shows the versions again goes on from there.
            let until = self.planner.now + SOON;
            let why = "the secret is being recovered".to_owned();
            return (Next::Wait { until }, vec![why]);
        }
        let trigger = rotation.trigger;
        (Next::Step { trigger, step }, vec![self.finding.why()])
    }

    fn blocked(&self) -> Option<Planned> {
        let hint = match self.finding {
            Finding::Foreign => "give the account another secret_name, or remove that secret",
            Finding::Deleted if self.planner.policy.deleted_secret == DeletedSecret::Refuse => {
                "recover or purge it, or set deleted_secret: recover"
            }
            _ => return None,
        };
        let reasons = vec![self.finding.why(), hint.to_owned()];
        Some((self.planner.rest_blocked(), reasons))
    }

    /// Nothing is at work: something has come apart, or is due, or there is nothing to do.
    fn begin(&self) -> Planned {
        if let Some(blocked) = self.blocked() {
            return blocked;
        }
        if let Some((step, trigger)) = self.put_right() {
            return (Next::Step { trigger, step }, vec![self.finding.why()]);
        }
        let now = self.planner.now;
        let due = self
            .due_at
            .filter(|due| *due <= now && self.overlap_ends() <= now);
        if let (Some(due), Finding::Sound { current }) = (due, self.finding) {
            let why = format!("a rotation is due since {}", to_text(due));
            let opens = self.planner.policy.opens(now);
            if opens > now {
                let waits = format!("it waits for its window, which opens at {}", to_text(opens));
                return (self.planner.rest(Some(opens)), vec![why, waits]);
            }
            let trigger = Trigger::Schedule;
            let step = self.regenerate(current.other());
            return (Next::Step { trigger, step }, vec![why]);
        }
        if let Some((version, key)) = self.dead.first() {
            return self.switch_off(Trigger::Repair, version, *key);
        }
        let mut reasons = vec![self.finding.why()];
        if self.due_at.is_none() {
            reasons.push("its schedule fires no more, so that no rotation will be due".to_owned());
        }
        (self.planner.rest(self.due_at), reasons)
    }

    /// A named key is to die. Before it does, the other one is what consumers read.
    fn break_glass(&self, rotation: &Rotation, key: KeyName) -> Planned {
        if let Some(blocked) = self.blocked() {
            return blocked;
        }
        let safe = key.other();
        match self.finding {
            Finding::Sound { current } | Finding::AlternateRegenerated { current }
                if *current == safe =>
            {
                let why = format!("{key} was named, and consumers are told to use {safe}");
                self.try_regenerate(rotation, key, why)
            }
            Finding::SwitchedOff { .. }
                if self
                    .published
                    .is_some_and(|published| published.key == safe) =>
            {
                match self.put_right() {
                    Some((step, _)) => self.take(rotation, step),
                    None => self.carry_on(rotation),
                }
            }
            Finding::Deleted => self.recover(),
            _ => {
                let why = format!("{key} was named, so {safe} is published first");
                let trigger = Trigger::BreakGlass;
                let step = Step::Publish { key: safe };
                (Next::Step { trigger, step }, vec![why])
            }
        }
    }

    /// The secret is as it should be: go on with the rotation, or end it.
    fn carry_on(&self, rotation: &Rotation) -> Planned {
        if let Some(blocked) = self.blocked() {
            return blocked;
        }
        if let Some(key) = regenerated_and_unpublished(rotation) {
            let why = format!("{key} was regenerated by this rotation and is not published yet");
            let (trigger, step) = (rotation.trigger, Step::Publish { key });
            return (Next::Step { trigger, step }, vec![why]);
        }
        let regenerates = matches!(rotation.trigger, Trigger::Schedule | Trigger::Operator);
        if !regenerates || rotation.steps.iter().any(is_lasting) {
            return self.finish(rotation);
        }
        let ends = self.overlap_ends();
        if ends > self.planner.now {
            let why = format!("inside the overlap, which ends at {}", to_text(ends));
            return end(rotation, given_up(rotation), &why);
        }
        match self.finding {
            Finding::Sound { current } => {
                let key = current.other();
                let why = format!("{key} is the alternate key, and its overlap has passed");
                self.try_regenerate(rotation, key, why)
            }
            _ => self.finish(rotation),
        }
    }

    fn try_regenerate(&self, rotation: &Rotation, key: KeyName, why: String) -> Planned {
        let missed = |step: &&RotationStep| {
            step.kind == StepKind::Regenerate && step.outcome == StepOutcome::NotSeen
        };
        if rotation.steps.iter().filter(missed).count() >= REGENERATIONS_MAX {
            let why = "regenerateKey was asked for twice and did not take place";
            return end(rotation, RotationState::Failed, why);
        }
        let (trigger, step) = (rotation.trigger, self.regenerate(key));
        (Next::Step { trigger, step }, vec![why])
    }

    fn regenerate(&self, key: KeyName) -> Step {
        Step::Regenerate {
            key,
            created_before: self.created.of(key).cloned(),
        }
    }

    /// Everything is done but for versions of dead keys.
    fn finish(&self, rotation: &Rotation) -> Planned {
        let disables = || {
            let steps = rotation.steps.iter();
            steps.filter(|step| step.kind == StepKind::Disable)
        };
        let tried = |version| {
            let known = |step: &RotationStep| step.outcome != StepOutcome::NotSeen;
            disables().any(|step| step.version.as_ref() == Some(version) && known(step))
        };
        if let Some((version, key)) = self.dead.iter().find(|(version, _)| !tried(version)) {
            return self.switch_off(rotation.trigger, version, *key);
        }
        let refused = disables().find(|step| step.outcome == StepOutcome::Refused);
        let lasting = rotation.steps.iter().any(is_lasting);
        match refused {
            Some(step) if !lasting => {
                let said = step.detail.as_deref().unwrap_or("no reason was given");
                let why = format!("a superseded version could not be switched off: {said}");
                end(rotation, RotationState::Failed, &why)
            }
            _ => end(rotation, RotationState::Succeeded, &self.finding.why()),
        }
    }

    fn switch_off(&self, trigger: Trigger, version: &SecretVersion, key: KeyName) -> Planned {
        let why = format!("{version} is superseded and holds a dead value of {key}");
        let step = Step::Disable {
            version: version.clone(),
            key,
        };
        (Next::Step { trigger, step }, vec![why])
    }

    /// When the key that the newest version superseded may be regenerated.
    fn overlap_ends(&self) -> OffsetDateTime {
        let published_at = self.published.map_or(self.planner.now, |known| known.at);
        published_at + self.planner.policy.overlap()
    }
}

fn end(rotation: &Rotation, state: RotationState, why: &str) -> Planned {
    let next = Next::End {
        rotation: rotation.id,
        state,
        detail: why.to_owned(),
    };
    (next, vec![why.to_owned()])
}

/// What becomes of a rotation that may not go on: one that was not begun is no failure.
const fn given_up(rotation: &Rotation) -> RotationState {
    match rotation.state {
        RotationState::Requested => RotationState::Refused,
        _ => RotationState::Failed,
    }
}

fn has_regenerated(rotation: &Rotation) -> bool {
    let regenerated =
        |step: &RotationStep| step.kind == StepKind::Regenerate && step.outcome.took_place();
    rotation.steps.iter().any(regenerated)
}

/// When the vault took the request to recover the secret, if that was the last step.
fn recovered_at(rotation: &Rotation) -> Option<OffsetDateTime> {
    let last = rotation.steps.last()?;
    let recovered = last.kind == StepKind::Recover && last.outcome.took_place();
    recovered.then_some(last.started_at)
}

/// A step after which there is something to show for the rotation.
fn is_lasting(step: &RotationStep) -> bool {
    let acts = matches!(
        step.kind,
        StepKind::Regenerate | StepKind::Publish | StepKind::Enable | StepKind::Recover
    );
    acts && step.outcome.took_place()
}

/// A key that this rotation regenerated and has not published since.
fn regenerated_and_unpublished(rotation: &Rotation) -> Option<KeyName> {
    let done = rotation
        .steps
        .iter()
        .filter(|step| step.outcome.took_place());
    let mut open = None;
    for step in done {
        match step.kind {
            StepKind::Regenerate => open = step.key,
            StepKind::Publish if step.key == open => open = None,
            _ => {}
        }
    }
    open
}
