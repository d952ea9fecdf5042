//! How long to leave a failing service alone: exponential, bounded, with jitter, so that replicas
//! that failed together do not return together.

use time::Duration;

use crate::ports::Entropy;

/// How far a wait is moved at random, as a share of it, either way: 1/10.
const JITTER_DIVISOR: i32 = 10;

/// The bounds of a series of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    /// After the first failure.
    pub(super) first: Duration,
    /// After many.
    pub(super) longest: Duration,
}

impl Backoff {
    /// The wait after this many failures in a row (1 is the first), with jitter.
    pub(super) fn wait(self, failures: u32, entropy: &dyn Entropy) -> Duration {
        // 2^16 first waits are longer than any longest one in use.
        let doublings = failures.saturating_sub(1).min(16);
        jittered(
            (self.first * (1_i32 << doublings)).min(self.longest),
            entropy,
        )
    }

    /// The longest wait that can come out of [`Backoff::wait`].
    pub(super) fn ceiling(self) -> Duration {
        self.longest + self.longest / JITTER_DIVISOR
    }
}

/// `around`, moved by up to a tenth of it either way.
pub(super) fn jittered(around: Duration, entropy: &dyn Entropy) -> Duration {
    let mut random = [0; 2];
    entropy.fill(&mut random);
    // From -1 to +1.
    let share = f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX) * 2.0 - 1.0;
    around + (around / JITTER_DIVISOR) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FixedEntropy, SeededEntropy};

    const BACKOFF: Backoff = Backoff {
        first: Duration::seconds(5),
        longest: Duration::seconds(60),
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let middle = FixedEntropy(0x80);
        let waits = [1, 2, 3, 4, 5, 6, 100, u32::MAX].map(|n| BACKOFF.wait(n, &middle));
        let rounded = waits.map(|wait| (wait.as_seconds_f64()).round());
        assert_eq!(rounded, [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0]);
    }

    #[test]
    fn jitter_stays_within_a_tenth_and_reaches_both_ends() {
        let around = Duration::seconds(100);
        assert_eq!(jittered(around, &FixedEntropy(0)), Duration::seconds(90));
        assert_eq!(
            jittered(around, &FixedEntropy(0xff)),
            Duration::seconds(110)
        );
        let entropy = SeededEntropy::default();
        let drawn: Vec<_> = (0..100).map(|_| jittered(around, &entropy)).collect();
        assert!(
            drawn
                .iter()
                .all(|d| (Duration::seconds(90)..=Duration::seconds(110)).contains(d))
        );
        assert!(drawn.iter().any(|d| *d != drawn[0]), "the waits differ");
        assert_eq!(BACKOFF.ceiling(), Duration::seconds(66));
    }
}
