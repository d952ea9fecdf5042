//! The signing keys of the allowed directories, in memory.
//!
//! Keys change without notice, so they are fetched anew every hour behind the requests, and at once,
//! but rarely, when a token names a key that is not there. The last good set stays through an outage
//! of Entra, up to an age. One fetch per issuer runs at a time, and everybody who needs it shares
//! it. Never how keys are fetched (a port) nor what they verify.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwapOption;
use time::{Duration, OffsetDateTime};
use tracing::{info, warn};

use super::{
    backoff::{Backoff, jittered},
    flight::Flight,
};
use crate::{
    domain::{
        caller::{IssuerKeys, TokenVersion, UntrustedOrigin},
        ids::TenantId,
    },
    ports::{Clock, Entropy, KeySource, KeySourceError},
};

/// How long a failing Entra is left alone: short, because nobody can call meanwhile, but long enough
/// that an outage meets no hammering.
const BACKOFF: Backoff = Backoff {
    first: Duration::seconds(2),
    longest: Duration::seconds(60),
};

/// How keys are kept. Facts: Entra's guidance on signing key roll-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCacheSettings {
    /// Age at which a set is fetched anew, behind the requests, plus or minus a tenth.
    pub refresh_after: Duration,
    /// Age up to which a set counts when no newer one can be had.
    pub age_max: Duration,
    /// Shortest time between two fetches for tokens that name unknown keys, for each issuer:
    /// anybody can write such a token.
    pub unknown_key_interval: Duration,
    /// Longest that one fetch, discovery and keys, may take.
    pub fetch_timeout: std::time::Duration,
}

impl Default for KeyCacheSettings {
    fn default() -> Self {
        Self {
            refresh_after: Duration::hours(1),
            age_max: Duration::hours(24),
            unknown_key_interval: Duration::minutes(5),
            fetch_timeout: std::time::Duration::from_secs(20),
        }
    }
}

/// Keys that are needed cannot be had now. That says nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the identity provider's signing keys cannot be had")]
pub struct KeysUnavailable {
    /// When to ask again.
    pub retry_after: std::time::Duration,
}

/// The issuers of every allowed directory: one for each token version.
pub struct KeyCache {
    issuers: HashMap<UntrustedOrigin, Arc<CachedIssuer>>,
}

impl KeyCache {
    /// An empty cache for these directories and no others. Nothing is fetched before first use.
    #[must_use]
    pub fn new(
        tenants: impl IntoIterator<Item = TenantId>,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: KeyCacheSettings,
    ) -> Self {
        let around = Arc::new(Around {
            source,
            clock,
            entropy,
            settings,
        });
        let origins = tenants.into_iter().flat_map(|tenant_id| {
            TokenVersion::ALL.map(|version| UntrustedOrigin { tenant_id, version })
        });
        let issuers = origins.map(|origin| {
            let issuer = CachedIssuer {
                origin,
                around: Arc::clone(&around),
                held: ArcSwapOption::empty(),
                state: Mutex::default(),
            };
            (origin, Arc::new(issuer))
        });
        Self {
            issuers: issuers.collect(),
        }
    }

    /// The issuer that a token claims; `None` if its directory is not allowed.
    #[must_use]
    pub fn issuer(&self, claimed: UntrustedOrigin) -> Option<&Arc<CachedIssuer>> {
        self.issuers.get(&claimed)
    }

    /// Fetches what is due, behind the caller, for issuers that are in use. To be called now and
    /// then, so that a quiet broker does not wake up with old keys.
    pub fn refresh_due(&self) {
        for issuer in self.issuers.values() {
            if let Some(held) = issuer.held.load_full() {
                issuer.refresh_if_due(&held, issuer.around.clock.now());
            }
        }
    }
}

/// What every issuer needs from outside.
struct Around {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: KeyCacheSettings,
}

/// One issuer's last good set and the fetch for the next.
pub struct CachedIssuer {
    origin: UntrustedOrigin,
    around: Arc<Around>,
    held: ArcSwapOption<Held>,
    state: Mutex<State>,
}

struct Held {
    keys: Arc<IssuerKeys>,
    fetched_at: OffsetDateTime,
    refresh_at: OffsetDateTime,
}

#[derive(Default)]
struct State {
    flight: Option<Flight>,
    /// Failures in a row; none after a success.
    failures: u32,
    retry_at: Option<OffsetDateTime>,
    /// When an unknown key last started a fetch.
    searched_at: Option<OffsetDateTime>,
}

/// Why a fetch is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    FirstKeys,
    Refresh,
    UnknownKey,
}

impl fmt::Debug for CachedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedIssuer")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl CachedIssuer {
    /// The current set: from memory if there is one, else fetched.
    ///
    /// # Errors
    /// [`KeysUnavailable`] if none is in memory, or only one beyond its age, and none can be had.
    pub async fn keys(self: &Arc<Self>) -> Result<Arc<IssuerKeys>, KeysUnavailable> {
        let now = self.around.clock.now();
        if let Some(held) = self.usable(now) {
            self.refresh_if_due(&held, now);
            return Ok(Arc::clone(&held.keys));
        }
        if let Some(flight) = self.join(Want::FirstKeys, now)? {
            flight.landed().await;
        }
        let now = self.around.clock.now();
        let held = self.usable(now).ok_or_else(|| self.unavailable(now))?;
        Ok(Arc::clone(&held.keys))
    }

    /// The set after a look for a key that it did not hold: the newest one, fetched at most once
    /// in [`KeyCacheSettings::unknown_key_interval`], however many ask.
    ///
    /// # Errors
    /// [`KeysUnavailable`] if the look failed, so that nobody knows whether the key exists.
    pub async fn keys_after_search(self: &Arc<Self>) -> Result<Arc<IssuerKeys>, KeysUnavailable> {
        let now = self.around.clock.now();
        if let Some(flight) = self.join(Want::UnknownKey, now)? {
            flight.landed().await;
            if self.state().failures > 0 {
                return Err(self.unavailable(self.around.clock.now()));
            }
        }
        self.keys().await
    }

    fn usable(&self, now: OffsetDateTime) -> Option<Arc<Held>> {
        let held = self.held.load_full()?;
        (now - held.fetched_at <= self.around.settings.age_max).then_some(held)
    }

    fn refresh_if_due(self: &Arc<Self>, held: &Held, now: OffsetDateTime) {
        if held.refresh_at <= now {
            // Started or not, nobody waits: the held set serves.
            let _ = self.join(Want::Refresh, now);
        }
    }

    /// Joins the fetch under way or starts one. `None` if a search is not due yet.
    fn join(
        self: &Arc<Self>,
        want: Want,
        now: OffsetDateTime,
    ) -> Result<Option<Flight>, KeysUnavailable> {
        let mut state = self.state();
        if let Some(flight) = state.flight.as_ref().filter(|flight| !flight.has_landed()) {
            return Ok(Some(flight.clone()));
        }
        if let Some(retry_after) = state.backing_off(now) {
            return Err(KeysUnavailable { retry_after });
        }
        if want == Want::UnknownKey {
            let interval = self.around.settings.unknown_key_interval;
            let recent = |at| (Duration::ZERO..interval).contains(&(now - at));
            if state.failures == 0 && state.searched_at.is_some_and(recent) {
                return Ok(None);
            }
            state.searched_at = Some(now);
        }
        let flight = Flight::start(Arc::clone(self).fetch());
        state.flight = Some(flight.clone());
        Ok(Some(flight))
    }

    async fn fetch(self: Arc<Self>) {
        let UntrustedOrigin { tenant_id, version } = self.origin;
        let answer = self.around.source.fetch(tenant_id, version);
        let outcome = tokio::time::timeout(self.around.settings.fetch_timeout, answer)
            .await
            .unwrap_or_else(|_| Err(KeySourceError::Unreachable("no answer in time".to_owned())));
        let now = self.around.clock.now();
        let entropy = &*self.around.entropy;
        match outcome {
            Ok(keys) => {
                info!(%tenant_id, %version, keys = keys.keys().len(), "signing keys fetched");
                let refresh_at = now + jittered(self.around.settings.refresh_after, entropy);
                let keys = Arc::new(keys);
                self.held.store(Some(Arc::new(Held {
                    keys,
                    fetched_at: now,
                    refresh_at,
                })));
                let mut state = self.state();
                state.failures = 0;
                state.retry_at = None;
            }
            Err(error) => {
                let mut state = self.state();
                state.failures = state.failures.saturating_add(1);
                let wait = BACKOFF.wait(state.failures, entropy);
                state.retry_at = Some(now + wait);
                let failures = state.failures;
                warn!(%tenant_id, %version, %error, failures, "signing keys not fetched");
            }
        }
    }

    fn unavailable(&self, now: OffsetDateTime) -> KeysUnavailable {
        let retry_after = self.state().backing_off(now);
        KeysUnavailable {
            retry_after: retry_after.unwrap_or(BACKOFF.first.unsigned_abs()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How much longer to leave Entra alone. A wait longer than any that is ever set means that the
    /// clock was put back, and does not count.
    fn backing_off(&self, now: OffsetDateTime) -> Option<std::time::Duration> {
        let wait = self.retry_at? - now;
        (wait.is_positive() && wait <= BACKOFF.ceiling()).then(|| wait.unsigned_abs())
    }
}

#[cfg(test)]
pub(crate) mod tests;
