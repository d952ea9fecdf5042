//! The group-commit writer over real databases: what is released is recorded, whatever fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sas_broker::{
    app::verify_journal::verify_journal,
    domain::{
        audit::{Action, Record},
        ids::{IdempotencyKey, WriterId},
    },
    journal::{
        ENTRY_EVENTS_MAX, Entry, Journal, JournalError, Limits, Outcome, Receipt, RefusalOutcome,
    },
    ports::{ClaimKey, JournalReader, JournalStore, PolicyStore},
    storage::Store,
};

use crate::{
    journal_support::{
        Fault, Faulty, SOMEBODY, StandingClock, TENANT, entry, issued, limits, open, open_with,
        refused, role_change, with_key,
    },
    storage_database::{Database, on_each_engine},
};

async fn shared_store(db: &Database) -> Arc<Store> {
    Arc::new(db.store().await)
}

fn receipt(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Recorded(receipt) => receipt,
        other => panic!("not recorded: {other:?}"),
    }
}

async fn records(store: &Store) -> Vec<Record> {
    let rows = store.rows(None, 100_000).await.unwrap();
    rows.iter()
        .map(|row| Record::from_bytes(&row.body).unwrap())
        .collect()
}

async fn assert_whole(store: &Store) {
    let report = verify_journal(store).await.unwrap();
    assert_eq!(report.findings, []);
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn what_waits_together_is_committed_together_and_in_order() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let faulty = Faulty::new(store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        let held = faulty.gate.acquire().await;
        let all = join_all((0..500).map(|id| journal.record(entry(id, 0))));
        let release = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(held);
        };
        let (outcomes, ()) = tokio::join!(all, release);
        let places: Vec<i64> = outcomes
            .into_iter()
            .map(|outcome| receipt(outcome.unwrap()).seq())
            .collect();
        assert_eq!(
            places,
            (2..502).collect::<Vec<_>>(),
            "after the opening, in the order of asking"
        );
        assert!(
            faulty.commits() <= 2,
            "{} commits for 500 entries",
            faulty.commits()
        );
        for (record, id) in records(&store).await.iter().skip(1).zip(0..) {
            assert_eq!(record.event, issued(id, 0));
        }
        assert_whole(&store).await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_stands_or_falls_as_one_entry() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let journal = open(store.clone(), &StandingClock::new());
        let batch = |count: usize, decided_on| Entry {
            events: (0..count as u128)
                .map(|id| issued(id, decided_on))
                .collect(),
            decided_on,
            claim: None,
        };
        let receipt = receipt(journal.record(batch(ENTRY_EVENTS_MAX, 0)).await.unwrap());
        assert_eq!((receipt.seq(), receipt.count()), (2, ENTRY_EVENTS_MAX));
        assert_eq!(
            journal.record(batch(3, 7)).await,
            Ok(Outcome::Stale { version: 0 })
        );
        let too_many = journal.record(batch(ENTRY_EVENTS_MAX + 1, 0)).await;
        assert_eq!(too_many, Err(JournalError::Size));
        assert_eq!(records(&store).await.len(), ENTRY_EVENTS_MAX + 1);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_released_that_the_database_did_not_take() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let faulty = Faulty::new(store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        receipt(journal.record(entry(1, 0)).await.unwrap());
        for fault in [Fault::Begin, Fault::Append] {
            faulty.fail_next(fault);
            let outcome = journal.record(entry(2, 0)).await;
            assert_eq!(outcome, Err(JournalError::Unavailable), "{fault:?}");
            until("it recovers without traffic", async || journal.healthy()).await;
        }
        let next = receipt(journal.record(entry(3, 0)).await.unwrap());
        assert_eq!(next.seq(), 3, "what failed left no gap");
        assert_whole(&store).await;
    })
    .await;
}

#[tokio::test]
async fn an_unclear_commit_is_looked_up_before_anything_is_released() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let faulty = Faulty::new(store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        let first = receipt(journal.record(entry(1, 0)).await.unwrap());

        faulty.fail_next(Fault::CommitLandsUnclear);
        let landed = receipt(journal.record(entry(2, 0)).await.unwrap());
        assert_eq!(
            (landed.writer(), landed.seq()),
            (first.writer(), 3),
            "it had landed"
        );

        for fault in [Fault::CommitFails, Fault::CommitHangs] {
            let before = receipt(journal.record(entry(3, 0)).await.unwrap());
            faulty.fail_next(fault);
            let outcome = journal.record(entry(4, 0)).await;
            assert_eq!(outcome, Err(JournalError::Unclear), "{fault:?}");
            let after = receipt(journal.record(entry(5, 0)).await.unwrap());
            assert_ne!(
                after.writer(),
                before.writer(),
                "a late commit must not collide"
            );
            assert_eq!(after.seq(), 2);
        }

        faulty.fail_next(Fault::CommitLandsUnclear);
        *faulty.head_unreadable.lock().unwrap() = true;
        let outcome = journal.record(entry(6, 0)).await;
        assert_eq!(outcome, Err(JournalError::Unclear), "nobody can tell");
        *faulty.head_unreadable.lock().unwrap() = false;
        receipt(journal.record(entry(7, 0)).await.unwrap());
        assert_whole(&store).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_decided_on_an_older_table_is_given_back() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let journal = open(store.clone(), &StandingClock::new());
        let (event, changes) = role_change(0);
        receipt(journal.change(event, changes).await.unwrap());
        assert_eq!(
            journal.record(entry(1, 0)).await,
            Ok(Outcome::Stale { version: 1 })
        );
        receipt(journal.record(entry(1, 1)).await.unwrap());
        let late = journal.refuse(refused(5, 0, 0), 0).await;
        assert_eq!(late, Ok(RefusalOutcome::Stale { version: 1 }));

        let (event, changes) = role_change(0);
        let outcome = journal.change(event, changes).await;
        assert_eq!(
            outcome,
            Ok(Outcome::Stale { version: 1 }),
            "planned against another table"
        );
        assert_eq!(PolicyStore::version(&*store).await.unwrap(), 1);
        let kinds: Vec<_> = records(&store)
            .await
            .iter()
            .map(|r| r.event.action.kind())
            .collect();
        assert_eq!(kinds, ["chain_opened", "policy_changed", "issued"]);
    })
    .await;
}

/// Decides now and records after a while, again as long as it is stale; asserts that no change was
/// committed, before it asked, to a version that it does not know. Returns how often it was stale.
async fn record_late(journal: &Journal, store: &Store, id: u128, floor: &AtomicI64) -> u32 {
    let mut decided_on = PolicyStore::version(store).await.unwrap();
    // Spread over the time that the changes take.
    let pause = u64::try_from(id / 2).unwrap();
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let mut stale = 0;
    loop {
        let committed = floor.load(SeqCst);
        match journal.record(entry(id, decided_on)).await.unwrap() {
            Outcome::Stale { version } => {
                stale += 1;
                decided_on = version;
            }
            Outcome::Recorded(_) => {
                assert!(
                    decided_on >= committed,
                    "decided on {decided_on}, {committed} is in force"
                );
                return stale;
            }
            Outcome::KeyTaken => panic!("no key was asked for"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_committed_change_is_final_while_two_replicas_record() {
    on_each_engine(async |db: &Database| {
        let clock = StandingClock::new();
        let floor = AtomicI64::new(0);
        let stores = [shared_store(db).await, shared_store(db).await];
        let journals = [
            open(stores[0].clone(), &clock),
            open(stores[1].clone(), &clock),
        ];
        let recording = join_all((0..600_u128).map(|id| {
            let which = usize::from(id % 2 == 1);
            let (journal, store, floor) = (&journals[which], &stores[which], &floor);
            record_late(journal, store, id, floor)
        }));
        // A third process: half of its changes through a journal of its own, half by hand.
        let changing = async {
            let store = shared_store(db).await;
            let journal = open(store.clone(), &clock);
            for round in 0..20 {
                if round % 2 == 0 {
                    let mut version = PolicyStore::version(&*store).await.unwrap();
                    loop {
                        let (event, changes) = role_change(version);
                        match journal.change(event, changes).await.unwrap() {
                            Outcome::Stale { version: current } => version = current,
                            outcome => {
                                receipt(outcome);
                                break;
                            }
                        }
                    }
                } else {
                    db.by_hand("UPDATE roles SET permissions = 'l'")
                        .await
                        .unwrap();
                }
                floor.store(PolicyStore::version(&*store).await.unwrap(), SeqCst);
            }
            journal.close().await;
        };
        let both = async { tokio::join!(recording, changing) };
        // Neither side starves, and nobody deadlocks.
        let (stale, ()) = tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .unwrap();
        assert!(
            stale.into_iter().sum::<u32>() > 0,
            "the changes met no decision under way"
        );
        let kinds = records(&stores[0]).await;
        let issued = kinds
            .iter()
            .filter(|r| r.event.action.kind() == "issued")
            .count();
        assert_eq!(issued, 600);
        assert_whole(&stores[0]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_once_by_whichever_replica_comes_first() {
    on_each_engine(async |db: &Database| {
        let clock = StandingClock::new();
        let journals = [
            open(shared_store(db).await, &clock),
            open(shared_store(db).await, &clock),
        ];
        let expires_at = clock.micros() + 1_000_000;
        // The replicas meet the same keys in opposite orders.
        let race = |journal: Journal, keys: Vec<u128>| async move {
            let asked = keys.into_iter().map(|key| {
                let name = format!("key-{key}");
                let entry = with_key(entry(key, 0), &name, expires_at);
                let journal = journal.clone();
                async move { (key, journal.record(entry).await.unwrap()) }
            });
            join_all(asked).await
        };
        let one = race(journals[0].clone(), (0..100).collect());
        let other = race(journals[1].clone(), (0..100).rev().collect());
        let (one, other) = tokio::join!(tokio::spawn(one), tokio::spawn(other));
        let mut taken = [0; 100];
        for (key, outcome) in one.unwrap().into_iter().chain(other.unwrap()) {
            match outcome {
                Outcome::Recorded(_) => taken[usize::try_from(key).unwrap()] += 1,
                outcome => assert_eq!(outcome, Outcome::KeyTaken),
            }
        }
        assert_eq!(taken, [1; 100]);

        // Within one group the first who asked has it, and it can be read back.
        let store = shared_store(db).await;
        let two = ["x", "x"].map(|key| with_key(entry(1_000, 0), key, expires_at));
        let outcomes = join_all(two.map(|entry| journals[0].record(entry))).await;
        assert!(matches!(outcomes[0], Ok(Outcome::Recorded(_))));
        assert_eq!(outcomes[1], Ok(Outcome::KeyTaken));
        let key: IdempotencyKey = "x".parse().unwrap();
        let key = ClaimKey {
            tenant_id: TENANT,
            object_id: SOMEBODY,
            key,
        };
        assert!(
            JournalStore::claim(&*store, &key, clock.micros())
                .await
                .unwrap()
                .is_some()
        );
    })
    .await;
}

#[tokio::test]
async fn equal_refusals_of_a_minute_become_two_records() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let clock = StandingClock::new();
        let journal = open(store.clone(), &clock);
        let refuse = async |who| {
            let event = refused(who, clock.micros(), 0);
            journal.refuse(event, 0).await.unwrap()
        };
        assert!(matches!(refuse(5).await, RefusalOutcome::Recorded(_)));
        for _ in 0..3 {
            assert_eq!(refuse(5).await, RefusalOutcome::Folded);
        }
        assert!(matches!(refuse(6).await, RefusalOutcome::Recorded(_)));
        assert_eq!(records(&store).await.len(), 3);

        clock.advance(Duration::from_secs(60));
        until("the fold is recorded", async || {
            records(&store).await.len() == 4
        })
        .await;
        let folded = records(&store).await.pop().unwrap();
        assert!(matches!(
            folded.event.action,
            Action::RefusalsFolded { count: 3, .. }
        ));
        assert!(
            matches!(refuse(5).await, RefusalOutcome::Recorded(_)),
            "a new minute"
        );

        assert_eq!(refuse(5).await, RefusalOutcome::Folded);
        journal.close().await;
        let last = records(&store).await.pop().unwrap();
        assert!(matches!(
            last.event.action,
            Action::RefusalsFolded { count: 1, .. }
        ));
        assert_whole(&store).await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_first_refusal_opens_no_fold() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let faulty = Faulty::new(store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        faulty.fail_next(Fault::Append);
        let failed = journal.refuse(refused(5, 0, 0), 0).await;
        assert_eq!(failed, Err(JournalError::Unavailable));
        let again = journal.refuse(refused(5, 0, 0), 0).await;
        assert!(matches!(again, Ok(RefusalOutcome::Recorded(_))));
    })
    .await;
}

#[tokio::test]
async fn closing_records_what_waits_and_refuses_what_comes() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let faulty = Faulty::new(store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        let held = faulty.gate.acquire().await;
        let waiting = join_all((0..50).map(|id| journal.record(entry(id, 0))));
        let closing = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(held);
            journal.close().await;
        };
        let (outcomes, ()) = tokio::join!(waiting, closing);
        for outcome in outcomes {
            receipt(outcome.unwrap());
        }
        assert_eq!(
            journal.record(entry(99, 0)).await,
            Err(JournalError::Closed)
        );
        assert!(!journal.healthy());
        assert_eq!(records(&store).await.len(), 51);
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_long_wait_shows() {
    on_each_engine(async |db: &Database| {
        let faulty = Faulty::new(shared_store(db).await);
        let clock = StandingClock::new();
        let small = Limits {
            queue_max: 1,
            transaction_timeout: Duration::from_secs(60),
            ..limits()
        };
        let journal = open_with(faulty.clone(), &clock, small);
        assert!(journal.healthy());
        let held = faulty.gate.acquire().await;
        let at_work = tokio::spawn({
            let journal = journal.clone();
            async move { journal.record(entry(1, 0)).await }
        });
        until("the first is at work", async || {
            clock.advance(Duration::from_secs(6));
            !journal.healthy()
        })
        .await;
        assert!(journal.lag() >= Duration::from_secs(6));
        let waiting = journal.record(entry(2, 0));
        let refused = async {
            tokio::task::yield_now().await;
            let refused = journal.record(entry(3, 0)).await;
            drop(held);
            refused
        };
        let (waited, refused) = tokio::join!(waiting, refused);
        receipt(waited.unwrap());
        assert_eq!(refused, Err(JournalError::Full));
        receipt(at_work.await.unwrap().unwrap());
        until("all is done", async || journal.healthy()).await;
    })
    .await;
}

#[tokio::test]
async fn a_process_that_records_nothing_writes_nothing_and_the_next_names_all_heads() {
    on_each_engine(async |db: &Database| {
        let store = shared_store(db).await;
        let clock = StandingClock::new();
        open(store.clone(), &clock).close().await;
        assert_eq!(records(&store).await.len(), 0);
        let mut heads: Vec<WriterId> = Vec::new();
        for id in 0..3 {
            let journal = open(store.clone(), &clock);
            let receipt = receipt(journal.record(entry(id, 0)).await.unwrap());
            journal.close().await;
            let opening = store.row(receipt.writer(), 1).await.unwrap().unwrap();
            let action = Record::from_bytes(&opening.body).unwrap().event.action;
            let Action::ChainOpened { heads: named, .. } = action else {
                panic!("a chain begins with its opening");
            };
            let mut named: Vec<_> = named.iter().map(|head| head.writer).collect();
            named.sort();
            heads.sort();
            assert_eq!(named, heads);
            heads.push(receipt.writer());
        }
    })
    .await;
}
