//! From what is observed and recorded to one thing to do, with its reasons. Pure: a plan can be
//! printed, compared and replayed, and a tick that is missed or doubled plans the same.
//!
//! In order: what cannot be read is left alone; a mutation whose outcome is unknown is settled before
//! anything else is touched; what has come apart is put right; and only a sound secret whose overlap
//! has passed lets a key be regenerated. The key that the newest version names never is.

use time::OffsetDateTime;

use super::{
    AccountStatus, InFlight, RotationPolicy, RotationState, State, StepKind, StepOutcome,
    finding::{Finding, Found, found, outdated},
    observation::{AccountFacts, Observation, Origin, OwnRecords, SecretFacts, Seen},
    schedule::jitter,
    step::{
        Next, OBSERVATION_INTERVAL, OBSERVATION_JITTER_MINUTES, Plan, SETTLE, SOON,
        UNREAD_PAUSE_MAX, pause,
    },
    work::Work,
};
use crate::domain::{
    ids::{AccountName, SecretVersion},
    time_text::to_text,
};

/// Plans one account.
#[must_use]
pub fn plan(
    now: OffsetDateTime,
    account: &AccountName,
    policy: &RotationPolicy,
    observed: &Observation,
    own: &OwnRecords,
) -> Plan {
    let planner = Planner {
        now,
        account,
        policy,
        own,
    };
    planner.plan(observed)
}

pub(super) struct Planner<'a> {
    pub(super) now: OffsetDateTime,
    account: &'a AccountName,
    pub(super) policy: &'a RotationPolicy,
    pub(super) own: &'a OwnRecords,
}

impl Planner<'_> {
    fn plan(&self, observed: &Observation) -> Plan {
        let account = match &observed.account {
            Seen::Read(facts) => facts,
            Seen::Blocked(why) => return self.blocked(format!("ARM: {why}")),
            Seen::Unread(why) => return self.unread(format!("ARM: {why}")),
        };
        let secret = match &observed.secret {
            Seen::Read(facts) => facts,
            Seen::Blocked(why) => return self.blocked(format!("vault: {why}")),
            Seen::Unread(why) => return self.unread(format!("vault: {why}")),
        };
        if let Some(key) = outdated(&account.created, &self.own.regenerated) {
            return self.unread(format!(
                "ARM's answer is older than the regeneration of {key} that it confirmed"
            ));
        }
        if self.is_outdated(secret) {
            let why = "the vault's answer is older than the version that it confirmed";
            return self.unread(why.to_owned());
        }
        let Found {
            finding,
            published,
            dead,
        } = found(
            secret,
            &account.created,
            self.own,
            self.policy.initial_key,
            self.now,
        );
        let due_at = published
            .as_ref()
            .and_then(|published| self.policy.due_at(self.account, published.at));
        let state = match finding.state() {
            State::Fresh if due_at.is_some_and(|due| due <= self.now) => State::Due,
            state => state,
        };
        let unneeded = !account.shared_key_allowed && !self.policy.rotate_disallowed_keys;
        let work = Work {
            planner: self,
            created: &account.created,
            finding: &finding,
            published: published.as_ref(),
            due_at,
            dead: &dead,
        };
        let (state, (next, reasons)) = if let Some(in_flight) = &self.own.in_flight {
            // Whether a version was made shows only when the versions can be seen again.
            let hidden = in_flight.kind == StepKind::Publish && finding == Finding::Deleted;
            if hidden {
                (state, work.recover())
            } else {
                (state, self.settle(in_flight, account, secret))
            }
        } else if let Some(resolved) = self.unfinished(secret) {
            (state, resolved)
        } else if unneeded {
            (State::NotNeeded, work.unneeded())
        } else {
            (state, work.next())
        };
        Plan {
            state,
            next,
            reasons,
            published,
            due_at,
        }
    }

    /// Whether the list lacks the version that we have just published or seen: nothing may be concluded
    /// from it for a while.
    fn is_outdated(&self, secret: &SecretFacts) -> bool {
        let (Some(known), SecretFacts::Versions(versions)) = (&self.own.published, secret) else {
            return false;
        };
        let young = known.at <= self.now && self.now - known.at < SETTLE;
        young
            && versions
                .iter()
                .all(|version| version.version != known.version)
    }

    /// A mutation whose outcome is unknown: seen to have taken place, or not to have within the
    /// time in which it still could. A regeneration is judged only at the end of that time: if somebody
    /// else regenerates the same key meanwhile, ours may yet come, and kill what we would have published.
    fn settle(
        &self,
        in_flight: &InFlight,
        account: &AccountFacts,
        secret: &SecretFacts,
    ) -> (Next, Vec<String>) {
        let InFlight { kind, key, .. } = in_flight;
        let settled = in_flight.since + SETTLE;
        let (seen, version) = match kind {
            StepKind::Publish => {
                let version = self.late_publication(in_flight, secret);
                (version.is_some(), version)
            }
            _ => {
                let created = account.created.of(*key);
                let changed = created != in_flight.created_before.as_ref();
                (changed && self.now >= settled, None)
            }
        };
        let what = format!("{kind} {key}");
        if !seen && self.now < settled {
            let why = format!(
                "whether {what} has taken place is not known yet; nothing is repeated before {}",
                to_text(settled)
            );
            let until = settled.min(self.now + SOON);
            return (Next::Wait { until }, vec![why]);
        }
        let (outcome, why) = if seen {
            (StepOutcome::Seen, format!("{what} has taken place"))
        } else {
            let why = format!("{what} has not taken place, and no longer can");
            (StepOutcome::NotSeen, why)
        };
        let next = Next::Resolve {
            rotation: in_flight.rotation,
            seq: in_flight.seq,
            outcome,
            version,
        };
        (next, vec![why])
    }

    /// A step that may be repeated, and whose process ended in it: what became of it shows at once.
    fn unfinished(&self, secret: &SecretFacts) -> Option<(Next, Vec<String>)> {
        let rotation = self.own.open.first()?;
        let step = rotation.steps.iter().find(|step| step.outcome.is_open())?;
        let is_on = |version: Option<&SecretVersion>| match secret {
            SecretFacts::Versions(versions) => {
                let mut versions = versions.iter();
                versions.any(|known| Some(&known.version) == version && known.enabled)
            }
            SecretFacts::Absent | SecretFacts::Deleted => false,
        };
        let seen = match step.kind {
            StepKind::Enable => is_on(step.version.as_ref()),
            StepKind::Disable => !is_on(step.version.as_ref()),
            StepKind::Recover => *secret != SecretFacts::Deleted,
            StepKind::Regenerate | StepKind::Prove | StepKind::Publish => return None,
        };
        let (outcome, what) = if seen {
            (StepOutcome::Seen, "has taken place")
        } else {
            (StepOutcome::NotSeen, "has not taken place")
        };
        let next = Next::Resolve {
            rotation: rotation.id,
            seq: step.seq,
            outcome,
            version: None,
        };
        let why = format!("nothing was heard of {}, which {what}", step.kind);
        Some((next, vec![why]))
    }

    /// The version that an unconfirmed publication made: of its rotation and key, and not one that
    /// an earlier step of that rotation is known to have made.
    fn late_publication(
        &self,
        in_flight: &InFlight,
        secret: &SecretFacts,
    ) -> Option<SecretVersion> {
        let SecretFacts::Versions(versions) = secret else {
            return None;
        };
        let steps = self.own.open.iter().flat_map(|rotation| &rotation.steps);
        let known: Vec<_> = steps.filter_map(|step| step.version.as_ref()).collect();
        let made = versions.iter().filter(|version| match &version.origin {
            Origin::Ours(published) => {
                published.rotation == in_flight.rotation
                    && published.key == in_flight.key
                    && !known.contains(&&version.version)
            }
            Origin::Convention(_) | Origin::Foreign => false,
        });
        let newest = made.max_by_key(|version| version.created);
        newest.map(|version| version.version.clone())
    }

    /// Nothing is due and nothing is in flight: look again within the observation interval, or when
    /// it is due.
    pub(super) fn rest(&self, due_at: Option<OffsetDateTime>) -> Next {
        let early = jitter(self.account, self.now, OBSERVATION_JITTER_MINUTES);
        let look = self.now + OBSERVATION_INTERVAL - early;
        let due = due_at.filter(|due| *due > self.now);
        Next::Rest {
            until: due.map_or(look, |due| due.min(look)),
        }
    }

    /// Nothing can be done until somebody does something.
    pub(super) fn rest_blocked(&self) -> Next {
        let until = self.now + pause(self.own.failures + 1, OBSERVATION_INTERVAL);
        Next::Rest { until }
    }

    fn blocked(&self, why: String) -> Plan {
        self.without_knowledge(State::Blocked, self.rest_blocked(), why)
    }

    fn unread(&self, why: String) -> Plan {
        let until = self.now + pause(self.own.failures + 1, UNREAD_PAUSE_MAX);
        self.without_knowledge(State::Unknown, Next::Rest { until }, why)
    }

    fn without_knowledge(&self, state: State, next: Next, why: String) -> Plan {
        let published = self.own.published.clone();
        let due_at = published
            .as_ref()
            .and_then(|published| self.policy.due_at(self.account, published.at));
        Plan {
            state,
            next,
            reasons: vec![why],
            published,
            due_at,
        }
    }
}

/// The status that follows from a plan: it is kept for the next look, for people and for the metrics.
#[must_use]
pub fn status(
    plan: &Plan,
    account: &AccountName,
    former: Option<&AccountStatus>,
    now: OffsetDateTime,
) -> AccountStatus {
    // What could not be read is no failure of what can be read now.
    let known =
        former.filter(|former| former.state != State::Unknown || plan.state == State::Unknown);
    let failures = known.map_or(0, |former| former.failures);
    let (look_at, failures) = match &plan.next {
        Next::Rest { until } => match plan.state {
            State::Blocked | State::Unknown => (*until, failures.saturating_add(1)),
            _ => (*until, 0),
        },
        Next::Wait { until } => (*until, failures),
        Next::End {
            state: RotationState::Failed,
            ..
        } => {
            let failures = failures.saturating_add(1);
            (now + pause(failures, OBSERVATION_INTERVAL), failures)
        }
        Next::End {
            state: RotationState::Succeeded,
            ..
        } => (now, 0),
        Next::Resolve { .. } | Next::Step { .. } | Next::End { .. } => (now, failures),
    };
    AccountStatus {
        account: account.clone(),
        state: plan.state,
        reasons: plan.reasons.clone(),
        looked_at: now,
        look_at,
        published: plan.published.clone(),
        due_at: plan.due_at,
        failures,
        overdue_told: former.and_then(|former| former.overdue_told),
    }
}

/// What is wrong, in words, for the reasons of a plan.
impl Finding {
    pub(super) fn why(&self) -> String {
        match self {
            Self::Unpublished { key } => {
                format!("no version of the broker's is there yet; {key} is what consumers use")
            }
            Self::Deleted => "the secret was deleted and can be recovered".to_owned(),
            Self::Foreign => "the secret holds something that is not this account's".to_owned(),
            Self::Covered { key } => {
                format!("a version of somebody else's lies over the one that names {key}")
            }
            Self::SwitchedOff { version } => {
                format!("the newest version, {version}, is switched off")
            }
            Self::Dead { key } => {
                format!("{key} was regenerated, and the newest version holds its dead value")
            }
            Self::AlternateRegenerated { current } => format!(
                "{} was regenerated since the newest version was published",
                current.other()
            ),
            Self::Sound { current } => format!("the newest version holds the live {current}"),
        }
    }
}

#[cfg(test)]
mod tests;
