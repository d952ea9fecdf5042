//! What one transaction of the journal is made of: the entries that came in, their verdicts, and
//! the page of rows that they become.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Enacted, JournalError, Outcome, Receipt, RefusalOutcome, fold::FoldKey};
use crate::{
    domain::{
        audit::{Action, Actor, AuditEvent, Chain, Head, Refused, Row},
        change::ChangeSet,
        rotation::RotationBatch,
    },
    ports::{JournalTx, KeyClaim, Purpose, StoreError},
};

pub(super) enum Message {
    Entry(Waiting),
    Edit(Box<Edit>),
}

/// An entry and who waits for it.
pub(super) struct Waiting {
    /// When it was handed in, in Unix microseconds.
    pub(super) since: i64,
    pub(super) events: Vec<AuditEvent>,
    pub(super) decided_on: i64,
    pub(super) claim: Option<KeyClaim>,
    /// What it would fold with.
    pub(super) fold: Option<Arc<FoldKey>>,
    pub(super) reply: Reply,
}

pub(super) enum Reply {
    Entry(oneshot::Sender<Result<Outcome, JournalError>>),
    Refusal(oneshot::Sender<Result<RefusalOutcome, JournalError>>),
}

pub(super) struct Edit {
    pub(super) since: i64,
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Verdict, JournalError>>,
}

/// What an edit records and writes, all or nothing.
pub(super) struct Work {
    pub(super) events: Vec<AuditEvent>,
    pub(super) effect: Effect,
    /// The role table's version that it must meet.
    pub(super) decided_on: Option<i64>,
    pub(super) claim: Option<KeyClaim>,
}

/// What an edit writes besides its records.
pub(super) enum Effect {
    Change(ChangeSet),
    Rotate(RotationBatch),
}

impl Effect {
    /// What the transaction is begun for. A batch that drops delegation keys changes the role table.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Change(_) => Purpose::Change,
            Self::Rotate(batch) if batch.raises_policy_version() => Purpose::Change,
            Self::Rotate(_) => Purpose::Record,
        }
    }
}

/// What becomes of one entry of a group, if the commit succeeds.
pub(super) enum Verdict {
    Record,
    Recorded(Receipt),
    Folded,
    Stale(i64),
    KeyTaken,
    Refused,
}

/// A transaction that lacks only its commit.
pub(super) struct Staged {
    pub(super) tx: Box<dyn JournalTx>,
    /// The chain as it stands after it; `None` if there is nothing to commit.
    pub(super) chain: Option<Chain>,
    pub(super) verdicts: Vec<Verdict>,
    /// Refusals that others may fold into from then on.
    pub(super) opened: Vec<(Arc<FoldKey>, Actor, Refused)>,
}

impl Staged {
    pub(super) fn without_rows(tx: Box<dyn JournalTx>, verdicts: Vec<Verdict>) -> Self {
        Self {
            tx,
            chain: None,
            verdicts,
            opened: vec![],
        }
    }
}

/// Rows of one transaction and the chain as it stands after them.
pub(super) struct Page {
    pub(super) chain: Chain,
    pub(super) rows: Vec<Row>,
}

impl Page {
    pub(super) const fn new(chain: Chain) -> Self {
        Self {
            chain,
            rows: Vec::new(),
        }
    }

    /// Begins a chain that has no record yet by naming the others' heads.
    pub(super) fn open(&mut self, heads: Vec<Head>, now: i64) {
        if self.chain.head().seq == 0 {
            self.put(AuditEvent {
                at: now,
                actor: Actor::Broker,
                client: None,
                request_id: None,
                action: Action::ChainOpened {
                    heads,
                    build: env!("CARGO_PKG_VERSION").to_owned(),
                },
            });
        }
    }

    pub(super) fn put(&mut self, event: AuditEvent) {
        let (chain, row) = self.chain.append(event);
        self.chain = chain;
        self.rows.push(row);
    }

    /// The only place where a receipt is made. It leaves this room after the commit.
    pub(super) fn put_all(&mut self, events: Vec<AuditEvent>, now: i64) -> Receipt {
        let receipt = Receipt {
            writer: self.chain.head().writer,
            first: self.chain.head().seq + 1,
            count: events.len(),
            at: now,
        };
        events.into_iter().for_each(|event| self.put(event));
        receipt
    }
}

impl Verdict {
    /// The last arm is for verdicts that such an entry never gets; there as everywhere, not knowing
    /// means not releasing.
    pub(super) fn into_outcome(self) -> Result<Outcome, JournalError> {
        match self {
            Self::Recorded(receipt) => Ok(Outcome::Recorded(receipt)),
            Self::Stale(version) => Ok(Outcome::Stale { version }),
            Self::KeyTaken => Ok(Outcome::KeyTaken),
            Self::Record | Self::Folded | Self::Refused => Err(JournalError::Unavailable),
        }
    }

    pub(super) fn into_enacted(self) -> Result<Enacted, JournalError> {
        match self {
            Self::Recorded(receipt) => Ok(Enacted::Written(receipt)),
            Self::Stale(version) => Ok(Enacted::Stale { version }),
            Self::KeyTaken => Ok(Enacted::KeyTaken),
            Self::Refused => Ok(Enacted::Refused),
            Self::Record | Self::Folded => Err(JournalError::Unavailable),
        }
    }

    fn into_refusal_outcome(self) -> Result<RefusalOutcome, JournalError> {
        match self {
            Self::Recorded(receipt) => Ok(RefusalOutcome::Recorded(receipt)),
            Self::Stale(version) => Ok(RefusalOutcome::Stale { version }),
            Self::Folded => Ok(RefusalOutcome::Folded),
            Self::Record | Self::KeyTaken | Self::Refused => Err(JournalError::Unavailable),
        }
    }
}

impl Reply {
    /// Whoever has stopped waiting needs no answer.
    pub(super) fn verdict(self, verdict: Verdict) {
        match self {
            Self::Entry(reply) => drop(reply.send(verdict.into_outcome())),
            Self::Refusal(reply) => drop(reply.send(verdict.into_refusal_outcome())),
        }
    }

    pub(super) fn failure(self, error: JournalError) {
        match self {
            Self::Entry(reply) => drop(reply.send(Err(error))),
            Self::Refusal(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Takes the group's idempotency keys, in the order of keys: two replicas that took the same two in
/// different orders would wait for each other.
pub(super) async fn take_keys(
    tx: &mut dyn JournalTx,
    group: &[Waiting],
    verdicts: &mut [Verdict],
    now: i64,
) -> Result<(), StoreError> {
    let mut claims: Vec<_> = group
        .iter()
        .zip(verdicts)
        .filter(|(_, verdict)| matches!(verdict, Verdict::Record))
        .filter_map(|(entry, verdict)| Some((entry.claim.as_ref()?, verdict)))
        .collect();
    claims.sort_by(|(a, _), (b, _)| {
        let key = |claim: &KeyClaim| (claim.tenant_id, claim.object_id);
        (key(a), &a.key).cmp(&(key(b), &b.key))
    });
    for (claim, verdict) in claims {
        if !tx.claim(claim, now).await? {
            *verdict = Verdict::KeyTaken;
        }
    }
    Ok(())
}
