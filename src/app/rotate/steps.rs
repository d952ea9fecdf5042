//! The steps: what is recorded before a call, the call, and what its answer means.
//!
//! A mutation that is not safe to repeat is sent once, after its intent is durable, and with enough of
//! the lease left for it to end. An answer that says neither yes nor no leaves the step open; the
//! planner settles it by what it observes.

use super::{
    Progress, RotateError, Round, Written,
    draft::{At, Conclusion, Draft, OpenStep, plain},
};
use crate::{
    domain::{
        ids::{RotationId, SecretVersion},
        rotation::{
            AccountStatus, CreationTime, KeyName, ProofPolicy, Publication, Rotation,
            RotationState, RotationStep, State, Step, StepKind, StepOutcome, Trigger, content_type,
            observation::{AccountFacts, Published, Seen},
            schedule::INTERVAL_DAYS_MAX,
            secret_value,
            step::{OBSERVATION_INTERVAL, SOON, pause},
        },
        time_text::whole_seconds,
    },
    ports::{AccountKey, NewVersion, OutsideError, Proof},
};
use time::{Duration, OffsetDateTime};

type Outcome = Result<(Progress, AccountStatus), RotateError>;

/// A step that nothing came of, with whether another try can help.
struct Setback {
    detail: String,
    lasting: bool,
}

impl From<OutsideError> for Setback {
    fn from(error: OutsideError) -> Self {
        Self {
            lasting: error.is_lasting(),
            detail: error.to_string(),
        }
    }
}

impl Setback {
    const fn passing(detail: String) -> Self {
        let lasting = false;
        Self { detail, lasting }
    }
}

impl Round<'_> {
    /// The rotation that is at work, or a new one.
    pub(super) fn begin_or_go_on(&self, trigger: Trigger, why: &str) -> At {
        if let Some(rotation) = self.own.open.first().cloned() {
            return match rotation.state {
                RotationState::Requested => At::Queued(rotation),
                _ => At::Running(rotation),
            };
        }
        let now = self.rotator.clock.now();
        At::New(Rotation {
            id: RotationId(self.rotator.entropy.uuid_v7(now)),
            account: self.account.name.clone(),
            trigger,
            key: None,
            reason: Some(why.to_owned()),
            requested_by: "broker".to_owned(),
            requested_at: now,
            state: RotationState::Running,
            detail: None,
            ended_at: None,
            steps: vec![],
        })
    }

    pub(super) async fn take(self, draft: Draft, at: At, step: Step) -> Outcome {
        let asks_arm = matches!(step, Step::Regenerate { .. } | Step::Publish { .. });
        let urgent = at.rotation().trigger == Trigger::BreakGlass;
        let wait = self.rotator.accounts.wait(self.account);
        if let Some(wait) = wait.filter(|_| asks_arm && !urgent) {
            return self.put_off(draft, wait).await;
        }
        match step {
            Step::Regenerate {
                key,
                created_before,
            } => self.regenerate(draft, at, key, created_before).await,
            Step::Publish { key } => self.publish(draft, at, key).await,
            Step::Enable { version } => {
                let kind = StepKind::Enable;
                self.touch(draft, at, kind, None, Some(version)).await
            }
            Step::Disable { version, key } => {
                let kind = StepKind::Disable;
                self.touch(draft, at, kind, Some(key), Some(version)).await
            }
            Step::Recover => self.touch(draft, at, StepKind::Recover, None, None).await,
        }
    }

    /// The subscription's limits leave no room now: nothing is begun, and so nothing fails. When many
    /// accounts are due at once, they take their turns.
    async fn put_off(mut self, mut draft: Draft, wait: std::time::Duration) -> Outcome {
        let wait = Duration::try_from(wait).unwrap_or(SOON).max(SOON);
        self.status.look_at = self.rotator.clock.now() + wait;
        let why = "it waits its turn: the subscription's limits leave no room now";
        self.status.reasons.push(why.to_owned());
        draft.overdue(&mut self.status);
        self.leave(draft, None, Progress::Rests).await
    }

    async fn regenerate(
        self,
        mut draft: Draft,
        at: At,
        key: KeyName,
        created_before: Option<CreationTime>,
    ) -> Outcome {
        self.tenure.ready_to_mutate().await?;
        draft.enter(&at, self.status.state);
        if at.rotation().trigger != Trigger::BreakGlass {
            draft.pin(at.rotation().id, key);
        }
        let mut step = self.step(&at, 0, StepKind::Regenerate, Some(key));
        step.created_before = created_before;
        let Some(open) = self.record_intent(draft, &at, vec![step]).await? else {
            return Ok((Progress::On, self.status));
        };
        self.tenure.ready_to_mutate().await?;
        let accounts = &self.rotator.accounts;
        let answer = accounts.regenerate_key(self.account, key).await;
        let answer = answer.map(|()| None);
        self.conclude(&at, open, answer).await
    }

    /// Reads the key's live value, proves it, publishes it.
    async fn publish(self, mut draft: Draft, at: At, key: KeyName) -> Outcome {
        let proved = self.live_key(key).await;
        let mut prove = self.step(&at, 0, StepKind::Prove, Some(key));
        prove.ended_at = Some(prove.started_at);
        let (live, how) = match proved {
            Ok(proved) => proved,
            Err(setback) => {
                prove.outcome = StepOutcome::Refused;
                return self.set_back(draft, at, prove, setback).await;
            }
        };
        prove.outcome = StepOutcome::Done;
        prove.detail = Some(how);
        let version = self.new_version(&at, &live);
        let version = version.ok_or(RotateError::NotRotated)?;
        self.tenure.ready_to_mutate().await?;
        draft.enter(&at, self.status.state);
        let publish = self.step(&at, 1, StepKind::Publish, Some(key));
        let Some(open) = self.record_intent(draft, &at, vec![prove, publish]).await? else {
            return Ok((Progress::On, self.status));
        };
        self.tenure.ready_to_mutate().await?;
        let answer = self.rotator.vault.publish(self.account, version).await;
        let answer = answer.map(Some);
        self.conclude(&at, open, answer).await
    }

    /// A step that may be repeated: switches a version, recovers the secret.
    async fn touch(
        self,
        mut draft: Draft,
        at: At,
        kind: StepKind,
        key: Option<KeyName>,
        version: Option<SecretVersion>,
    ) -> Outcome {
        self.tenure.ready_to_mutate().await?;
        draft.enter(&at, self.status.state);
        let mut step = self.step(&at, 0, kind, key);
        step.version.clone_from(&version);
        let Some(open) = self.record_intent(draft, &at, vec![step]).await? else {
            return Ok((Progress::On, self.status));
        };
        self.tenure.ready_to_mutate().await?;
        let vault = &self.rotator.vault;
        let answer = match &version {
            Some(version) => {
                let on = kind == StepKind::Enable;
                vault.set_enabled(self.account, version, on).await
            }
            None => vault.recover(self.account).await,
        };
        // Whether it took place shows at the next look, and doing it again does no harm.
        let answer = answer.map(|()| version).map_err(|error| match error {
            OutsideError::Unclear(why) => OutsideError::Unavailable(why),
            error => error,
        });
        self.conclude(&at, open, answer).await
    }

    /// Makes the intent durable; `None` if the role table has moved, and nothing may be sent.
    async fn record_intent(
        &self,
        mut draft: Draft,
        at: &At,
        steps: Vec<RotationStep>,
    ) -> Result<Option<OpenStep>, RotateError> {
        let rotation = at.rotation().id;
        let open = steps.last().map(|step| OpenStep::of(rotation, step));
        for step in steps {
            draft.intend(rotation, step);
        }
        let decided_on = Some(self.policy_version);
        let written = self.rotator.enact(draft, self.tenure, decided_on).await?;
        Ok(open.filter(|_| written == Written::Yes))
    }

    async fn conclude(
        mut self,
        at: &At,
        open: OpenStep,
        answer: Result<Option<SecretVersion>, OutsideError>,
    ) -> Outcome {
        let mut draft = self.draft();
        let (conclusion, lasting) = match answer {
            Ok(version) => {
                let (outcome, detail) = (StepOutcome::Done, None);
                (
                    Conclusion {
                        outcome,
                        version,
                        detail,
                    },
                    false,
                )
            }
            Err(error) => {
                let outcome = match error {
                    OutsideError::Unclear(_) => StepOutcome::Unclear,
                    _ => StepOutcome::Refused,
                };
                let Setback { detail, lasting } = error.into();
                let (version, detail) = (None, Some(detail));
                (
                    Conclusion {
                        outcome,
                        version,
                        detail,
                    },
                    lasting,
                )
            }
        };
        self.note_publication(open, &conclusion);
        let (kind, detail) = (open.kind, conclusion.detail.clone());
        draft.conclude(open, conclusion);
        // A version that cannot be switched off does no harm; it must not end what does good.
        if lasting && kind != StepKind::Disable {
            let why = format!("{kind}: {}", detail.unwrap_or_default());
            return self.give_up(draft, at.rotation(), &why).await;
        }
        self.leave(draft, None, Progress::On).await
    }

    /// What an open step turned out to be.
    pub(super) async fn resolve(
        mut self,
        mut draft: Draft,
        step: OpenStep,
        outcome: StepOutcome,
        version: Option<SecretVersion>,
    ) -> Outcome {
        let detail = None;
        let conclusion = Conclusion {
            outcome,
            version,
            detail,
        };
        self.note_publication(step, &conclusion);
        draft.conclude(step, conclusion);
        self.leave(draft, None, Progress::On).await
    }

    /// The overlap counts from when we know of the publication: never earlier than it was.
    fn note_publication(&mut self, step: OpenStep, conclusion: &Conclusion) {
        let published = step.kind == StepKind::Publish && conclusion.outcome.took_place();
        let version = conclusion.version.clone().filter(|_| published);
        if let Some((version, key)) = version.zip(step.key) {
            self.status.published = Some(Publication {
                version,
                key,
                rotation: step.rotation,
                at: self.rotator.clock.now(),
            });
        }
    }

    /// Nothing came of the proof.
    async fn set_back(
        self,
        mut draft: Draft,
        at: At,
        mut step: RotationStep,
        setback: Setback,
    ) -> Outcome {
        draft.enter(&at, self.status.state);
        let why = format!("{}: {}", step.kind, setback.detail);
        step.detail = Some(setback.detail);
        draft.intend(at.rotation().id, step);
        if setback.lasting {
            return self.give_up(draft, at.rotation(), &why).await;
        }
        let decided_on = Some(self.policy_version);
        self.leave(draft, decided_on, Progress::On).await
    }

    /// Ends the rotation as failed, for a reason that time alone does not heal, and leaves the account
    /// alone for a while.
    async fn give_up(mut self, mut draft: Draft, rotation: &Rotation, why: &str) -> Outcome {
        draft.end(rotation, RotationState::Failed, why);
        let failures = self.status.failures.saturating_add(1);
        self.status.failures = failures;
        self.status.look_at = self.rotator.clock.now() + pause(failures, OBSERVATION_INTERVAL);
        // That consumers may be reading a dead key is the worse news.
        if self.status.state != State::Drifted {
            self.status.state = State::Blocked;
        }
        self.status.reasons.push(plain(why.to_owned()));
        draft.overdue(&mut self.status);
        let account = self.account.name.clone();
        let left = self.leave(draft, None, Progress::Rests).await?;
        tracing::warn!(%account, rotation = %rotation.id, why, "rotation failed");
        Ok(left)
    }

    /// The next step of the rotation but `later`, with an open outcome.
    fn step(&self, at: &At, later: i64, kind: StepKind, key: Option<KeyName>) -> RotationStep {
        let last = at.rotation().steps.last().map_or(0, |step| step.seq);
        RotationStep {
            seq: last + 1 + later,
            kind,
            key,
            created_before: None,
            version: None,
            started_at: self.rotator.clock.now(),
            ended_at: None,
            outcome: StepOutcome::Intended,
            detail: None,
        }
    }

    /// The key's live value, and how it was proved.
    async fn live_key(&self, key: KeyName) -> Result<(AccountKey, String), Setback> {
        let live = self.rotator.accounts.key(self.account, key).await?;
        let listed = |why: &str| format!("ARM lists the key; {why}");
        let how = match self.rotator.proof.prove(self.account, &live).await {
            Proof::Accepted => "the Blob service accepted a Shared Key call with it".to_owned(),
            Proof::Rejected => {
                let why = "the Blob service does not accept the key, or not yet";
                return Err(Setback::passing(why.to_owned()));
            }
            Proof::Disallowed if self.policy.rotate_disallowed_keys => {
                listed("the account refuses Shared Key")
            }
            Proof::Disallowed => {
                let why = "the account refuses Shared Key";
                return Err(Setback::passing(why.to_owned()));
            }
            Proof::Unreachable(why) => match self.policy.proof {
                ProofPolicy::ListkeysIfUnreachable => {
                    listed(&format!("the Blob service was not reached: {why}"))
                }
                ProofPolicy::Required => {
                    let why = format!("the Blob service could not be asked: {why}");
                    return Err(Setback::passing(why));
                }
            },
        };
        Ok((live, how))
    }

    /// The version to publish. `None` if the account was not read, from which no such step is planned.
    fn new_version(&self, at: &At, live: &AccountKey) -> Option<NewVersion> {
        let Seen::Read(AccountFacts { created, .. }) = &self.observed.account else {
            return None;
        };
        let resource_id = self.account.storage_resource_id()?;
        let now = self.rotator.clock.now();
        let farthest = now + Duration::days(i64::from(INTERVAL_DAYS_MAX));
        let due = self
            .policy
            .due_at(&self.account.name, now)
            .unwrap_or(farthest);
        let published = Published::now(live.name, at.rotation().id, created);
        Some(NewVersion {
            value: secret_value(
                self.policy.value,
                self.account,
                &self.rotator.cloud,
                &live.value,
            ),
            content_type: content_type(self.policy.value),
            expires: whole_seconds(due + self.policy.overlap()),
            tags: published.tags(&resource_id, validity_days(due, now)),
        })
    }
}

/// For how many whole days a version is meant to be used.
fn validity_days(due: OffsetDateTime, now: OffsetDateTime) -> u32 {
    u32::try_from((due - now).whole_days()).unwrap_or(0).max(1)
}
