//! User delegation keys in memory: one for each account, signing identity and delegated tenant.
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
    ///
    /// # Errors
    /// [`KeyUnavailable`] if there is no living key.
    pub async fn key(
        self: &Arc<Self>,
        account: &Arc<Account>,
        delegated_tenant: Option<TenantId>,
        until: OffsetDateTime,
    ) -> Result<Arc<UserDelegationKey>, KeyUnavailable> {
        let name = SlotName {
            account: account.name.clone(),
            identity: account.signing_identity.clone(),
            delegated_tenant,
        };
        let slot = match self.slots.get(&name) {
            Some(slot) => slot,
            None => self
                .slots
                .get_or_insert_with(&name, || Ok::<_, std::convert::Infallible>(Arc::default()))
                .expect("infallible"),
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
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::sas::KeyElements,
        testing::{FakeClock, SeededEntropy},
    };

    #[derive(Default)]
    struct Service {
        calls: AtomicUsize,
        down: AtomicBool,
        last: Mutex<Option<KeyRequest>>,
    }

    #[async_trait]
    impl DelegationKeys for Service {
        async fn fetch(&self, request: &KeyRequest) -> Result<UserDelegationKey, KeyFetchError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            *self.last.lock().unwrap() = Some(request.clone());
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(KeyFetchError::Unavailable("down".to_owned()));
            }
            let id = Uuid::from_u128(1).to_string();
            Ok(UserDelegationKey::new(&KeyElements {
                signed_oid: &id,
                signed_tid: &id,
                signed_start: &time_text::to_text(request.starts_at),
                signed_expiry: &time_text::to_text(request.expires_at),
                signed_service: "b",
                signed_version: "2025-11-05",
                signed_delegated_user_tid: None,
                value: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            })
            .unwrap())
        }
    }

    struct World {
        clock: Arc<FakeClock>,
        service: Arc<Service>,
        ring: Arc<KeyRing>,
        account: Arc<Account>,
    }

    fn world() -> World {
        let clock = Arc::new(FakeClock::at(datetime!(2026-11-23 10:00 UTC)));
        let service = Arc::new(Service::default());
        let ring = KeyRing::new(
            Arc::clone(&service) as Arc<dyn DelegationKeys>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(SeededEntropy::default()),
            86_400,
        );
        let account = Account {
            name: "acct1".parse().unwrap(),
            resource_id: None,
            tenant_id: TenantId(Uuid::from_u128(1)),
            blob_endpoint: "https://acct1.blob.core.windows.net".parse().unwrap(),
            dfs_endpoint: None,
            hierarchical_namespace: false,
            signing_identity: "default".parse().unwrap(),
            correlation_id_supported: true,
            sas_period_seconds_max: None,
            issuance_enabled: true,
        };
        World {
            clock,
            service,
            ring,
            account: Arc::new(account),
        }
    }

    impl World {
        fn calls(&self) -> usize {
            self.service.calls.load(Ordering::SeqCst)
        }

        async fn key(&self) -> Result<Arc<UserDelegationKey>, KeyUnavailable> {
            let until = self.clock.now() + Duration::minutes(15);
            self.ring.key(&self.account, None, until).await
        }
    }

    #[tokio::test]
    async fn a_hundred_first_users_make_one_fetch() {
        let world = world();
        let until = world.clock.now() + Duration::hours(1);
        let users = (0..100).map(|_| {
            let (ring, account) = (Arc::clone(&world.ring), Arc::clone(&world.account));
            tokio::spawn(async move { ring.key(&account, None, until).await.unwrap() })
        });
        for user in users.collect::<Vec<_>>() {
            user.await.unwrap();
        }
        assert_eq!(world.calls(), 1);
        let asked = world.service.last.lock().unwrap().clone().unwrap();
        assert_eq!(asked.starts_at, datetime!(2026-11-23 9:40 UTC));
        assert_eq!(asked.expires_at, datetime!(2026-11-24 9:40 UTC));
    }

    #[tokio::test]
    async fn a_fetch_goes_on_when_the_one_who_started_it_is_gone() {
        let world = world();
        let (ring, account) = (Arc::clone(&world.ring), Arc::clone(&world.account));
        let until = world.clock.now() + Duration::hours(1);
        let user = tokio::spawn(async move { ring.key(&account, None, until).await });
        while world.calls() == 0 {
            tokio::task::yield_now().await;
        }
        user.abort();
        assert!(
            user.await.unwrap_err().is_cancelled(),
            "gone before the answer"
        );
        world.key().await.unwrap();
        assert_eq!(world.calls(), 1);
    }

    #[tokio::test]
    async fn a_failed_fetch_is_shared_by_its_waiters_and_paused_not_kept() {
        let world = world();
        world.service.down.store(true, Ordering::SeqCst);
        let until = world.clock.now() + Duration::hours(1);
        let users = (0..20).map(|_| {
            let (ring, account) = (Arc::clone(&world.ring), Arc::clone(&world.account));
            tokio::spawn(async move { ring.key(&account, None, until).await.unwrap_err() })
        });
        for user in users.collect::<Vec<_>>() {
            let wait = user.await.unwrap().retry_after;
            assert!(wait >= std::time::Duration::from_millis(1_800), "{wait:?}");
        }
        assert_eq!(world.calls(), 1);
        world.service.down.store(false, Ordering::SeqCst);
        world.clock.advance(Duration::seconds(4));
        assert!(world.key().await.is_ok(), "the pause is over");
    }

    #[tokio::test]
    async fn pauses_grow_to_their_bound() {
        let world = world();
        world.service.down.store(true, Ordering::SeqCst);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = world.key().await.unwrap_err().retry_after;
            waits.push(wait.as_secs_f64());
            world.clock.advance(Duration::try_from(wait).unwrap());
        }
        assert_eq!(world.calls(), 8);
        assert!(waits[0] >= 1.8 && waits[0] <= 2.2, "{waits:?}");
        assert!(waits[7] >= 54.0 && waits[7] <= 66.0, "{waits:?}");
    }

    #[tokio::test]
    async fn a_key_is_renewed_behind_the_requests_between_67_and_83_percent_of_its_life() {
        let world = world();
        let first = world.key().await.unwrap();
        let life = first.expiry() - world.clock.now();
        world.clock.advance(life * 67 / 100);
        world.key().await.unwrap();
        assert_eq!(world.calls(), 1);
        world.clock.advance(life * 16 / 100);
        let still = world.key().await.unwrap();
        assert_eq!(still.expiry(), first.expiry(), "nobody waits");
        while world.calls() < 2 || world.key().await.unwrap().expiry() == first.expiry() {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.calls(), 2);
    }

    #[tokio::test]
    async fn a_living_key_is_used_on_through_an_outage_until_its_end() {
        let world = world();
        let first = world.key().await.unwrap();
        world.service.down.store(true, Ordering::SeqCst);
        world
            .clock
            .advance(first.expiry() - world.clock.now() - Duration::minutes(5));
        let shorter = world.key().await.unwrap();
        assert_eq!(shorter.expiry(), first.expiry());
        world.clock.advance(Duration::minutes(5));
        assert!(world.key().await.is_err());
    }

    #[tokio::test]
    async fn each_account_identity_and_tenant_has_its_own_key() {
        let world = world();
        let until = world.clock.now();
        world.ring.key(&world.account, None, until).await.unwrap();
        let foreign = Some(TenantId(Uuid::from_u128(9)));
        world
            .ring
            .key(&world.account, foreign, until)
            .await
            .unwrap();
        let mut other = Account::clone(&world.account);
        other.signing_identity = "writer".parse().unwrap();
        world.ring.key(&Arc::new(other), None, until).await.unwrap();
        world.ring.key(&world.account, None, until).await.unwrap();
        assert_eq!(world.calls(), 3);
    }
}
