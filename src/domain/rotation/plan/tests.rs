//! The planner over random histories: a small world of keys, versions and records, in which other
//! hands meddle, steps fail, and outcomes are unknown or late. What must never happen is checked at
//! every step, and that everything comes right again at the end of every history.

use proptest::prelude::*;
use time::{Duration, macros::datetime};
use url::Url;
use uuid::Uuid;

use super::*;
use crate::domain::{
    ids::RotationId,
    rotation::{
        CreationTime, CreationTimes, DeletedSecret, KeyName, ProofPolicy, Publication, Regenerated,
        Rotation, RotationStep, SecretForm, Step, Trigger,
        observation::{Published, VersionFacts},
        schedule::Schedule,
    },
};

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A look, and what becomes of the step that it may lead to.
    Look(Fate),
    Pass(u16),
    Regenerate(KeyName),
    SwitchOff,
    Foreign,
    Convention(KeyName),
    Delete,
    Restore,
    Request,
    BreakGlass(KeyName),
    ForgetEverything,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Done,
    Refused,
    /// It takes place, and nobody hears of it.
    Unheard,
    /// It takes place this many minutes later, and nobody hears of it.
    Late(u8),
    Lost,
}

fn key() -> impl Strategy<Value = KeyName> {
    prop_oneof![Just(KeyName::Key1), Just(KeyName::Key2)]
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        6 => Just(Fate::Done),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Unheard),
        1 => (1_u8..9).prop_map(Fate::Late),
        1 => Just(Fate::Lost),
    ];
    prop_oneof![
        12 => fate.prop_map(Event::Look),
        4 => (1_u16..3_000).prop_map(Event::Pass),
        2 => (30_000_u16..50_000).prop_map(Event::Pass),
        1 => key().prop_map(Event::Regenerate),
        1 => Just(Event::SwitchOff),
        1 => Just(Event::Foreign),
        1 => key().prop_map(Event::Convention),
        1 => Just(Event::Delete),
        1 => Just(Event::Restore),
        2 => Just(Event::Request),
        1 => key().prop_map(Event::BreakGlass),
        1 => Just(Event::ForgetEverything),
    ]
}

fn policy(deleted_secret: DeletedSecret) -> RotationPolicy {
    RotationPolicy {
        vault: Url::parse("https://kv1.vault.azure.net").unwrap(),
        secret_name: None,
        schedule: Schedule::Interval { days: 30 },
        overlap_hours: 24,
        jitter_minutes: 60,
        window: None,
        initial_key: KeyName::Key1,
        value: SecretForm::Key,
        proof: ProofPolicy::Required,
        deleted_secret,
        rotate_disallowed_keys: false,
    }
}

struct World {
    now: OffsetDateTime,
    policy: RotationPolicy,
    created: CreationTimes,
    versions: Vec<VersionFacts>,
    deleted: bool,
    own: OwnRecords,
    /// Mutations that take effect later.
    pending: Vec<(OffsetDateTime, Step, RotationId)>,
    /// Since when a key is no longer what the newest version names.
    superseded: [Option<OffsetDateTime>; 2],
    serial: u32,
}

impl World {
    fn new(policy: RotationPolicy) -> Self {
        Self {
            now: datetime!(2031-03-04 12:00 UTC),
            policy,
            created: CreationTimes::default(),
            versions: vec![],
            deleted: false,
            own: OwnRecords::default(),
            pending: vec![],
            superseded: [None, None],
            serial: 0,
        }
    }

    fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Look(fate) => drop(self.look(fate)),
            Event::Pass(minutes) => self.pass(Duration::minutes(minutes.into())),
            Event::Regenerate(key) => self.regenerate(key),
            Event::SwitchOff => {
                if let Some(newest) = self.versions.last_mut() {
                    newest.enabled = false;
                }
            }
            Event::Foreign => self.put(Origin::Foreign),
            Event::Convention(key) => self.put(Origin::Convention(key)),
            Event::Delete => self.deleted = !self.versions.is_empty(),
            Event::Restore => self.deleted = false,
            Event::Request => self.request(Trigger::Operator, None),
            Event::BreakGlass(key) => self.request(Trigger::BreakGlass, Some(key)),
            Event::ForgetEverything => {
                // The database is lost, but not in the middle of something.
                if self.own.open.is_empty() && self.own.in_flight.is_none() {
                    self.own = OwnRecords::default();
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        let due = |(at, ..): &mut (OffsetDateTime, Step, RotationId)| *at <= now;
        let landing: Vec<_> = self.pending.extract_if(.., due).collect();
        for (_, step, rotation) in landing {
            self.take_effect(&step, rotation);
        }
    }

    fn regenerate(&mut self, key: KeyName) {
        let time = Some(CreationTime::new(&format!("t{}", self.next())));
        match key {
            KeyName::Key1 => self.created.key1 = time,
            KeyName::Key2 => self.created.key2 = time,
        }
    }

    fn put(&mut self, origin: Origin) {
        if self.deleted {
            return;
        }
        let before = self.newest_key();
        let number = self.next();
        self.versions.push(VersionFacts {
            version: format!("{number:032x}").parse().unwrap(),
            created: self.now.unix_timestamp(),
            enabled: true,
            origin,
        });
        let after = self.newest_key();
        if let Some(key) = before.filter(|before| Some(*before) != after) {
            self.superseded[key as usize] = Some(self.now);
        }
    }

    fn newest_key(&self) -> Option<KeyName> {
        match &self.versions.last()?.origin {
            Origin::Ours(published) => Some(published.key),
            Origin::Convention(key) => Some(*key),
            Origin::Foreign => None,
        }
    }

    fn request(&mut self, trigger: Trigger, key: Option<KeyName>) {
        let taken = |open: &Rotation| match trigger {
            Trigger::BreakGlass => open.trigger == trigger && open.key == key,
            _ => open.trigger != Trigger::BreakGlass,
        };
        if !self.own.open.iter().any(taken) {
            let rotation = self.rotation(trigger, key, RotationState::Requested);
            self.own.open.push(rotation);
            self.own.open.sort_by_key(|open| {
                let queued = open.state == RotationState::Requested;
                (
                    queued,
                    queued && open.trigger != Trigger::BreakGlass,
                    open.id,
                )
            });
        }
    }

    fn rotation(
        &mut self,
        trigger: Trigger,
        key: Option<KeyName>,
        state: RotationState,
    ) -> Rotation {
        Rotation {
            id: RotationId(Uuid::from_u128(self.next().into())),
            account: "acct1".parse().unwrap(),
            trigger,
            key,
            reason: None,
            requested_by: "test".to_owned(),
            requested_at: self.now,
            state,
            detail: None,
            ended_at: None,
            steps: vec![],
        }
    }

    fn plan(&self) -> Plan {
        let secret = match (self.deleted, self.versions.is_empty()) {
            (true, _) => SecretFacts::Deleted,
            (false, true) => SecretFacts::Absent,
            (false, false) => SecretFacts::Versions(self.versions.clone()),
        };
        let observed = Observation {
            account: Seen::Read(AccountFacts {
                created: self.created.clone(),
                shared_key_allowed: true,
            }),
            secret: Seen::Read(secret),
        };
        let account = "acct1".parse().unwrap();
        plan(self.now, &account, &self.policy, &observed, &self.own)
    }

    /// Plans and does what the plan says, as the executor does; gives the plan back.
    fn look(&mut self, fate: Fate) -> Plan {
        let plan = self.plan();
        self.own.published.clone_from(&plan.published);
        match plan.next.clone() {
            Next::Rest { .. } | Next::Wait { .. } => {}
            Next::Resolve {
                rotation,
                seq,
                outcome,
                version,
            } => self.conclude(rotation, seq, outcome, version),
            Next::End { rotation, .. } => {
                assert!(self.own.in_flight.is_none(), "ended with an open step");
                self.own.open.retain(|open| open.id != rotation);
            }
            Next::Step { trigger, step } => self.step(trigger, step, fate),
        }
        plan
    }

    fn step(&mut self, trigger: Trigger, step: Step, fate: Fate) {
        let alone = self.own.in_flight.is_none() || step == Step::Recover;
        assert!(alone, "a second step in flight");
        if self.own.open.is_empty() {
            let rotation = self.rotation(trigger, None, RotationState::Running);
            self.own.open.push(rotation);
        }
        self.own.open[0].state = RotationState::Running;
        self.check(&step);
        let (kind, key) = match &step {
            Step::Regenerate { key, .. } => (StepKind::Regenerate, Some(*key)),
            Step::Publish { key } => (StepKind::Publish, Some(*key)),
            Step::Enable { .. } => (StepKind::Enable, None),
            Step::Disable { key, .. } => (StepKind::Disable, Some(*key)),
            Step::Recover => (StepKind::Recover, None),
        };
        let now = self.now;
        let rotation = &mut self.own.open[0];
        let (id, seq) = (rotation.id, rotation.steps.len() as i64 + 1);
        let created_before = key.and_then(|key| self.created.of(key).cloned());
        let version = match &step {
            Step::Enable { version } | Step::Disable { version, .. } => Some(version.clone()),
            _ => None,
        };
        rotation.steps.push(RotationStep {
            seq,
            kind,
            key,
            created_before: created_before.clone(),
            version,
            started_at: now,
            ended_at: None,
            outcome: StepOutcome::Intended,
            detail: None,
        });
        let unsafe_to_repeat = matches!(kind, StepKind::Regenerate | StepKind::Publish);
        if let Some(key) = key.filter(|_| unsafe_to_repeat) {
            self.own.in_flight = Some(InFlight {
                rotation: id,
                seq,
                kind,
                key,
                created_before,
                since: now,
            });
        }
        let fate = if unsafe_to_repeat { fate } else { Fate::Done };
        match fate {
            Fate::Done => {
                self.take_effect(&step, id);
                let made = self.versions.last().map(|made| made.version.clone());
                let made = made.filter(|_| kind == StepKind::Publish);
                self.conclude(id, seq, StepOutcome::Done, made);
            }
            Fate::Refused => self.conclude(id, seq, StepOutcome::Refused, None),
            Fate::Unheard => self.take_effect(&step, id),
            Fate::Late(minutes) => {
                let lands = now + Duration::minutes(minutes.into());
                self.pending.push((lands, step, id));
            }
            Fate::Lost => {}
        }
    }

    fn take_effect(&mut self, step: &Step, rotation: RotationId) {
        match step {
            Step::Regenerate { key, .. } => {
                // However late it comes, nothing of ours has told consumers to use this key since.
                let newest = self.versions.last().map(|newest| &newest.origin);
                let named = matches!(newest, Some(Origin::Ours(known)) if known.key == *key);
                assert!(!named, "a regeneration killed the key that is published");
                self.regenerate(*key);
            }
            Step::Publish { key } => {
                let published = Published::now(*key, rotation, &self.created);
                self.put(Origin::Ours(published));
            }
            Step::Enable { version } => self.switch(version, true),
            Step::Disable { version, .. } => self.switch(version, false),
            Step::Recover => self.deleted = false,
        }
    }

    fn switch(&mut self, version: &SecretVersion, on: bool) {
        let mut versions = self.versions.iter_mut();
        let found = versions.find(|known| known.version == *version);
        found.unwrap().enabled = on;
    }

    fn conclude(
        &mut self,
        rotation: RotationId,
        seq: i64,
        outcome: StepOutcome,
        version: Option<SecretVersion>,
    ) {
        let now = self.now;
        let mut open = self.own.open.iter_mut();
        let rotation = open.find(|open| open.id == rotation).unwrap();
        let step = rotation
            .steps
            .iter_mut()
            .find(|step| step.seq == seq)
            .unwrap();
        step.outcome = outcome;
        step.ended_at = Some(now);
        let known = self.own.in_flight.as_ref();
        if known.is_some_and(|flying| flying.rotation == rotation.id && flying.seq == seq) {
            self.own.in_flight = None;
        }
        if !outcome.took_place() {
            return;
        }
        if let (StepKind::Publish, Some(key), Some(version)) = (step.kind, step.key, version) {
            step.version = Some(version.clone());
            self.own.published = Some(Publication {
                version,
                key,
                rotation: rotation.id,
                at: now,
            });
        }
        if let (StepKind::Regenerate, Some(key)) = (step.kind, step.key) {
            self.own.regenerated.retain(|known| known.key != key);
            self.own.regenerated.push(Regenerated {
                rotation: rotation.id,
                key,
                created_before: step.created_before.clone(),
                at: now,
            });
        }
    }

    /// What must hold of every step, in every history.
    fn check(&self, step: &Step) {
        match step {
            Step::Regenerate { key, .. } => {
                let newest = self.versions.last().unwrap();
                let Origin::Ours(published) = &newest.origin else {
                    panic!("a key was regenerated while {newest:?} is the newest");
                };
                assert_eq!(
                    published.key,
                    key.other(),
                    "the published key was regenerated"
                );
                assert!(newest.enabled && self.is_live(published), "{newest:?}");
                let named = self.own.open[0].trigger == Trigger::BreakGlass
                    && self.own.open[0].key == Some(*key);
                let superseded = self.superseded[*key as usize];
                let overlap = self.policy.overlap();
                let over = superseded.is_none_or(|since| since + overlap <= self.now);
                assert!(named || over, "{key} was regenerated inside its overlap");
            }
            Step::Disable { version, .. } => {
                let newest = self.versions.last().unwrap();
                assert_ne!(
                    newest.version, *version,
                    "the newest version was switched off"
                );
                let mut versions = self.versions.iter();
                let known = versions.find(|known| known.version == *version).unwrap();
                let Origin::Ours(published) = &known.origin else {
                    panic!("a version was switched off that is not ours");
                };
                assert!(!self.is_live(published), "a live version was switched off");
            }
            Step::Publish { .. } | Step::Enable { .. } | Step::Recover => {}
        }
    }

    fn is_live(&self, published: &Published) -> bool {
        published.created.as_ref() == self.created.of(published.key)
    }

    /// Without faults and other hands: everything comes right within one observation interval, unless
    /// the policy leaves it to people.
    fn settle_down(&mut self) {
        self.pass(SETTLE);
        let until = self.now + OBSERVATION_INTERVAL;
        for _ in 0..200 {
            let plan = self.look(Fate::Done);
            match plan.next {
                Next::Rest { .. } if plan.state == State::Blocked => {
                    let foreign = |known: &VersionFacts| known.origin == Origin::Foreign;
                    let refused = self.policy.deleted_secret == DeletedSecret::Refuse;
                    let left = self.deleted && refused || self.versions.last().is_some_and(foreign);
                    assert!(left, "{plan:?}");
                    return;
                }
                Next::Rest { .. } => {
                    assert_eq!(plan.state, State::Fresh, "{plan:?}");
                    let newest = self.versions.last().unwrap();
                    let Origin::Ours(published) = &newest.origin else {
                        panic!("{newest:?}");
                    };
                    assert!(newest.enabled && self.is_live(published), "{newest:?}");
                    assert!(self.own.open.is_empty() && self.now <= until);
                    return;
                }
                Next::Wait { until } => self.pass(until - self.now),
                _ => {}
            }
        }
        panic!("it does not come to rest");
    }
}

fn play(policy: RotationPolicy, events: &[Event]) {
    let mut world = World::new(policy);
    events.iter().for_each(|event| world.happen(*event));
    world.settle_down();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_strands_a_consumer_and_every_history_ends_well(
        events in proptest::collection::vec(event(), 1..60),
        recover in any::<bool>(),
    ) {
        let deleted = if recover { DeletedSecret::Recover } else { DeletedSecret::Refuse };
        play(policy(deleted), &events);
    }
}

/// What happens when nothing goes wrong, told once by its steps.
#[test]
fn an_account_is_adopted_and_then_rotated_once_in_every_interval() {
    let mut world = World::new(policy(DeletedSecret::Refuse));
    let mut seen = Vec::new();
    let end = world.now + Duration::days(62);
    while world.now < end {
        let at = world.now;
        let plan = world.look(Fate::Done);
        match plan.next {
            Next::Step { trigger, step } => {
                let days = (at - datetime!(2031-03-04 12:00 UTC)).whole_days();
                seen.push(format!("{days} {trigger} {step:?}"));
            }
            Next::Rest { until } | Next::Wait { until } => world.pass(until - at),
            _ => {}
        }
    }
    let told: Vec<_> = seen
        .iter()
        .map(|line| line.split(" {").next().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "0 adoption Publish",
            "30 schedule Regenerate",
            "30 schedule Publish",
            "60 schedule Regenerate",
            "60 schedule Publish",
            "60 schedule Disable",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_left_alone_with_growing_pauses() {
    let world = World::new(policy(DeletedSecret::Refuse));
    let account = "acct1".parse().unwrap();
    let mut own = OwnRecords::default();
    for (seen, state, longest) in [
        (
            Seen::Unread("503".to_owned()),
            State::Unknown,
            UNREAD_PAUSE_MAX,
        ),
        (
            Seen::Blocked("403".to_owned()),
            State::Blocked,
            OBSERVATION_INTERVAL,
        ),
    ] {
        let observed = Observation {
            account: seen,
            secret: Seen::Read(SecretFacts::Absent),
        };
        let mut pauses = Vec::new();
        for failures in 0..12 {
            own.failures = failures;
            let plan = plan(world.now, &account, &world.policy, &observed, &own);
            assert_eq!(plan.state, state);
            let Next::Rest { until } = plan.next else {
                panic!("{plan:?}");
            };
            pauses.push(until - world.now);
        }
        assert_eq!(pauses[0], SOON);
        assert!(
            pauses.is_sorted() && pauses.last() == Some(&longest),
            "{pauses:?}"
        );
    }
}

/// A step that was refused once, and then nobody could try for an hour.
#[test]
fn an_outage_between_two_attempts_is_no_attempt() {
    let mut world = World::new(policy(DeletedSecret::Refuse));
    world.look(Fate::Done);
    world.look(Fate::Done);
    world.request(Trigger::BreakGlass, Some(KeyName::Key2));
    world.look(Fate::Refused);
    world.pass(Duration::hours(1));
    let plan = world.look(Fate::Done);
    assert!(matches!(plan.next, Next::Step { .. }), "{plan:?}");
}

#[test]
fn a_list_that_lacks_what_was_just_published_is_not_believed() {
    let mut world = World::new(policy(DeletedSecret::Refuse));
    world.look(Fate::Done);
    world.put(Origin::Foreign);
    let published = world.versions.remove(0);
    assert_eq!(world.plan().state, State::Unknown);
    world.versions.insert(0, published);
    assert_eq!(world.plan().state, State::Drifted);
}
