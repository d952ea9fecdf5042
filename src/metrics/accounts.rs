//! What one scrape says about accounts.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use time::{Duration, OffsetDateTime};

use super::PREFIX;
use crate::domain::rotation::{AccountStatus, State};

type Account = [(&'static str, String); 1];
type AccountState = [(&'static str, String); 2];
type Seconds = Gauge<f64, AtomicU64>;

/// Gauges of these accounts, for one scrape: an account that is gone leaves none behind.
pub(super) fn registry(accounts: &[AccountStatus], now: OffsetDateTime) -> Registry {
    let age = Family::<Account, Seconds>::default();
    let overdue = Family::<Account, Seconds>::default();
    let state = Family::<AccountState, Gauge>::default();
    let failures = Family::<Account, Gauge>::default();
    for status in accounts {
        let account = [("account", status.account.to_string())];
        if let Some(published) = &status.published {
            let seconds = not_negative(now - published.at);
            age.get_or_create(&account).set(seconds);
        }
        overdue.get_or_create(&account).set(overdue_by(status, now));
        let counted = failures.get_or_create(&account);
        counted.set(status.failures.into());
        for known in State::ALL {
            let labels = [
                ("account", status.account.to_string()),
                ("state", known.to_string()),
            ];
            let present = state.get_or_create(&labels);
            present.set(i64::from(*known == status.state));
        }
    }
    let mut registry = Registry::with_prefix(PREFIX);
    let seconds = Unit::Seconds;
    let help = "Time since the newest version of the account's secret was published";
    registry.register_with_unit("rotation_age", help, seconds.clone(), age);
    let help = "Time since the account's rotation was due, 0 if it is not";
    registry.register_with_unit("rotation_overdue", help, seconds, overdue);
    let help = "1 for the state that the last look at the account showed, 0 for the others";
    registry.register("rotation_state", help, state);
    let help = "Looks and rotations in a row that came to nothing";
    registry.register("rotation_failures", help, failures);
    registry
}

/// Whoever refuses Shared Key needs no rotation, so none can be late.
fn overdue_by(status: &AccountStatus, now: OffsetDateTime) -> f64 {
    let due = status.due_at.filter(|_| status.state != State::NotNeeded);
    due.map_or(0.0, |due| not_negative(now - due))
}

/// A clock that was set back must not make an age negative.
fn not_negative(duration: Duration) -> f64 {
    duration.max(Duration::ZERO).as_seconds_f64()
}
