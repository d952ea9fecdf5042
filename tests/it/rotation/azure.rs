//! An Azure of one account and one vault, in memory. Every effect is held against what must never
//! happen; what does is kept, and fails the test at its end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration as StdDuration,
};

use async_trait::async_trait;
use sas_broker::{
    domain::{
        account::Account,
        ids::SecretVersion,
        rotation::{
            CreationTime, CreationTimes, KeyName,
            observation::{AccountFacts, Origin, SecretFacts, VersionFacts},
        },
    },
    ports::{AccountKey, Clock, KeyProof, NewVersion, OutsideError, Proof, StorageAccounts, Vault},
};
use secrecy::{ExposeSecret, SecretString};
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;

use super::faults::{Call, Fault, Faults};
use crate::journal_support::StandingClock;

/// What every key value begins with: looked for in the database.
pub(super) const CANARY: &str = "canary-account-key";

#[derive(Debug, Clone)]
struct Slot {
    value: String,
    created: Option<CreationTime>,
}

#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) id: SecretVersion,
    created: i64,
    pub(super) enabled: bool,
    pub(super) value: String,
    tags: BTreeMap<String, String>,
}

impl Version {
    pub(super) fn key(&self) -> Option<KeyName> {
        self.tags
            .get("CredentialId")
            .and_then(|key| key.parse().ok())
    }
}

#[derive(Debug, Clone)]
enum Effect {
    Regenerate(KeyName),
    Publish(String, BTreeMap<String, String>),
    Switch(SecretVersion, bool),
    Recover,
}

/// Everything that it remembers.
#[derive(Debug, Clone)]
pub(super) struct State {
    slots: [Slot; 2],
    pub(super) versions: Vec<Version>,
    pub(super) deleted: bool,
    pending: Vec<(OffsetDateTime, Effect)>,
    /// Since when a key is no longer what the newest version names.
    superseded: [Option<OffsetDateTime>; 2],
    serial: u32,
    /// The key that a break-glass names.
    pub(super) named: Option<KeyName>,
    /// Keys that we regenerated, in order.
    pub(super) regenerated: Vec<KeyName>,
    pub(super) violations: Vec<String>,
    /// How long ARM's limits leave no room.
    pub(super) busy: Option<StdDuration>,
}

/// The outside, as one process reaches it.
pub(super) struct Azure {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) clock: Arc<StandingClock>,
    pub(super) faults: Arc<Faults>,
    pub(super) gate: Arc<Gate>,
    pub(super) overlap: Duration,
}

/// Where a process can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// It has looked at ARM, and has decided nothing yet.
    Look,
    /// It has checked everything, and has not sent `regenerateKey` yet.
    Send,
}

/// Holds a process at a point.
#[derive(Debug, Default)]
pub(super) struct Gate {
    shut: Mutex<Option<Point>>,
    reached: Notify,
    opened: Notify,
}

impl Gate {
    pub(super) fn shut(&self, point: Point) {
        *self.shut.lock().unwrap() = Some(point);
    }

    pub(super) fn open(&self) {
        self.opened.notify_one();
    }

    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    async fn pass(&self, point: Point) {
        let held = self.shut.lock().unwrap().take_if(|shut| *shut == point);
        if held.is_some() {
            self.reached.notify_one();
            self.opened.notified().await;
        }
    }
}

impl State {
    pub(super) fn new() -> Self {
        let slot = |number| Slot {
            value: format!("{CANARY}-{number}"),
            created: None,
        };
        Self {
            slots: [slot(1), slot(2)],
            versions: vec![],
            deleted: false,
            pending: vec![],
            superseded: [None, None],
            serial: 2,
            named: None,
            regenerated: vec![],
            violations: vec![],
            busy: None,
        }
    }

    pub(super) fn live_value(&self, key: KeyName) -> &str {
        &self.slots[key as usize].value
    }

    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The portal's button.
    pub(super) fn regenerate(&mut self, key: KeyName) {
        self.serial += 1;
        self.slots[key as usize] = Slot {
            value: format!("{CANARY}-{}", self.serial),
            created: Some(CreationTime::new(&format!("made-{}", self.serial))),
        };
    }

    fn created(&self) -> CreationTimes {
        CreationTimes {
            key1: self.slots[0].created.clone(),
            key2: self.slots[1].created.clone(),
        }
    }

    fn is_live(&self, version: &Version) -> bool {
        let live = |key| self.live_value(key) == version.value;
        version.key().is_some_and(live)
    }

    /// Everything that was sent has come.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// The newest version is on and opens the account.
    pub(super) fn is_sound(&self) -> bool {
        let newest = self.newest();
        !self.deleted && newest.is_some_and(|newest| newest.enabled && self.is_live(newest))
    }

    fn take_effect(&mut self, effect: Effect, now: OffsetDateTime, overlap: Duration) {
        match effect {
            Effect::Regenerate(key) => {
                let named = self.newest().and_then(Version::key) == Some(key);
                if named {
                    self.violations
                        .push(format!("{key} was killed while it is current"));
                }
                let since = self.superseded[key as usize];
                let inside = since.is_some_and(|since| since + overlap > now);
                if inside && self.named != Some(key) {
                    self.violations
                        .push(format!("{key} was killed inside its overlap"));
                }
                self.regenerated.push(key);
                self.regenerate(key);
            }
            Effect::Publish(value, tags) => {
                self.serial += 1;
                let before = self.newest().and_then(Version::key);
                self.versions.push(Version {
                    id: format!("{:032x}", self.serial).parse().unwrap(),
                    created: now.unix_timestamp(),
                    enabled: true,
                    value,
                    tags,
                });
                let after = self.newest().and_then(Version::key);
                if let Some(key) = before.filter(|before| Some(*before) != after) {
                    self.superseded[key as usize] = Some(now);
                }
            }
            Effect::Switch(id, on) => {
                let newest = self.newest().is_some_and(|newest| newest.id == id);
                let known = self.versions.iter().find(|version| version.id == id);
                let live = known.is_some_and(|version| self.is_live(version));
                if !on && (newest || live) {
                    self.violations
                        .push(format!("{id} was switched off in use"));
                }
                let mut versions = self.versions.iter_mut();
                if let Some(version) = versions.find(|version| version.id == id) {
                    version.enabled = on;
                }
            }
            Effect::Recover => self.deleted = false,
        }
    }
}

impl Azure {
    /// The state as it is now: what was to come late has come.
    fn state(&self) -> MutexGuard<'_, State> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap();
        let due: Vec<_> = state.pending.extract_if(.., |(at, _)| *at <= now).collect();
        for (at, effect) in due {
            state.take_effect(effect, at, self.overlap);
        }
        state
    }

    async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, OutsideError> {
        match self.faults.meet(Call::Read).await {
            None => Ok(look(&self.state())),
            Some(Fault::DiesAfter) => self.faults.die().await,
            Some(_) => Err(OutsideError::Unavailable("struck".to_owned())),
        }
    }

    async fn mutate(&self, effect: Effect) -> Result<(), OutsideError> {
        if matches!(effect, Effect::Regenerate(_)) {
            self.gate.pass(Point::Send).await;
        }
        let now = self.clock.now();
        let fault = self.faults.meet(Call::Mutation).await;
        let unclear = Err(OutsideError::Unclear("struck".to_owned()));
        match fault {
            Some(Fault::Fails) => return Err(OutsideError::Unavailable("struck".to_owned())),
            Some(Fault::Late(minutes)) => {
                let lands = now + Duration::minutes(minutes);
                self.state().pending.push((lands, effect));
                return unclear;
            }
            _ => self.state().take_effect(effect, now, self.overlap),
        }
        match fault {
            Some(Fault::Unheard) => unclear,
            Some(Fault::DiesAfter) => self.faults.die().await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl StorageAccounts for Azure {
    async fn look(&self, _: &Account) -> Result<AccountFacts, OutsideError> {
        let facts = |state: &State| AccountFacts {
            created: state.created(),
            shared_key_allowed: true,
        };
        let facts = self.read(facts).await;
        self.gate.pass(Point::Look).await;
        facts
    }

    async fn key(&self, _: &Account, name: KeyName) -> Result<AccountKey, OutsideError> {
        let key = |state: &State| AccountKey {
            name,
            value: SecretString::from(state.live_value(name).to_owned()),
        };
        self.read(key).await
    }

    async fn regenerate_key(&self, _: &Account, key: KeyName) -> Result<(), OutsideError> {
        self.mutate(Effect::Regenerate(key)).await
    }

    fn wait(&self, _: &Account) -> Option<StdDuration> {
        self.state().busy
    }

    async fn revoke_user_delegation_keys(&self, _: &Account) -> Result<(), OutsideError> {
        unreachable!("rotation revokes no delegation keys")
    }
}

#[async_trait]
impl Vault for Azure {
    async fn look(&self, account: &Account) -> Result<SecretFacts, OutsideError> {
        let id = account.storage_resource_id().unwrap();
        let facts = |version: &Version| VersionFacts {
            version: version.id.clone(),
            created: version.created,
            enabled: version.enabled,
            origin: Origin::of(&id, |tag| version.tags.get(tag).map(String::as_str)),
        };
        let look = |state: &State| match (state.deleted, state.versions.as_slice()) {
            (true, _) => SecretFacts::Deleted,
            (false, []) => SecretFacts::Absent,
            (false, versions) => SecretFacts::Versions(versions.iter().map(facts).collect()),
        };
        self.read(look).await
    }

    async fn publish(
        &self,
        _: &Account,
        version: NewVersion,
    ) -> Result<SecretVersion, OutsideError> {
        let tags = version.tags.into_iter();
        let tags = tags.map(|(name, value)| (name.to_owned(), value)).collect();
        let value = version.value.expose_secret().to_owned();
        self.mutate(Effect::Publish(value, tags)).await?;
        Ok(self.state().newest().unwrap().id.clone())
    }

    async fn set_enabled(
        &self,
        _: &Account,
        version: &SecretVersion,
        enabled: bool,
    ) -> Result<(), OutsideError> {
        self.mutate(Effect::Switch(version.clone(), enabled)).await
    }

    async fn recover(&self, _: &Account) -> Result<(), OutsideError> {
        self.mutate(Effect::Recover).await
    }
}

#[async_trait]
impl KeyProof for Azure {
    async fn prove(&self, _: &Account, key: &AccountKey) -> Proof {
        let accepted = |state: &State| state.live_value(key.name) == key.value.expose_secret();
        match self.read(accepted).await {
            Ok(true) => Proof::Accepted,
            Ok(false) => Proof::Rejected,
            Err(error) => Proof::Unreachable(error.to_string()),
        }
    }
}
