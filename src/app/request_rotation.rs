//! Ask for a rotation: the request is recorded, and the holder of the lease carries it out. Nothing
//! is decided here but whether the account has keys to rotate, and which of them a break-glass means.
//!
//! It is idempotent twice over. An `Idempotency-Key` finds the rotation that it asked for, whatever
//! has become of it; and where an equal rotation is still open, that one is the answer.

use std::{str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    idempotency::{ClaimError, Idempotency},
    policy::PolicyCache,
};
use crate::{
    domain::{
        audit::{Action, Actor, AuditEvent},
        caller::Caller,
        ids::{AccountName, InvalidName, Reason, RotationId},
        permit::{Context, Permit, RequestRotation},
        rotation::{
            KeyName, Rotation, RotationBatch, RotationState, RotationStep, RotationWrite, StepKind,
            Trigger,
        },
        time_text,
    },
    journal::{Enacted, Enactment, Journal, JournalError},
    ports::{Clock, Entropy, JournalStore, KeyClaim, Rotations, StoreError},
};

/// How often a request is tried again because something moved meanwhile: the role table, the
/// idempotency key, or the rotation that stood in its way. Each needs a commit of somebody else.
const ROUNDS_MAX: usize = 8;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The next rotation, now instead of when it is due. It keeps the overlap.
    Next {
        /// Why.
        reason: Option<Reason>,
    },
    /// Break-glass: this key must die, overlap or not.
    BreakGlass {
        /// Which.
        key: KeyChoice,
        /// Why.
        reason: Reason,
    },
}

/// Which key a break-glass means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChoice {
    /// The one that the newest version names.
    Active,
    /// The other one.
    Alternate,
    /// This one.
    Named(KeyName),
}

impl FromStr for KeyChoice {
    type Err = InvalidKeyChoice;

    fn from_str(text: &str) -> Result<Self, InvalidKeyChoice> {
        match text {
            "active" => Ok(Self::Active),
            "alternate" => Ok(Self::Alternate),
            name => name
                .parse()
                .map(Self::Named)
                .map_err(|_: InvalidName| InvalidKeyChoice),
        }
    }
}

/// Not a choice of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be active, alternate, key1 or key2")]
pub struct InvalidKeyChoice;

/// Why no rotation was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not in the role table.
    #[error("the role table holds no account of this name")]
    UnknownAccount,
    /// Without a rotation policy there is no secret to publish in.
    #[error("the account has no rotation policy in the role table")]
    NotConfigured,
    /// So nobody knows yet which key is active.
    #[error(
        "no version of the account's secret is published yet, so no key is active; name key1 or key2"
    )]
    NothingPublished,
    /// The key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Others changed what it depends on, again and again.
    #[error("the role table or the account's rotations keep changing")]
    Unsettled,
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request could not be recorded.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<ClaimError> for RequestError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Reused => Self::KeyReused,
            ClaimError::Store(error) => Self::Store(error),
        }
    }
}

/// What an idempotency key of such a request stands for.
#[derive(Debug, Serialize, Deserialize)]
struct Fact {
    rotation: RotationId,
}

/// One request, as every round meets it.
struct Asked<'a> {
    asker: Asker<'a>,
    account: &'a AccountName,
    order: &'a Order,
    idempotency: Option<&'a Idempotency>,
}

/// Who asks.
enum Asker<'a> {
    /// Somebody over HTTP.
    Caller(&'a Context),
    /// Somebody at the machine itself, who has no idempotency keys.
    Console(Actor),
}

impl Asker<'_> {
    fn actor(&self) -> Actor {
        match self {
            Self::Caller(context) => context.actor(),
            Self::Console(actor) => actor.clone(),
        }
    }
}

impl Asked<'_> {
    /// The caller with the idempotency key, if there is one.
    fn key(&self) -> Option<(&Caller, &Idempotency)> {
        match &self.asker {
            Asker::Caller(context) => Some((context.caller.as_ref(), self.idempotency?)),
            Asker::Console(_) => None,
        }
    }

    fn event(&self, rotation: &Rotation) -> AuditEvent {
        let (client, request_id) = match &self.asker {
            Asker::Caller(context) => (context.client, Some(context.request_id)),
            Asker::Console(_) => (None, None),
        };
        AuditEvent {
            at: time_text::to_micros(rotation.requested_at),
            actor: self.asker.actor(),
            client,
            request_id,
            action: Action::RotationOpened {
                account: rotation.account.clone(),
                rotation: rotation.id,
                trigger: rotation.trigger,
                key: rotation.key,
                reason: rotation.reason.clone(),
            },
        }
    }
}

/// The use case.
pub struct RotationRequester {
    /// The role table in memory.
    pub policy: Arc<PolicyCache>,
    /// What is published, and what is open.
    pub rotations: Arc<dyn Rotations>,
    /// The journal's writer.
    pub journal: Arc<Journal>,
    /// Idempotency keys.
    pub claims: Arc<dyn JournalStore>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
}

impl RotationRequester {
    /// Records the request; returns the rotation that answers it, new or open already.
    ///
    /// # Errors
    /// [`RequestError`]; after [`JournalError::Unclear`] it may have been recorded.
    pub async fn request(
        &self,
        permit: &Permit<RequestRotation>,
        account: &AccountName,
        order: &Order,
        idempotency: Option<&Idempotency>,
    ) -> Result<Rotation, RequestError> {
        self.ask(&Asked {
            asker: Asker::Caller(permit.context()),
            account,
            order,
            idempotency,
        })
        .await
    }

    /// The same, for somebody at the machine itself.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request_at_console(
        &self,
        actor: Actor,
        account: &AccountName,
        order: &Order,
    ) -> Result<Rotation, RequestError> {
        self.ask(&Asked {
            asker: Asker::Console(actor),
            account,
            order,
            idempotency: None,
        })
        .await
    }

    async fn ask(&self, asked: &Asked<'_>) -> Result<Rotation, RequestError> {
        for _ in 0..ROUNDS_MAX {
            if let Some(answer) = self.former(asked).await? {
                return Ok(answer);
            }
            if let Some(answer) = self.round(asked).await? {
                return Ok(answer);
            }
        }
        Err(RequestError::Unsettled)
    }

    /// The rotation that the idempotency key stands for, if it was used before.
    async fn former(&self, asked: &Asked<'_>) -> Result<Option<Rotation>, RequestError> {
        let Some((caller, idempotency)) = asked.key() else {
            return Ok(None);
        };
        let now = self.clock.now();
        let fact = idempotency
            .former(caller, self.claims.as_ref(), now)
            .await?;
        let Some(Fact { rotation }) = fact else {
            return Ok(None);
        };
        let found = self.rotations.rotation(asked.account, rotation).await?;
        let lost = || StoreError::Corrupt("an idempotency key stands for no rotation".to_owned());
        Ok(Some(found.ok_or_else(lost)?))
    }

    /// Tries once; `None` if something has moved meanwhile.
    async fn round(&self, asked: &Asked<'_>) -> Result<Option<Rotation>, RequestError> {
        let snapshot = self.policy.fresh().await?;
        let account = snapshot.account(asked.account);
        let account = account.ok_or(RequestError::UnknownAccount)?;
        if account.rotation.is_none() {
            return Err(RequestError::NotConfigured);
        }
        let rotation = self.rotation(asked).await?;
        let enactment = Enactment {
            events: vec![asked.event(&rotation)],
            batch: RotationBatch {
                fence: None,
                writes: vec![
                    RotationWrite::Open(rotation.clone()),
                    RotationWrite::Wake {
                        account: rotation.account.clone(),
                        at: rotation.requested_at,
                    },
                ],
            },
            decided_on: Some(snapshot.version()),
            claim: self.claim(asked, &rotation),
        };
        match self.journal.enact(enactment).await? {
            Enacted::Written(_) => Ok(Some(rotation)),
            Enacted::Stale { .. } | Enacted::KeyTaken => Ok(None),
            Enacted::Refused => self.join(asked, &rotation).await,
        }
    }

    /// The rotation as it would be opened.
    async fn rotation(&self, asked: &Asked<'_>) -> Result<Rotation, RequestError> {
        let now = self.clock.now();
        let (trigger, key, reason) = match asked.order {
            Order::Next { reason } => (Trigger::Operator, None, reason.as_ref()),
            Order::BreakGlass { key, reason } => {
                let key = self.named(asked.account, *key).await?;
                (Trigger::BreakGlass, Some(key), Some(reason))
            }
        };
        Ok(Rotation {
            id: RotationId(self.entropy.uuid_v7(now)),
            account: asked.account.clone(),
            trigger,
            key,
            reason: reason.map(ToString::to_string),
            requested_by: asked.asker.actor().to_string(),
            requested_at: now,
            state: RotationState::Requested,
            detail: None,
            ended_at: None,
            steps: Vec::new(),
        })
    }

    /// The key that is meant, by its name. It is settled now: what is active when the rotation runs
    /// may be another key than the one that the operator knows to have leaked.
    async fn named(
        &self,
        account: &AccountName,
        choice: KeyChoice,
    ) -> Result<KeyName, RequestError> {
        if let KeyChoice::Named(key) = choice {
            return Ok(key);
        }
        // A break-glass publishes the other key first: while it is open, the words mean what they meant
        // when it was asked for, or asking again would kill the second key too.
        let open = self.rotations.open_rotations(account).await?;
        let before = open.iter().find_map(active_before);
        let status = self.rotations.status(account).await?;
        let published = status.and_then(|status| status.published);
        let active = before.or(published.map(|published| published.key));
        let active = active.ok_or(RequestError::NothingPublished)?;
        Ok(match choice {
            KeyChoice::Alternate => active.other(),
            KeyChoice::Active | KeyChoice::Named(_) => active,
        })
    }

    /// The open rotation that stands in the way of an equal one; `None` if it has ended meanwhile. It
    /// is looked at again: whoever asks twice may have healed what held it up. The idempotency key, if
    /// there is one, stands for it from now on.
    async fn join(
        &self,
        asked: &Asked<'_>,
        wanted: &Rotation,
    ) -> Result<Option<Rotation>, RequestError> {
        let open = self.rotations.open_rotations(asked.account).await?;
        let Some(equal) = open.into_iter().find(|open| is_answer(open, wanted)) else {
            return Ok(None);
        };
        let enactment = Enactment {
            events: Vec::new(),
            batch: RotationBatch {
                fence: None,
                writes: vec![RotationWrite::Wake {
                    account: equal.account.clone(),
                    at: wanted.requested_at,
                }],
            },
            decided_on: None,
            claim: self.claim(asked, &equal),
        };
        let enacted = self.journal.enact(enactment).await?;
        Ok(matches!(enacted, Enacted::Written(_)).then_some(equal))
    }

    fn claim(&self, asked: &Asked<'_>, rotation: &Rotation) -> Option<KeyClaim> {
        let fact = Fact {
            rotation: rotation.id,
        };
        let (caller, key) = asked.key()?;
        Some(key.claim(caller, &fact, self.clock.now()))
    }
}

/// The key that was active before a break-glass published its first; `None` if it has not yet.
fn active_before(open: &Rotation) -> Option<KeyName> {
    let published =
        |step: &&RotationStep| step.kind == StepKind::Publish && step.outcome.took_place();
    let mut steps = open.steps.iter();
    let first = steps.find(published)?.key?;
    (open.trigger == Trigger::BreakGlass).then(|| first.other())
}

/// Whether an open rotation does what is wanted: the same key's break-glass, or, where none is named,
/// the one ordinary rotation that an account can have at a time.
fn is_answer(open: &Rotation, wanted: &Rotation) -> bool {
    match wanted.trigger {
        Trigger::BreakGlass => open.trigger == Trigger::BreakGlass && open.key == wanted.key,
        _ => open.trigger != Trigger::BreakGlass,
    }
}
