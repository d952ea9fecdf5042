//! User delegation keys in memory: one for each account, signing identity and delegated tenant, in
//! the account's current generation.
//!
//! A revocation raises the generation. A decision that knows the new one never meets a key of an
//! older one, whatever is still being fetched: each generation has a place of its own.
//!
//! A key is renewed behind the requests well before it ends, at a jittered moment. Requests wait only
//! for a first key, and only one of them asks. An error is never kept as an answer: it sets a growing
//! pause before the next attempt, and a key that still lives is used on meanwhile.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;
use time::{Duration, OffsetDateTime};
use tracing::{info, warn};

use super::backoff::{Backoff, jittered};
use crate::{
    domain::{
        account::Account,
        ids::{AccountName, SigningIdentity, TenantId},
        sas::UserDelegationKey,
        time_text,
        validity::KEY_BACKDATE_SECONDS,
    },
    ports::{Clock, DelegationKeys, Entropy, KeyFetchError, KeyRequest},
};

/// Most keys in memory, which is also most accounts in use at once; the least used go first.
const KEYS_MAX: usize = 20_000;
/// How long a failing service is left alone: an outage that ends is noticed within a minute.
const BACKOFF: Backoff = Backoff {
    first: Duration::seconds(2),
    longest: Duration::seconds(60),
};
/// A key is renewed at about this part of its life, in percent, moved by up to a tenth of it either
/// way, so that replicas and accounts do not ask in step.
const RENEW_PERCENT: i32 = 75;

/// There is no key that could sign, now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no user delegation key: {reason}")]
pub struct KeyUnavailable {
    /// Why.
    pub reason: KeyFetchError,
    /// When it is worth asking again.
    pub retry_after: std::time::Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SlotName {
    account: AccountName,
    identity: SigningIdentity,
    delegated_tenant: Option<TenantId>,
    /// A fetch leaves its key in the slot that it was begun for, and in no newer one.
    generation: i64,
}

/// The keys.
pub struct KeyRing {
    source: Arc<dyn DelegationKeys>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    key_seconds: u32,
    slots: Cache<SlotName, Arc<Slot>>,
}

#[derive(Default)]
struct Slot {
    held: ArcSwapOption<Held>,
    pause: Mutex<Option<Pause>>,
    /// Held while a request fetches and waits.
    fetching: Arc<tokio::sync::Mutex<()>>,
    renewing: AtomicBool,
}

struct Held {
    key: Arc<UserDelegationKey>,
    renew_at: OffsetDateTime,
}

#[derive(Clone)]
struct Pause {
    failures: u32,
    until: OffsetDateTime,
    reason: KeyFetchError,
}

impl KeyRing {
    /// A ring whose keys live `key_seconds` from their back-dated start.
    #[must_use]
    pub fn new(
        source: Arc<dyn DelegationKeys>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        key_seconds: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            clock,
            entropy,
            key_seconds,
            slots: Cache::new(KEYS_MAX),
        })
    }

    /// A key that is valid now, and until `until` if one can be had. A key that ends sooner is
    /// given where a longer one cannot be fetched; whoever signs with it ends the token earlier.
    /// `generation` is the one that the decision was made on
    /// ([`Authorized::key_generation`](crate::domain::decide::Authorized::key_generation)).
    ///
    /// # Errors
    /// [`KeyUnavailable`] if there is no living key.
    pub async fn key(
        self: &Arc<Self>,
        account: &Arc<Account>,
        generation: i64,
        delegated_tenant: Option<TenantId>,
        until: OffsetDateTime,
    ) -> Result<Arc<UserDelegationKey>, KeyUnavailable> {
        let name = SlotName {
            account: account.name.clone(),
            identity: account.signing_identity.clone(),
            delegated_tenant,
            generation,
        };
        let slot = match self.slots.get(&name) {
            Some(slot) => slot,
            None => self.new_slot(&name),
        };
        if let Some(held) = self.living(&slot, until) {
            if self.clock.now() >= held.renew_at {
                self.renew_behind(&slot, account, delegated_tenant);
            }
            return Ok(Arc::clone(&held.key));
        }
        let fetching = Arc::clone(&slot.fetching).lock_owned().await;
        if let Some(held) = self.living(&slot, until) {
            return Ok(Arc::clone(&held.key));
        }
        // In a task of its own, which keeps the lock: a request that is dropped while it waits must
        // not make the next one ask again.
        let (ring, own_slot, own_account) =
            (Arc::clone(self), Arc::clone(&slot), Arc::clone(account));
        let fetch = tokio::spawn(async move {
            let fetched = ring.fetch(&own_slot, &own_account, delegated_tenant).await;
            drop(fetching);
            fetched
        });
        let interrupted = |_| {
            let reason = KeyFetchError::Unavailable("the fetch was interrupted".to_owned());
            Err(KeyUnavailable {
                reason,
                retry_after: std::time::Duration::from_secs(1),
            })
        };
        match fetch.await.unwrap_or_else(interrupted) {
            Ok(key) => Ok(key),
            Err(unavailable) => {
                let shorter = self.living(&slot, self.clock.now());
                shorter.map(|held| Arc::clone(&held.key)).ok_or(unavailable)
            }
        }
    }

    /// A place for a key that was never asked for, or not in this generation; revoked keys of older
    /// ones are forgotten.
    fn new_slot(&self, name: &SlotName) -> Arc<Slot> {
        if name.generation > 0 {
            self.slots.retain(|known, _| {
                known.account != name.account || known.generation >= name.generation
            });
        }
        self.slots
            .get_or_insert_with(name, || Ok::<_, std::convert::Infallible>(Arc::default()))
            .expect("infallible")
    }

    /// The held key, if it is valid now and at least until `until`.
    fn living(&self, slot: &Slot, until: OffsetDateTime) -> Option<Arc<Held>> {
        let now = self.clock.now();
        slot.held.load_full().filter(|held| {
            held.key.start() <= now && now < held.key.expiry() && until <= held.key.expiry()
        })
    }

    fn renew_behind(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        account: &Arc<Account>,
        delegated_tenant: Option<TenantId>,
    ) {
        let paused = self.paused(slot).is_some();
        if paused || slot.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (ring, slot, account) = (Arc::clone(self), Arc::clone(slot), Arc::clone(account));
        tokio::spawn(async move {
            // A failure has set its pause and been logged; the old key is used on.
            drop(ring.fetch(&slot, &account, delegated_tenant).await);
            slot.renewing.store(false, Ordering::Release);
        });
    }

    /// Fetches a key into the slot, unless a failure's pause still lasts.
    async fn fetch(
        &self,
        slot: &Slot,
        account: &Arc<Account>,
        delegated_tenant: Option<TenantId>,
    ) -> Result<Arc<UserDelegationKey>, KeyUnavailable> {
        if let Some(unavailable) = self.paused(slot) {
            return Err(unavailable);
        }
        let now = time_text::whole_seconds(self.clock.now());
        let starts_at = now - Duration::seconds(i64::from(KEY_BACKDATE_SECONDS));
        let request = KeyRequest {
            account: Arc::clone(account),
            starts_at,
            expires_at: starts_at + Duration::seconds(i64::from(self.key_seconds)),
            delegated_tenant,
        };
        let fetched = self.source.fetch(&request).await.and_then(|key| {
            // What the service says counts, not what was asked.
            let usable = key.start() <= self.clock.now() && self.clock.now() < key.expiry();
            let reason = "the service gave a key that is not valid now";
            usable
                .then_some(key)
                .ok_or_else(|| KeyFetchError::Unavailable(reason.to_owned()))
        });
        match fetched {
            Ok(key) => Ok(self.hold(slot, account, key)),
            Err(reason) => Err(self.pause(slot, account, reason)),
        }
    }

    fn hold(
        &self,
        slot: &Slot,
        account: &Account,
        key: UserDelegationKey,
    ) -> Arc<UserDelegationKey> {
        let now = self.clock.now();
        let life = key.expiry() - now;
        let key = Arc::new(key);
        let renew_at = now + jittered(life * RENEW_PERCENT / 100, self.entropy.as_ref());
        slot.held.store(Some(Arc::new(Held {
            key: Arc::clone(&key),
            renew_at,
        })));
        *slot.pause.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let expires_at = time_text::to_text(key.expiry());
        info!(account = %account.name, %expires_at, "user delegation key fetched");
        key
    }

    fn pause(&self, slot: &Slot, account: &Account, reason: KeyFetchError) -> KeyUnavailable {
        let mut pause = slot.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = pause.as_ref().map_or(0, |pause| pause.failures) + 1;
        let wanted = match &reason {
            KeyFetchError::Throttled {
                retry_after: Some(wait),
            } => Duration::try_from(*wait)
                .unwrap_or(BACKOFF.longest)
                .min(BACKOFF.longest),
            _ => BACKOFF.wait(failures, self.entropy.as_ref()),
        };
        let until = self.clock.now() + wanted;
        let pause_seconds = wanted.whole_seconds();
        warn!(account = %account.name, %reason, pause_seconds, "no user delegation key");
        *pause = Some(Pause {
            failures,
            until,
            reason,
        });
        drop(pause);
        self.paused(slot).expect("the pause was set just now")
    }

    fn paused(&self, slot: &Slot) -> Option<KeyUnavailable> {
        let pause = slot
            .pause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let wait = std::time::Duration::try_from(pause.until - self.clock.now()).ok()?;
        (!wait.is_zero()).then_some(KeyUnavailable {
            reason: pause.reason,
            retry_after: wait,
        })
    }
}

#[cfg(test)]
mod tests;
