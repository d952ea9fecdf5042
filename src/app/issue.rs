//! Issue tokens: decide, sign, record, release; one request or a whole batch.
//!
//! The journal compares the role table's version inside its own transaction. If the table has moved
//! since the decision, nothing was recorded and everything is decided again on a fresh snapshot, so
//! that no token leaves on the strength of a grant that is gone.

use std::{borrow::Cow, sync::Arc};

use time::OffsetDateTime;
use tracing::warn;

use super::{
    idempotency::{ClaimError, Idempotency, Issuances, Remembered},
    mint::{Mint, MintError, Minted},
    policy::PolicyCache,
    record::{Recorded, record},
};
use crate::{
    domain::{
        audit::{Action, AuditEvent, Refused},
        decide::{Decision, Moment, Refusal, decide},
        ids::IssuanceId,
        permit::{Context, Issue, Permit},
        request::AccessRequest,
        snapshot::Snapshot,
        time_text,
        validity::Limits,
    },
    journal::{ENTRY_EVENTS_MAX, Entry, Journal, JournalError, Outcome, RefusalOutcome},
    ports::{Clock, Entropy, JournalStore, KeyClaim, StoreError},
};

/// How often a request is decided again because the role table moved; each round needs another
/// change to be committed meanwhile, so more rounds mean that somebody floods the table.
const DECISIONS_MAX: usize = 8;

/// Most items of a batch; the body limit holds as many.
pub const BATCH_ITEMS_MAX: usize = 1_000;

const _: () = assert!(
    BATCH_ITEMS_MAX <= ENTRY_EVENTS_MAX,
    "a batch is one journal entry"
);

/// Why a whole request failed; nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The record could not be made durable, so there is no token.
    #[error("the audit journal is unavailable")]
    AuditUnavailable(#[source] Option<JournalError>),
    /// The role table cannot be read.
    #[error("the role table is unavailable")]
    PolicyUnavailable(#[from] StoreError),
    /// The role table changes faster than requests can be decided.
    #[error("the role table keeps changing")]
    Unsettled,
    /// The key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
}

impl From<JournalError> for IssueError {
    fn from(error: JournalError) -> Self {
        Self::AuditUnavailable(Some(error))
    }
}

impl From<ClaimError> for IssueError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Reused => Self::KeyReused,
            ClaimError::Store(error) => Self::PolicyUnavailable(error),
        }
    }
}

/// Why one item has no token.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// The role table says no; recorded.
    #[error("{}", .0.refusal)]
    Refused(Box<RefusedItem>),
    /// Allowed, but it cannot be signed, or not now.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// A replay came after the recorded token's end.
    #[error("the token recorded under this idempotency key has expired")]
    ReplayTooLate,
    /// A replay of an item that was refused when the key was first used.
    #[error("this item was refused when the idempotency key was first used")]
    RefusedBefore,
}

/// A refusal with what was weighed for it.
#[derive(Debug)]
pub struct RefusedItem {
    /// Why.
    pub refusal: Refusal,
    /// Everything that was weighed, in words.
    pub reasons: Vec<String>,
}

/// One answer for each item, in order.
pub type Answers = Vec<Result<Recorded, ItemError>>;

/// One item, decided and signed but not recorded.
struct Draft {
    /// What the journal will say; nothing where nothing was decided for good.
    action: Option<Action>,
    outcome: Result<Minted, ItemError>,
}

impl Draft {
    /// An item about which nothing was decided for good.
    const fn without_record(error: ItemError) -> Self {
        Self {
            action: None,
            outcome: Err(error),
        }
    }
}

/// Where an item's id and window come from.
enum Origin<'a> {
    /// It is asked for the first time, and will have this id.
    New(IssuanceId),
    /// It was issued under the same idempotency key.
    Recorded(&'a Remembered),
    /// It was refused under the same idempotency key.
    RefusedBefore,
}

impl<'a> Origin<'a> {
    fn of(remembered: &'a Option<Remembered>) -> Self {
        remembered
            .as_ref()
            .map_or(Self::RefusedBefore, Self::Recorded)
    }

    /// What is decided: the request, or what it was recorded as.
    fn request<'r>(&self, request: &'r AccessRequest) -> Cow<'r, AccessRequest> {
        match self {
            Self::Recorded(known) => Cow::Owned(known.request(request)),
            Self::New(_) | Self::RefusedBefore => Cow::Borrowed(request),
        }
    }
}

/// What a round of decisions came to.
enum Round {
    Answered(Answers),
    /// The table has moved to this version.
    Stale(i64),
    /// Somebody else took the idempotency key meanwhile.
    KeyTaken,
}

/// The use case.
pub struct Issuer {
    /// The role table in memory.
    pub policy: Arc<PolicyCache>,
    /// The signer.
    pub mint: Mint,
    /// The journal's writer.
    pub journal: Arc<Journal>,
    /// Idempotency keys.
    pub claims: Arc<dyn JournalStore>,
    /// The broker's limits.
    pub limits: Limits,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
}

impl Issuer {
    /// Issues one token for each request, in one transaction: either everything that is answered is
    /// recorded, or nothing is answered.
    ///
    /// # Errors
    /// [`IssueError`] fails all; an item that fails alone has its [`ItemError`] among the answers.
    pub async fn issue(
        &self,
        permit: &Permit<Issue>,
        requests: &[AccessRequest],
        idempotency: Option<&Idempotency>,
    ) -> Result<Answers, IssueError> {
        let context = permit.context();
        let now = self.clock.now();
        let ids: Vec<IssuanceId> = requests
            .iter()
            .map(|_| IssuanceId(self.entropy.uuid_v7(now)))
            .collect();
        let items = requests.len();
        let mut former = self.former(context, idempotency, items).await?;
        let mut snapshot = self.policy.current();
        for _ in 0..DECISIONS_MAX {
            let origins: Vec<Origin<'_>> = match &former {
                Some(fact) => fact.iter().map(Origin::of).collect(),
                None => ids.iter().copied().map(Origin::New).collect(),
            };
            let round = self
                .round(context, requests, &origins, idempotency, &snapshot)
                .await?;
            match round {
                Round::Answered(answers) => return Ok(answers),
                Round::Stale(version) => snapshot = self.policy.at_least(version).await?,
                Round::KeyTaken => former = self.former(context, idempotency, items).await?,
            }
        }
        Err(IssueError::Unsettled)
    }

    /// What the idempotency key stands for, if it was used before; one entry for each of `items`
    /// requests.
    async fn former(
        &self,
        context: &Context,
        idempotency: Option<&Idempotency>,
        items: usize,
    ) -> Result<Option<Issuances>, IssueError> {
        let Some(idempotency) = idempotency else {
            return Ok(None);
        };
        let (claims, now) = (self.claims.as_ref(), self.clock.now());
        let former: Option<Issuances> = idempotency.former(&context.caller, claims, now).await?;
        // Facts and requests meet by their places; under a changed configuration other items of the
        // same body may be well formed.
        if former.as_ref().is_some_and(|fact| fact.len() != items) {
            return Err(IssueError::KeyReused);
        }
        Ok(former)
    }

    /// Decides and signs every item, then records them together.
    async fn round(
        &self,
        context: &Context,
        requests: &[AccessRequest],
        origins: &[Origin<'_>],
        idempotency: Option<&Idempotency>,
        snapshot: &Snapshot,
    ) -> Result<Round, IssueError> {
        let now = self.clock.now();
        let mut drafts = Vec::with_capacity(requests.len());
        for (request, origin) in requests.iter().zip(origins) {
            drafts.push(self.draft(context, request, origin, snapshot, now).await);
        }
        let claim = idempotency.and_then(|key| claim(key, context, origins, &drafts, now));
        self.settle(context, drafts, claim, snapshot.version(), now)
            .await
    }

    async fn draft(
        &self,
        context: &Context,
        request: &AccessRequest,
        origin: &Origin<'_>,
        snapshot: &Snapshot,
        now: OffsetDateTime,
    ) -> Draft {
        let moment = Moment {
            client: context.client,
            limits: &self.limits,
            now,
        };
        let request = &*origin.request(request);
        let decision = decide(&context.caller, request, snapshot, moment);
        let authorized = match &decision.verdict {
            Err(refusal) => return refused(request, refusal.clone(), &decision),
            Ok(authorized) => authorized,
        };
        let (id, window) = match origin {
            Origin::New(id) => (*id, None),
            Origin::Recorded(known)
                if known.window().expires_at > time_text::whole_seconds(now) =>
            {
                (known.id(), Some(known.window()))
            }
            Origin::Recorded(_) => return Draft::without_record(ItemError::ReplayTooLate),
            Origin::RefusedBefore => return Draft::without_record(ItemError::RefusedBefore),
        };
        match self.mint.mint(authorized, id, window, now).await {
            Ok(minted) => {
                let issued = minted.issued.clone();
                let action = match origin {
                    Origin::New(_) => Action::Issued(issued),
                    Origin::Recorded(_) | Origin::RefusedBefore => Action::Replayed(issued),
                };
                Draft {
                    action: Some(action),
                    outcome: Ok(minted),
                }
            }
            Err(error) => {
                warn!(account = %request.account, %error, "allowed, but not signed");
                Draft::without_record(error.into())
            }
        }
    }

    /// Records what was decided and releases it against the receipt.
    async fn settle(
        &self,
        context: &Context,
        drafts: Vec<Draft>,
        claim: Option<KeyClaim>,
        decided_on: i64,
        now: OffsetDateTime,
    ) -> Result<Round, IssueError> {
        let (mut actions, mut outcomes) = (Vec::new(), Vec::with_capacity(drafts.len()));
        for draft in drafts {
            actions.extend(draft.action);
            outcomes.push(draft.outcome);
        }
        let event = |action| AuditEvent {
            at: time_text::to_micros(now),
            actor: context.actor(),
            client: context.client,
            request_id: Some(context.request_id),
            action,
        };
        let mut events: Vec<AuditEvent> = actions.into_iter().map(event).collect();
        if let [Err(_)] = outcomes.as_slice() {
            // Nothing leaves, so no receipt is needed, and the refusal may fold with its equals.
            if let Some(event) = events.pop()
                && let RefusalOutcome::Stale { version } =
                    self.journal.refuse(event, decided_on).await?
            {
                return Ok(Round::Stale(version));
            }
            let errors = outcomes.into_iter().filter_map(Result::err);
            return Ok(Round::Answered(errors.map(Err).collect()));
        }
        match self
            .journal
            .record(Entry {
                events,
                decided_on,
                claim,
            })
            .await?
        {
            Outcome::Recorded(receipt) => {
                let release = |outcome: Result<Minted, ItemError>| Ok(record(outcome?, &receipt));
                Ok(Round::Answered(outcomes.into_iter().map(release).collect()))
            }
            Outcome::Stale { version } => Ok(Round::Stale(version)),
            Outcome::KeyTaken => Ok(Round::KeyTaken),
        }
    }
}

fn refused(request: &AccessRequest, refusal: Refusal, decision: &Decision) -> Draft {
    let reasons: Vec<String> = decision
        .considered
        .iter()
        .map(ToString::to_string)
        .collect();
    let action = Action::Refused(Refused {
        asked: request.asked(),
        code: refusal.code().as_str().to_owned(),
        reasons: std::iter::once(refusal.to_string())
            .chain(reasons.iter().cloned())
            .collect(),
        grants: refusal.grants(),
        policy_version: decision.policy_version,
    });
    let outcome = Err(ItemError::Refused(Box::new(RefusedItem {
        refusal,
        reasons,
    })));
    Draft {
        action: Some(action),
        outcome,
    }
}

/// The claim that is committed with the records of a first time: nothing where nothing was issued, nor
/// after an outage, which is no answer to keep.
fn claim(
    idempotency: &Idempotency,
    context: &Context,
    origins: &[Origin<'_>],
    drafts: &[Draft],
    now: OffsetDateTime,
) -> Option<KeyClaim> {
    let first = origins
        .iter()
        .all(|origin| matches!(origin, Origin::New(_)));
    let settled = drafts.iter().all(|draft| draft.action.is_some());
    let issued = drafts.iter().any(|draft| draft.outcome.is_ok());
    (first && settled && issued).then(|| {
        let remembered = |draft: &Draft| {
            let minted = draft.outcome.as_ref().ok()?;
            Some(Remembered::of(&minted.issued))
        };
        let fact: Issuances = drafts.iter().map(remembered).collect();
        idempotency.claim(&context.caller, &fact, now)
    })
}
