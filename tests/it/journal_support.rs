//! What the journal's tests share: a clock that they set, events, and a store that fails on demand.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sas_broker::{
    domain::{
        audit::{Action, Actor, Asked, AuditEvent, Head, Issued, Refused, Row},
        change::ChangeSet,
        grant::Role,
        ids::{IssuanceId, ObjectId, TenantId, WriterId},
        permission::{PermissionSet, SignedResource},
        rotation::RotationBatch,
        time_text,
    },
    journal::{Entry, Journal, Limits},
    ports::{ClaimKey, Clock, Entropy, JournalStore, JournalTx, KeyClaim, Purpose, StoreError},
};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) const TENANT: TenantId = TenantId(Uuid::from_u128(1));
pub(crate) const SOMEBODY: ObjectId = ObjectId(Uuid::from_u128(2));

/// 2026-11-23T10:00:00Z, in Unix microseconds.
const START: i64 = 1_795_428_000_000_000;

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct StandingClock(AtomicI64);

impl StandingClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(START)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn micros(&self) -> i64 {
        time_text::to_micros(self.now())
    }
}

impl Clock for StandingClock {
    fn now(&self) -> OffsetDateTime {
        time_text::from_micros(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// Never the same twice in a process.
#[derive(Debug)]
pub(crate) struct Counting;

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let from_the_end = bytes.iter_mut().rev().zip(next);
        from_the_end.for_each(|(byte, next)| *byte = next);
    }
}

/// Bounds that let tests end soon.
pub(crate) fn limits() -> Limits {
    Limits {
        commit_timeout: Duration::from_secs(1),
        tick: Duration::from_millis(20),
        ..Limits::default()
    }
}

pub(crate) fn open(store: Arc<dyn JournalStore>, clock: &Arc<StandingClock>) -> Journal {
    open_with(store, clock, limits())
}

pub(crate) fn open_with(
    store: Arc<dyn JournalStore>,
    clock: &Arc<StandingClock>,
    limits: Limits,
) -> Journal {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Journal::open(store, clock, Arc::new(Counting), limits)
}

fn caller(object_id: ObjectId) -> Actor {
    Actor::Caller {
        tenant_id: TENANT,
        object_id,
        app_id: None,
        token_id: None,
    }
}

pub(crate) fn asked(container: &str) -> Asked {
    Asked {
        account: "acct1".parse().unwrap(),
        container: container.parse().unwrap(),
        path: None,
        resource: SignedResource::Container,
        permissions: PermissionSet::of(b"rl"),
    }
}

/// A token given out, told apart from others by its id.
pub(crate) fn issued(id: u128, policy_version: i64) -> AuditEvent {
    let at = time_text::from_micros(START).unwrap();
    AuditEvent {
        at: START + i64::try_from(id).unwrap(),
        actor: caller(SOMEBODY),
        client: Some("203.0.113.7".parse().unwrap()),
        request_id: None,
        action: Action::Issued(Issued {
            id: IssuanceId(Uuid::from_u128(id)),
            asked: asked("raw"),
            starts_at: at,
            expires_at: at + Duration::from_secs(900),
            ip: None,
            bound_to: None,
            service_version: "2025-11-05".into(),
            signed_by: SOMEBODY,
            signature_sha256: format!("{id:064x}"),
            bounded_by: vec![],
            grants: vec![],
            policy_version,
        }),
    }
}

pub(crate) fn refused(object_id: u128, at: i64, policy_version: i64) -> AuditEvent {
    AuditEvent {
        at,
        actor: caller(ObjectId(Uuid::from_u128(object_id))),
        client: None,
        request_id: None,
        action: Action::Refused(Refused {
            asked: asked("raw"),
            code: "no-grant".into(),
            reasons: vec![],
            grants: vec![],
            policy_version,
        }),
    }
}

pub(crate) fn entry(id: u128, decided_on: i64) -> Entry {
    Entry {
        events: vec![issued(id, decided_on)],
        decided_on,
        claim: None,
    }
}

pub(crate) fn with_key(mut entry: Entry, key: &str, expires_at: i64) -> Entry {
    entry.claim = Some(KeyClaim {
        tenant_id: TENANT,
        object_id: SOMEBODY,
        key: key.parse().unwrap(),
        body_sha256: [1; 32],
        fact: "[]".into(),
        expires_at,
    });
    entry
}

pub(crate) fn role_change(based_on: i64) -> (AuditEvent, ChangeSet) {
    let event = AuditEvent {
        at: START,
        actor: Actor::Console {
            name: "console:0@test".into(),
        },
        client: None,
        request_id: None,
        action: Action::PolicyChanged {
            policy_version: based_on + 1,
            changes: vec!["role curator".into()],
        },
    };
    let role = Role {
        name: "curator".parse().unwrap(),
        permissions: PermissionSet::of(b"r"),
        lifetime_seconds_max: None,
        bind_to_caller: false,
        require_ip: false,
    };
    let changes = ChangeSet {
        based_on,
        put_roles: vec![role],
        ..ChangeSet::default()
    };
    (event, changes)
}

/// What goes wrong, once, at the next opportunity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Begin,
    Append,
    /// The commit happens, its confirmation is lost.
    CommitLandsUnclear,
    /// The commit does not happen, and no answer comes.
    CommitHangs,
    /// The commit does not happen, with an error.
    CommitFails,
}

/// A real store that counts, can be held shut, and fails on demand.
pub(crate) struct Faulty {
    inner: Arc<dyn JournalStore>,
    shared: Arc<FaultyShared>,
    pub(crate) head_unreadable: Mutex<bool>,
    /// Whoever holds its one permit lets nobody begin.
    pub(crate) gate: Semaphore,
}

#[derive(Default)]
struct FaultyShared {
    fault: Mutex<Option<Fault>>,
    commits: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn JournalStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            shared: Arc::default(),
            head_unreadable: Mutex::new(false),
            gate: Semaphore::new(1),
        })
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
    }

    pub(crate) fn commits(&self) -> usize {
        self.shared.commits.load(Ordering::Relaxed)
    }
}

impl FaultyShared {
    /// Takes the fault if it is this one.
    fn takes(&self, fault: Fault) -> bool {
        let mut next = self.fault.lock().unwrap();
        let hit = *next == Some(fault);
        if hit {
            *next = None;
        }
        hit
    }
}

fn broken() -> StoreError {
    StoreError::Unavailable("broken on purpose".into())
}

#[async_trait]
impl JournalStore for Faulty {
    async fn begin(&self, purpose: Purpose) -> Result<Box<dyn JournalTx>, StoreError> {
        drop(self.gate.acquire().await.unwrap());
        if self.shared.takes(Fault::Begin) {
            return Err(broken());
        }
        Ok(Box::new(FaultyTx {
            inner: self.inner.begin(purpose).await?,
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError> {
        if *self.head_unreadable.lock().unwrap() {
            return Err(broken());
        }
        self.inner.head(writer).await
    }

    async fn newest_heads(&self, limit: usize) -> Result<Vec<Head>, StoreError> {
        self.inner.newest_heads(limit).await
    }

    async fn claim(&self, key: &ClaimKey, now: i64) -> Result<Option<KeyClaim>, StoreError> {
        self.inner.claim(key, now).await
    }

    async fn purge_claims(&self, now: i64, limit: usize) -> Result<usize, StoreError> {
        self.inner.purge_claims(now, limit).await
    }
}

struct FaultyTx {
    inner: Box<dyn JournalTx>,
    shared: Arc<FaultyShared>,
}

#[async_trait]
impl JournalTx for FaultyTx {
    async fn policy_version(&mut self) -> Result<i64, StoreError> {
        self.inner.policy_version().await
    }

    async fn claim(&mut self, claim: &KeyClaim, now: i64) -> Result<bool, StoreError> {
        self.inner.claim(claim, now).await
    }

    async fn change(&mut self, changes: &ChangeSet, by: &str, at: i64) -> Result<i64, StoreError> {
        self.inner.change(changes, by, at).await
    }

    async fn rotate(&mut self, batch: &RotationBatch, at: i64) -> Result<bool, StoreError> {
        self.inner.rotate(batch, at).await
    }

    async fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        if self.shared.takes(Fault::Append) {
            return Err(broken());
        }
        self.inner.append(rows).await
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let unclear = || StoreError::Unclear("broken on purpose".into());
        if self.shared.takes(Fault::CommitFails) {
            return Err(unclear());
        }
        if self.shared.takes(Fault::CommitHangs) {
            std::future::pending::<()>().await;
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit().await?;
        if self.shared.takes(Fault::CommitLandsUnclear) {
            return Err(unclear());
        }
        Ok(())
    }

    async fn abandon(self: Box<Self>) -> Result<(), StoreError> {
        self.inner.abandon().await
    }
}
