//! What the tests of rotation's tables share: a world of one process, and stories to write in it.

use std::{sync::Arc, time::Duration};

use sas_broker::{
    domain::{
        audit::{Action, Actor, AuditEvent, Record},
        ids::{AccountName, RotationId},
        rotation::{
            AccountStatus, CreationTime, Fence, KeyName, Rotation, RotationBatch, RotationState,
            RotationStep, RotationWrite, State, StepKind, StepOutcome, Trigger,
        },
        time_text,
    },
    journal::{Enacted, Enactment, Journal},
    ports::{JournalReader, Lease, Rotations},
    storage::Store,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    journal_support::{StandingClock, open},
    storage_database::Database,
};

pub(crate) const TTL: Duration = Duration::from_secs(90);
pub(crate) const HANDOVER: Duration = Duration::from_secs(60);

/// One process with its connections and its journal.
pub(crate) struct Process {
    pub(crate) store: Arc<Store>,
    pub(crate) journal: Journal,
    pub(crate) id: Uuid,
}

impl Process {
    pub(crate) async fn start(db: &Database, id: u128) -> Self {
        let store = Arc::new(db.store().await);
        Self {
            journal: open(store.clone(), &StandingClock::new()),
            store,
            id: Uuid::from_u128(id),
        }
    }

    pub(crate) async fn lease(&self, held: Option<Fence>, now: i64) -> Option<Lease> {
        let lease = self.store.lease(self.id, held, at(now), TTL, HANDOVER);
        lease.await.unwrap()
    }

    /// Writes a batch with one record.
    pub(crate) async fn enact(&self, fence: Option<Fence>, writes: Vec<RotationWrite>) -> Enacted {
        let enactment = enactment(fence, writes);
        self.journal.enact(enactment).await.unwrap()
    }

    pub(crate) async fn write(&self, writes: Vec<RotationWrite>) {
        let enacted = self.enact(None, writes).await;
        assert!(matches!(enacted, Enacted::Written(_)), "{enacted:?}");
    }

    pub(crate) async fn one(&self, rotation: &Rotation) -> Rotation {
        let found = self.store.rotation(&rotation.account, rotation.id).await;
        found.unwrap().unwrap()
    }

    pub(crate) async fn records(&self) -> Vec<Record> {
        let rows = self.store.rows(None, 1_000).await.unwrap();
        rows.iter()
            .map(|row| Record::from_bytes(&row.body).unwrap())
            .collect()
    }
}

pub(crate) fn enactment(fence: Option<Fence>, writes: Vec<RotationWrite>) -> Enactment {
    let event = AuditEvent {
        at: 0,
        actor: Actor::Broker,
        client: None,
        request_id: None,
        action: Action::RotationOpened {
            account: account("acct1"),
            rotation: id(1),
            trigger: Trigger::Schedule,
            key: None,
            reason: None,
        },
    };
    Enactment {
        events: vec![event],
        batch: RotationBatch { fence, writes },
        decided_on: None,
        claim: None,
    }
}

/// Seconds after some day in 2026, and a microsecond, which must not get lost.
pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    time_text::from_micros(1_795_428_000_000_001 + seconds * 1_000_000).unwrap()
}

pub(crate) fn account(name: &str) -> AccountName {
    name.parse().unwrap()
}

/// Ids that grow with their number, as those of rotations do with time.
pub(crate) fn id(number: u128) -> RotationId {
    RotationId(Uuid::from_u128(
        0x0198_0000_0000_7000_8000_0000_0000_0000 + number,
    ))
}

pub(crate) fn rotation(number: u128, name: &str, trigger: Trigger) -> Rotation {
    Rotation {
        id: id(number),
        account: account(name),
        trigger,
        key: None,
        reason: None,
        requested_by: "broker".into(),
        requested_at: at(0),
        state: RotationState::Requested,
        detail: None,
        ended_at: None,
        steps: vec![],
    }
}

pub(crate) fn break_glass(number: u128, name: &str, key: KeyName) -> Rotation {
    Rotation {
        key: Some(key),
        reason: Some("INC-4711: in a public repository".into()),
        ..rotation(number, name, Trigger::BreakGlass)
    }
}

/// An intent.
pub(crate) fn step(seq: i64, kind: StepKind, key: KeyName, since: i64) -> RotationStep {
    RotationStep {
        seq,
        kind,
        key: Some(key),
        created_before: None,
        version: None,
        started_at: at(since),
        ended_at: None,
        outcome: StepOutcome::Intended,
        detail: None,
    }
}

pub(crate) fn regenerate(seq: i64, key: KeyName, created_before: &str, since: i64) -> RotationStep {
    RotationStep {
        created_before: Some(CreationTime::new(created_before)),
        ..step(seq, StepKind::Regenerate, key, since)
    }
}

pub(crate) fn intend(number: u128, step: RotationStep) -> RotationWrite {
    RotationWrite::Intend {
        rotation: id(number),
        step,
    }
}

pub(crate) fn conclude(number: u128, seq: i64, outcome: StepOutcome, when: i64) -> RotationWrite {
    RotationWrite::Conclude {
        rotation: id(number),
        seq,
        outcome,
        version: None,
        detail: None,
        at: at(when),
    }
}

pub(crate) fn end(number: u128, when: i64) -> RotationWrite {
    RotationWrite::End {
        rotation: id(number),
        state: RotationState::Succeeded,
        detail: "published".into(),
        at: at(when),
    }
}

pub(crate) fn status(name: &str, looked: i64, look: i64) -> AccountStatus {
    AccountStatus {
        account: account(name),
        state: State::Fresh,
        reasons: vec!["nothing is due".into(), "\"quoted\" and ümläutet".into()],
        looked_at: at(looked),
        look_at: at(look),
        published: None,
        due_at: None,
        failures: 0,
        overdue_told: None,
    }
}
