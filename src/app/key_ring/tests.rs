//! The ring under a clock of our own: bursts, outages, renewals.

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
    /// The next fetch waits for `released`.
    stuck: AtomicBool,
    released: tokio::sync::Notify,
    last: Mutex<Option<KeyRequest>>,
}

#[async_trait]
impl DelegationKeys for Service {
    async fn fetch(&self, request: &KeyRequest) -> Result<UserDelegationKey, KeyFetchError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        *self.last.lock().unwrap() = Some(request.clone());
        tokio::task::yield_now().await;
        if self.stuck.swap(false, Ordering::SeqCst) {
            self.released.notified().await;
        }
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
        management_identity: None,
        rotation: None,
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

    async fn of_generation(&self, generation: i64) -> Arc<UserDelegationKey> {
        let until = self.clock.now() + Duration::minutes(15);
        let key = self.ring.key(&self.account, generation, None, until);
        key.await.unwrap()
    }

    async fn key(&self) -> Result<Arc<UserDelegationKey>, KeyUnavailable> {
        let until = self.clock.now() + Duration::minutes(15);
        self.ring.key(&self.account, 0, None, until).await
    }
}

#[tokio::test]
async fn a_hundred_first_users_make_one_fetch() {
    let world = world();
    let until = world.clock.now() + Duration::hours(1);
    let users = (0..100).map(|_| {
        let (ring, account) = (Arc::clone(&world.ring), Arc::clone(&world.account));
        tokio::spawn(async move { ring.key(&account, 0, None, until).await.unwrap() })
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
    let user = tokio::spawn(async move { ring.key(&account, 0, None, until).await });
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
        tokio::spawn(async move { ring.key(&account, 0, None, until).await.unwrap_err() })
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
    world
        .ring
        .key(&world.account, 0, None, until)
        .await
        .unwrap();
    let foreign = Some(TenantId(Uuid::from_u128(9)));
    world
        .ring
        .key(&world.account, 0, foreign, until)
        .await
        .unwrap();
    let mut other = Account::clone(&world.account);
    other.signing_identity = "writer".parse().unwrap();
    world
        .ring
        .key(&Arc::new(other), 0, None, until)
        .await
        .unwrap();
    world
        .ring
        .key(&world.account, 0, None, until)
        .await
        .unwrap();
    assert_eq!(world.calls(), 3);
}

#[tokio::test]
async fn a_new_generation_has_a_new_key_and_the_revoked_one_is_forgotten() {
    let world = world();
    let revoked = world.of_generation(0).await;
    let next = world.of_generation(2).await;
    assert!(!Arc::ptr_eq(&revoked, &next));
    assert!(Arc::ptr_eq(&next, &world.of_generation(2).await));
    assert_eq!(world.calls(), 2);
    assert_eq!(world.ring.slots.len(), 1);
}

#[tokio::test]
async fn a_fetch_of_an_older_generation_never_becomes_a_key_of_a_newer_one() {
    let world = Arc::new(world());
    world.service.stuck.store(true, Ordering::SeqCst);
    let late = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.of_generation(0).await })
    };
    while world.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let next = world.of_generation(1).await;
    world.service.released.notify_one();
    let late = late.await.unwrap();
    assert!(!Arc::ptr_eq(&late, &next));
    assert!(Arc::ptr_eq(&next, &world.of_generation(1).await));
    assert_eq!(world.calls(), 2);
}
