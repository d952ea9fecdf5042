//! The audit journal's one writer in this process. What waits is recorded by groups: one
//! transaction for all, and their answers leave after its commit. A commit costs a disk's flush
//! whatever it holds, so throughput grows with the load instead of ending at it.
//!
//! The same transaction reads the role table's version. What was decided on another one is not
//! recorded but given back as stale, to be decided again: so a committed revocation is final on
//! every replica at once.
//!
//! [`Receipt`] is the proof of a record, and only this room can make one. Next to read: `writer`,
//! the task behind [`Journal`]; then `group`, `fold` and [`follower`].

mod fold;
pub mod follower;
mod group;
mod writer;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    fold::FoldKey,
    group::{Edit, Effect, Message, Reply, Waiting, Work},
    writer::Writer,
};
use crate::{
    domain::{
        audit::AuditEvent, change::ChangeSet, ids::WriterId, rotation::RotationBatch, time_text,
    },
    ports::{Clock, Entropy, JournalStore, KeyClaim},
};

/// Most events of one entry: the largest batch request.
pub const ENTRY_EVENTS_MAX: usize = 1_000;

/// Bounds of the writer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most entries that wait; one more is refused at once. At the rate of a fast disk that is a
    /// fraction of a second.
    pub queue_max: usize,
    /// Events after which a group takes no further entry: a transaction of a few milliseconds.
    pub group_events: usize,
    /// Longest that a group's transaction may take before its commit.
    pub transaction_timeout: Duration,
    /// Longest that a change of the role table may take before its commit; nothing is recorded
    /// meanwhile.
    pub change_timeout: Duration,
    /// Longest wait for a commit, and then again for news of it.
    pub commit_timeout: Duration,
    /// How old the oldest waiting entry may be before the process calls itself not ready.
    pub lag_max: Duration,
    /// For how long equal refusals fold into one record.
    pub fold_window: Duration,
    /// Most refusals that are being folded at a time, at one to two KiB each.
    pub folds_max: usize,
    /// How often ended folds and a broken database are looked after.
    pub tick: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_max: 8_192,
            group_events: 1_024,
            transaction_timeout: Duration::from_secs(5),
            change_timeout: Duration::from_secs(30),
            commit_timeout: Duration::from_secs(5),
            lag_max: Duration::from_secs(5),
            fold_window: Duration::from_secs(60),
            folds_max: 10_000,
            tick: Duration::from_secs(1),
        }
    }
}

/// Events that stand or fall together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// At most [`ENTRY_EVENTS_MAX`]; without any, only the version is compared.
    pub events: Vec<AuditEvent>,
    /// The role table's version that they were decided on.
    pub decided_on: i64,
    /// The idempotency key that is taken with them.
    pub claim: Option<KeyClaim>,
}

/// A batch of writes about rotations, with its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enactment {
    /// What is recorded; a look that shows nothing new needs no record.
    pub events: Vec<AuditEvent>,
    /// What is written with it.
    pub batch: RotationBatch,
    /// The role table's version that it was decided on, where it must not have changed since.
    pub decided_on: Option<i64>,
    /// The idempotency key that is taken with it.
    pub claim: Option<KeyClaim>,
}

/// The proof that an entry is recorded, durably.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    writer: WriterId,
    first: i64,
    count: usize,
    at: i64,
}

impl Receipt {
    /// Whose chain holds it.
    #[must_use]
    pub const fn writer(&self) -> WriterId {
        self.writer
    }

    /// Sequence number of its first event there; the others follow.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        self.first
    }

    /// How many events it covers.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// When it was recorded, in Unix microseconds.
    #[must_use]
    pub const fn at(&self) -> i64 {
        self.at
    }
}

/// What became of an entry or a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is recorded, and a change is made; what it stands for may be released.
    Recorded(Receipt),
    /// The role table has moved on. Nothing is recorded: decide again.
    Stale {
        /// The version that counts now.
        version: i64,
    },
    /// Another request holds the idempotency key. Nothing is recorded: read its claim.
    KeyTaken,
}

/// What became of a batch of writes about rotations.
#[derive(Debug, PartialEq, Eq)]
pub enum Enacted {
    /// It is written and recorded.
    Written(Receipt),
    /// The role table has moved on. Nothing is written: decide again.
    Stale {
        /// The version that counts now.
        version: i64,
    },
    /// Another request holds the idempotency key. Nothing is written: read its claim.
    KeyTaken,
    /// The lease is another's now, a rotation that it opens is open already, or a story that it goes
    /// on with has moved on. Nothing is written: look again.
    Refused,
}

/// What became of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum RefusalOutcome {
    /// It has a record of its own.
    Recorded(Receipt),
    /// It repeats one that is recorded; their number will be.
    Folded,
    /// The role table has moved on. Nothing is recorded: decide again.
    Stale {
        /// The version that counts now.
        version: i64,
    },
}

/// Why nothing can be said to be recorded. Details are in the log, once for each failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Too many entries wait already.
    #[error("the audit journal is overloaded")]
    Full,
    /// The database did not take it: nothing is recorded.
    #[error("the audit journal is unavailable")]
    Unavailable,
    /// The commit was not confirmed, and a second look did not find it.
    #[error("the audit journal did not confirm the record")]
    Unclear,
    /// The process is ending.
    #[error("the audit journal is closed")]
    Closed,
    /// Too much at once, or a key that would stand for nothing.
    #[error("an audit entry must hold at most 1,000 events, and one at least to take a key")]
    Size,
}

/// What the handle and the task both know.
#[derive(Debug, Default)]
struct Shared {
    /// When the oldest entry of the group at work was handed in, in Unix microseconds; 0 if idle.
    busy_since: AtomicI64,
    /// The last thing tried on the database failed.
    failing: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A handle to the writer; clones share it.
#[derive(Clone)]
pub struct Journal {
    inbox: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Starts the writer. Nothing is written before the first record, which also opens a new chain.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn open(
        store: Arc<dyn JournalStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
    ) -> Self {
        let (sender, inbox) = mpsc::channel(limits.queue_max);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(
            store,
            Arc::clone(&clock),
            entropy,
            limits,
            Arc::clone(&shared),
        );
        shared.tasks.spawn(writer.run(inbox));
        shared.tasks.close();
        Self {
            inbox: sender,
            shared,
            clock,
            limits,
        }
    }

    /// Records an entry: when this returns [`Outcome::Recorded`], it is durable.
    ///
    /// # Errors
    /// [`JournalError`]; then what the entry stands for must not be released.
    pub async fn record(&self, entry: Entry) -> Result<Outcome, JournalError> {
        let too_few = entry.claim.is_some() && entry.events.is_empty();
        if too_few || entry.events.len() > ENTRY_EVENTS_MAX {
            return Err(JournalError::Size);
        }
        let (reply, answer) = oneshot::channel();
        self.send(Message::Entry(Waiting {
            since: self.now(),
            events: entry.events,
            decided_on: entry.decided_on,
            claim: entry.claim,
            fold: None,
            reply: Reply::Entry(reply),
        }))?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Records a refusal of an authenticated caller that was decided on version `decided_on`, or
    /// counts it with an equal one of the last minute: nobody may fill the disk by asking in vain.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn refuse(
        &self,
        event: AuditEvent,
        decided_on: i64,
    ) -> Result<RefusalOutcome, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Entry(Waiting {
            since: self.now(),
            fold: FoldKey::of(&event),
            events: vec![event],
            decided_on,
            claim: None,
            reply: Reply::Refusal(reply),
        }))?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Changes the role table and records it, in one transaction; [`Outcome::Stale`] if the table
    /// is not at the version that the change was planned against. `event` is a
    /// [`PolicyChanged`](crate::domain::audit::Action::PolicyChanged); its `policy_version` becomes
    /// the version that the change made.
    ///
    /// # Errors
    /// [`JournalError`]; after [`JournalError::Unclear`] the change may have been made.
    pub async fn change(
        &self,
        event: AuditEvent,
        changes: ChangeSet,
    ) -> Result<Outcome, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Edit(Box::new(Edit {
            since: self.now(),
            work: Work {
                events: vec![event],
                decided_on: Some(changes.based_on),
                effect: Effect::Change(changes),
                claim: None,
            },
            reply,
        })))?;
        let verdict = answer.await.unwrap_or(Err(JournalError::Closed));
        verdict?.into_outcome()
    }

    /// Writes about rotations and records it, in one transaction of its own: either all of it is
    /// durable or nothing.
    ///
    /// # Errors
    /// [`JournalError`]; after [`JournalError::Unclear`] it may have been written.
    pub async fn enact(&self, enactment: Enactment) -> Result<Enacted, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Edit(Box::new(Edit {
            since: self.now(),
            work: Work {
                events: enactment.events,
                effect: Effect::Rotate(enactment.batch),
                decided_on: enactment.decided_on,
                claim: enactment.claim,
            },
            reply,
        })))?;
        let verdict = answer.await.unwrap_or(Err(JournalError::Closed));
        verdict?.into_enacted()
    }

    /// How long the oldest unanswered entry has waited.
    #[must_use]
    pub fn lag(&self) -> Duration {
        match self.shared.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(u64::try_from(self.now() - since).unwrap_or(0)),
        }
    }

    /// Whether records can be expected to succeed: the last attempt did, nothing has waited longer
    /// than [`Limits::lag_max`], and the writer has not ended. A failing database is tried again
    /// every [`Limits::tick`].
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.inbox.is_closed()
            && !self.shared.failing.load(Ordering::Relaxed)
            && self.lag() <= self.limits.lag_max
    }

    /// Refuses new entries, records those that wait and the counts of open folds, and ends.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.wait().await;
    }

    fn now(&self) -> i64 {
        time_text::to_micros(self.clock.now())
    }

    fn send(&self, message: Message) -> Result<(), JournalError> {
        self.inbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => JournalError::Full,
            TrySendError::Closed(_) => JournalError::Closed,
        })
    }
}
