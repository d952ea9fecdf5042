//! A revocation against an ARM at a test's command, on a real database: what is recorded when, and
//! what a hung-up client, an unclear answer or a failing database change about it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        audit::{Head, Record},
        caller::{TokenVersion, forge, verify},
        change::plan,
        cloud::{Cloud, CloudName},
        document::PolicyDocument,
        ids::{GrantId, RequestId, WriterId},
        permit::AccessRules,
        rotation::{KeyName, observation::AccountFacts},
        snapshot::PolicyTable,
    },
    journal::Limits,
    ports::{
        AccountKey, ClaimKey, JournalReader, JournalStore, JournalTx, KeyClaim, PolicyStore,
        Purpose,
    },
    storage::{Store, StoreOptions},
    testing::{FakeClock, SeededEntropy},
};

const ACCOUNT: &str = "acct1";

/// Answers what it was told, when it is told.
#[derive(Default)]
struct Arm {
    calls: AtomicUsize,
    answer: Mutex<Option<OutsideError>>,
    /// Calls wait for `go` while this is set.
    slow: AtomicBool,
    go: Notify,
}

#[async_trait]
impl StorageAccounts for Arm {
    async fn look(&self, _: &Account) -> Result<AccountFacts, OutsideError> {
        panic!("nobody looks")
    }

    async fn key(&self, _: &Account, _: KeyName) -> Result<AccountKey, OutsideError> {
        panic!("nobody reads a key")
    }

    async fn regenerate_key(&self, _: &Account, _: KeyName) -> Result<(), OutsideError> {
        panic!("nobody regenerates")
    }

    fn wait(&self, _: &Account) -> Option<Duration> {
        None
    }

    async fn revoke_user_delegation_keys(&self, _: &Account) -> Result<(), OutsideError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.slow.load(Ordering::SeqCst) {
            self.go.notified().await;
        }
        self.answer.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

/// A database whose transactions cannot begin while it is down.
struct Shaky {
    store: Arc<Store>,
    down: AtomicBool,
}

#[async_trait]
impl JournalStore for Shaky {
    async fn begin(&self, purpose: Purpose) -> Result<Box<dyn JournalTx>, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down".to_owned()));
        }
        self.store.begin(purpose).await
    }

    async fn head(&self, writer: WriterId) -> Result<Option<Head>, StoreError> {
        JournalStore::head(self.store.as_ref(), writer).await
    }

    async fn newest_heads(&self, limit: usize) -> Result<Vec<Head>, StoreError> {
        self.store.newest_heads(limit).await
    }

    async fn claim(&self, key: &ClaimKey, now: i64) -> Result<Option<KeyClaim>, StoreError> {
        self.store.claim(key, now).await
    }

    async fn purge_claims(&self, now: i64, limit: usize) -> Result<usize, StoreError> {
        self.store.purge_claims(now, limit).await
    }
}

struct World {
    arm: Arc<Arm>,
    database: Arc<Shaky>,
    revoker: KeyRevoker,
    _dir: TempDir,
}

fn cloud() -> Cloud {
    CloudName::Public.well_known(vec![]).unwrap()
}

fn document() -> PolicyDocument {
    let account = |name: &str| {
        json!({
            "name": name,
            "tenant_id": Uuid::from_u128(1),
            "blob_endpoint": format!("https://{name}.blob.core.windows.net"),
            "signing_identity": "default",
        })
    };
    let mut managed = account(ACCOUNT);
    managed["resource_id"] = json!(format!(
        "/subscriptions/{}/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
        Uuid::from_u128(2)
    ));
    serde_json::from_value(json!({ "accounts": [managed, account("acct2")] })).unwrap()
}

impl World {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let url = format!("sqlite:{}", dir.path().join("broker.db").display());
        let store = Store::connect(&url, StoreOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let store = Arc::new(store);
        let database = Arc::new(Shaky {
            store: Arc::clone(&store),
            down: AtomicBool::new(false),
        });
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::at(forge::NOW));
        let journal = Arc::new(Journal::open(
            Arc::clone(&database) as Arc<dyn JournalStore>,
            Arc::clone(&clock),
            Arc::new(SeededEntropy::default()),
            Limits::default(),
        ));
        let table = PolicyTable::default();
        let changes = plan(&table, document(), &cloud(), || GrantId(Uuid::nil())).unwrap();
        let event = AuditEvent {
            at: 0,
            actor: crate::domain::audit::Actor::Broker,
            client: None,
            request_id: None,
            action: Action::PolicyChanged {
                policy_version: 0,
                changes: vec![],
            },
        };
        let based_on = store.version().await.unwrap();
        let changes = crate::domain::change::ChangeSet {
            based_on,
            ..changes
        };
        journal.change(event, changes).await.unwrap();
        let policy = PolicyCache::load(Arc::clone(&store) as Arc<dyn PolicyStore>, cloud());
        let arm = Arc::new(Arm::default());
        let revoker = KeyRevoker {
            policy: Arc::new(policy.await.unwrap()),
            arm: Arc::clone(&arm) as Arc<dyn StorageAccounts>,
            journal,
            clock,
            tasks: TaskTracker::new(),
        };
        Self {
            arm,
            database,
            revoker,
            _dir: dir,
        }
    }

    async fn revoke(&self, account: &str) -> Result<(), RevokeError> {
        let reason = Some("INC-1".parse().unwrap());
        let account = account.parse().unwrap();
        self.revoker.revoke(&permit(), &account, reason).await
    }

    fn answers(&self, error: OutsideError) {
        *self.arm.answer.lock().unwrap() = Some(error);
    }

    fn calls(&self) -> usize {
        self.arm.calls.load(Ordering::SeqCst)
    }

    async fn called(&self) {
        while self.calls() == 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn generation(&self) -> i64 {
        let table = self.database.store.load().await.unwrap();
        let generations: BTreeMap<_, _> = table.key_generations.into_iter().collect();
        assert!(generations.keys().all(|name| name.as_str() == ACCOUNT));
        generations.into_values().next().unwrap_or(0)
    }

    /// The outcomes that the journal tells, in order.
    async fn told(&self) -> Vec<StepOutcome> {
        let rows = self.database.store.rows(None, 100).await.unwrap();
        let outcome = |row: &crate::domain::audit::Row| {
            let event = Record::from_bytes(&row.body).unwrap().event;
            match event.action {
                Action::DelegationKeysRevoked {
                    account,
                    outcome,
                    reason,
                } => {
                    assert_eq!(account.as_str(), ACCOUNT);
                    assert_eq!(reason.as_deref(), Some("INC-1"));
                    assert_eq!(event.actor, permit().context().actor());
                    assert_eq!(event.request_id, Some(RequestId(Uuid::from_u128(9))));
                    Some(outcome)
                }
                _ => None,
            }
        };
        rows.iter().filter_map(outcome).collect()
    }
}

fn permit() -> Permit<RevokeDelegationKeys> {
    let claims = forge::claims_with("roles", json!(["SasBroker.Operator"]));
    let keys = forge::keys(forge::TENANT, TokenVersion::V2, &[&forge::FIRST]);
    let token = forge::FIRST.sign(&claims);
    let verified = verify(&token, &keys, &forge::policy(), forge::NOW).unwrap();
    let context = Context {
        caller: Arc::new(verified.caller),
        client: None,
        request_id: RequestId(Uuid::from_u128(9)),
    };
    let rules = AccessRules {
        administering_tenants: vec![forge::TENANT],
        ..AccessRules::default()
    };
    Permit::check(context, &rules).unwrap()
}

#[tokio::test]
async fn keys_are_dropped_before_azure_is_asked_and_again_after_it() {
    let world = World::new().await;
    world.arm.slow.store(true, Ordering::SeqCst);
    let meanwhile = async {
        world.called().await;
        assert_eq!(world.told().await, [StepOutcome::Intended]);
        assert_eq!(world.generation().await, 1);
        world.arm.go.notify_one();
    };
    let (revoked, ()) = tokio::join!(world.revoke(ACCOUNT), meanwhile);
    revoked.unwrap();
    assert_eq!(
        world.told().await,
        [StepOutcome::Intended, StepOutcome::Done]
    );
    assert_eq!(world.generation().await, 2);
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn what_azure_says_is_recorded_and_told() {
    let rows = [
        (OutsideError::Locked("x".into()), StepOutcome::Refused, 1),
        (OutsideError::Denied("x".into()), StepOutcome::Refused, 1),
        (
            OutsideError::Unavailable("x".into()),
            StepOutcome::Refused,
            1,
        ),
        (
            OutsideError::Throttled { retry_after: None },
            StepOutcome::Refused,
            1,
        ),
        // It may have taken place, so the keys are dropped as if it had.
        (OutsideError::Unclear("x".into()), StepOutcome::Unclear, 2),
    ];
    for (error, outcome, generation) in rows {
        let world = World::new().await;
        world.answers(error.clone());
        let told = world.revoke(ACCOUNT).await.unwrap_err();
        assert!(
            matches!(&told, RevokeError::Azure(told) if *told == error),
            "{told}"
        );
        assert_eq!(
            world.told().await,
            [StepOutcome::Intended, outcome],
            "{error}"
        );
        assert_eq!(world.generation().await, generation, "{error}");
        assert_eq!(world.calls(), 1, "never repeated by itself: {error}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_it() {
    let world = Arc::new(World::new().await);
    world.arm.slow.store(true, Ordering::SeqCst);
    let client = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.revoke(ACCOUNT).await })
    };
    world.called().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    world.arm.go.notify_one();
    world.revoker.tasks.close();
    world.revoker.tasks.wait().await;
    assert_eq!(
        world.told().await,
        [StepOutcome::Intended, StepOutcome::Done]
    );
}

#[tokio::test]
async fn nothing_is_asked_of_azure_that_is_not_announced() {
    let world = World::new().await;
    world.database.down.store(true, Ordering::SeqCst);
    let error = world.revoke(ACCOUNT).await.unwrap_err();
    assert!(matches!(error, RevokeError::NotAnnounced(_)), "{error}");
    world.database.down.store(false, Ordering::SeqCst);
    let unknown = world.revoke("acct9").await.unwrap_err();
    assert!(matches!(unknown, RevokeError::UnknownAccount), "{unknown}");
    let nameless = world.revoke("acct2").await.unwrap_err();
    assert!(matches!(nameless, RevokeError::NoResourceId), "{nameless}");
    assert_eq!((world.calls(), world.generation().await), (0, 0));
    assert!(world.told().await.is_empty());
}

#[tokio::test]
async fn an_outcome_is_recorded_when_the_database_is_back() {
    let world = World::new().await;
    world.arm.slow.store(true, Ordering::SeqCst);
    let outage = async {
        world.called().await;
        world.database.down.store(true, Ordering::SeqCst);
        world.arm.go.notify_one();
        while world.revoker.journal.healthy() {
            tokio::task::yield_now().await;
        }
        world.database.down.store(false, Ordering::SeqCst);
    };
    let (revoked, ()) = tokio::join!(world.revoke(ACCOUNT), outage);
    revoked.unwrap();
    assert_eq!(
        world.told().await,
        [StepOutcome::Intended, StepOutcome::Done]
    );
    assert_eq!((world.calls(), world.generation().await), (1, 2));
}
