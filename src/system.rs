//! The machine's own clock and randomness: the only adapters of [`Clock`] and [`Entropy`], and the
//! only place where the ambient ones may be asked.

use aws_lc_rs::rand;
use time::OffsetDateTime;

use crate::ports::{Clock, Entropy};

/// The system's clock, in whole microseconds: what is stored and read back is then the same instant.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one adapter of the clock port"
    )]
    fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        now.replace_microsecond(now.microsecond())
            .expect("the microsecond of an instant is one")
    }
}

/// The system's random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes).expect("the operating system gives randomness");
    }
}
