//! The two keys of an account: values, creation times, and which values the data plane knows.
//!
//! ARM and the data plane are two services. After a regeneration ARM shows the new value at once;
//! the data plane may go on with the old one for a while.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde_json::{Value, json};
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};
use zeroize::Zeroizing;

use super::super::random;
use super::super::spec::KeySlot;

/// Old values that one slot remembers while the data plane has not learnt the newest: more
/// regenerations in one propagation delay are not worth telling apart.
const GENERATIONS_MOST: usize = 16;

/// The least step between two creation times of an account, so that no two are the same while the
/// simulated clock stands. ARM's times have this precision.
const TICK: Duration = Duration::nanoseconds(100);

/// One value that a slot held.
struct Generation {
    value: Zeroizing<[u8; 64]>,
    created: Option<OffsetDateTime>,
    /// From when on the data plane takes this value and no earlier one.
    known_from: OffsetDateTime,
}

/// One slot: the newest value last, and older ones only while the data plane may still take them.
struct Slot {
    generations: Vec<Generation>,
}

impl Slot {
    fn new(created: Option<OffsetDateTime>) -> Self {
        let first = Generation {
            value: Zeroizing::new(random::bytes()),
            created: created.map(to_tick),
            known_from: OffsetDateTime::UNIX_EPOCH,
        };
        Self {
            generations: vec![first],
        }
    }

    fn live(&self) -> &Generation {
        let live = self.generations.last();
        live.expect("a slot is made with a value and never loses its last one")
    }

    /// The value that the data plane takes at `now`.
    fn known(&self, now: OffsetDateTime) -> &Generation {
        let known = self.generations.iter().rev();
        let mut known = known.filter(|value| value.known_from <= now);
        known.next().unwrap_or_else(|| self.live())
    }

    fn push(&mut self, next: Generation, now: OffsetDateTime) {
        let known = self
            .generations
            .iter()
            .rposition(|value| value.known_from <= now);
        self.generations.drain(..known.unwrap_or_default());
        if self.generations.len() == GENERATIONS_MOST {
            self.generations.remove(0);
        }
        self.generations.push(next);
    }
}

/// One key, as management shows it.
#[derive(Clone, Debug)]
pub struct LiveKey {
    /// The base64 text.
    pub value: SecretString,
    /// When it was made; `None` is a key that was never regenerated.
    pub created: Option<OffsetDateTime>,
}

/// Both keys. No `Debug`: the values are secrets.
pub(super) struct Keys {
    slots: [Slot; 2],
}

const NAMES: [&str; 2] = ["key1", "key2"];

impl Keys {
    pub(super) fn new(created: [Option<OffsetDateTime>; 2]) -> Self {
        Self {
            slots: created.map(Slot::new),
        }
    }

    /// Gives a slot a new random value, which the data plane knows after `propagation`.
    pub(super) fn regenerate(&mut self, slot: KeySlot, propagation: Duration, now: OffsetDateTime) {
        let created = self.slots.iter().filter_map(|slot| slot.live().created);
        let after_the_last = created.map(|last| last + TICK);
        let next = Generation {
            value: Zeroizing::new(random::bytes()),
            created: after_the_last.chain([to_tick(now)]).max(),
            known_from: now + propagation,
        };
        self.slots[slot as usize].push(next, now);
    }

    /// The live value and creation time of a key.
    pub(super) fn live(&self, slot: KeySlot) -> LiveKey {
        let live = self.slots[slot as usize].live();
        LiveKey {
            value: STANDARD.encode(live.value.as_slice()).into(),
            created: live.created,
        }
    }

    /// The values that the data plane takes at `now`.
    pub(super) fn known(&self, now: OffsetDateTime) -> [&[u8; 64]; 2] {
        [0, 1].map(|at| &*self.slots[at].known(now).value)
    }

    /// `keyCreationTime`: absent as long as neither key has one, as in old accounts.
    pub(super) fn creation_times(&self) -> Option<Value> {
        let [one, two] = [0, 1].map(|at| self.slots[at].live().created);
        (one.is_some() || two.is_some())
            .then(|| json!({ "key1": one.map(seven_digits), "key2": two.map(seven_digits) }))
    }

    /// The answer to `listKeys` and `regenerateKey`. The two spell the permission differently.
    pub(super) fn json(&self, permissions: &str) -> Value {
        let keys = [0, 1].map(|at| {
            let live = self.slots[at].live();
            let mut key = json!({
                "keyName": NAMES[at],
                "value": STANDARD.encode(live.value.as_slice()),
                "permissions": permissions,
            });
            if let Some(created) = live.created {
                key["creationTime"] = json!(seven_digits(created));
            }
            key
        });
        json!({ "keys": keys })
    }
}

/// The slot of this name; ARM compares without case.
pub(super) fn slot(name: &str) -> Option<KeySlot> {
    let at = NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name));
    at.map(|at| [KeySlot::Key1, KeySlot::Key2][at])
}

/// Whole ticks of 100 ns, which is all that ARM keeps.
fn to_tick(time: OffsetDateTime) -> OffsetDateTime {
    let nanosecond = time.nanosecond() / 100 * 100;
    time.replace_nanosecond(nanosecond)
        .expect("rounding down stays within the second")
}

/// `2026-11-23T10:00:00.1234567Z`, as ARM writes times.
pub(super) fn seven_digits(time: OffsetDateTime) -> String {
    let form =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");
    time.to_offset(UtcOffset::UTC)
        .format(form)
        .expect("the format needs only what an instant has")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00:00.123_456_789 UTC);

    #[test]
    fn the_data_plane_learns_a_new_value_late_and_creation_times_never_repeat() {
        let mut keys = Keys::new([None, Some(NOW)]);
        let first = *keys.known(NOW)[0];
        assert!(keys.live(KeySlot::Key1).created.is_none());
        keys.regenerate(KeySlot::Key1, Duration::seconds(30), NOW);
        let one = keys.live(KeySlot::Key1).created.unwrap();
        let two = keys.live(KeySlot::Key2).created.unwrap();
        assert_eq!(seven_digits(two), "2026-11-23T12:00:00.1234567Z");
        assert_eq!(seven_digits(one), "2026-11-23T12:00:00.1234568Z");
        assert_eq!(*keys.known(NOW + Duration::seconds(29))[0], first);
        let second = *keys.known(NOW + Duration::seconds(30))[0];
        assert_ne!(second, first);
        for _ in 0..40 {
            keys.regenerate(
                KeySlot::Key1,
                Duration::seconds(30),
                NOW + Duration::minutes(1),
            );
        }
        assert!(keys.slots[0].generations.len() <= GENERATIONS_MOST);
        keys.regenerate(KeySlot::Key1, Duration::ZERO, NOW + Duration::hours(1));
        keys.regenerate(KeySlot::Key1, Duration::ZERO, NOW + Duration::hours(1));
        assert_eq!(keys.slots[0].generations.len(), 2);
    }
}
