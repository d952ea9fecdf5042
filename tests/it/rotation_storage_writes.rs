//! The writes of a batch: each is read back, all stand or fall together with their record, and one
//! that does not fit what is stored refuses them all.

use std::sync::Arc;

use sas_broker::{
    app::verify_journal::verify_journal,
    domain::{
        audit::Chain,
        ids::{SecretVersion, WriterId},
        rotation::{
            AccountStatus, Fence, KeyName, Publication, Rotation, RotationBatch, RotationState,
            RotationStep, RotationWrite, State, StepKind, StepOutcome, Trigger,
        },
    },
    journal::{Enacted, JournalError},
    ports::{JournalReader, JournalStore, PolicyStore, Purpose, Rotations},
};
use uuid::Uuid;

use crate::{
    journal_support::{Fault, Faulty, StandingClock, open, role_change},
    rotation_storage_support::{
        Process, account, at, break_glass, conclude, enactment, end, id, intend, regenerate,
        rotation, status, step,
    },
    storage_database::{Database, on_each_engine},
};

const CREATED: &str = "2026-11-23T10:00:00.1200000Z";

fn version(digit: char) -> SecretVersion {
    digit.to_string().repeat(32).parse().unwrap()
}

/// The story of a rotation that met everything, and the batches that tell it.
fn whole_story() -> (Vec<Vec<RotationWrite>>, Rotation) {
    let asked = Rotation {
        reason: Some("OPS-7".into()),
        requested_by: "caller:1@2".into(),
        ..rotation(5, "acct1", Trigger::Operator)
    };
    let known = RotationStep {
        key: None,
        ended_at: Some(at(31)),
        outcome: StepOutcome::Refused,
        detail: Some("the key is not known yet".into()),
        ..step(2, StepKind::Prove, KeyName::Key2, 30)
    };
    let batches = vec![
        vec![RotationWrite::Open(asked.clone())],
        vec![
            RotationWrite::Start { rotation: id(5) },
            RotationWrite::Pin {
                rotation: id(5),
                key: KeyName::Key2,
            },
            intend(5, regenerate(1, KeyName::Key2, CREATED, 10)),
        ],
        vec![RotationWrite::Conclude {
            rotation: id(5),
            seq: 1,
            outcome: StepOutcome::Unclear,
            version: None,
            detail: Some("no answer in time".into()),
            at: at(20),
        }],
        vec![conclude(5, 1, StepOutcome::Seen, 25)],
        vec![intend(5, known.clone())],
        vec![intend(5, step(3, StepKind::Publish, KeyName::Key2, 40))],
        vec![
            RotationWrite::Conclude {
                rotation: id(5),
                seq: 3,
                outcome: StepOutcome::Done,
                version: Some(version('a')),
                detail: Some("proved by a Shared Key call".into()),
                at: at(41),
            },
            end(5, 42),
        ],
    ];
    let regenerated = RotationStep {
        ended_at: Some(at(25)),
        outcome: StepOutcome::Seen,
        detail: Some("no answer in time".into()),
        ..regenerate(1, KeyName::Key2, CREATED, 10)
    };
    let published = RotationStep {
        ended_at: Some(at(41)),
        outcome: StepOutcome::Done,
        version: Some(version('a')),
        detail: Some("proved by a Shared Key call".into()),
        ..step(3, StepKind::Publish, KeyName::Key2, 40)
    };
    let story = Rotation {
        key: Some(KeyName::Key2),
        state: RotationState::Succeeded,
        detail: Some("published".into()),
        ended_at: Some(at(42)),
        steps: vec![regenerated, known, published],
        ..asked
    };
    (batches, story)
}

#[tokio::test]
async fn a_story_is_read_back_as_it_was_told() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let (batches, story) = whole_story();
        for batch in batches {
            process.write(batch).await;
        }
        let found = process.one(&story).await;
        assert_eq!(found, story);
        // Creation times are equal as instants; they are kept as texts.
        let created = found.steps[0].created_before.as_ref().unwrap();
        assert_eq!(created.as_str(), CREATED);
        assert_eq!(
            process
                .store
                .rotation(&account("acct2"), id(5))
                .await
                .unwrap(),
            None
        );
        assert_eq!(
            process.store.rotation(&story.account, id(6)).await.unwrap(),
            None
        );
        // The opening of the chain, and one record for each batch.
        assert_eq!(process.records().await.len(), 1 + 7);
    })
    .await;
}

#[tokio::test]
async fn every_word_is_read_back() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let mut told = vec![];
        for (number, trigger) in (10..).zip(Trigger::ALL) {
            let mut steps = vec![];
            for (seq, kind) in (1..).zip(StepKind::ALL) {
                steps.push(step(seq, *kind, KeyName::Key1, 0));
            }
            for (seq, outcome) in (10..).zip(StepOutcome::ALL) {
                steps.push(RotationStep {
                    outcome: *outcome,
                    ..step(seq, StepKind::Enable, KeyName::Key2, 0)
                });
            }
            told.push(Rotation {
                steps,
                ..rotation(number, "acct1", *trigger)
            });
        }
        for (number, state) in (30..).zip(RotationState::ALL) {
            told.push(Rotation {
                state: *state,
                ended_at: Some(at(9)),
                ..rotation(number, "acct2", Trigger::Schedule)
            });
        }
        for rotation in &told {
            let mut finished = vec![RotationWrite::Open(rotation.clone())];
            if !rotation.state.is_over() {
                finished.push(end(rotation.id.0.as_u128() - id(0).0.as_u128(), 1));
            }
            process.write(finished).await;
            let found = process.one(rotation).await;
            assert_eq!(
                (found.trigger, &found.steps),
                (rotation.trigger, &rotation.steps)
            );
        }
        for (number, state) in State::ALL.iter().enumerate() {
            let mut look = status(&format!("acct{number}"), 0, 1);
            look.state = *state;
            process.write(vec![RotationWrite::Look(look.clone())]).await;
            assert_eq!(
                process.store.status(&look.account).await.unwrap(),
                Some(look)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_look_is_read_back_and_gives_way_to_the_next() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let full = AccountStatus {
            published: Some(Publication {
                version: version('b'),
                key: KeyName::Key2,
                rotation: id(5),
                at: at(-7),
            }),
            due_at: Some(at(500)),
            failures: u32::MAX,
            overdue_told: Some(at(400)),
            ..status("acct1", 1, 2)
        };
        assert_eq!(process.store.status(&full.account).await.unwrap(), None);
        for look in [full, status("acct1", 3, 4)] {
            process.write(vec![RotationWrite::Look(look.clone())]).await;
            assert_eq!(
                process.store.status(&look.account).await.unwrap(),
                Some(look)
            );
        }
    })
    .await;
}

/// A rotation that is over, one that runs with a step of each kind of outcome, and a break-glass.
async fn stories_under_way(process: &Process) {
    process
        .write(vec![
            RotationWrite::Open(rotation(1, "acct1", Trigger::Adoption)),
            end(1, 1),
            RotationWrite::Open(rotation(2, "acct1", Trigger::Schedule)),
            RotationWrite::Start { rotation: id(2) },
            intend(2, regenerate(1, KeyName::Key2, CREATED, 10)),
            conclude(2, 1, StepOutcome::NotSeen, 11),
            intend(2, regenerate(2, KeyName::Key2, CREATED, 12)),
            RotationWrite::Open(break_glass(3, "acct1", KeyName::Key1)),
        ])
        .await;
}

#[tokio::test]
async fn a_write_that_does_not_fit_refuses_the_batch_and_its_record() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        stories_under_way(&process).await;
        let before = process
            .store
            .rotations(&account("acct1"), None, 10)
            .await
            .unwrap();
        let records = process.records().await;
        let pin = |number, key| RotationWrite::Pin {
            rotation: id(number),
            key,
        };
        let start = |number| RotationWrite::Start {
            rotation: id(number),
        };
        let misfits = [
            RotationWrite::Open(rotation(9, "acct1", Trigger::Repair)),
            RotationWrite::Open(break_glass(9, "acct1", KeyName::Key1)),
            RotationWrite::Open(rotation(1, "acct9", Trigger::Schedule)),
            start(1),
            start(2),
            start(9),
            intend(1, regenerate(1, KeyName::Key1, CREATED, 20)),
            intend(2, regenerate(2, KeyName::Key1, CREATED, 20)),
            intend(9, regenerate(1, KeyName::Key1, CREATED, 20)),
            conclude(2, 1, StepOutcome::Seen, 20),
            conclude(2, 9, StepOutcome::Done, 20),
            conclude(9, 1, StepOutcome::Done, 20),
            pin(1, KeyName::Key1),
            pin(3, KeyName::Key2),
            pin(9, KeyName::Key1),
            end(1, 20),
            end(9, 20),
        ];
        for misfit in misfits {
            let fits = RotationWrite::Look(status("acct1", 0, 1));
            for batch in [
                vec![fits.clone(), misfit.clone()],
                vec![misfit.clone(), fits],
            ] {
                let enacted = process.enact(None, batch).await;
                assert_eq!(enacted, Enacted::Refused, "{misfit:?}");
            }
        }
        let after = process
            .store
            .rotations(&account("acct1"), None, 10)
            .await
            .unwrap();
        assert_eq!(after, before);
        assert_eq!(process.store.status(&account("acct1")).await.unwrap(), None);
        assert_eq!(
            process.records().await,
            records,
            "no record of what was not done"
        );
        assert!(process.journal.healthy(), "a refusal is no failure");
    })
    .await;
}

#[tokio::test]
async fn what_was_under_way_is_concluded_after_the_rotation_is_over() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        stories_under_way(&process).await;
        process.write(vec![end(2, 20)]).await;
        process
            .write(vec![conclude(2, 2, StepOutcome::Unclear, 21)])
            .await;
        process
            .write(vec![conclude(2, 2, StepOutcome::Seen, 22)])
            .await;
        let story = process.one(&rotation(2, "acct1", Trigger::Schedule)).await;
        assert_eq!(story.state, RotationState::Succeeded);
        assert_eq!(story.steps[1].outcome, StepOutcome::Seen);
        let pin = RotationWrite::Pin {
            rotation: id(3),
            key: KeyName::Key1,
        };
        process.write(vec![pin]).await;
    })
    .await;
}

#[tokio::test]
async fn each_key_may_have_its_break_glass_beside_one_other_rotation() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let open = |rotation| process.enact(None, vec![RotationWrite::Open(rotation)]);
        let fit = |enacted: Enacted| matches!(enacted, Enacted::Written(_));
        assert!(fit(open(rotation(1, "acct1", Trigger::Operator)).await));
        assert!(fit(open(break_glass(2, "acct1", KeyName::Key1)).await));
        assert!(fit(open(break_glass(3, "acct1", KeyName::Key2)).await));
        assert!(fit(open(rotation(4, "acct2", Trigger::Schedule)).await));
        assert!(!fit(open(rotation(5, "acct1", Trigger::Adoption)).await));
        assert!(!fit(open(break_glass(6, "acct1", KeyName::Key2)).await));
        // What ends makes room in the same batch.
        let next = RotationWrite::Open(rotation(7, "acct1", Trigger::Repair));
        process.write(vec![end(1, 1), next]).await;
    })
    .await;
}

#[tokio::test]
async fn dropped_delegation_keys_raise_the_generation_and_the_version_once_for_a_batch() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let drop_keys = |name| RotationWrite::DropDelegationKeys {
            account: account(name),
        };
        let generations = async || {
            let table = process.store.load().await.unwrap();
            let of = |name| table.key_generations.get(&account(name)).copied();
            (table.version, of("acct1"), of("acct2"))
        };
        assert_eq!(generations().await, (0, None, None));
        process
            .write(vec![drop_keys("acct1"), drop_keys("acct2")])
            .await;
        assert_eq!(generations().await, (1, Some(1), Some(1)));
        process.write(vec![drop_keys("acct2")]).await;
        assert_eq!(generations().await, (2, Some(1), Some(2)));
        process
            .write(vec![RotationWrite::Look(status("acct1", 0, 1))])
            .await;
        assert_eq!(generations().await, (2, Some(1), Some(2)));

        let (event, changes) = role_change(2);
        process.journal.change(event, changes).await.unwrap();
        assert_eq!(generations().await.0, 3, "the triggers stand as they stood");
        db.by_hand("UPDATE delegation_key_generations SET generation = generation + 1")
            .await
            .unwrap();
        let (version, one, two) = generations().await;
        assert_eq!((one, two), (Some(2), Some(3)));
        assert!(version > 3, "by hand counts too");
    })
    .await;
}

#[tokio::test]
async fn a_refused_drop_leaves_version_and_triggers_alone() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let drop_keys = RotationWrite::DropDelegationKeys {
            account: account("acct1"),
        };
        let enacted = process
            .enact(None, vec![drop_keys.clone(), end(9, 1)])
            .await;
        assert_eq!(enacted, Enacted::Refused);
        let stale = Some(Fence { token: 4 });
        let enacted = process.enact(stale, vec![drop_keys]).await;
        assert_eq!(enacted, Enacted::Refused);
        assert_eq!(process.store.load().await.unwrap().version, 0);
        let (event, changes) = role_change(0);
        process.journal.change(event, changes).await.unwrap();
        assert_eq!(process.store.load().await.unwrap().version, 1);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_ends_in_the_middle_leaves_nothing() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let batch = RotationBatch {
            fence: None,
            writes: vec![
                RotationWrite::Open(rotation(1, "acct1", Trigger::Schedule)),
                intend(1, regenerate(1, KeyName::Key2, CREATED, 1)),
                RotationWrite::Look(status("acct1", 0, 1)),
                RotationWrite::DropDelegationKeys {
                    account: account("acct1"),
                },
            ],
        };
        let (_, row) = Chain::new(WriterId(Uuid::from_u128(9)))
            .append(enactment(None, vec![]).events.remove(0));
        let mut tx = process.store.begin(Purpose::Change).await.unwrap();
        assert!(tx.rotate(&batch, 1).await.unwrap());
        tx.append(std::slice::from_ref(&row)).await.unwrap();
        drop(tx);

        let faulty = Faulty::new(process.store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        for fault in [Fault::Begin, Fault::Append, Fault::CommitFails] {
            faulty.fail_next(fault);
            let outcome = journal.enact(enactment(None, batch.writes.clone())).await;
            assert!(outcome.is_err(), "{fault:?}: {outcome:?}");
        }
        assert_eq!(process.store.accounts_at_work(9).await.unwrap(), []);
        assert_eq!(
            process.store.in_flight(&account("acct1")).await.unwrap(),
            None
        );
        assert_eq!(process.store.statuses(None, 9).await.unwrap(), []);
        assert_eq!(process.store.load().await.unwrap().version, 0);
        assert_eq!(process.store.rows(None, 9).await.unwrap(), []);
        process.write(batch.writes).await;
    })
    .await;
}

#[tokio::test]
async fn an_unconfirmed_write_without_a_record_is_not_taken_for_written() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let faulty = Faulty::new(process.store.clone());
        let journal = open(faulty.clone(), &StandingClock::new());
        let first = enactment(None, vec![RotationWrite::Look(status("acct1", 0, 1))]);
        assert!(matches!(
            journal.enact(first).await,
            Ok(Enacted::Written(_))
        ));
        let mut silent = enactment(None, vec![RotationWrite::Look(status("acct1", 2, 3))]);
        silent.events.clear();
        // The chain's head stands where it stood, whatever became of the commit.
        faulty.fail_next(Fault::CommitFails);
        let outcome = journal.enact(silent.clone()).await;
        assert_eq!(outcome, Err(JournalError::Unclear));
        let kept = process.store.status(&account("acct1")).await.unwrap();
        assert_eq!(kept, Some(status("acct1", 0, 1)));
        let again = journal.enact(silent).await;
        assert!(matches!(again, Ok(Enacted::Written(_))), "{again:?}");
        let store: Arc<dyn JournalReader> = process.store.clone();
        let report = verify_journal(&*store).await;
        assert_eq!(report.unwrap().findings, []);
    })
    .await;
}
