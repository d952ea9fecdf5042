//! What breaks around the broker, and what still works then (the table of failures in the docs).

use actix_web::http::StatusCode;
use sas_broker::{
    ports::{JournalStore, Purpose},
    simulator::{Endpoint, Fault, TokenSignature, TokenSpec},
};
use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};
use time::Duration;
use tokio::time::Instant;

use crate::{
    storage_database::on_each_engine,
    world::{ADA, ANALYSTS, FLAT, LAKE, TENANT, World, person, read_file},
};

fn status(code: StatusCode) -> Option<Fault> {
    Some(Fault::Status {
        code,
        retry_after_seconds: None,
    })
}

impl World {
    /// Asks `/readyz` until it answers so, for at most some seconds.
    async fn becomes_ready(&self, ready: bool) -> serde_json::Value {
        for _ in 0..200 {
            let answer = self.get("/readyz", "").await;
            if (answer.status == 200) == ready {
                assert_eq!(answer.body["ready"], ready);
                return answer.body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("/readyz never said {ready}");
    }
}

#[tokio::test]
async fn without_a_record_there_is_no_token_and_readiness_says_so_until_the_journal_is_back() {
    on_each_engine(async |database| {
        let world = World::on(database).await;
        world.ada_reads_raw().await;
        let ada = world.ada();
        assert_eq!(world.ask(&ada, &read_file(LAKE)).await.status, 200);
        world.becomes_ready(true).await;
        let before = world.records().await.len();

        database
            .by_hand("ALTER TABLE journal RENAME TO journal_away")
            .await
            .unwrap();
        let mut write = read_file(LAKE);
        write["permissions"] = json!("w");
        for body in [read_file(LAKE), write.clone()] {
            let answer = world.ask(&ada, &body).await;
            assert_eq!(
                answer.refusal(),
                (503, "audit-unavailable"),
                "{}",
                answer.text
            );
            assert!(!answer.text.contains("sig="));
        }
        let batch = json!({ "requests": [read_file(LAKE), write, read_file(FLAT)] });
        let answer = world.send(world.post("/v1/sas/batch", &ada, &batch)).await;
        assert_eq!(
            answer.refusal(),
            (503, "audit-unavailable"),
            "all or nothing"
        );
        let told = world.becomes_ready(false).await;
        assert_eq!(told["journal"], false);
        let explained = world
            .send(world.post("/v1/sas/explain", &ada, &read_file(LAKE)))
            .await;
        assert_eq!(
            explained.body["allowed"], true,
            "explaining needs no record"
        );

        database
            .by_hand("ALTER TABLE journal_away RENAME TO journal")
            .await
            .unwrap();
        world.becomes_ready(true).await;
        assert_eq!(world.ask(&ada, &read_file(LAKE)).await.status, 200);
        assert_eq!(world.records().await.len(), before + 1);
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_that_somebody_locks_is_waited_for_a_while_and_then_refused() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    world.issue(&ada, &read_file(LAKE)).await;
    let file = world.database_files()[0].display().to_string();
    let mut other = SqliteConnection::connect(&format!("sqlite:{file}"))
        .await
        .unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let began = Instant::now();
    let answer = world.ask(&ada, &read_file(LAKE)).await;
    assert_eq!(answer.refusal(), (503, "audit-unavailable"));
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    world.becomes_ready(false).await;
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    world.becomes_ready(true).await;
    world.issue(&ada, &read_file(LAKE)).await;
    world.stop().await;
}

#[tokio::test]
async fn a_frozen_writer_of_another_process_delays_tokens_and_loses_none() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    world.issue(&ada, &read_file(LAKE)).await;
    let store = world.store().await;
    let held = store.begin(Purpose::Change).await.unwrap();
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        held.abandon().await.unwrap();
    };
    let began = Instant::now();
    let (answer, ()) = futures_util::future::join(world.ask(&ada, &read_file(LAKE)), release).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        began.elapsed().as_millis() >= 700,
        "not before the lock was given back"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_missing_delegation_key_is_told_backed_off_from_and_fetched_when_it_can_be_had() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    world
        .azure
        .set_fault(Endpoint::DelegationKey, status(StatusCode::FORBIDDEN));
    let first = world.ask(&ada, &read_file(LAKE)).await;
    assert_eq!(
        first.refusal(),
        (503, "delegation-key-unavailable"),
        "{}",
        first.text
    );
    let wait: i64 = first.header("retry-after").parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    let calls = world.azure.calls(Endpoint::DelegationKey);
    for _ in 0..20 {
        assert_eq!(world.ask(&ada, &read_file(LAKE)).await.status, 503);
    }
    assert_eq!(
        world.azure.calls(Endpoint::DelegationKey),
        calls,
        "left alone meanwhile"
    );
    assert!(world.records_of("issued").await.is_empty());
    let batch = json!({ "requests": [read_file(LAKE), read_file(FLAT)] });
    let mixed = world.send(world.post("/v1/sas/batch", &ada, &batch)).await;
    assert_eq!(mixed.status, 200);
    assert_eq!(
        mixed.body["results"][0]["problem"]["code"],
        "delegation-key-unavailable"
    );

    world.azure.set_fault(Endpoint::DelegationKey, None);
    world.clock.advance(Duration::seconds(10));
    world.issue(&ada, &read_file(LAKE)).await;

    // From now on a key is in memory, and storage may be down for almost a day.
    world.azure.set_fault(
        Endpoint::DelegationKey,
        status(StatusCode::SERVICE_UNAVAILABLE),
    );
    world.clock.advance(Duration::hours(22));
    let full = world.issue(&world.ada(), &read_file(LAKE)).await;
    assert_eq!(full["bounded_by"], json!(["default: 900 s"]));
    world
        .azure
        .set_fault(Endpoint::DelegationKey, status(StatusCode::FORBIDDEN));
    world.clock.advance(Duration::minutes(90));
    let cut = world.issue(&world.ada(), &read_file(LAKE)).await;
    assert!(
        cut["bounded_by"][0]
            .as_str()
            .unwrap()
            .starts_with("delegation key expires"),
        "{cut}"
    );
    let read = crate::world::outcome(world.http.get(cut["url"].as_str().unwrap())).await;
    assert_eq!(read.0, 200);
    world.clock.advance(Duration::seconds(570));
    let none = world.ask(&world.ada(), &read_file(LAKE)).await;
    assert_eq!(
        none.refusal(),
        (503, "delegation-key-unavailable"),
        "under a minute is left"
    );
    world.clock.advance(Duration::minutes(1));
    let none = world.ask(&world.ada(), &read_file(LAKE)).await;
    assert_eq!(none.refusal(), (503, "delegation-key-unavailable"));
    world.stop().await;
}

#[tokio::test]
async fn a_storage_service_that_hangs_is_given_up_and_backed_off_from() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    world
        .azure
        .set_fault(Endpoint::DelegationKey, Some(Fault::Hang));
    let began = Instant::now();
    let body = read_file(LAKE);
    let asks = (0..8).map(|_| world.ask(&ada, &body));
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!(answer.refusal(), (503, "delegation-key-unavailable"));
    }
    let elapsed = began.elapsed().as_secs();
    assert!(elapsed < 25, "one attempt for all of them: {elapsed} s");
    let began = Instant::now();
    assert_eq!(
        world.ask(&ada, &read_file(LAKE)).await.code(),
        "delegation-key-unavailable"
    );
    assert!(began.elapsed().as_millis() < 1_000, "left alone meanwhile");
    world.stop().await;
}

#[tokio::test]
async fn callers_get_in_through_an_outage_of_entra_while_its_keys_are_young_enough() {
    let world = World::start().await;
    world
        .azure
        .set_fault(Endpoint::Discovery, status(StatusCode::SERVICE_UNAVAILABLE));
    let first = world.get("/v1/access", &world.ada()).await;
    assert_eq!(first.refusal(), (503, "identity-provider-unavailable"));
    world.azure.set_fault(Endpoint::Discovery, None);
    world.clock.advance(Duration::minutes(2));
    assert_eq!(world.get("/v1/access", &world.ada()).await.status, 200);
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        world
            .azure
            .set_fault(endpoint, status(StatusCode::SERVICE_UNAVAILABLE));
    }
    for _ in 0..23 {
        world.clock.advance(Duration::hours(1));
        assert_eq!(world.get("/v1/access", &world.ada()).await.status, 200);
    }
    world.clock.advance(Duration::hours(2));
    let stale = world.get("/v1/access", &world.ada()).await;
    assert_eq!(stale.refusal(), (503, "identity-provider-unavailable"));
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        world.azure.set_fault(endpoint, None);
    }
    world.clock.advance(Duration::minutes(2));
    assert_eq!(world.get("/v1/access", &world.ada()).await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn keys_roll_over_with_one_fetch_and_tokens_of_a_removed_key_die() {
    let world = World::start().await;
    let lasting = || {
        let exp = (world.now() + Duration::hours(3)).unix_timestamp();
        person(TENANT, ADA, &[ANALYSTS]).with_claim("exp", exp)
    };
    let old_key = world.azure.signing_key_ids()[0].clone();
    let old = world.mint(&lasting());
    assert_eq!(world.get("/v1/access", &old).await.status, 200);
    let fetched = world.azure.calls(Endpoint::Jwks);

    world.azure.roll_signing_key();
    let tokens: Vec<String> = (0..20)
        .map(|i| world.mint(&lasting().with_claim("uti", format!("t{i}"))))
        .collect();
    let calls = tokens.iter().map(|token| world.get("/v1/access", token));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(world.azure.calls(Endpoint::Jwks), fetched + 1);
    assert_eq!(
        world.get("/v1/access", &old).await.status,
        200,
        "the old key is still published"
    );

    world.clock.advance(Duration::minutes(6));
    let before = world.azure.calls(Endpoint::Jwks);
    for i in 0..30 {
        let forged = TokenSpec {
            signature: TokenSignature::Unpublished,
            ..lasting().with_claim("uti", format!("f{i}"))
        };
        assert_eq!(
            world.get("/v1/access", &world.mint(&forged)).await.status,
            401
        );
    }
    assert!(
        world.azure.calls(Endpoint::Jwks) <= before + 1,
        "nobody makes us hammer Entra"
    );

    assert!(world.azure.remove_signing_key(&old_key));
    world.clock.advance(Duration::minutes(66));
    let mut status = 0;
    for _ in 0..100 {
        status = world.get("/v1/access", &old).await.status;
        if status == 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(status, 401, "a remembered token dies with its key");
    assert_eq!(world.get("/v1/access", &tokens[0]).await.status, 200);
    world.stop().await;
}
