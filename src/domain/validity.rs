//! How long a token lives: ceilings, their minimum with the reasons, and the signed window.

use std::fmt;

use time::{Duration, OffsetDateTime};

use super::{
    ids::{GrantId, RoleName},
    permission::PermissionSet,
    time_text,
};

/// Lifetime of a token that names none, in seconds: long enough for one job step.
pub const LIFETIME_SECONDS_DEFAULT: u32 = 900;
/// Shortest lifetime, in seconds: below it a token may die before its first use.
pub const LIFETIME_SECONDS_MIN: u32 = 60;
/// Longest lifetime unless configured higher, in seconds.
pub const LIFETIME_SECONDS_MAX: u32 = 3_600;
/// Longest lifetime that can be configured, in seconds: half a day.
pub const LIFETIME_SECONDS_CEILING: u32 = 43_200;
/// How far `st` is set back, in seconds: Microsoft's advice for clock skew between its machines.
pub const BACKDATE_SECONDS: u32 = 900;
/// How far a delegation key's start is set back, in seconds: further than any token's.
pub const KEY_BACKDATE_SECONDS: u32 = 1_200;
/// Longest life of a delegation key, in seconds: Azure's 7 days less an hour of margin, counted from
/// its start.
pub const KEY_LIFETIME_SECONDS_MAX: u32 = 7 * 86_400 - 3_600;

const _: () = {
    assert!(LIFETIME_SECONDS_MIN <= LIFETIME_SECONDS_DEFAULT);
    assert!(LIFETIME_SECONDS_DEFAULT <= LIFETIME_SECONDS_MAX);
    assert!(LIFETIME_SECONDS_MAX <= LIFETIME_SECONDS_CEILING);
    assert!(BACKDATE_SECONDS < KEY_BACKDATE_SECONDS);
    assert!(LIFETIME_SECONDS_CEILING + KEY_BACKDATE_SECONDS < KEY_LIFETIME_SECONDS_MAX);
};

/// The broker's own limits on what it issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lifetime of a token that names none, in seconds.
    pub lifetime_seconds_default: u32,
    /// Shortest lifetime, in seconds.
    pub lifetime_seconds_min: u32,
    /// Longest lifetime, in seconds; [`LIFETIME_SECONDS_CEILING`] at most.
    pub lifetime_seconds_max: u32,
    /// Which of [`PermissionSet::PRIVILEGED`] may be issued at all.
    pub privileged_permissions: PermissionSet,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lifetime_seconds_default: LIFETIME_SECONDS_DEFAULT,
            lifetime_seconds_min: LIFETIME_SECONDS_MIN,
            lifetime_seconds_max: LIFETIME_SECONDS_MAX,
            privileged_permissions: PermissionSet::EMPTY,
        }
    }
}

/// Something that a token must not outlive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// The caller asked for no more.
    Requested(u32),
    /// The caller asked for nothing, so the default counts.
    Default(u32),
    /// The broker's own limit.
    Broker(u32),
    /// A role's ceiling.
    Role(RoleName, u32),
    /// A grant's own ceiling.
    Grant(GrantId, u32),
    /// A grant ends.
    GrantExpires(GrantId, OffsetDateTime),
    /// A deny begins.
    DenyBegins(GrantId, OffsetDateTime),
    /// The account's SAS policy.
    AccountPolicy(u32),
    /// The delegation key ends.
    DelegationKey(OffsetDateTime),
    /// The token is a repetition of one that ends then.
    Recorded(OffsetDateTime),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested(seconds) => write!(f, "requested: {seconds} s"),
            Self::Default(seconds) => write!(f, "default: {seconds} s"),
            Self::Broker(seconds) => write!(f, "broker limit: {seconds} s"),
            Self::Role(name, seconds) => write!(f, "role {name}: {seconds} s"),
            Self::Grant(id, seconds) => write!(f, "grant {id}: {seconds} s"),
            Self::GrantExpires(id, at) => {
                write!(f, "grant {id} expires {}", time_text::to_text(*at))
            }
            Self::DenyBegins(id, at) => {
                write!(f, "deny {id} begins {}", time_text::to_text(*at))
            }
            Self::AccountPolicy(seconds) => write!(f, "account SAS policy: {seconds} s"),
            Self::DelegationKey(at) => {
                write!(f, "delegation key expires {}", time_text::to_text(*at))
            }
            Self::Recorded(at) => {
                write!(
                    f,
                    "idempotency key: recorded end {}",
                    time_text::to_text(*at)
                )
            }
        }
    }
}

impl Bound {
    /// The last instant that it lets a token live, which was decided at `now`.
    #[must_use]
    pub fn at(&self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Requested(seconds)
            | Self::Default(seconds)
            | Self::Broker(seconds)
            | Self::Role(_, seconds)
            | Self::Grant(_, seconds)
            | Self::AccountPolicy(seconds) => now + Duration::seconds(i64::from(*seconds)),
            Self::GrantExpires(_, at)
            | Self::DenyBegins(_, at)
            | Self::DelegationKey(at)
            | Self::Recorded(at) => *at,
        }
    }
}

/// The end of a token's life and every bound that puts it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    now: OffsetDateTime,
    at: OffsetDateTime,
    bounds: Vec<Bound>,
}

impl Expiry {
    /// Begins with one bound. `now` is cut to whole seconds, as everything that is signed.
    #[must_use]
    pub fn new(now: OffsetDateTime, bound: Bound) -> Self {
        let now = time_text::whole_seconds(now);
        Self {
            now,
            at: time_text::whole_seconds(bound.at(now)),
            bounds: vec![bound],
        }
    }

    /// The earlier of this and one more bound; bounds that meet are kept both.
    #[must_use]
    pub fn and(mut self, bound: Bound) -> Self {
        let at = time_text::whole_seconds(bound.at(self.now));
        if at < self.at {
            self.at = at;
            self.bounds.clear();
        }
        if at == self.at && !self.bounds.contains(&bound) {
            self.bounds.push(bound);
        }
        self
    }

    /// The earlier of two, both made at the same instant.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        other.bounds.into_iter().fold(self, Self::and)
    }

    /// When the token must end.
    #[must_use]
    pub const fn at(&self) -> OffsetDateTime {
        self.at
    }

    /// What puts the end there.
    #[must_use]
    pub fn bounds(&self) -> &[Bound] {
        &self.bounds
    }

    /// Life from the decision to the end, in seconds; negative if it ended before.
    #[must_use]
    pub fn lifetime_seconds(&self) -> i64 {
        (self.at - self.now).whole_seconds()
    }
}

/// The window that is signed: `st` and `se`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// `st`.
    pub starts_at: OffsetDateTime,
    /// `se`.
    pub expires_at: OffsetDateTime,
}

impl Window {
    /// The window that ends at `expires_at`: begun [`BACKDATE_SECONDS`] before `now`, but not before
    /// the delegation key, and with the back-dating cut first where the account's SAS policy
    /// (`period_seconds_max`, the longest `se - st`) would be passed.
    #[must_use]
    pub fn new(
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
        key_starts_at: OffsetDateTime,
        period_seconds_max: Option<u32>,
    ) -> Self {
        let now = time_text::whole_seconds(now);
        let back_dated = now - Duration::seconds(i64::from(BACKDATE_SECONDS));
        Self {
            starts_at: back_dated,
            expires_at,
        }
        .cut(key_starts_at, period_seconds_max)
    }

    /// This window, recorded before, as it may be signed again: never beyond itself, nor beyond
    /// `expires_at` and the present key and policy.
    #[must_use]
    pub fn again(
        self,
        expires_at: OffsetDateTime,
        key_starts_at: OffsetDateTime,
        period_seconds_max: Option<u32>,
    ) -> Self {
        Self {
            starts_at: self.starts_at,
            expires_at: self.expires_at.min(expires_at),
        }
        .cut(key_starts_at, period_seconds_max)
    }

    fn cut(self, key_starts_at: OffsetDateTime, period_seconds_max: Option<u32>) -> Self {
        let earliest = period_seconds_max
            .map(|seconds| self.expires_at - Duration::seconds(i64::from(seconds)));
        let starts_at = self
            .starts_at
            .max(key_starts_at)
            .max(earliest.unwrap_or(self.starts_at));
        Self {
            starts_at,
            expires_at: self.expires_at,
        }
    }

    /// When a consumer should fetch the next token: two thirds of the way from `now` to the end.
    #[must_use]
    pub fn refresh_after(&self, now: OffsetDateTime) -> OffsetDateTime {
        let now = time_text::whole_seconds(now);
        now + Duration::seconds((self.expires_at - now).whole_seconds() * 2 / 3)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 10:00:00.7 UTC);

    #[test]
    fn the_earliest_bound_wins_and_is_named() {
        let role = || Bound::Role("reader".parse().unwrap(), 3_600);
        let expiry = Expiry::new(NOW, Bound::Requested(7_200))
            .and(role())
            .and(Bound::Broker(3_600));
        assert_eq!(expiry.at(), datetime!(2026-11-23 11:00:00 UTC));
        let named: Vec<_> = expiry.bounds().iter().map(ToString::to_string).collect();
        assert_eq!(named, ["role reader: 3600 s", "broker limit: 3600 s"]);
    }

    #[test]
    fn a_short_account_policy_cuts_the_back_dating_first() {
        let key_start = datetime!(2026-11-22 0:00 UTC);
        let end = datetime!(2026-11-23 10:15 UTC);
        let starts = |period| Window::new(NOW, end, key_start, period).starts_at;
        assert_eq!(starts(None), datetime!(2026-11-23 9:45 UTC));
        assert_eq!(starts(Some(1_800)), datetime!(2026-11-23 9:45 UTC));
        assert_eq!(starts(Some(1_200)), datetime!(2026-11-23 9:55 UTC));
        assert_eq!(starts(Some(900)), datetime!(2026-11-23 10:00 UTC));
    }

    #[test]
    fn a_token_never_starts_before_its_key() {
        let key_start = datetime!(2026-11-23 9:50 UTC);
        let window = Window::new(NOW, datetime!(2026-11-23 10:15 UTC), key_start, None);
        assert_eq!(window.starts_at, key_start);
        assert_eq!(window.refresh_after(NOW), datetime!(2026-11-23 10:10 UTC));
    }

    #[test]
    fn a_window_signed_again_is_the_same_or_narrower() {
        let key_start = datetime!(2026-11-22 0:00 UTC);
        let first = Window::new(NOW, datetime!(2026-11-23 10:15 UTC), key_start, None);
        let later = datetime!(2026-11-23 10:30 UTC);
        assert_eq!(first.again(later, key_start, None), first);
        let narrower = first.again(
            datetime!(2026-11-23 10:12 UTC),
            datetime!(2026-11-23 9:50 UTC),
            Some(1_200),
        );
        assert_eq!(narrower.starts_at, datetime!(2026-11-23 9:52 UTC));
        assert_eq!(narrower.expires_at, datetime!(2026-11-23 10:12 UTC));
    }

    proptest! {
        #[test]
        fn clamping_is_the_minimum_whatever_the_order(mut seconds in proptest::collection::vec(1_u32..50_000, 1..8)) {
            let fold = |seconds: &[u32]| {
                let first = Expiry::new(NOW, Bound::Broker(seconds[0]));
                seconds[1..].iter().fold(first, |expiry, s| expiry.and(Bound::Broker(*s)))
            };
            let forward = fold(&seconds);
            prop_assert_eq!(forward.lifetime_seconds(), i64::from(*seconds.iter().min().unwrap()));
            seconds.reverse();
            prop_assert_eq!(fold(&seconds), forward);
        }

        #[test]
        fn every_window_holds_now_and_respects_key_and_policy(
            lifetime in 1_i64..43_200, key_age in 0_i64..100_000, period in proptest::option::of(60_u32..100_000),
        ) {
            let now = time_text::whole_seconds(NOW);
            let lifetime = period.map_or(lifetime, |p| lifetime.min(i64::from(p)));
            let key_start = now - Duration::seconds(key_age);
            let window = Window::new(NOW, now + Duration::seconds(lifetime), key_start, period);
            prop_assert!(window.starts_at <= now && now < window.expires_at);
            prop_assert!(window.starts_at >= key_start);
            prop_assert!(period.is_none_or(|p| window.expires_at - window.starts_at <= Duration::seconds(i64::from(p))));
            let refresh = window.refresh_after(NOW);
            prop_assert!(now <= refresh && refresh < window.expires_at);
        }
    }
}
