//! What the database answers about rotations: open ones, histories, looks in the order of names, and
//! the outbox.

use std::collections::HashSet;

use sas_broker::{
    domain::{
        ids::RotationId,
        rotation::{
            CreationTime, InFlight, KeyName, Notification, NotificationKind, Regenerated, Rotation,
            RotationState, RotationWrite, StepKind, StepOutcome, Trigger,
        },
    },
    ports::{Rotations, StoreError},
};
use uuid::Uuid;

use crate::{
    rotation_storage_support::{
        Process, account, at, break_glass, conclude, end, id, intend, regenerate, rotation, status,
        step,
    },
    storage_database::{Database, on_each_engine},
};

/// What the outbox keeps; see docs/limits.md.
const NOTIFICATIONS_MAX: usize = 5_000;

fn ids(rotations: &[Rotation]) -> Vec<RotationId> {
    rotations.iter().map(|rotation| rotation.id).collect()
}

#[tokio::test]
async fn open_rotations_come_running_first_then_break_glass_then_by_age() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let open = |rotation| vec![RotationWrite::Open(rotation)];
        process
            .write(open(rotation(1, "acct1", Trigger::Operator)))
            .await;
        process
            .write(open(break_glass(5, "acct1", KeyName::Key1)))
            .await;
        process
            .write(open(break_glass(3, "acct1", KeyName::Key2)))
            .await;
        process
            .write(open(rotation(4, "acct0", Trigger::Schedule)))
            .await;
        process
            .write(open(rotation(2, "acct2", Trigger::Schedule)))
            .await;
        process.write(vec![end(2, 9)]).await;
        let acct1 = account("acct1");
        let found = process.store.open_rotations(&acct1).await.unwrap();
        assert_eq!(ids(&found), [id(3), id(5), id(1)]);

        let start = RotationWrite::Start { rotation: id(1) };
        let first = step(1, StepKind::Enable, KeyName::Key1, 1);
        let second = step(2, StepKind::Disable, KeyName::Key1, 2);
        process
            .write(vec![
                start,
                intend(1, first.clone()),
                intend(1, second.clone()),
            ])
            .await;
        let found = process.store.open_rotations(&acct1).await.unwrap();
        assert_eq!(ids(&found), [id(1), id(3), id(5)]);
        assert_eq!(found[0].state, RotationState::Running);
        assert_eq!(found[0].steps, [first, second]);
        assert_eq!(found[1].steps, []);

        let at_work = process.store.accounts_at_work(10).await.unwrap();
        assert_eq!(
            at_work,
            [acct1.clone(), account("acct0")],
            "a leak goes first"
        );
        assert_eq!(process.store.accounts_at_work(1).await.unwrap().len(), 1);
        process.write(vec![end(1, 9), end(3, 9), end(5, 9)]).await;
        assert_eq!(process.store.open_rotations(&acct1).await.unwrap(), []);
        let at_work = process.store.accounts_at_work(10).await.unwrap();
        assert_eq!(at_work, [account("acct0")]);
    })
    .await;
}

#[tokio::test]
async fn what_is_in_flight_is_the_newest_open_mutation_of_the_account() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let flight = async || process.store.in_flight(&account("acct1")).await.unwrap();
        process
            .write(vec![
                RotationWrite::Open(rotation(1, "acct1", Trigger::Schedule)),
                RotationWrite::Open(rotation(2, "acct2", Trigger::Schedule)),
                intend(2, regenerate(1, KeyName::Key1, "other", 99)),
                // Neither proofs nor switches are mutations that could land late.
                intend(1, step(1, StepKind::Prove, KeyName::Key1, 90)),
                intend(1, step(2, StepKind::Disable, KeyName::Key1, 91)),
            ])
            .await;
        assert_eq!(flight().await, None);

        process
            .write(vec![intend(1, regenerate(3, KeyName::Key2, "then", 10))])
            .await;
        let regeneration = InFlight {
            rotation: id(1),
            seq: 3,
            kind: StepKind::Regenerate,
            key: KeyName::Key2,
            created_before: Some(CreationTime::new("then")),
            since: at(10),
        };
        assert_eq!(flight().await, Some(regeneration.clone()));
        process
            .write(vec![conclude(1, 3, StepOutcome::Unclear, 11)])
            .await;
        assert_eq!(
            flight().await,
            Some(regeneration.clone()),
            "unclear is open"
        );

        process
            .write(vec![intend(
                1,
                step(4, StepKind::Publish, KeyName::Key2, 20),
            )])
            .await;
        let publication = InFlight {
            seq: 4,
            kind: StepKind::Publish,
            created_before: None,
            since: at(20),
            ..regeneration.clone()
        };
        assert_eq!(flight().await, Some(publication));
        process
            .write(vec![conclude(1, 4, StepOutcome::Done, 21)])
            .await;
        assert_eq!(
            flight().await,
            Some(regeneration.clone()),
            "the older one is open still"
        );
        process.write(vec![end(1, 22)]).await;
        assert_eq!(
            flight().await,
            Some(regeneration),
            "whatever became of its rotation"
        );
        process
            .write(vec![conclude(1, 3, StepOutcome::NotSeen, 23)])
            .await;
        assert_eq!(flight().await, None);
    })
    .await;
}

#[tokio::test]
async fn the_last_regeneration_of_each_key_is_found_in_any_history() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let regenerated = async || {
            let found = process.store.regenerated(&account("acct1")).await.unwrap();
            found
                .into_iter()
                .map(|r| (r.key, r.rotation, r.at))
                .collect::<Vec<_>>()
        };
        assert_eq!(regenerated().await, []);
        for number in 1..=6 {
            let (key, since) = match number % 2 {
                0 => (KeyName::Key2, 100 * i64::try_from(number).unwrap()),
                _ => (KeyName::Key1, 100 * i64::try_from(number).unwrap()),
            };
            let outcome = match number {
                1 => StepOutcome::Seen,
                2..=4 => StepOutcome::Done,
                5 => StepOutcome::NotSeen,
                _ => StepOutcome::Unclear,
            };
            process
                .write(vec![
                    RotationWrite::Open(rotation(number, "acct1", Trigger::Schedule)),
                    intend(
                        number,
                        regenerate(1, key, &format!("before {number}"), since),
                    ),
                    conclude(number, 1, outcome, since + 5),
                    end(number, since + 6),
                    RotationWrite::Open(rotation(number + 50, "acct2", Trigger::Schedule)),
                    intend(number + 50, regenerate(1, key, "other", since + 1_000)),
                    conclude(number + 50, 1, StepOutcome::Done, since + 1_005),
                    end(number + 50, since + 1_006),
                ])
                .await;
        }
        // The fifth certainly did not take place, of the sixth it is not known.
        let expected = [
            (KeyName::Key1, id(3), at(305)),
            (KeyName::Key2, id(4), at(405)),
        ];
        assert_eq!(regenerated().await, expected);
        process
            .write(vec![conclude(6, 1, StepOutcome::Seen, 900)])
            .await;
        let expected = [
            (KeyName::Key1, id(3), at(305)),
            (KeyName::Key2, id(6), at(900)),
        ];
        assert_eq!(regenerated().await, expected);
        let found = process.store.regenerated(&account("acct1")).await.unwrap();
        let last = Regenerated {
            rotation: id(6),
            key: KeyName::Key2,
            created_before: Some(CreationTime::new("before 6")),
            at: at(900),
        };
        assert_eq!(found[1], last);
    })
    .await;
}

#[tokio::test]
async fn pages_go_back_from_the_newest_rotation() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        for number in 1..=7 {
            let mut told = vec![RotationWrite::Open(rotation(
                number,
                "acct1",
                Trigger::Operator,
            ))];
            for seq in 1..=i64::try_from(number).unwrap() {
                told.push(intend(
                    number,
                    step(seq, StepKind::Prove, KeyName::Key1, seq),
                ));
            }
            told.push(end(number, 1));
            told.push(RotationWrite::Open(rotation(
                number + 20,
                "acct2",
                Trigger::Operator,
            )));
            told.push(end(number + 20, 1));
            process.write(told).await;
        }
        let page = async |before: Option<u128>, limit| {
            let before = before.map(id);
            let found = process
                .store
                .rotations(&account("acct1"), before, limit)
                .await;
            found.unwrap()
        };
        let newest = page(None, 3).await;
        assert_eq!(ids(&newest), [id(7), id(6), id(5)], "steps do not count");
        let seqs: Vec<i64> = newest[0].steps.iter().map(|step| step.seq).collect();
        assert_eq!(seqs, (1..=7).collect::<Vec<_>>());
        assert_eq!(ids(&page(Some(5), 3).await), [id(4), id(3), id(2)]);
        assert_eq!(ids(&page(Some(2), 3).await), [id(1)]);
        assert_eq!(page(Some(1), 3).await, []);
        assert_eq!(page(None, 0).await, []);
    })
    .await;
}

#[tokio::test]
async fn statuses_come_in_the_order_of_names() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let mut looks = vec![];
        for name in ["zeta", "0data", "data10", "data2", "alpha"] {
            looks.push(RotationWrite::Look(status(name, 0, 1)));
        }
        process.write(looks).await;
        let names = async |after: Option<&str>, limit| {
            let after = after.map(account);
            let found = process.store.statuses(after.as_ref(), limit).await.unwrap();
            let name =
                |status: &sas_broker::domain::rotation::AccountStatus| status.account.to_string();
            found.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(None, 9).await,
            ["0data", "alpha", "data10", "data2", "zeta"]
        );
        assert_eq!(names(None, 2).await, ["0data", "alpha"]);
        assert_eq!(names(Some("alpha"), 2).await, ["data10", "data2"]);
        assert_eq!(names(Some("beta"), 1).await, ["data10"]);
        assert_eq!(names(Some("zeta"), 9).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_wake_brings_a_look_forward_and_is_not_lost_on_one_under_way() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let wake = |when| RotationWrite::Wake {
            account: account("acct1"),
            at: at(when),
        };
        let look = |looked, next| RotationWrite::Look(status("acct1", looked, next));
        let next = async || {
            let found = process.store.status(&account("acct1")).await.unwrap();
            found.map(|status| status.look_at)
        };
        process.write(vec![wake(5)]).await;
        assert_eq!(next().await, None, "the first look comes anyway");
        process.write(vec![look(10, 1_000)]).await;
        process.write(vec![wake(2_000)]).await;
        assert_eq!(next().await, Some(at(1_000)), "it never puts off");
        process.write(vec![wake(50)]).await;
        assert_eq!(next().await, Some(at(50)));
        // This look began before somebody asked, and ends after.
        process.write(vec![look(40, 3_000)]).await;
        assert_eq!(next().await, Some(at(50)));
        // So did perhaps this one: who asked read the clock before the request was committed.
        process.write(vec![look(60, 3_000)]).await;
        assert_eq!(next().await, Some(at(50)));
        process.write(vec![look(80, 3_000)]).await;
        assert_eq!(next().await, Some(at(3_000)), "this one has answered it");
    })
    .await;
}

fn notification(number: u128, kind: NotificationKind, when: i64) -> Notification {
    Notification {
        id: Uuid::from_u128(number),
        kind,
        account: account("acct1"),
        rotation: number.is_multiple_of(2).then(|| id(number)),
        at: at(when),
        data: format!("{{\"number\":{number}}}"),
    }
}

#[tokio::test]
async fn notifications_wait_until_they_are_accepted() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let due = async |now, limit| {
            let found = process.store.notifications(at(now), limit).await;
            found.unwrap()
        };
        let mut told = vec![];
        for ((number, when), kind) in (1..).zip([30, 10, 20, 15]).zip(NotificationKind::ALL) {
            told.push(notification(number, kind, when));
        }
        let writes = told.iter().cloned().map(RotationWrite::Notify);
        process.write(writes.collect()).await;
        // The same event once more changes nothing.
        process
            .write(vec![RotationWrite::Notify(told[0].clone())])
            .await;
        told.sort_by_key(|notification| notification.at);
        let all: Vec<_> = told.iter().cloned().map(|event| (event, 0)).collect();
        assert_eq!(due(99, 9).await, all, "oldest first");
        assert_eq!(due(15, 9).await, all[..2], "only those whose time has come");
        assert_eq!(due(99, 3).await, all[..3]);

        let oldest = told[0].id;
        process
            .store
            .postpone_notification(oldest, at(200))
            .await
            .unwrap();
        assert_eq!(due(199, 9).await, all[1..]);
        process
            .store
            .postpone_notification(oldest, at(300))
            .await
            .unwrap();
        assert_eq!(due(300, 1).await, [(told[0].clone(), 2)]);
        process.store.drop_notification(oldest).await.unwrap();
        process.store.drop_notification(oldest).await.unwrap();
        process
            .store
            .postpone_notification(oldest, at(0))
            .await
            .unwrap();
        assert_eq!(due(999, 9).await, all[1..]);
    })
    .await;
}

#[tokio::test]
async fn the_oldest_notifications_give_way_where_too_many_wait() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        db.by_hand(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < {NOTIFICATIONS_MAX}) \
             INSERT INTO notifications \
             (id, kind, account, rotation, at, data, attempts, next_attempt_at) \
             SELECT '00000000-0000-0000-0000-' || substr(CAST(1000000000000 + i AS TEXT), 2), \
             'sas-broker.rotation.failed.v1', 'acct1', NULL, i, '{{}}', 0, i FROM n"
        ))
        .await
        .unwrap();
        let new = (1..=3).map(|number| {
            RotationWrite::Notify(notification(number << 64, NotificationKind::Drift, 1))
        });
        process.write(new.collect()).await;
        let kept = process
            .store
            .notifications(at(9), usize::MAX)
            .await
            .unwrap();
        assert_eq!(kept.len(), NOTIFICATIONS_MAX);
        let ids: HashSet<u128> = kept.iter().map(|(kept, _)| kept.id.as_u128()).collect();
        let oldest = Uuid::parse_str("00000000-0000-0000-0000-000000000003").unwrap();
        assert!(!ids.contains(&oldest.as_u128()));
        assert!((1..=3).all(|number| ids.contains(&(number << 64))));
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_word_is_called_corrupt() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let look = RotationWrite::Look(status("acct1", 0, 1));
        let open = RotationWrite::Open(rotation(1, "acct1", Trigger::Schedule));
        process.write(vec![open, look]).await;
        db.by_hand("UPDATE rotations SET trigger = 'whim'; UPDATE rotation_status SET state = '?'")
            .await
            .unwrap();
        let corrupt = |error: StoreError| matches!(error, StoreError::Corrupt(_));
        let acct1 = account("acct1");
        assert!(corrupt(
            process.store.open_rotations(&acct1).await.unwrap_err()
        ));
        assert!(corrupt(process.store.status(&acct1).await.unwrap_err()));
    })
    .await;
}
