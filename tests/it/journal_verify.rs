//! Verification and search over real databases: tampering by somebody with every right there is
//! found, and search follows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sas_broker::{
    app::verify_journal::verify_journal,
    domain::{
        audit::{Record, verify::Finding},
        ids::{ObjectId, WriterId},
    },
    journal::{Entry, Outcome, follower::Follower},
    ports::{AuditFilter, ClaimKey, Clock, JournalReader, JournalStore},
    storage::Store,
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    journal_support::{SOMEBODY, StandingClock, TENANT, entry, issued, open, refused, with_key},
    storage_database::{Database, on_each_engine, on_postgres},
};

/// Two chains of five records, the opening included; the second names the first.
async fn two_chains(db: &Database) -> (Arc<Store>, WriterId, WriterId) {
    let store = Arc::new(db.store().await);
    let clock = StandingClock::new();
    let mut writers = Vec::new();
    for chain in 0..2 {
        clock.advance(Duration::from_secs(1));
        let journal = open(store.clone(), &clock);
        for id in 0..4 {
            let outcome = journal.record(entry(chain * 4 + id, 0)).await;
            match outcome.unwrap() {
                Outcome::Recorded(receipt) => writers.push(receipt.writer()),
                other => panic!("not recorded: {other:?}"),
            }
        }
        journal.close().await;
    }
    (store, writers[0], writers[4])
}

fn drop_triggers(db: &Database) -> &'static str {
    if db.is_sqlite() {
        "DROP TRIGGER journal_no_update; DROP TRIGGER journal_no_delete"
    } else {
        "DROP TRIGGER journal_no_change ON journal"
    }
}

/// SQL that puts another account into the body of one record.
fn alter_body(db: &Database) -> &'static str {
    if db.is_sqlite() {
        "UPDATE journal SET body = CAST(replace(CAST(body AS TEXT), 'acct1', 'acct2') AS BLOB) \
         WHERE writer = 'A' AND seq = 3"
    } else {
        "UPDATE journal SET body = convert_to(replace(convert_from(body, 'UTF8'), 'acct1', \
         'acct2'), 'UTF8') WHERE writer = 'A' AND seq = 3"
    }
}

const LOWER_HEAD: &str = "UPDATE journal_heads SET seq = 3, hash = (SELECT hash FROM journal j \
     WHERE j.writer = 'A' AND j.seq = 3) WHERE writer = 'A'";

#[tokio::test]
async fn tampering_with_every_right_there_is_is_found() {
    on_each_engine(async |db: &Database| {
        let cut = format!("DELETE FROM journal WHERE writer = 'A' AND seq > 3; {LOWER_HEAD}");
        let deeds = [
            ("altered body", alter_body(db)),
            (
                "altered column",
                "UPDATE journal SET at = at + 1 WHERE writer = 'A' AND seq = 2",
            ),
            (
                "altered kind",
                "UPDATE journal SET kind = 'refused' WHERE writer = 'A' AND seq = 2",
            ),
            (
                "deleted row",
                "DELETE FROM journal WHERE writer = 'A' AND seq = 3",
            ),
            (
                "swapped rows",
                "UPDATE journal SET seq = -2 WHERE writer = 'A' AND seq = 2; \
                 UPDATE journal SET seq = 2 WHERE writer = 'A' AND seq = 3; \
                 UPDATE journal SET seq = 3 WHERE writer = 'A' AND seq = -2",
            ),
            (
                "inserted row",
                "INSERT INTO journal SELECT writer, 6, at, kind, body, hash FROM journal \
                 WHERE writer = 'A' AND seq = 5",
            ),
            (
                "cut tail",
                "DELETE FROM journal WHERE writer = 'A' AND seq > 3",
            ),
            ("cut tail, head lowered", &cut),
            ("chain removed", "DELETE FROM journal WHERE writer = 'A'"),
            (
                "chain removed with its head",
                "DELETE FROM journal WHERE writer = 'A'; \
                 DELETE FROM journal_heads WHERE writer = 'A'",
            ),
            (
                "head removed",
                "DELETE FROM journal_heads WHERE writer = 'B'",
            ),
        ];
        // Each on a copy of its own would be slow; so each is undone from a copy of the tables.
        let (store, a, b) = two_chains(db).await;
        db.by_hand(drop_triggers(db)).await.unwrap();
        let copies = "CREATE TABLE journal_copy AS SELECT * FROM journal; \
             CREATE TABLE heads_copy AS SELECT * FROM journal_heads";
        db.by_hand(copies).await.unwrap();
        let report = verify_journal(&*store).await.unwrap();
        assert_eq!(
            (report.chains, report.records, report.findings),
            (2, 10, vec![])
        );
        for (what, deed) in deeds {
            let deed = deed
                .replace("'A'", &format!("'{a}'"))
                .replace("'B'", &format!("'{b}'"));
            db.by_hand(&deed).await.unwrap();
            let report = verify_journal(&*store).await.unwrap();
            assert!(!report.is_clean(), "{what}");
            let undo = "DELETE FROM journal; INSERT INTO journal SELECT * FROM journal_copy; \
                 DELETE FROM journal_heads; INSERT INTO journal_heads SELECT * FROM heads_copy";
            db.by_hand(undo).await.unwrap();
            assert!(
                verify_journal(&*store).await.unwrap().is_clean(),
                "undone: {what}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_finding_names_the_chain_and_who_says_so() {
    on_each_engine(async |db: &Database| {
        let (store, a, b) = two_chains(db).await;
        db.by_hand(drop_triggers(db)).await.unwrap();
        let cut = format!("DELETE FROM journal WHERE writer = 'A' AND seq > 3; {LOWER_HEAD}");
        let cut = cut.replace("'A'", &format!("'{a}'"));
        db.by_hand(&cut).await.unwrap();
        let tail_cut = Finding::TailCut {
            writer: a,
            seq: 5,
            named_by: Some(b),
        };
        assert_eq!(verify_journal(&*store).await.unwrap().findings, [tail_cut]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_grows_while_it_is_verified_is_clean() {
    on_each_engine(async |db: &Database| {
        let store = Arc::new(db.store().await);
        let journal = open(store.clone(), &StandingClock::new());
        let writing = tokio::spawn({
            let journal = journal.clone();
            async move {
                for round in 0..40 {
                    let events = (0..100).map(|id| issued(round * 100 + id, 0)).collect();
                    let entry = Entry {
                        events,
                        decided_on: 0,
                        claim: None,
                    };
                    journal.record(entry).await.unwrap();
                }
            }
        });
        let mut rounds = 0;
        while !writing.is_finished() || rounds == 0 {
            let report = verify_journal(&*store).await.unwrap();
            assert_eq!(report.findings, []);
            rounds += 1;
        }
        writing.await.unwrap();
        assert_eq!(verify_journal(&*store).await.unwrap().records, 4_001);
    })
    .await;
}

async fn follow_all(store: &Store) -> usize {
    let mut copied = 0;
    loop {
        match store.follow(7).await.unwrap() {
            Some(0) => return copied,
            Some(step) => copied += step,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn found(store: &Store, filter: AuditFilter) -> Vec<Record> {
    let rows = store.search(&filter, None, 100).await.unwrap();
    rows.iter()
        .map(|row| Record::from_bytes(&row.body).unwrap())
        .collect()
}

#[tokio::test]
async fn search_finds_by_each_filter_newest_first() {
    on_each_engine(async |db: &Database| {
        let (store, a, _) = two_chains(db).await;
        let clock = StandingClock::new();
        clock.advance(Duration::from_secs(100));
        let journal = open(store.clone(), &clock);
        journal
            .refuse(refused(77, clock.micros(), 0), 0)
            .await
            .unwrap();
        assert_eq!(follow_all(&store).await, 12);
        assert_eq!(follow_all(&store).await, 0, "nothing is copied twice");

        let all = found(&store, AuditFilter::default()).await;
        assert_eq!(all.len(), 12);
        assert!(all.is_sorted_by_key(|record| std::cmp::Reverse(record.event.at)));
        let count = async |filter: AuditFilter| found(&store, filter).await.len();
        let any = AuditFilter::default;
        let somebody = Some(SOMEBODY);
        let other = Some(ObjectId(Uuid::from_u128(77)));
        assert_eq!(
            count(AuditFilter {
                object_id: somebody,
                ..any()
            })
            .await,
            8
        );
        assert_eq!(
            count(AuditFilter {
                object_id: other,
                ..any()
            })
            .await,
            1
        );
        assert_eq!(
            count(AuditFilter {
                account: Some("acct1".into()),
                ..any()
            })
            .await,
            9
        );
        assert_eq!(
            count(AuditFilter {
                container: Some("other".into()),
                ..any()
            })
            .await,
            0
        );
        assert_eq!(
            count(AuditFilter {
                kind: Some("chain_opened".into()),
                ..any()
            })
            .await,
            3
        );
        assert_eq!(
            count(AuditFilter {
                from: Some(clock.micros()),
                ..any()
            })
            .await,
            2
        );
        assert_eq!(
            count(AuditFilter {
                until: Some(clock.micros()),
                ..any()
            })
            .await,
            10
        );
        let id = Some(Uuid::from_u128(5));
        assert_eq!(
            count(AuditFilter {
                issuance_id: id,
                ..any()
            })
            .await,
            1
        );
        let signature = Some(format!("{:064x}", 6));
        let by_signature = AuditFilter {
            signature_sha256: signature,
            account: Some("acct1".into()),
            ..any()
        };
        let one = found(&store, by_signature).await;
        assert!(matches!(&one[..], [r] if r.event == issued(6, 0)));

        // Pages join without a gap or a repeat.
        let (mut before, mut paged) = (None, Vec::new());
        loop {
            let page = store.search(&any(), before, 5).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some((last.at, last.writer, last.seq));
            paged.extend(page);
        }
        let places: BTreeSet<_> = paged.iter().map(|row| (row.writer, row.seq)).collect();
        assert_eq!((paged.len(), places.len()), (12, 12));
        assert!(places.contains(&(a, 1)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_followers_copy_each_row_once() {
    on_each_engine(async |db: &Database| {
        let store = Arc::new(db.store().await);
        let journal = open(store.clone(), &StandingClock::new());
        for round in 0..5 {
            let events = (0..100).map(|id| issued(round * 100 + id, 0)).collect();
            let entry = Entry {
                events,
                decided_on: 0,
                claim: None,
            };
            journal.record(entry).await.unwrap();
        }
        let (one, other) = (db.store().await, db.store().await);
        tokio::join!(follow_all(&one), follow_all(&other));
        follow_all(&store).await;
        let rows = store
            .search(&AuditFilter::default(), None, 1_000)
            .await
            .unwrap();
        assert_eq!(rows.len(), 501);
    })
    .await;
}

#[tokio::test]
async fn a_follower_that_finds_another_at_work_does_not_say_that_there_is_no_news() {
    on_postgres(async |database| {
        let store = database.store().await;
        let mut other = PgConnection::connect(&database.url).await.unwrap();
        let lock = "SELECT pg_advisory_lock(7305810921)";
        sqlx::query(lock).execute(&mut other).await.unwrap();
        assert_eq!(store.follow(7).await.unwrap(), None);
        other.close().await.unwrap();
        while store.follow(7).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_record_does_not_stop_the_follower() {
    on_each_engine(async |db: &Database| {
        let (store, a, _) = two_chains(db).await;
        db.by_hand(drop_triggers(db)).await.unwrap();
        let body = if db.is_sqlite() {
            "x'ff00'"
        } else {
            "'\\xff00'"
        };
        let deed = format!("UPDATE journal SET body = {body} WHERE writer = '{a}' AND seq = 2");
        db.by_hand(&deed).await.unwrap();
        assert_eq!(follow_all(&store).await, 10);
        let filter = AuditFilter {
            kind: Some("issued".into()),
            ..AuditFilter::default()
        };
        assert_eq!(store.search(&filter, None, 100).await.unwrap().len(), 8);
        let unreadable = Finding::Unreadable { writer: a, seq: 2 };
        assert!(
            verify_journal(&*store)
                .await
                .unwrap()
                .findings
                .contains(&unreadable)
        );
    })
    .await;
}

#[tokio::test]
async fn the_follower_copies_and_purges_by_itself() {
    on_each_engine(async |db: &Database| {
        let store = Arc::new(db.store().await);
        let clock = StandingClock::new();
        let journal = open(store.clone(), &clock);
        let entry = with_key(entry(1, 0), "k", clock.micros() + 1);
        journal.record(entry).await.unwrap();
        clock.advance(Duration::from_secs(1));
        let key = ClaimKey {
            tenant_id: TENANT,
            object_id: SOMEBODY,
            key: "k".parse().unwrap(),
        };
        // As of the start of time no claim has expired: what is not there has been removed.
        let kept = async || {
            JournalStore::claim(&*store, &key, 0)
                .await
                .unwrap()
                .is_some()
        };
        assert!(kept().await);
        let follower = Follower::start(store.clone(), store.clone(), clock as Arc<dyn Clock>);
        let pause = Duration::from_millis(10);
        let all_done = async {
            while kept().await || found(&store, AuditFilter::default()).await.len() < 2 {
                tokio::time::sleep(pause).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all_done)
            .await
            .unwrap();
        follower.stop().await;
    })
    .await;
}
