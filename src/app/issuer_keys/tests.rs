//! The cache under a clock that is moved by hand and an Entra that fails on command.

use super::*;
use crate::{
    domain::caller::forge::{FIRST, NOW, OTHER_TENANT, SECOND, TENANT},
    testing::{FakeClock, SeededEntropy},
};

use fake::FakeEntra;

pub(crate) mod fake;

struct World {
    entra: Arc<FakeEntra>,
    clock: Arc<FakeClock>,
    cache: Arc<KeyCache>,
}

impl World {
    fn new() -> Self {
        Self::with(KeyCacheSettings::default())
    }

    fn with(settings: KeyCacheSettings) -> Self {
        let entra = Arc::new(FakeEntra::publishing(&[&FIRST]));
        let clock = Arc::new(FakeClock::at(NOW));
        let cache = KeyCache::new(
            [TENANT],
            entra.clone(),
            clock.clone(),
            Arc::new(SeededEntropy::default()),
            settings,
        );
        Self {
            entra,
            clock,
            cache: Arc::new(cache),
        }
    }

    fn issuer(&self) -> Arc<CachedIssuer> {
        let claimed = UntrustedOrigin {
            tenant_id: TENANT,
            version: TokenVersion::V2,
        };
        Arc::clone(self.cache.issuer(claimed).unwrap())
    }

    async fn kids(&self) -> Result<Vec<String>, KeysUnavailable> {
        Ok(kids(&*self.issuer().keys().await?))
    }

    async fn kids_after_search(&self) -> Result<Vec<String>, KeysUnavailable> {
        Ok(kids(&*self.issuer().keys_after_search().await?))
    }

    /// Waits for a fetch that nobody waits for.
    async fn landed(&self) {
        let flight = self.issuer().state().flight.clone();
        flight.unwrap().landed().await;
    }
}

fn kids(keys: &IssuerKeys) -> Vec<String> {
    keys.keys().iter().map(|key| key.kid().to_owned()).collect()
}

#[tokio::test]
async fn a_directory_that_is_not_allowed_has_no_issuer() {
    let world = World::new();
    for version in TokenVersion::ALL {
        let claimed = UntrustedOrigin {
            tenant_id: OTHER_TENANT,
            version,
        };
        assert!(world.cache.issuer(claimed).is_none());
    }
    assert_eq!(
        world.entra.fetches(),
        0,
        "nothing is fetched before first use"
    );
}

#[tokio::test]
async fn a_hundred_first_users_make_one_fetch() {
    let world = World::new();
    world.entra.hold();
    let users: Vec<_> = (0..100)
        .map(|_| {
            let issuer = world.issuer();
            tokio::spawn(async move { issuer.keys().await.map(|keys| kids(&keys)) })
        })
        .collect();
    world.entra.until_asked(1).await;
    world.entra.release();
    for user in users {
        assert_eq!(user.await.unwrap(), Ok(vec!["first".to_owned()]));
    }
    assert_eq!(world.entra.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_one_who_started_it_is_gone() {
    let world = World::new();
    world.entra.hold();
    let issuer = world.issuer();
    let user = tokio::spawn(async move { issuer.keys().await.map(|keys| kids(&keys)) });
    world.entra.until_asked(1).await;
    user.abort();
    world.entra.release();
    world.landed().await;
    assert_eq!(world.kids().await, Ok(vec!["first".to_owned()]));
    assert_eq!(world.entra.fetches(), 1);
}

#[tokio::test]
async fn keys_are_fetched_anew_behind_the_requests_after_an_hour_or_so() {
    let world = World::new();
    world.kids().await.unwrap();
    world.entra.publish(&[&SECOND]);
    world.clock.advance(Duration::minutes(53));
    assert_eq!(world.kids().await, Ok(vec!["first".to_owned()]));
    assert_eq!(world.entra.fetches(), 1, "not yet due");
    world.clock.advance(Duration::minutes(14));
    assert_eq!(
        world.kids().await,
        Ok(vec!["first".to_owned()]),
        "the held set serves meanwhile"
    );
    world.landed().await;
    assert_eq!(world.kids().await, Ok(vec!["second".to_owned()]));
    assert_eq!(world.entra.fetches(), 2);
}

#[tokio::test]
async fn a_quiet_brokers_keys_are_refreshed_too_but_only_those_in_use() {
    let world = World::new();
    world.cache.refresh_due();
    assert_eq!(world.entra.fetches(), 0);
    world.kids().await.unwrap();
    world.clock.advance(Duration::hours(2));
    world.cache.refresh_due();
    world.landed().await;
    assert_eq!(world.entra.fetches(), 2);
}

#[tokio::test]
async fn the_last_good_set_stays_through_an_outage_up_to_its_age() {
    let world = World::new();
    world.kids().await.unwrap();
    world.entra.fail(true);
    for _ in 0..23 {
        world.clock.advance(Duration::hours(1));
        assert_eq!(world.kids().await, Ok(vec!["first".to_owned()]));
        world.landed().await;
    }
    world
        .clock
        .advance(Duration::hours(1) + Duration::seconds(1));
    assert!(world.kids().await.is_err(), "older than 24 h");
    world.entra.fail(false);
    world.clock.advance(Duration::minutes(2));
    assert_eq!(world.kids().await, Ok(vec!["first".to_owned()]));
}

#[tokio::test]
async fn an_outage_at_first_use_is_backed_off_from_and_told_as_a_time_to_wait() {
    let world = World::new();
    world.entra.fail(true);
    let mut waits = Vec::new();
    for fetches in 1..=8 {
        let unavailable = world.kids().await.unwrap_err();
        assert_eq!(world.entra.fetches(), fetches);
        let wait = unavailable.retry_after;
        for _ in 0..50 {
            assert_eq!(world.kids().await.unwrap_err().retry_after, wait);
        }
        assert_eq!(
            world.entra.fetches(),
            fetches,
            "no attempt while backing off"
        );
        waits.push(wait.as_secs_f64());
        world
            .clock
            .advance(Duration::seconds_f64(wait.as_secs_f64()) + Duration::MILLISECOND);
    }
    assert!((1.8..=2.2).contains(&waits[0]), "{waits:?}");
    assert!(waits[1] > waits[0] && waits[4] > waits[1], "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 66.0), "{waits:?}");
    world.entra.fail(false);
    assert_eq!(world.kids().await, Ok(vec!["first".to_owned()]));
}

#[tokio::test]
async fn a_burst_of_unknown_keys_makes_one_fetch_whose_outcome_all_share() {
    let world = World::new();
    world.kids().await.unwrap();
    world.entra.publish(&[&FIRST, &SECOND]);
    world.entra.hold();
    let users: Vec<_> = (0..100)
        .map(|_| {
            let issuer = world.issuer();
            tokio::spawn(async move { issuer.keys_after_search().await.map(|keys| kids(&keys)) })
        })
        .collect();
    world.entra.until_asked(2).await;
    world.entra.release();
    for user in users {
        assert_eq!(
            user.await.unwrap(),
            Ok(vec!["first".to_owned(), "second".to_owned()])
        );
    }
    assert_eq!(world.entra.fetches(), 2);
}

#[tokio::test]
async fn unknown_keys_start_one_fetch_in_five_minutes_at_most() {
    let world = World::new();
    world.kids().await.unwrap();
    for (minutes, fetches) in [(0, 2), (1, 2), (3, 2), (1, 3), (4, 3), (1, 4)] {
        world.clock.advance(Duration::minutes(minutes));
        for _ in 0..20 {
            assert_eq!(
                world.kids_after_search().await,
                Ok(vec!["first".to_owned()])
            );
        }
        assert_eq!(world.entra.fetches(), fetches);
    }
}

#[tokio::test]
async fn a_search_that_failed_says_so_and_is_repeated_as_soon_as_the_back_off_allows() {
    let world = World::new();
    world.kids().await.unwrap();
    world.entra.fail(true);
    let unavailable = world.kids_after_search().await.unwrap_err();
    assert!(unavailable.retry_after.as_secs_f64() <= 2.2);
    assert!(world.kids_after_search().await.is_err());
    assert_eq!(world.entra.fetches(), 2);
    assert_eq!(
        world.kids().await,
        Ok(vec!["first".to_owned()]),
        "known keys still serve"
    );
    world.entra.fail(false);
    world.entra.publish(&[&FIRST, &SECOND]);
    world.clock.advance(Duration::seconds(3));
    let found = world.kids_after_search().await;
    assert_eq!(found, Ok(vec!["first".to_owned(), "second".to_owned()]));
}

#[tokio::test]
async fn a_clock_that_is_put_back_does_not_stop_the_fetching() {
    let world = World::new();
    world.entra.fail(true);
    world.kids().await.unwrap_err();
    world.entra.fail(false);
    world.clock.advance(-Duration::days(30));
    assert_eq!(world.kids().await, Ok(vec!["first".to_owned()]));
    world.kids_after_search().await.unwrap();
    world.clock.advance(-Duration::days(30));
    world.kids_after_search().await.unwrap();
    assert_eq!(world.entra.fetches(), 4);
}

#[tokio::test]
async fn an_entra_that_never_answers_is_given_up() {
    let fetch_timeout = std::time::Duration::from_millis(20);
    let world = World::with(KeyCacheSettings {
        fetch_timeout,
        ..KeyCacheSettings::default()
    });
    world.entra.hold();
    assert!(world.kids().await.is_err());
    assert_eq!(world.entra.fetches(), 1);
}
