//! Rotate one account's keys as far as it goes now: look, plan, take one step, look again.
//!
//! Nothing is remembered between two rounds: each one reads ARM, the vault and the database anew, so
//! that a crash between any two lines is the same case as a restart. An intent is durable before its
//! call is sent, and the lease must outlast the call. Key values live in here for one step only.
//!
//! Next to read: `steps`, the calls and what their answers mean; `draft`, what is written.

mod draft;
mod steps;

use std::sync::Arc;

use tracing::{info, warn};

use self::draft::{Draft, OpenStep, plain};
use super::{policy::PolicyCache, tenure::Tenure};
use crate::{
    domain::{
        account::Account,
        cloud::Cloud,
        ids::{AccountName, RotationId},
        rotation::{
            AccountStatus, Next, Plan, Rotation, RotationPolicy, RotationState, State,
            observation::{Observation, OwnRecords, Seen},
            plan, status,
        },
    },
    journal::{Enacted, Enactment, Journal, JournalError},
    ports::{
        Clock, Entropy, KeyProof, OutsideError, Rotations, StepMeter, StorageAccounts, StoreError,
        Vault,
    },
};

/// Most rounds of one account at a time. The longest story, a break-glass of the active key, has
/// eight; a plan that does not come to rest is a fault of ours, and must not run hot.
const ROUNDS_MAX: usize = 40;

/// Why an account could not be brought further now. The next tick tries again.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The account is not in the role table, or is not rotated.
    #[error("the account is not managed, or has no rotation policy")]
    NotRotated,
    /// Another process rotates now. Nothing was sent.
    #[error("another process holds the lease")]
    LeaseLost,
    /// The process that held the lease before may still be in a call.
    #[error("the former holder of the lease may still be in a call")]
    Handover,
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal does not record, so nothing is done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It goes round in circles.
    #[error("the account did not come to rest within {ROUNDS_MAX} rounds")]
    Restless,
}

/// The use case.
pub struct Rotator {
    /// The role table in memory.
    pub policy: Arc<PolicyCache>,
    /// For connection strings.
    pub cloud: Cloud,
    /// ARM.
    pub accounts: Arc<dyn StorageAccounts>,
    /// Key Vault.
    pub vault: Arc<dyn Vault>,
    /// The data plane.
    pub proof: Arc<dyn KeyProof>,
    /// Our records.
    pub records: Arc<dyn Rotations>,
    /// Through which everything is written.
    pub journal: Arc<Journal>,
    /// For the metrics.
    pub meter: Arc<dyn StepMeter>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
}

/// One account, as one round sees it.
struct Round<'a> {
    rotator: &'a Rotator,
    tenure: &'a Tenure,
    account: &'a Account,
    policy: &'a RotationPolicy,
    policy_version: i64,
    observed: Observation,
    own: OwnRecords,
    status: AccountStatus,
}

/// What a round came to.
enum Progress {
    /// Look again at once.
    On,
    /// Nothing more to do before the status says so.
    Rests,
}

impl Rotator {
    /// Brings an account as far as it goes now; its status then.
    ///
    /// # Errors
    /// [`RotateError`]; what was under way is found by the next look.
    pub async fn advance(
        &self,
        name: &AccountName,
        tenure: &Tenure,
    ) -> Result<AccountStatus, RotateError> {
        for _ in 0..ROUNDS_MAX {
            let snapshot = self.policy.current();
            let account = snapshot.account(name).ok_or(RotateError::NotRotated)?;
            let policy = account.rotation.as_ref().ok_or(RotateError::NotRotated)?;
            // Who wakes the account while it is looked at wants another look.
            let looked_at = self.clock.now();
            let (former, own) = self.own_records(name).await?;
            let observed = self.observe(account).await;
            let now = self.clock.now();
            let plan = plan(now, name, policy, &observed, &own);
            let status = AccountStatus {
                looked_at,
                ..status(&plan, name, former.as_ref(), now)
            };
            let round = Round {
                rotator: self,
                tenure,
                account,
                policy,
                policy_version: snapshot.version(),
                observed,
                own,
                status,
            };
            if let (Progress::Rests, status) = round.carry_out(plan).await? {
                return Ok(status);
            }
        }
        warn!(account = %name, "the account does not come to rest");
        Err(RotateError::Restless)
    }

    /// What a round would do now. Nothing is written.
    ///
    /// # Errors
    /// [`RotateError`].
    pub async fn preview(&self, name: &AccountName) -> Result<Plan, RotateError> {
        let snapshot = self.policy.current();
        let account = snapshot.account(name).ok_or(RotateError::NotRotated)?;
        let policy = account.rotation.as_ref().ok_or(RotateError::NotRotated)?;
        let (_, own) = self.own_records(name).await?;
        let observed = self.observe(account).await;
        Ok(plan(self.clock.now(), name, policy, &observed, &own))
    }

    /// Ends the rotations of an account that is not rotated any more.
    ///
    /// # Errors
    /// [`RotateError`].
    pub async fn abandon(&self, name: &AccountName, tenure: &Tenure) -> Result<(), RotateError> {
        for rotation in self.records.open_rotations(name).await? {
            let mut draft = Draft::new(self, name);
            let why = "the account is not rotated any more";
            draft.end(&rotation, RotationState::Failed, why);
            self.enact(draft, tenure, None).await?;
        }
        Ok(())
    }

    async fn own_records(
        &self,
        name: &AccountName,
    ) -> Result<(Option<AccountStatus>, OwnRecords), StoreError> {
        let status = self.records.status(name).await?;
        let own = OwnRecords {
            open: self.records.open_rotations(name).await?,
            in_flight: self.records.in_flight(name).await?,
            regenerated: self.records.regenerated(name).await?,
            published: status.as_ref().and_then(|status| status.published.clone()),
            failures: status.as_ref().map_or(0, |status| status.failures),
        };
        Ok((status, own))
    }

    async fn observe(&self, account: &Account) -> Observation {
        let (facts, secret) = tokio::join!(self.accounts.look(account), self.vault.look(account));
        Observation {
            account: seen(facts),
            secret: seen(secret),
        }
    }

    /// Writes a draft under the lease, if the role table is still as it was when it was decided.
    async fn enact(
        &self,
        draft: Draft,
        tenure: &Tenure,
        decided_on: Option<i64>,
    ) -> Result<Written, RotateError> {
        let fence = tenure.fence().ok_or(RotateError::LeaseLost)?;
        let counted = draft.outcomes();
        let (events, batch) = draft.finish(fence);
        let enactment = Enactment {
            events,
            batch,
            decided_on,
            claim: None,
        };
        match self.journal.enact(enactment).await? {
            Enacted::Written(_) => {
                for (act, outcome) in counted {
                    self.meter.count(act, outcome);
                }
                Ok(Written::Yes)
            }
            Enacted::Stale { version } => {
                self.policy.at_least(version).await?;
                Ok(Written::Stale)
            }
            // The lease is another's, or an operator opened a rotation a moment ago.
            Enacted::Refused | Enacted::KeyTaken => {
                let held = tenure.take().await?;
                held.then_some(Written::Stale).ok_or(RotateError::LeaseLost)
            }
        }
    }
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// The role table has moved, or the rotations have; plan again.
    Stale,
}

impl Round<'_> {
    async fn carry_out(self, plan: Plan) -> Result<(Progress, AccountStatus), RotateError> {
        let draft = self.draft();
        match plan.next {
            Next::Rest { .. } | Next::Wait { .. } => self.rest(draft).await,
            Next::Resolve {
                rotation,
                seq,
                outcome,
                version,
            } => {
                let step = self.open_step(rotation, seq);
                let step = step.ok_or(RotateError::Restless)?;
                self.resolve(draft, step, outcome, version).await
            }
            Next::End {
                rotation,
                state,
                detail,
            } => {
                let found = self.own.open.iter().find(|open| open.id == rotation);
                let rotation = found.cloned().ok_or(RotateError::Restless)?;
                self.end(draft, &rotation, state, &detail).await
            }
            Next::Step { trigger, step } => {
                let reasons = plan.reasons.join("; ");
                let rotation = self.begin_or_go_on(trigger, &reasons);
                self.take(draft, rotation, step).await
            }
        }
    }

    /// The step that a plan speaks of: the one in flight, or one of the rotation at work.
    fn open_step(&self, rotation: RotationId, seq: i64) -> Option<OpenStep> {
        let flying = self.own.in_flight.as_ref().map(OpenStep::from);
        let of = |open: &Rotation| {
            let id = open.id;
            let step = open.steps.iter().find(|step| step.seq == seq)?;
            Some(OpenStep::of(id, step))
        };
        let open = self.own.open.iter().find(|open| open.id == rotation);
        flying
            .filter(|flying| flying.rotation == rotation && flying.seq == seq)
            .or_else(|| of(open?))
    }

    fn draft(&self) -> Draft {
        Draft::new(self.rotator, &self.account.name)
    }

    async fn rest(mut self, mut draft: Draft) -> Result<(Progress, AccountStatus), RotateError> {
        draft.overdue(&mut self.status);
        let (progress, status) = self.leave(draft, None, Progress::Rests).await?;
        if matches!(status.state, State::Blocked | State::Unknown) {
            let (account, state, why) = (&status.account, status.state, status.reasons.join("; "));
            warn!(%account, %state, why, "rotation cannot go on");
        }
        Ok((progress, status))
    }

    async fn end(
        self,
        mut draft: Draft,
        rotation: &Rotation,
        state: RotationState,
        detail: &str,
    ) -> Result<(Progress, AccountStatus), RotateError> {
        draft.end(rotation, state, detail);
        let progress = match state {
            RotationState::Failed => Progress::Rests,
            _ => Progress::On,
        };
        let (progress, status) = self.leave(draft, None, progress).await?;
        info!(account = %status.account, rotation = %rotation.id, %state, detail, "rotation is over");
        Ok((progress, status))
    }

    /// The end of a round: writes the draft together with what the look showed.
    async fn leave(
        self,
        mut draft: Draft,
        decided_on: Option<i64>,
        progress: Progress,
    ) -> Result<(Progress, AccountStatus), RotateError> {
        draft.look(self.status.clone());
        self.rotator.enact(draft, self.tenure, decided_on).await?;
        Ok((progress, self.status))
    }
}

fn seen<T>(looked: Result<T, OutsideError>) -> Seen<T> {
    match looked {
        Ok(facts) => Seen::Read(facts),
        Err(error) if error.is_lasting() => Seen::Blocked(plain(error.to_string())),
        Err(error) => Seen::Unread(plain(error.to_string())),
    }
}
