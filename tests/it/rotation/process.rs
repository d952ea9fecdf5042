//! A broker's rotation as one process of its own: a runtime that can be dropped at any instant, with
//! everything that ran in it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration as StdDuration,
};

use sas_broker::{
    app::{policy::PolicyCache, rotate::Rotator, tenure::Tenure},
    domain::{
        account::Account,
        audit::{Action, Actor, AuditEvent, Record},
        change::ChangeSet,
        cloud::{Cloud, CloudName},
        ids::{RotationId, TenantId},
        rotation::{
            AccountStatus, KeyName, Rotation, RotationBatch, RotationState, RotationWrite, Trigger,
        },
        time_text::to_micros,
    },
    journal::{Enacted, Enactment, Journal},
    ports::{Clock, Entropy, JournalReader, PolicyStore, Rotations},
    scheduler::Scheduler,
    storage::{Store, StoreOptions},
};
use serde_json::json;
use tempfile::TempDir;
use time::Duration;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    azure::{Azure, Gate, Point, State},
    faults::{Call, Faults},
    faulty_store::FaultyStore,
};
use crate::journal_support::{Counting, StandingClock, limits};

const NAME: &str = "acct1";

/// How often the database is opened and closed until its log is gone.
const CLOSINGS_MAX: usize = 1_000;

/// What outlives every process: the database, Azure, and time.
pub(super) struct World {
    pub(super) clock: Arc<StandingClock>,
    pub(super) azure: Arc<Mutex<State>>,
    pub(super) faults: Arc<Faults>,
    dir: TempDir,
}

/// A moment of a world, to begin other histories from.
pub(super) struct Moment {
    now: time::OffsetDateTime,
    azure: State,
    database: Vec<u8>,
}

/// One process.
pub(super) struct Process {
    runtime: Runtime,
    scheduler: Arc<Scheduler>,
    pub(super) faults: Arc<Faults>,
    gate: Arc<Gate>,
}

/// A process that was frozen in the middle of a tick.
pub(super) struct Frozen {
    process: Process,
    tick: JoinHandle<()>,
}

fn account() -> Account {
    let account = json!({
        "name": NAME,
        "resource_id": "/subscriptions/60000000-0000-4000-8000-000000000001/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/acct1",
        "tenant_id": TenantId(Uuid::from_u128(1)),
        "blob_endpoint": "https://acct1.blob.core.windows.net",
        "signing_identity": "default",
        "rotation": {
            "vault": "https://kv1.vault.azure.net",
            "schedule": { "kind": "interval", "days": 30 },
            "deleted_secret": "recover",
        },
    });
    serde_json::from_value(account).unwrap()
}

fn cloud() -> Cloud {
    CloudName::Public.well_known(vec![]).unwrap()
}

/// Commits cost nothing there, and thousands of histories are played.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        TempDir::new_in(memory).unwrap()
    } else {
        TempDir::new().unwrap()
    }
}

pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl World {
    /// One account that nobody has looked at yet.
    pub(super) fn new() -> Self {
        let world = Self {
            clock: StandingClock::new(),
            azure: Arc::new(Mutex::new(State::new())),
            faults: Arc::default(),
            dir: directory(),
        };
        world.block_on(async |store| {
            store.migrate().await.unwrap();
            let event = AuditEvent {
                at: 0,
                actor: Actor::Broker,
                client: None,
                request_id: None,
                action: Action::PolicyChanged {
                    policy_version: 1,
                    changes: vec![],
                },
            };
            let changes = ChangeSet {
                put_accounts: vec![account()],
                ..ChangeSet::default()
            };
            let journal = world.journal(&store);
            journal.change(event, changes).await.unwrap();
            journal.close().await;
        });
        world
    }

    /// Nothing may be running: the last connection that closes puts everything into the one file. Two
    /// that close at once may each take the other for the last, so another one is opened and closed.
    pub(super) fn moment(&self) -> Moment {
        let log = self.database().with_extension("db-wal");
        for _ in 0..CLOSINGS_MAX {
            if !log.exists() {
                break;
            }
            self.block_on(async |store| drop(store.version().await));
        }
        assert!(!log.exists(), "somebody still has the database open");
        Moment {
            now: self.clock.now(),
            azure: self.azure.lock().unwrap().clone(),
            database: fs::read(self.database()).unwrap(),
        }
    }

    /// A world that begins at a moment of another, with a fault ahead.
    pub(super) fn from(moment: &Moment, faults: Faults) -> Self {
        let dir = directory();
        fs::write(dir.path().join("broker.db"), &moment.database).unwrap();
        let clock = StandingClock::new();
        clock.advance(StdDuration::try_from(moment.now - clock.now()).unwrap());
        Self {
            clock,
            azure: Arc::new(Mutex::new(moment.azure.clone())),
            faults: Arc::new(faults),
            dir,
        }
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("broker.db")
    }

    async fn store(&self) -> Arc<Store> {
        let url = format!("sqlite:{}", self.database().display());
        Arc::new(
            Store::connect(&url, StoreOptions { readers_max: 1 })
                .await
                .unwrap(),
        )
    }

    fn journal(&self, store: &Arc<Store>) -> Journal {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Journal::open(Arc::clone(store) as _, clock, Arc::new(Counting), limits())
    }

    /// Another process's look at the database.
    pub(super) fn block_on<T>(&self, work: impl AsyncFnOnce(Arc<Store>) -> T) -> T {
        runtime().block_on(async {
            let store = self.store().await;
            let done = work(Arc::clone(&store)).await;
            store.close().await;
            done
        })
    }

    /// `None` if it died at its start, or the database did not let it start.
    pub(super) fn process(&self) -> Option<Process> {
        self.process_with(&self.faults)
    }

    /// One whose calls are counted apart.
    pub(super) fn process_with(&self, faults: &Arc<Faults>) -> Option<Process> {
        let (runtime, gate) = (runtime(), Arc::<Gate>::default());
        let started = runtime.block_on(async {
            tokio::select! {
                rotator = self.rotator(faults, &gate) => Some(rotator),
                () = faults.died() => None,
            }
        });
        let rotator = Arc::new(started??);
        let tenure = Tenure::new(
            Arc::clone(&rotator.records),
            Arc::clone(&rotator.clock),
            &Counting as &dyn Entropy,
        );
        Some(Process {
            runtime,
            scheduler: Arc::new(Scheduler::new(rotator, Arc::new(tenure), None)),
            faults: Arc::clone(faults),
            gate,
        })
    }

    async fn rotator(&self, faults: &Arc<Faults>, gate: &Arc<Gate>) -> Option<Rotator> {
        let store = Arc::new(FaultyStore::new(self.store().await, faults));
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let entropy = Arc::new(Counting) as Arc<dyn Entropy>;
        let azure = Arc::new(Azure {
            state: Arc::clone(&self.azure),
            clock: Arc::clone(&self.clock),
            faults: Arc::clone(faults),
            gate: Arc::clone(gate),
            overlap: account().rotation.unwrap().overlap(),
        });
        let policy = PolicyCache::load(Arc::clone(&store) as _, cloud())
            .await
            .ok()?;
        let journal = Journal::open(
            Arc::clone(&store) as _,
            Arc::clone(&clock),
            Arc::clone(&entropy),
            limits(),
        );
        Some(Rotator {
            policy: Arc::new(policy),
            cloud: cloud(),
            accounts: Arc::clone(&azure) as _,
            vault: Arc::clone(&azure) as _,
            proof: azure,
            records: store,
            journal: Arc::new(journal),
            meter: Arc::new(()),
            clock,
            entropy,
        })
    }

    pub(super) fn status(&self) -> Option<AccountStatus> {
        self.block_on(async |store| store.status(&NAME.parse().unwrap()).await.unwrap())
    }

    /// All rotations, oldest first.
    pub(super) fn rotations(&self) -> Vec<Rotation> {
        self.block_on(async |store| {
            let name = NAME.parse().unwrap();
            let mut rotations = store.rotations(&name, None, 1_000).await.unwrap();
            rotations.reverse();
            rotations
        })
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.block_on(async |store| {
            let rows = store.rows(None, 100_000).await.unwrap();
            let record =
                |row: &sas_broker::domain::audit::Row| Record::from_bytes(&row.body).unwrap();
            rows.iter().map(record).collect()
        })
    }

    /// An operator asks, as the API does.
    pub(super) fn request(&self, trigger: Trigger, key: Option<KeyName>) -> RotationId {
        let id = RotationId(Counting.uuid_v7(self.clock.now()));
        let rotation = Rotation {
            id,
            account: NAME.parse().unwrap(),
            trigger,
            key,
            reason: Some("INC-1".to_owned()),
            requested_by: "test".to_owned(),
            requested_at: self.clock.now(),
            state: RotationState::Requested,
            detail: None,
            ended_at: None,
            steps: vec![],
        };
        let event = AuditEvent {
            at: to_micros(self.clock.now()),
            actor: Actor::Broker,
            client: None,
            request_id: None,
            action: Action::RotationOpened {
                account: rotation.account.clone(),
                rotation: id,
                trigger,
                key,
                reason: rotation.reason.clone(),
            },
        };
        let wake = RotationWrite::Wake {
            account: rotation.account.clone(),
            at: self.clock.now(),
        };
        self.azure.lock().unwrap().named = key;
        self.block_on(async |store| {
            let journal = self.journal(&store);
            let enactment = Enactment {
                events: vec![event],
                batch: RotationBatch {
                    fence: None,
                    writes: vec![RotationWrite::Open(rotation), wake],
                },
                decided_on: None,
                claim: None,
            };
            let enacted = journal.enact(enactment).await.unwrap();
            assert!(matches!(enacted, Enacted::Written(_)), "{enacted:?}");
            journal.close().await;
        });
        id
    }

    /// Lets time pass until the account is to be looked at again, a minute at least.
    pub(super) fn pass(&self) {
        let now = self.clock.now();
        let minute = now + Duration::minutes(1);
        let look_at = self.status().map_or(minute, |status| status.look_at);
        self.wait(look_at.max(minute) - now);
    }

    pub(super) fn wait(&self, time: Duration) {
        self.clock.advance(StdDuration::try_from(time).unwrap());
    }

    /// Whether the database holds this text anywhere.
    pub(super) fn database_holds(&self, text: &str) -> bool {
        let bytes = self.moment().database;
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }
}

impl Process {
    /// One tick; false if the process died in it.
    pub(super) fn tick(&self) -> bool {
        let stop = CancellationToken::new();
        self.runtime.block_on(async {
            tokio::select! {
                // A failing database is the next tick's business.
                ticked = self.scheduler.tick(&stop) => { drop(ticked); true }
                () = self.faults.died() => false,
            }
        })
    }

    /// Begins a tick and freezes the whole process at a point of it.
    pub(super) fn freeze(self, point: Point) -> Frozen {
        self.gate.shut(point);
        let scheduler = Arc::clone(&self.scheduler);
        let mut tick = self.runtime.spawn(async move {
            drop(scheduler.tick(&CancellationToken::new()).await);
        });
        self.runtime.block_on(async {
            tokio::select! {
                () = self.gate.reached() => {}
                _ = &mut tick => panic!("the tick ended before {point:?}"),
            }
        });
        Frozen {
            process: self,
            tick,
        }
    }

    /// Outside mutations that it has sent.
    pub(super) fn mutations(&self) -> usize {
        let calls = self.faults.calls();
        calls.iter().filter(|call| **call == Call::Mutation).count()
    }
}

impl Frozen {
    /// It wakes up, and goes on with its tick to the end.
    pub(super) fn wake(self) -> Process {
        self.process.gate.open();
        self.process.runtime.block_on(self.tick).unwrap();
        self.process
    }
}
