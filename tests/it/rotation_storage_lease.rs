//! The lease: one holder at a time, a token that only grows, and nothing written under an old one.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sas_broker::{
    domain::rotation::{Fence, KeyName, RotationBatch, RotationWrite, Trigger},
    journal::Enacted,
    ports::{JournalStore, Lease, Purpose, Rotations},
};

use crate::{
    rotation_storage_support::{
        HANDOVER, Process, TTL, account, at, break_glass, end, id, intend, regenerate, rotation,
        status,
    },
    storage_database::{Database, on_each_engine},
};

const TTL_SECONDS: i64 = TTL.as_secs().cast_signed();
const HANDOVER_SECONDS: i64 = HANDOVER.as_secs().cast_signed();

fn lease(token: i64, taken: i64, mutations_from: i64) -> Option<Lease> {
    Some(Lease {
        fence: Fence { token },
        expires_at: at(taken + TTL_SECONDS),
        mutations_from: at(mutations_from),
    })
}

const fn fence(token: i64) -> Option<Fence> {
    Some(Fence { token })
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_expires() {
    on_each_engine(async |db: &Database| {
        let (one, other) = (Process::start(db, 1).await, Process::start(db, 2).await);
        assert_eq!(
            one.lease(None, 0).await,
            lease(1, 0, 0),
            "nobody was before"
        );
        assert_eq!(other.lease(None, 1).await, None);
        assert_eq!(one.lease(fence(1), 30).await, lease(1, 30, 0), "renewed");
        let end = 30 + TTL_SECONDS;
        assert_eq!(other.lease(None, end - 1).await, None);
        // Late, but nobody came in between: it is still the only one.
        assert_eq!(one.lease(fence(1), end + 5).await, lease(1, end + 5, 0));

        let end = end + 5 + TTL_SECONDS;
        let waits = end + HANDOVER_SECONDS;
        assert_eq!(
            other.lease(None, end).await,
            lease(2, end, waits),
            "taken over"
        );
        assert_eq!(
            other.lease(fence(2), end + 1).await,
            lease(2, end + 1, waits)
        );
        assert_eq!(one.lease(fence(1), end + 2).await, None, "its token is old");
        one.store.give_back(Fence { token: 1 }).await.unwrap();
        assert_eq!(
            one.lease(None, end + 2).await,
            None,
            "it was not its to give"
        );
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_was_given_back_passes_on_at_once_but_not_its_predecessors_wait() {
    on_each_engine(async |db: &Database| {
        let (one, other) = (Process::start(db, 1).await, Process::start(db, 2).await);
        assert_eq!(one.lease(None, 0).await, lease(1, 0, 0));
        one.store.give_back(Fence { token: 1 }).await.unwrap();
        assert_eq!(other.lease(None, 10).await, lease(2, 10, 10), "at once");

        let end = 10 + TTL_SECONDS;
        let waits = end + HANDOVER_SECONDS;
        assert_eq!(one.lease(None, end).await, lease(3, end, waits));
        one.store.give_back(Fence { token: 3 }).await.unwrap();
        // A call of the second holder, who vanished, may still be under way.
        assert_eq!(other.lease(None, end + 1).await, lease(4, end + 1, waits));
        other.store.give_back(Fence { token: 4 }).await.unwrap();
        assert_eq!(
            one.lease(fence(3), waits + 1).await,
            lease(5, waits + 1, waits + 1)
        );
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_forgot_its_token_gets_a_new_one_and_waits() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        assert_eq!(process.lease(None, 0).await, lease(1, 0, 0));
        let again = process.lease(None, 5).await;
        assert_eq!(again, lease(2, 5, 5 + HANDOVER_SECONDS));
        let old = process.enact(fence(1), vec![]).await;
        assert_eq!(old, Enacted::Refused);
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_went_wrong_makes_nobody_wait_longer_than_a_handover() {
    on_each_engine(async |db: &Database| {
        let (one, other) = (Process::start(db, 1).await, Process::start(db, 2).await);
        assert_eq!(one.lease(None, 0).await, lease(1, 0, 0));
        let year = 365 * 86_400;
        let token = other.lease(None, year).await.unwrap().fence;
        other.store.give_back(token).await.unwrap();
        assert_eq!(one.lease(None, 5).await, lease(3, 5, 5 + HANDOVER_SECONDS));
        // Nor until its holder's time, if it ended without giving the lease back.
        let fence = one.lease(None, 5).await.unwrap().fence;
        one.store.give_back(fence).await.unwrap();
        other.lease(None, year).await.unwrap();
        let taken = one.lease(None, 10).await.unwrap();
        assert_eq!(taken.mutations_from, at(10 + HANDOVER_SECONDS));
        assert_eq!(
            other.lease(None, 11).await,
            None,
            "a sound one is left alone"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_race_for_the_lease_one_gets_it() {
    on_each_engine(async |db: &Database| {
        let processes = join_all((1..=6).map(|id| Process::start(db, id))).await;
        for round in 0..5 {
            // Each round begins when the lease of the last has expired.
            let now = round * (TTL_SECONDS + 1);
            let asked = processes.iter().map(|process| process.lease(None, now));
            let got: Vec<Lease> = join_all(asked).await.into_iter().flatten().collect();
            let tokens: Vec<i64> = got.iter().map(|lease| lease.fence.token).collect();
            assert_eq!(tokens, [round + 1]);
        }
    })
    .await;
}

#[tokio::test]
async fn under_an_old_token_nothing_is_written_not_even_the_record() {
    on_each_engine(async |db: &Database| {
        let (old, new) = (Process::start(db, 1).await, Process::start(db, 2).await);
        let writes = vec![
            RotationWrite::Open(rotation(1, "acct1", Trigger::Schedule)),
            intend(1, regenerate(1, KeyName::Key2, "then", 1)),
            RotationWrite::Look(status("acct1", 0, 1)),
        ];
        assert_eq!(
            old.enact(fence(1), vec![]).await,
            Enacted::Refused,
            "no lease yet"
        );
        old.lease(None, 0).await.unwrap();
        let took = new.lease(None, TTL_SECONDS).await.unwrap();
        assert_eq!(old.enact(fence(1), writes.clone()).await, Enacted::Refused);
        assert_eq!(new.enact(fence(3), writes.clone()).await, Enacted::Refused);
        assert_eq!(new.store.accounts_at_work(9).await.unwrap(), []);
        assert_eq!(new.store.statuses(None, 9).await.unwrap(), []);
        assert_eq!(new.records().await, []);
        assert!(old.journal.healthy());

        let written = new.enact(Some(took.fence), writes).await;
        assert!(matches!(written, Enacted::Written(_)), "{written:?}");
        new.store.give_back(took.fence).await.unwrap();
        let late = new.enact(Some(took.fence), vec![end(1, 9)]).await;
        assert_eq!(late, Enacted::Refused, "what was given back guards nothing");
        // What operators ask needs no lease.
        old.write(vec![end(1, 10)]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_waits_for_the_batch_that_was_admitted_before_it() {
    on_each_engine(async |db: &Database| {
        let (old, new) = (Process::start(db, 1).await, Process::start(db, 2).await);
        let held = old.lease(None, 0).await.unwrap().fence;
        let batch = RotationBatch {
            fence: Some(held),
            writes: vec![RotationWrite::Open(rotation(1, "acct1", Trigger::Schedule))],
        };
        // Connected beforehand, so that it is the lock that it waits for.
        assert_eq!(new.lease(None, 1).await, None);
        let mut tx = old.store.begin(Purpose::Record).await.unwrap();
        assert!(tx.rotate(&batch, 1).await.unwrap());
        let store = Arc::clone(&new.store);
        let taking = tokio::spawn(async move {
            let taken = store
                .lease(new.id, None, at(TTL_SECONDS), TTL, HANDOVER)
                .await;
            let found = store.rotation(&account("acct1"), id(1)).await.unwrap();
            (taken.unwrap(), found.is_some())
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!taking.is_finished());
        tx.commit().await.unwrap();
        let (taken, seen) = taking.await.unwrap();
        assert_eq!(taken.unwrap().fence.token, 2);
        assert!(seen, "the new holder sees what the old one wrote last");

        let mut tx = old.store.begin(Purpose::Record).await.unwrap();
        assert!(!tx.rotate(&batch, 1).await.unwrap());
        tx.abandon().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_race_to_open_a_rotation_one_does() {
    on_each_engine(async |db: &Database| {
        let processes = join_all((1..=6).map(|id| Process::start(db, id))).await;
        let look = RotationWrite::Look(status("acct1", 0, 1));
        processes[0].write(vec![look.clone()]).await;
        for round in 0..5_u128 {
            let opened = processes.iter().zip(1..).map(async |(process, number)| {
                let number = 100 * round + number;
                // In either order: two batches must not wait for each other's rows.
                let open = RotationWrite::Open(rotation(number, "acct1", Trigger::Operator));
                let mut writes = vec![look.clone(), open];
                if number % 2 == 0 {
                    writes.reverse();
                }
                let mine = process.enact(None, writes).await;
                let glass = break_glass(number + 50, "acct1", KeyName::Key1);
                let glass = process.enact(None, vec![RotationWrite::Open(glass)]).await;
                let written = |enacted| matches!(enacted, Enacted::Written(_));
                (written(mine), written(glass))
            });
            let opened: Vec<_> = join_all(opened).await;
            assert_eq!(opened.iter().filter(|(mine, _)| *mine).count(), 1);
            assert_eq!(opened.iter().filter(|(_, glass)| *glass).count(), 1);
            let open = processes[0]
                .store
                .open_rotations(&account("acct1"))
                .await
                .unwrap();
            assert_eq!(open.len(), 2);
            for rotation in open {
                let number = rotation.id.0.as_u128() - id(0).0.as_u128();
                processes[1].write(vec![end(number, 5)]).await;
            }
        }
    })
    .await;
}
