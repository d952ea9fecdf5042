//! Everything one simulator knows, shared by its servers and its handle.

use time::{OffsetDateTime, UtcOffset};

use super::SimClock;
use super::blob::Storage;
use super::entra::{Entra, TokenSpec};
use super::fault::Faults;

/// The simulated world.
pub(super) struct World {
    clock: SimClock,
    pub(super) entra: Entra,
    pub(super) storage: Storage,
    pub(super) faults: Faults,
}

impl World {
    pub(super) fn new(clock: SimClock, entra: Entra, storage: Storage) -> Self {
        Self {
            clock,
            entra,
            storage,
            faults: Faults::default(),
        }
    }

    /// The simulated instant, in UTC.
    pub(super) fn now(&self) -> OffsetDateTime {
        (self.clock)().to_offset(UtcOffset::UTC)
    }

    /// Mints an access token now.
    pub(super) fn mint(&self, token: &TokenSpec) -> String {
        self.entra.mint(token, self.now())
    }
}
