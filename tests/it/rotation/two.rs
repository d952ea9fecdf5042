//! Two schedulers on one database: one acts. What a process does that lost its lease without knowing
//! it, and the one thing that nobody can stop, and that is repaired.

use std::sync::Arc;

use sas_broker::{
    app::tenure::{LEASE, MUTATION},
    domain::{
        audit::Action,
        rotation::{KeyName, RotationState, step::OBSERVATION_INTERVAL},
    },
};
use time::Duration;

use super::{
    azure::Point,
    faults::Faults,
    process::{Process, World},
};

impl World {
    /// A process whose calls are counted apart from the others'.
    fn another(&self) -> Process {
        self.process_with(&Arc::new(Faults::default())).unwrap()
    }

    /// An account that was adopted a month ago, and whose rotation is due.
    fn due() -> Self {
        let world = Self::new();
        let process = world.another();
        assert!(process.tick());
        drop(process);
        assert!(world.azure.lock().unwrap().is_sound());
        world.wait(Duration::days(31));
        world
    }

    fn writers(&self) -> usize {
        let records = self.records();
        let acts = records.iter().filter(|record| {
            matches!(
                record.event.action,
                Action::RotationOpened { .. }
                    | Action::RotationStep { .. }
                    | Action::RotationEnded { .. }
            )
        });
        let writers: std::collections::BTreeSet<_> = acts.map(|record| record.writer).collect();
        writers.len()
    }
}

#[test]
fn of_two_that_tick_every_minute_one_acts_and_the_other_takes_over_after_its_end() {
    let world = World::new();
    let (first, second) = (world.another(), world.another());
    for _ in 0..10 {
        assert!(first.tick() && second.tick());
        world.wait(Duration::minutes(1));
    }
    assert_eq!((first.mutations(), second.mutations()), (1, 0));
    assert_eq!(world.writers(), 1);

    world.wait(Duration::days(31));
    assert!(first.tick());
    assert_eq!((first.mutations(), second.mutations()), (3, 0));

    // It ends without giving the lease back; the other one waits for its end, and then for calls
    // that may still be under way.
    drop(first);
    world.wait(Duration::days(31) - LEASE);
    let before = world.azure.lock().unwrap().regenerated.len();
    let begun = world.clock.micros();
    while world.azure.lock().unwrap().regenerated.len() == before {
        assert!(second.tick());
        world.wait(Duration::seconds(10));
    }
    let waited = world.clock.micros() - begun;
    let least = i64::try_from(MUTATION.as_micros()).unwrap();
    assert!(waited >= least, "{waited}");
    assert_eq!(world.azure.lock().unwrap().violations, Vec::<String>::new());
}

#[test]
fn a_process_that_wakes_up_after_its_lease_was_taken_writes_and_sends_nothing() {
    let world = World::due();
    let frozen = world.another().freeze(Point::Look);
    world.wait(Duration::minutes(15));
    let other = world.another();
    for _ in 0..3 {
        assert!(other.tick());
        world.wait(Duration::minutes(1));
    }
    let after = world.azure.lock().unwrap().clone();
    assert_eq!(
        after.regenerated,
        [KeyName::Key2],
        "the other one has rotated"
    );
    assert!(after.is_sound());
    let (records, rotations) = (world.records().len(), world.rotations());

    let woken = frozen.wake();
    assert_eq!(woken.mutations(), 0);
    assert_eq!(world.records().len(), records);
    assert_eq!(world.rotations(), rotations);
    for _ in 0..5 {
        assert!(woken.tick() && other.tick());
        world.wait(Duration::minutes(1));
    }
    assert_eq!(woken.mutations(), 0);
    let azure = world.azure.lock().unwrap();
    assert_eq!(azure.regenerated, [KeyName::Key2]);
    assert_eq!(azure.violations, Vec::<String>::new());
}

#[test]
fn what_a_process_saw_before_its_lease_was_taken_is_not_written_over_what_is_known_since() {
    let world = World::new();
    let process = world.another();
    assert!(process.tick());
    world.wait(OBSERVATION_INTERVAL);
    let frozen = process.freeze(Point::Look);
    world.wait(Duration::minutes(15));
    let other = world.another();
    assert!(other.tick());
    let status = world.status();

    let woken = frozen.wake();
    assert_eq!(world.status(), status);
    assert!(woken.tick() && other.tick());
    assert_eq!(world.status(), status);
    assert_eq!(woken.mutations() + other.mutations(), 1, "the adoption's");
}

#[test]
fn what_a_process_sends_that_was_frozen_after_its_last_check_is_repaired() {
    let world = World::due();
    let process = world.another();
    assert!(process.tick(), "it waits for calls of the one before it");
    world.wait(Duration::minutes(1));
    let frozen = process.freeze(Point::Send);
    // Longer than a regeneration may take: whoever took the lease over has waited, looked, and done it
    // again.
    let other = world.another();
    for _ in 0..20 {
        assert!(other.tick());
        world.wait(Duration::minutes(1));
    }
    assert_eq!(world.azure.lock().unwrap().regenerated, [KeyName::Key2]);
    assert!(world.azure.lock().unwrap().is_sound());
    let records = world.records().len();

    // Its request goes out now and kills the key that has been published since. It cannot say so.
    let woken = frozen.wake();
    assert_eq!(woken.mutations(), 1);
    assert_eq!(
        world.records().len(),
        records,
        "its lease guards the database"
    );
    {
        let mut azure = world.azure.lock().unwrap();
        assert!(!azure.is_sound(), "this is what nobody can prevent");
        let told = std::mem::take(&mut azure.violations);
        assert_eq!(told, ["key2 was killed while it is current"]);
    }
    let killed = world.clock.micros();
    while !world.azure.lock().unwrap().is_sound() {
        world.pass();
        assert!(other.tick());
    }
    let dead = Duration::microseconds(world.clock.micros() - killed);
    assert!(dead <= OBSERVATION_INTERVAL, "{dead}");
    let azure = world.azure.lock().unwrap();
    assert_eq!(azure.newest().unwrap().key(), Some(KeyName::Key2));
    assert_eq!(azure.violations, Vec::<String>::new());
    let repaired = world.rotations().pop().unwrap();
    assert_eq!(repaired.state, RotationState::Succeeded);
}
