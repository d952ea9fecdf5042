//! A database of the first version is brought up to rotation's tables: its rows stay, whoever comes
//! first.

use futures_util::future::join_all;
use sas_broker::{
    domain::{
        audit::{Action, Actor, AuditEvent, Chain},
        change::ChangeSet,
        grant::Role,
        ids::WriterId,
        permission::PermissionSet,
    },
    ports::{JournalReader, JournalStore, PolicyStore, Purpose, Rotations},
    storage::Store,
};
use sqlx::{
    Connection, PgConnection, SqlStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};
use uuid::Uuid;

use crate::{
    rotation_storage_support::{account, at},
    storage_database::{Database, on_each_blank_engine},
};

const FIRST_SQLITE: &str = include_str!("../../migrations/sqlite/0001_initial.sql");
const FIRST_POSTGRES: &str = include_str!("../../migrations/postgres/0001_initial.sql");

const OLD_ROWS: &str = "INSERT INTO accounts (name, version, resource_id, tenant_id, \
     blob_endpoint, dfs_endpoint, hierarchical_namespace, signing_identity, \
     correlation_id_supported, sas_period_seconds_max, issuance_enabled, rotation_policy, \
     posture_policy, updated_at, updated_by) VALUES \
     ('acct1', 3, NULL, '00000000-0000-0000-0000-000000000001', \
      'https://acct1.blob.core.windows.net/', NULL, 0, 'default', 1, NULL, 1, NULL, NULL, 7, 'x')";

/// The database as the broker before rotation left it.
async fn first_version(db: &Database) {
    let (name, kind) = ("initial".into(), MigrationType::Simple);
    let first = |sql| Migration::new(1, name, kind, SqlStr::from_static(sql), false);
    if db.is_sqlite() {
        // The store creates the file.
        drop(db.store().await);
        let mut conn = SqliteConnection::connect(&db.url).await.unwrap();
        let migrator = Migrator::with_migrations(vec![first(FIRST_SQLITE)]);
        migrator.run(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    } else {
        let mut conn = PgConnection::connect(&db.url).await.unwrap();
        let migrator = Migrator::with_migrations(vec![first(FIRST_POSTGRES)]);
        migrator.run(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }
}

fn role() -> Role {
    Role {
        name: "curator".parse().unwrap(),
        permissions: PermissionSet::of(b"rwl"),
        lifetime_seconds_max: None,
        bind_to_caller: false,
        require_ip: false,
    }
}

/// One change and its record, by statements that both versions share.
async fn fill(db: &Database, store: &Store) -> Vec<sas_broker::domain::audit::Row> {
    db.by_hand(OLD_ROWS).await.unwrap();
    let event = AuditEvent {
        at: 1,
        actor: Actor::Broker,
        client: None,
        request_id: None,
        action: Action::PolicyChanged {
            policy_version: 2,
            changes: vec![],
        },
    };
    let (_, row) = Chain::new(WriterId(Uuid::from_u128(9))).append(event);
    let changes = ChangeSet {
        put_roles: vec![role()],
        ..ChangeSet::default()
    };
    let mut tx = store.begin(Purpose::Change).await.unwrap();
    tx.change(&changes, "x", 1).await.unwrap();
    tx.append(std::slice::from_ref(&row)).await.unwrap();
    tx.commit().await.unwrap();
    vec![row]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_version_keeps_its_rows_when_several_bring_it_up_at_once() {
    for _ in 0..3 {
        on_each_blank_engine(async |db: &Database| {
            first_version(db).await;
            let old = db.store().await;
            let journal = fill(db, &old).await;
            let version = PolicyStore::version(&old).await.unwrap();

            let starts = (0..6).map(async |_| {
                let store = db.store().await;
                store.migrate().await.unwrap();
                store.load().await.unwrap()
            });
            for table in join_all(starts).await {
                assert_eq!(table.version, version, "an upgrade changes no policy");
                assert_eq!(table.roles, [role()]);
                let [found] = table.accounts.as_slice() else {
                    panic!("{:?}", table.accounts)
                };
                assert_eq!(found.name, account("acct1"));
                assert_eq!(
                    (&found.management_identity, &found.rotation),
                    (&None, &None)
                );
                assert!(table.key_generations.is_empty());
            }
            // Whoever was connected before goes on, on the tables that came.
            assert_eq!(old.rows(None, 10).await.unwrap(), journal);
            assert_eq!(old.statuses(None, 10).await.unwrap(), []);
            let ttl = std::time::Duration::from_secs(1);
            let lease = old.lease(Uuid::from_u128(1), None, at(0), ttl, ttl).await;
            assert_eq!(lease.unwrap().unwrap().fence.token, 1);
        })
        .await;
    }
}

#[tokio::test]
async fn a_first_start_makes_all_tables_at_once() {
    on_each_blank_engine(async |db: &Database| {
        let starts = (0..6).map(async |_| db.store().await.migrate().await.unwrap());
        join_all(starts).await;
        let store = db.store().await;
        assert_eq!(store.statuses(None, 10).await.unwrap(), []);
    })
    .await;
}
