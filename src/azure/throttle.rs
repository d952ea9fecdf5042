//! How fast Azure is asked, and how long it is left alone: for each subscription or vault a pace of
//! our own, and the memory of what its `Retry-After` said.
//!
//! Nobody waits here. A call that may not go out now is told so at once, with the time after which
//! it may: what waits, and for how long, is the caller's to decide.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;

use crate::ports::{Clock, OutsideError};

/// Subscriptions or vaults that are remembered. The one that was asked longest ago is forgotten
/// first; a fleet with more of them is paced by Azure alone.
const REMEMBERED_MAX: usize = 10_000;
/// Pause after an answer that says "too many" but not for how long: Key Vault's guidance backs off
/// up to 16 s.
const PAUSE_DEFAULT: Duration = Duration::from_secs(15);
/// Longest pause that is believed: Azure's longest window, the hourly one of storage accounts' writes.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// What Azure counts separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// How fast calls of one kind may follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// At once after a rest.
    pub(super) burst: u32,
    /// One call for each of these.
    pub(super) every: Duration,
}

/// The paces of both kinds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paces {
    pub(super) reads: Pace,
    pub(super) writes: Pace,
}

/// One throttle for all subscriptions, or all vaults.
#[derive(Debug)]
pub(super) struct Throttle<K> {
    clock: Arc<dyn Clock>,
    paces: Paces,
    meters: Mutex<HashMap<K, Meter>>,
}

#[derive(Debug, Clone, Copy)]
struct Meter {
    asked_at: OffsetDateTime,
    /// When all that was asked for is paid for (generic cell rate algorithm).
    reads_paid_at: OffsetDateTime,
    writes_paid_at: OffsetDateTime,
    paused: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: OffsetDateTime,
    until: OffsetDateTime,
}

impl Meter {
    const fn new(now: OffsetDateTime) -> Self {
        Self {
            asked_at: now,
            reads_paid_at: now,
            writes_paid_at: now,
            paused: None,
        }
    }

    /// How much of the pause is left. One that begins in the future was set before the clock was
    /// set back, and is over.
    fn pause_left(&self, now: OffsetDateTime) -> Option<Duration> {
        let pause = self.paused.filter(|pause| pause.since <= now)?;
        Duration::try_from(pause.until - now)
            .ok()
            .filter(|left| !left.is_zero())
    }

    /// When all that was asked for is paid for, from now on.
    fn paid_at(&self, kind: Kind, pace: Pace, now: OffsetDateTime) -> OffsetDateTime {
        let paid_at = match kind {
            Kind::Read => self.reads_paid_at,
            Kind::Write => self.writes_paid_at,
        };
        // Further ahead than a whole burst is only what a clock left that was set back since.
        if paid_at < now || paid_at > now + pace.every * pace.burst {
            now
        } else {
            paid_at
        }
    }

    /// How long there is no permit beside so many that are kept back; `None` if there is one.
    fn wait(
        &self,
        kind: Kind,
        pace: Pace,
        kept_back: u32,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        if let Some(left) = self.pause_left(now) {
            return Some(left);
        }
        let ahead = pace.burst.saturating_sub(1 + kept_back);
        let allowed_from = self.paid_at(kind, pace, now) - pace.every * ahead;
        let wait = Duration::try_from(allowed_from - now).ok()?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Takes a permit, or says when there is one.
    fn permit(&mut self, kind: Kind, pace: Pace, now: OffsetDateTime) -> Result<(), Duration> {
        if let Some(wait) = self.wait(kind, pace, 0, now) {
            return Err(wait);
        }
        let paid_at = self.paid_at(kind, pace, now) + pace.every;
        match kind {
            Kind::Read => self.reads_paid_at = paid_at,
            Kind::Write => self.writes_paid_at = paid_at,
        }
        Ok(())
    }
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    pub(super) fn new(clock: Arc<dyn Clock>, paces: Paces) -> Self {
        Self {
            clock,
            paces,
            meters: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Lets one call go out now, or says that none may.
    pub(super) fn permit(&self, of: &K, kind: Kind) -> Result<(), OutsideError> {
        let (now, pace) = (self.now(), self.pace(kind));
        self.with_meter(of, now, |meter| meter.permit(kind, pace, now))
            .map_err(|wait| OutsideError::Throttled {
                retry_after: Some(wait),
            })
    }

    /// How long no call of this kind may go out, if so many permits are kept back for others; `None`
    /// if one may now. It takes no permit.
    pub(super) fn wait(&self, of: &K, kind: Kind, kept_back: u32) -> Option<Duration> {
        let (now, pace) = (self.now(), self.pace(kind));
        self.with_meter(of, now, |meter| meter.wait(kind, pace, kept_back, now))
    }

    const fn pace(&self, kind: Kind) -> Pace {
        match kind {
            Kind::Read => self.paces.reads,
            Kind::Write => self.paces.writes,
        }
    }

    /// Azure wants to be left alone: for so long, or for a while.
    pub(super) fn pause(&self, of: &K, said: Option<Duration>) {
        let now = self.now();
        let until = now + said.unwrap_or(PAUSE_DEFAULT).min(PAUSE_MAX);
        self.with_meter(of, now, |meter| {
            // A vaguer answer that comes late does not shorten what another one asked for.
            let asked = meter.paused.filter(|pause| pause.since <= now);
            let until = asked.map_or(until, |pause| pause.until.max(until));
            meter.paused = Some(Pause { since: now, until });
        });
    }

    fn with_meter<T>(&self, of: &K, now: OffsetDateTime, act: impl FnOnce(&mut Meter) -> T) -> T {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= REMEMBERED_MAX && !meters.contains_key(of) {
            let oldest = meters.iter().min_by_key(|(_, meter)| meter.asked_at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                meters.remove(&oldest);
            }
        }
        let meter = meters.entry(of.clone()).or_insert_with(|| Meter::new(now));
        meter.asked_at = now;
        act(meter)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::testing::FakeClock;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
    const PACES: Paces = Paces {
        reads: Pace {
            burst: 3,
            every: Duration::from_secs(10),
        },
        writes: Pace {
            burst: 1,
            every: Duration::from_secs(60),
        },
    };

    fn throttle() -> (Throttle<u32>, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::at(NOW));
        (Throttle::new(clock.clone(), PACES), clock)
    }

    fn wait(seconds: u64) -> Result<(), OutsideError> {
        let retry_after = Some(Duration::from_secs(seconds));
        Err(OutsideError::Throttled { retry_after })
    }

    fn advance(clock: &FakeClock, seconds: i64) {
        clock.advance(time::Duration::seconds(seconds));
    }

    #[test]
    fn a_burst_passes_then_one_call_at_a_time_and_kinds_and_keys_do_not_share() {
        let (throttle, clock) = throttle();
        for _ in 0..3 {
            assert_eq!(throttle.permit(&1, Kind::Read), Ok(()));
        }
        assert_eq!(throttle.permit(&1, Kind::Read), wait(10));
        assert_eq!(throttle.wait(&1, Kind::Write, 0), None, "it takes none");
        assert_eq!(throttle.permit(&1, Kind::Write), Ok(()));
        assert_eq!(throttle.permit(&1, Kind::Write), wait(60));
        let minute = Duration::from_secs(60);
        assert_eq!(throttle.wait(&1, Kind::Write, 0), Some(minute));
        assert_eq!(throttle.permit(&2, Kind::Read), Ok(()));
        advance(&clock, 4);
        assert_eq!(throttle.permit(&1, Kind::Read), wait(6));
        advance(&clock, 6);
        assert_eq!(throttle.permit(&1, Kind::Read), Ok(()));
        assert_eq!(throttle.permit(&1, Kind::Read), wait(10));
        advance(&clock, 3_600);
        for _ in 0..3 {
            assert_eq!(
                throttle.permit(&1, Kind::Read),
                Ok(()),
                "no more than a burst"
            );
        }
        assert_eq!(throttle.permit(&1, Kind::Read), wait(10));
    }

    #[test]
    fn some_permits_can_be_kept_back_for_what_is_urgent() {
        let (throttle, _) = throttle();
        let wait = |kept_back| throttle.wait(&1, Kind::Read, kept_back);
        assert_eq!([wait(0), wait(2)], [None, None]);
        throttle.permit(&1, Kind::Read).unwrap();
        let ten = Some(Duration::from_secs(10));
        assert_eq!([wait(0), wait(1), wait(2)], [None, None, ten]);
    }

    #[test]
    fn a_vaguer_answer_does_not_shorten_a_pause() {
        let (throttle, _) = throttle();
        throttle.pause(&1, Some(Duration::from_secs(1_800)));
        throttle.pause(&1, None);
        assert_eq!(throttle.permit(&1, Kind::Read), wait(1_800));
    }

    #[test]
    fn a_pause_stops_both_kinds_of_one_key_until_it_is_over() {
        let (throttle, clock) = throttle();
        throttle.pause(&1, Some(Duration::from_secs(30)));
        for kind in [Kind::Read, Kind::Write] {
            assert_eq!(throttle.permit(&1, kind), wait(30));
        }
        assert_eq!(throttle.permit(&2, Kind::Read), Ok(()));
        advance(&clock, 29);
        assert_eq!(throttle.permit(&1, Kind::Read), wait(1));
        advance(&clock, 1);
        assert_eq!(throttle.permit(&1, Kind::Read), Ok(()));
        throttle.pause(&1, None);
        assert_eq!(throttle.permit(&1, Kind::Read), wait(15));
        throttle.pause(&1, Some(Duration::from_secs(86_400)));
        assert_eq!(throttle.permit(&1, Kind::Read), wait(3_600), "capped");
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let (throttle, clock) = throttle();
        throttle.pause(&1, Some(Duration::from_secs(30)));
        for _ in 0..3 {
            assert_eq!(throttle.permit(&2, Kind::Read), Ok(()));
        }
        advance(&clock, -86_400);
        for key in [1, 2] {
            assert_eq!(throttle.permit(&key, Kind::Read), Ok(()));
        }
    }

    #[test]
    fn what_was_asked_longest_ago_is_forgotten_first() {
        let (throttle, clock) = throttle();
        throttle.pause(&0, None);
        for key in 1..=u32::try_from(REMEMBERED_MAX).unwrap() {
            clock.advance(time::Duration::milliseconds(1));
            assert_eq!(throttle.permit(&key, Kind::Write), Ok(()));
        }
        assert_eq!(throttle.meters.lock().unwrap().len(), REMEMBERED_MAX);
        assert_eq!(throttle.permit(&0, Kind::Read), Ok(()), "forgotten");
        assert!(throttle.permit(&2, Kind::Write).is_err(), "remembered");
    }
}
