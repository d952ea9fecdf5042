//! When a rotation is due: an interval or a cron expression in a time zone, put off by a jitter that
//! is never redrawn; and the window outside of which none starts.

use std::fmt;

use aws_lc_rs::digest;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, ToSpan, Zoned, civil::Time, tz::TimeZone};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::domain::{ids::AccountName, time_text};

/// Shortest time between two rotations, in days: a secret with more than 500 versions cannot be
/// backed up, and one a day fills that in a year and a half.
pub const INTERVAL_DAYS_MIN: u32 = 1;
/// Longest time between two rotations, in days.
pub const INTERVAL_DAYS_MAX: u32 = 730;

/// When a rotation is due after a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// This many days later.
    Interval {
        /// Days of 24 hours.
        days: u32,
    },
    /// At the first cron time after the overlap.
    Cron {
        /// Five fields, as in crontab.
        expression: String,
        /// IANA name; UTC if it is left out.
        #[serde(default = "utc")]
        time_zone: String,
    },
}

/// Hours of the day in which a scheduled rotation may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// From, `HH:MM`.
    pub from: Time,
    /// Until, `HH:MM`; before `from`, it is the next day's.
    pub until: Time,
    /// IANA name; UTC if it is left out.
    #[serde(default = "utc")]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Why a schedule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// Out of bounds.
    #[error("days must be from {INTERVAL_DAYS_MIN} to {INTERVAL_DAYS_MAX}")]
    Interval,
    /// The time between two rotations must hold two overlaps.
    #[error("two rotations must lie at least two overlaps apart")]
    TooOften,
    /// Not a cron expression, or one that never fires.
    #[error("the cron expression {0}")]
    Cron(String),
    /// Not an IANA time zone.
    #[error("the time zone is unknown; use an IANA name such as Europe/Paris")]
    TimeZone,
    /// It would never open.
    #[error("from and until must differ")]
    Window,
}

/// How many firings of a cron expression are looked at to see how close together they are: over two
/// years of a weekly one, five of a monthly one.
const FIRINGS_CHECKED: usize = 120;

/// Where the check of a cron expression begins: a fixed instant, so that one expression is always
/// judged alike.
const CHECKED_FROM: &str = "2026-01-01T00:00:00Z";

impl Schedule {
    /// Checks that it fires, and never more often than two overlaps or once a day.
    ///
    /// # Errors
    /// [`InvalidSchedule`].
    ///
    /// # Panics
    /// Never: the fixed instant parses.
    pub fn check(&self, overlap: Duration) -> Result<(), InvalidSchedule> {
        let overlaps: Duration = overlap * 2;
        let least = overlaps.max(Duration::days(i64::from(INTERVAL_DAYS_MIN)));
        match self {
            Self::Interval { days } => {
                if !(INTERVAL_DAYS_MIN..=INTERVAL_DAYS_MAX).contains(days) {
                    return Err(InvalidSchedule::Interval);
                }
                let far = Duration::days(i64::from(*days)) >= least;
                far.then_some(()).ok_or(InvalidSchedule::TooOften)
            }
            Self::Cron {
                expression,
                time_zone,
            } => {
                let zone = zone(time_zone)?;
                let cron = cron(expression)?;
                let from: Timestamp = CHECKED_FROM.parse().expect("a fixed instant parses");
                let never = |_| InvalidSchedule::Cron("never fires".to_owned());
                let first = cron.find_next_occurrence(&from.to_zoned(zone), true);
                let first = first.map_err(never)?;
                let firings = cron.iter_after(first.clone()).take(FIRINGS_CHECKED);
                let close = |(earlier, later): (Zoned, Zoned)| {
                    let apart = later.timestamp().as_second() - earlier.timestamp().as_second();
                    // A day of 23 hours, when the clocks go forward, is still a day.
                    Duration::seconds(apart) + Duration::hours(1) < least
                };
                let pairs = std::iter::once(first).chain(firings.clone()).zip(firings);
                let too_often = pairs.into_iter().any(close);
                (!too_often).then_some(()).ok_or(InvalidSchedule::TooOften)
            }
        }
    }

    /// When it is due after a publication: the interval later, or at the first cron time after the
    /// overlap. `None` for an expression that fires no more.
    #[must_use]
    pub fn due_after(
        &self,
        published_at: OffsetDateTime,
        overlap: Duration,
    ) -> Option<OffsetDateTime> {
        match self {
            Self::Interval { days } => Some(published_at + Duration::days(i64::from(*days))),
            Self::Cron {
                expression,
                time_zone,
            } => {
                let from = zoned(published_at + overlap, &zone(time_zone).ok()?)?;
                let due = cron(expression).ok()?.find_next_occurrence(&from, true);
                instant(&due.ok()?)
            }
        }
    }
}

impl MaintenanceWindow {
    /// Checks that it opens at all, in a time zone that exists.
    ///
    /// # Errors
    /// [`InvalidSchedule::Window`], [`InvalidSchedule::TimeZone`].
    pub fn check(&self) -> Result<(), InvalidSchedule> {
        zone(&self.time_zone)?;
        let opens = self.from != self.until;
        opens.then_some(()).ok_or(InvalidSchedule::Window)
    }

    /// The instant itself if it lies in the window, or else when the window opens next.
    #[must_use]
    pub fn opens(&self, at: OffsetDateTime) -> OffsetDateTime {
        // A checked window has a time zone that exists; without one it would be open always.
        let opens = || {
            let zone = zone(&self.time_zone).ok()?;
            let local = zoned(at, &zone)?;
            let time = local.time();
            let inside = if self.from < self.until {
                (self.from..self.until).contains(&time)
            } else {
                time >= self.from || time < self.until
            };
            if inside {
                return Some(at);
            }
            let day = if time < self.from {
                local.date()
            } else {
                local.date().checked_add(1.day()).ok()?
            };
            instant(&day.to_datetime(self.from).to_zoned(zone).ok()?)
        };
        opens().unwrap_or(at)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interval { days: 1 } => f.write_str("every day"),
            Self::Interval { days } => write!(f, "every {days} days"),
            Self::Cron {
                expression,
                time_zone,
            } => write!(f, "at {expression:?} {time_zone}"),
        }
    }
}

/// By how much a due time is put off: by a hash of the account and the due time, so that it is the
/// same whenever it is asked for, on every replica.
#[must_use]
pub(super) fn jitter(account: &AccountName, due: OffsetDateTime, minutes_max: u32) -> Duration {
    let text = format!("{account} {}", time_text::to_micros(due));
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let (head, _) = hash.as_ref().split_at(4);
    let drawn = u32::from_be_bytes(head.try_into().expect("four bytes are four bytes"));
    Duration::seconds(i64::from(drawn % (minutes_max * 60 + 1)))
}

fn zone(name: &str) -> Result<TimeZone, InvalidSchedule> {
    TimeZone::get(name).map_err(|_| InvalidSchedule::TimeZone)
}

/// Five fields: rotation by the second or in one year only makes no sense.
fn cron(expression: &str) -> Result<Cron, InvalidSchedule> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let parsed = parser.parse(expression);
    parsed.map_err(|error| InvalidSchedule::Cron(format!("does not parse: {error}")))
}

fn zoned(at: OffsetDateTime, zone: &TimeZone) -> Option<Zoned> {
    let timestamp = Timestamp::from_microsecond(time_text::to_micros(at)).ok()?;
    Some(timestamp.to_zoned(zone.clone()))
}

fn instant(at: &Zoned) -> Option<OffsetDateTime> {
    time_text::from_micros(at.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn cron_at(expression: &str, time_zone: &str) -> Schedule {
        Schedule::Cron {
            expression: expression.to_owned(),
            time_zone: time_zone.to_owned(),
        }
    }

    #[test]
    fn a_schedule_must_fire_and_leave_room_for_two_overlaps() {
        let day = Duration::hours(24);
        for ok in [
            Schedule::Interval { days: 2 },
            cron_at("0 3 1 * *", "Europe/Paris"),
            cron_at("0 3 * * MON", "UTC"),
            cron_at("0 3 1,4 * *", "Europe/Paris"),
            cron_at("@monthly", "UTC"),
        ] {
            assert_eq!(ok.check(day), Ok(()), "{ok:?}");
        }
        let hour = Duration::hours(1);
        assert_eq!(cron_at("0 3 * * *", "Europe/Paris").check(hour), Ok(()));
        for often in [
            Schedule::Interval { days: 1 },
            cron_at("0 3 * * *", "UTC"),
            cron_at("0 3 * * MON,TUE", "UTC"),
        ] {
            assert_eq!(
                often.check(day),
                Err(InvalidSchedule::TooOften),
                "{often:?}"
            );
        }
        assert_eq!(
            cron_at("0 */6 * * *", "UTC").check(hour),
            Err(InvalidSchedule::TooOften)
        );
        for (days, expected) in [
            (0, InvalidSchedule::Interval),
            (731, InvalidSchedule::Interval),
        ] {
            assert_eq!(Schedule::Interval { days }.check(day), Err(expected));
        }
        for bad in ["0 0 30 2 *", "0 0 3 * * *", "x", "0 3 1 * * 2027", ""] {
            let refused = cron_at(bad, "UTC").check(day);
            assert!(
                matches!(refused, Err(InvalidSchedule::Cron(_))),
                "{bad} {refused:?}"
            );
        }
        let nowhere = cron_at("0 3 1 * *", "Europe/Nowhere").check(day);
        assert_eq!(nowhere, Err(InvalidSchedule::TimeZone));
    }

    #[test]
    fn a_cron_time_is_the_wall_clock_s_on_both_sides_of_a_change() {
        let overlap = Duration::hours(24);
        let paris = cron_at("0 3 * * SUN", "Europe/Paris");
        let due = |at| paris.due_after(at, overlap).unwrap();
        assert_eq!(
            due(datetime!(2026-10-13 12:00 UTC)),
            datetime!(2026-10-18 01:00 UTC)
        );
        assert_eq!(
            due(datetime!(2026-10-20 12:00 UTC)),
            datetime!(2026-10-25 02:00 UTC)
        );
        // Published an hour before it fires: the overlap goes first.
        assert_eq!(
            due(datetime!(2026-10-18 00:00 UTC)),
            datetime!(2026-10-25 02:00 UTC)
        );
        // In the hour that does not exist in spring: right after it.
        let gap = cron_at("30 2 * * SUN", "Europe/Paris");
        let spring = gap.due_after(datetime!(2026-03-24 12:00 UTC), overlap);
        assert_eq!(spring, Some(datetime!(2026-03-29 01:00 UTC)));
    }

    #[test]
    fn a_window_opens_by_the_wall_clock_and_may_reach_over_midnight() {
        let window = |from: &str, until: &str| MaintenanceWindow {
            from: from.parse().unwrap(),
            until: until.parse().unwrap(),
            time_zone: "Europe/Paris".to_owned(),
        };
        let night = window("01:00", "05:00");
        for (at, opens) in [
            (
                datetime!(2026-11-23 00:00 UTC),
                datetime!(2026-11-23 00:00 UTC),
            ),
            (
                datetime!(2026-11-23 03:59 UTC),
                datetime!(2026-11-23 03:59 UTC),
            ),
            (
                datetime!(2026-11-23 04:00 UTC),
                datetime!(2026-11-24 00:00 UTC),
            ),
            (
                datetime!(2026-11-22 23:00 UTC),
                datetime!(2026-11-23 00:00 UTC),
            ),
            // Summer time: an hour earlier in UTC.
            (
                datetime!(2026-07-01 12:00 UTC),
                datetime!(2026-07-01 23:00 UTC),
            ),
        ] {
            assert_eq!(night.opens(at), opens, "{at}");
        }
        let over = window("22:00", "02:00");
        for (at, opens) in [
            (
                datetime!(2026-11-23 22:30 UTC),
                datetime!(2026-11-23 22:30 UTC),
            ),
            (
                datetime!(2026-11-23 00:30 UTC),
                datetime!(2026-11-23 00:30 UTC),
            ),
            (
                datetime!(2026-11-23 01:00 UTC),
                datetime!(2026-11-23 21:00 UTC),
            ),
        ] {
            assert_eq!(over.opens(at), opens, "{at}");
        }
        assert_eq!(
            window("01:00", "01:00").check(),
            Err(InvalidSchedule::Window)
        );
    }

    #[test]
    fn jitter_is_bounded_never_redrawn_and_differs_between_accounts_and_due_times() {
        let due = datetime!(2026-11-23 10:00 UTC);
        let names: Vec<AccountName> = (0..50)
            .map(|n| format!("acct{n}").parse().unwrap())
            .collect();
        let drawn: Vec<_> = names.iter().map(|name| jitter(name, due, 60)).collect();
        let bounds = Duration::ZERO..=Duration::hours(1);
        assert!(drawn.iter().all(|jitter| bounds.contains(jitter)));
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        assert!(different.len() > 40, "{}", different.len());
        assert_eq!(jitter(&names[0], due, 60), drawn[0]);
        assert_ne!(jitter(&names[0], due + Duration::days(30), 60), drawn[0]);
        assert_eq!(jitter(&names[0], due, 0), Duration::ZERO);
    }
}
