//! Everything one simulator knows, shared by its servers and its handle.

use std::sync::{Mutex, PoisonError};

use time::{OffsetDateTime, UtcOffset};

use super::SimClock;
use super::arm::Arm;
use super::blob::Storage;
use super::entra::{Entra, TokenSpec};
use super::fault::Faults;
use super::rest::Work;
use super::vault::Vaults;

/// Most calls that wait for their instant; a call beyond never takes effect. Tests put off a few.
const LATE_MOST: usize = 1_000;

/// The simulated world.
pub(super) struct World {
    clock: SimClock,
    pub(super) entra: Entra,
    pub(super) storage: Storage,
    pub(super) arm: Arm,
    pub(super) vaults: Vaults,
    pub(super) faults: Faults,
    /// Calls whose answers were lost and whose effects are still to come.
    late: Mutex<Vec<(OffsetDateTime, Work)>>,
}

impl World {
    pub(super) fn new(clock: SimClock, entra: Entra, storage: Storage, arm: Arm) -> Self {
        Self {
            clock,
            entra,
            storage,
            arm,
            vaults: Vaults::default(),
            faults: Faults::default(),
            late: Mutex::default(),
        }
    }

    /// The simulated instant, in UTC.
    pub(super) fn now(&self) -> OffsetDateTime {
        now(&self.clock)
    }

    /// Mints an access token now.
    pub(super) fn mint(&self, token: &TokenSpec) -> String {
        self.entra.mint(token, self.now())
    }

    /// Keeps the work of a call for later.
    pub(super) fn put_off(&self, until: OffsetDateTime, work: Work) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.len() < LATE_MOST {
            late.push((until, work));
        }
    }

    /// Does the work that was put off until now or before, in the order of its instants. The clock
    /// is not watched: whoever looks at the world first asks for this.
    pub(super) fn settle(&self) {
        let now = self.now();
        let mut due = {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            let all = std::mem::take(&mut *late);
            let (due, waiting) = all.into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
            *late = waiting;
            due
        };
        due.sort_by_key(|(at, _)| *at);
        for (at, work) in due {
            drop(work(self, at));
        }
    }
}

/// The instant of a simulated clock, in UTC.
pub(super) fn now(clock: &SimClock) -> OffsetDateTime {
    clock().to_offset(UtcOffset::UTC)
}
