//! The storage adapters, on both engines: what goes in comes out, and the locks hold.

use sas_broker::{
    domain::{
        account::Account,
        audit::{Action, Actor, AuditEvent, Chain},
        change::ChangeSet,
        grant::{Conditions, Effect, Grant, Principal, Provenance, Role, Scope},
        ids::{GrantId, ObjectId, TenantId, WriterId},
        permission::PermissionSet,
        rotation::{
            DeletedSecret, KeyName, ProofPolicy, RotationPolicy, SecretForm,
            schedule::{MaintenanceWindow, Schedule},
        },
    },
    ports::{
        ClaimKey, JournalReader, JournalStore, JournalTx, KeyClaim, PolicyStore, Purpose,
        StoreError,
    },
    storage::{Store, StoreOptions},
};
use time::macros::datetime;
use uuid::Uuid;

use crate::storage_database::{Database, on_each_engine, on_postgres};

const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const SOMEBODY: ObjectId = ObjectId(Uuid::from_u128(2));

fn account() -> Account {
    Account {
        name: "acct1".parse().unwrap(),
        resource_id: Some("/subscriptions/s/rg".into()),
        tenant_id: TENANT,
        blob_endpoint: "https://acct1.blob.core.windows.net/".parse().unwrap(),
        dfs_endpoint: Some("https://acct1.dfs.core.windows.net/".parse().unwrap()),
        hierarchical_namespace: true,
        signing_identity: "default".parse().unwrap(),
        correlation_id_supported: false,
        sas_period_seconds_max: Some(3_600),
        issuance_enabled: true,
        management_identity: Some("rotation".parse().unwrap()),
        rotation: Some(RotationPolicy {
            vault: "https://kv-data.vault.azure.net/".parse().unwrap(),
            secret_name: Some("data-key".parse().unwrap()),
            schedule: Schedule::Cron {
                expression: "0 3 * * 7".into(),
                time_zone: "Europe/Paris".into(),
            },
            overlap_hours: 48,
            jitter_minutes: 5,
            window: Some(MaintenanceWindow {
                from: "01:30".parse().unwrap(),
                until: "05:00".parse().unwrap(),
                time_zone: "UTC".into(),
            }),
            initial_key: KeyName::Key2,
            value: SecretForm::ConnectionString,
            proof: ProofPolicy::ListkeysIfUnreachable,
            deleted_secret: DeletedSecret::Recover,
            rotate_disallowed_keys: true,
        }),
    }
}

/// An account that says nothing about rotation.
fn plain_account() -> Account {
    Account {
        name: "acct2".parse().unwrap(),
        management_identity: None,
        rotation: None,
        ..account()
    }
}

fn role() -> Role {
    Role {
        name: "curator".parse().unwrap(),
        permissions: PermissionSet::of(b"rwl"),
        lifetime_seconds_max: None,
        bind_to_caller: true,
        require_ip: false,
    }
}

fn grant(id: u128, principal: Principal) -> Grant {
    Grant {
        id: GrantId(Uuid::from_u128(id)),
        version: 1,
        principal,
        role: "curator".parse().unwrap(),
        scope: Scope {
            account: "acct1".parse().unwrap(),
            container: "raw".parse().unwrap(),
            prefix: Some("2026/11".parse().unwrap()),
        },
        effect: Effect::Allow,
        conditions: Conditions {
            not_before: Some(datetime!(2026-11-01 00:00 UTC)),
            expires: None,
            caller_networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            sip_within: vec![],
            lifetime_seconds_max: Some(600),
        },
        provenance: Provenance {
            ticket: Some("OPS-1".into()),
            reason: None,
        },
    }
}

/// One grant of each kind of principal, ordered by id as `load` gives them.
fn grants() -> Vec<Grant> {
    let (tenant_id, object_id) = (TENANT, SOMEBODY);
    let role = "Data.Reader".parse().unwrap();
    let mut deny = grant(14, Principal::AppRole { tenant_id, role });
    deny.effect = Effect::Deny;
    deny.scope.prefix = None;
    deny.conditions = Conditions::default();
    vec![
        grant(
            11,
            Principal::User {
                tenant_id,
                object_id,
            },
        ),
        grant(
            12,
            Principal::ServicePrincipal {
                tenant_id,
                object_id,
            },
        ),
        grant(
            13,
            Principal::Group {
                tenant_id,
                object_id,
            },
        ),
        deny,
    ]
}

fn everything() -> ChangeSet {
    ChangeSet {
        put_accounts: vec![account(), plain_account()],
        put_roles: vec![role()],
        put_grants: grants(),
        ..ChangeSet::default()
    }
}

async fn change(store: &Store, changes: &ChangeSet) -> i64 {
    let mut tx = store.begin(Purpose::Change).await.unwrap();
    let version = tx.change(changes, "console:0@test", 7).await.unwrap();
    tx.commit().await.unwrap();
    version
}

async fn version_in(tx: &mut Box<dyn JournalTx>) -> i64 {
    tx.policy_version().await.unwrap()
}

fn event(at: i64) -> AuditEvent {
    AuditEvent {
        at,
        actor: Actor::Broker,
        client: None,
        request_id: None,
        action: Action::PolicyChanged {
            policy_version: at,
            changes: vec![],
        },
    }
}

fn claim(key: &str, expires_at: i64) -> KeyClaim {
    KeyClaim {
        tenant_id: TENANT,
        object_id: SOMEBODY,
        key: key.parse().unwrap(),
        body_sha256: [7; 32],
        fact: format!("{{\"until\":{expires_at}}}"),
        expires_at,
    }
}

fn claim_key(key: &str) -> ClaimKey {
    ClaimKey {
        tenant_id: TENANT,
        object_id: SOMEBODY,
        key: key.parse().unwrap(),
    }
}

#[tokio::test]
async fn first_starts_that_race_all_find_their_tables() {
    for _ in 0..5 {
        let dir = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite:{}", dir.path().join("broker.db").display());
        let starts = (0..8).map(async |_| {
            let store = Store::connect(&url, StoreOptions::default()).await.unwrap();
            store.migrate().await.unwrap();
            store.version().await.unwrap()
        });
        assert_eq!(futures_util::future::join_all(starts).await, [0; 8]);
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        change(&store, &everything()).await;
        store.migrate().await.unwrap();
        assert_eq!(store.load().await.unwrap().grants.len(), 4);
    })
    .await;
}

#[tokio::test]
async fn the_role_table_comes_back_as_it_was_put() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        assert_eq!(store.load().await.unwrap().version, 0);
        assert_eq!(change(&store, &everything()).await, 1);
        let table = store.load().await.unwrap();
        assert_eq!(table.version, 1);
        assert_eq!(table.accounts, [account(), plain_account()]);
        assert_eq!(table.roles, [role()]);
        assert_eq!(table.grants, grants());

        let mut edited = grants().remove(0);
        edited.version = 2;
        edited.conditions.expires = Some(datetime!(2027-01-01 00:00 UTC));
        let edit = ChangeSet {
            put_grants: vec![edited.clone()],
            drop_grants: vec![grants()[1].id, grants()[2].id, grants()[3].id],
            drop_roles: vec![role().name],
            put_accounts: vec![Account {
                name: "acct2".parse().unwrap(),
                ..account()
            }],
            drop_accounts: vec![account().name],
            ..ChangeSet::default()
        };
        assert_eq!(
            change(&store, &edit).await,
            2,
            "one change raises the version by one"
        );
        let table = store.load().await.unwrap();
        assert_eq!(table.grants, [edited]);
        assert_eq!(table.accounts, edit.put_accounts);
        assert_eq!(table.roles, []);
        assert_eq!(PolicyStore::version(&store).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_change_by_hand_raises_the_version_too() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        let before = change(&store, &everything()).await;
        for (step, sql) in [
            "DELETE FROM grants WHERE principal_kind = 'user'",
            "UPDATE roles SET permissions = 'l'",
            "UPDATE accounts SET issuance_enabled = 0",
        ]
        .into_iter()
        .enumerate()
        {
            db.by_hand(sql).await.unwrap();
            let version = PolicyStore::version(&store).await.unwrap();
            assert!(
                version > before + i64::try_from(step).unwrap(),
                "{sql}: {version}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_or_abandoned_transaction_changes_nothing_and_blocks_nobody() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        let mut dropped = store.begin(Purpose::Change).await.unwrap();
        dropped.change(&everything(), "x", 1).await.unwrap();
        drop(dropped);
        let mut abandoned = store.begin(Purpose::Change).await.unwrap();
        abandoned.change(&everything(), "x", 1).await.unwrap();
        abandoned.abandon().await.unwrap();
        assert_eq!(change(&store, &everything()).await, 1);
    })
    .await;
}

#[tokio::test]
async fn rows_of_any_number_are_appended_and_the_head_follows() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        let writer = WriterId(Uuid::from_u128(9));
        let mut chain = Chain::new(writer);
        let mut written = Vec::new();
        // Around the sizes of the bulk inserts, small after large.
        for count in [1, 3, 16, 17, 128, 129, 2, 300] {
            let mut rows = Vec::new();
            for _ in 0..count {
                let (next, row) = chain.append(event(chain.head().seq));
                chain = next;
                rows.push(row);
            }
            let mut tx = store.begin(Purpose::Record).await.unwrap();
            tx.append(&rows).await.unwrap();
            tx.commit().await.unwrap();
            written.extend(rows);
        }
        assert_eq!(store.rows(None, 1_000).await.unwrap(), written);
        let page = store.rows(Some((writer, 40)), 5).await.unwrap();
        assert_eq!(page, written[40..45]);
        assert_eq!(
            store.row(writer, 3).await.unwrap().as_ref(),
            Some(&written[2])
        );
        assert_eq!(store.row(writer, 999).await.unwrap(), None);
        let head = Some(chain.head());
        assert_eq!(JournalStore::head(&store, writer).await.unwrap(), head);
        assert_eq!(JournalReader::head(&store, writer).await.unwrap(), head);
        assert_eq!(store.heads(None, 10).await.unwrap(), [chain.head()]);
        assert_eq!(store.heads(Some(writer), 10).await.unwrap(), []);
        assert_eq!(store.newest_heads(10).await.unwrap(), [chain.head()]);
    })
    .await;
}

#[tokio::test]
async fn a_slip_of_the_hand_cannot_change_the_journal() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        let (_, row) = Chain::new(WriterId(Uuid::from_u128(9))).append(event(1));
        let mut tx = store.begin(Purpose::Record).await.unwrap();
        tx.append(std::slice::from_ref(&row)).await.unwrap();
        tx.commit().await.unwrap();
        for sql in ["UPDATE journal SET at = 0", "DELETE FROM journal"] {
            let error = db.by_hand(sql).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{error}");
        }
        assert_eq!(store.rows(None, 2).await.unwrap(), [row]);
    })
    .await;
}

#[tokio::test]
async fn a_live_claim_keeps_its_key_and_an_expired_one_gives_it_up() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        let mut tx = store.begin(Purpose::Record).await.unwrap();
        assert!(tx.claim(&claim("k", 100), 0).await.unwrap());
        assert!(
            !tx.claim(&claim("k", 200), 99).await.unwrap(),
            "alive until 100"
        );
        assert!(
            tx.claim(&claim("k", 300), 100).await.unwrap(),
            "free from 100 on"
        );
        assert!(tx.claim(&claim("other", 150), 100).await.unwrap());
        tx.commit().await.unwrap();

        let found = JournalStore::claim(&store, &claim_key("k"), 100)
            .await
            .unwrap();
        assert_eq!(found, Some(claim("k", 300)));
        assert_eq!(
            JournalStore::claim(&store, &claim_key("k"), 300)
                .await
                .unwrap(),
            None
        );

        assert_eq!(store.purge_claims(149, 10).await.unwrap(), 0);
        assert_eq!(
            store.purge_claims(1_000, 1).await.unwrap(),
            1,
            "no more than asked"
        );
        assert_eq!(store.purge_claims(1_000, 10).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_for_those_who_record_and_they_for_it() {
    on_each_engine(async |db: &Database| {
        let (ours, theirs) = (db.store().await, db.store().await);
        let mut recording = ours.begin(Purpose::Record).await.unwrap();
        assert_eq!(version_in(&mut recording).await, 0);
        let changing = tokio::spawn(async move { change(&theirs, &everything()).await });
        // The version that was read stays so for as long as the transaction lives.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(!changing.is_finished());
        assert_eq!(version_in(&mut recording).await, 0);
        recording.commit().await.unwrap();
        assert_eq!(changing.await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn replicas_record_side_by_side_on_postgresql() {
    on_postgres(async |db: &Database| {
        let (one, other) = (db.store().await, db.store().await);
        let first = one.begin(Purpose::Record).await.unwrap();
        let second = other.begin(Purpose::Record).await.unwrap();
        second.commit().await.unwrap();
        first.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_value_is_called_corrupt() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        change(&store, &everything()).await;
        db.by_hand("UPDATE grants SET effect = 'perhaps'")
            .await
            .unwrap();
        let error = store.load().await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_rotation_policy_stops_that_rotation_and_nothing_else() {
    on_each_engine(async |db: &Database| {
        let store = db.store().await;
        change(&store, &everything()).await;
        for policy in [
            "{",
            r#"{"vault":"https://kv.vault.azure.net","of":"a newer version"}"#,
        ] {
            let edit = format!("UPDATE accounts SET rotation_policy = '{policy}'");
            db.by_hand(&edit).await.unwrap();
            let table = store.load().await.unwrap();
            let unrotated = Account {
                rotation: None,
                ..account()
            };
            assert_eq!(table.accounts[0], unrotated, "{policy}");
            assert_eq!(table.grants, grants(), "{policy}");
        }
        change(&store, &everything()).await;
        assert_eq!(store.load().await.unwrap().accounts[0], account());
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_sqlite_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    let store = Store::connect(&url, StoreOptions::default()).await.unwrap();
    store.migrate().await.unwrap();
    change(&store, &everything()).await;
    for name in ["new.db", "new.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn debug_and_errors_never_show_the_password() {
    let url = "postgres://u:canary@127.0.0.1:1/d";
    let error = Store::connect(url, StoreOptions::default())
        .await
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
    on_each_engine(async |db: &Database| {
        let shown = format!("{:?}", db.store().await);
        assert!(!shown.contains("postgres:"), "{shown}");
    })
    .await;
}
