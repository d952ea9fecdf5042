//! When a rotation is due: an interval or a cron expression in a time zone, put off by a jitter that
//! is never redrawn; and the window outside of which none starts.

use jiff::{civil::Time, tz::TimeZone};
use serde::{Deserialize, Serialize};
use time::Duration;

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
}

impl Schedule {
    /// Checks that it fires, and never more often than two overlaps or once a day.
    ///
    /// # Errors
    /// [`InvalidSchedule`].
    pub fn check(&self, overlap: Duration) -> Result<(), InvalidSchedule> {
        match self {
            Self::Interval { days } => {
                if !(INTERVAL_DAYS_MIN..=INTERVAL_DAYS_MAX).contains(days) {
                    return Err(InvalidSchedule::Interval);
                }
                let far = Duration::days(i64::from(*days)) >= overlap * 2;
                far.then_some(()).ok_or(InvalidSchedule::TooOften)
            }
            Self::Cron { time_zone, .. } => TimeZone::get(time_zone)
                .map(drop)
                .map_err(|_| InvalidSchedule::TimeZone),
        }
    }
}
