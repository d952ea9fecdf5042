//! `Idempotency-Key`: a retry gets the token that was recorded, as far as it may still be had.

use serde_json::{Value, json};
use time::Duration;

use crate::{
    storage_database::on_each_engine,
    world::{
        ADA, FLAT, GUEST, LAKE, OTHER_TENANT, World, grant, outcome, person, query_of, read_file,
        user, when,
    },
};

const KEY: &str = "job-42";

#[tokio::test]
async fn the_same_request_under_the_same_key_gets_the_same_id_and_window() {
    on_each_engine(async |database| {
        let mut world = World::on(database).await;
        world.ada_reads_raw().await;
        let ada = world.ada();
        let first = world.ask_keyed(&ada, KEY, &read_file(LAKE)).await;
        world.clock.advance(Duration::minutes(6));
        let again = world.ask_keyed(&world.ada(), KEY, &read_file(LAKE)).await;
        assert_eq!((first.status, again.status), (200, 200), "{}", again.text);
        for member in ["id", "starts_at", "expires_at", "token", "url"] {
            assert_eq!(first.body[member], again.body[member], "{member}");
        }
        assert_eq!(
            again.body["refresh_after"],
            world.text_in(Duration::minutes(6))
        );
        let read = outcome(world.http.get(again.body["url"].as_str().unwrap())).await;
        assert_eq!(read.0, 200);
        let (issued, replayed) = (
            world.records_of("issued").await,
            world.records_of("replayed").await,
        );
        assert_eq!((issued.len(), replayed.len()), (1, 1));
        assert_eq!(issued[0]["id"], replayed[0]["id"]);
        assert_eq!(issued[0]["expires_at"], replayed[0]["expires_at"]);

        // Another body, another endpoint, another spelling of the same: another request.
        for answer in [
            world.ask_keyed(&ada, KEY, &read_file(FLAT)).await,
            world
                .send(
                    world
                        .post_text("/v1/sas", &ada, format!("{} ", read_file(LAKE)))
                        .header("idempotency-key", KEY),
                )
                .await,
            world
                .send(
                    world
                        .post(
                            "/v1/sas/batch",
                            &ada,
                            &json!({ "requests": [read_file(LAKE)] }),
                        )
                        .header("idempotency-key", KEY),
                )
                .await,
        ] {
            assert_eq!(answer.refusal(), (422, "idempotency-key-reused"));
        }
        // Somebody else's key of the same name is another key.
        let grants = json!([
            grant(user(ADA), "reader", LAKE, "raw"),
            grant(user(crate::world::BEN), "reader", LAKE, "raw"),
        ]);
        world.grant(grants).await;
        let ben = world.ask_keyed(&world.ben(), KEY, &read_file(LAKE)).await;
        assert_eq!(ben.status, 200);
        assert_ne!(ben.body["id"], first.body["id"]);

        world.clock.advance(Duration::minutes(9));
        let late = world.ask_keyed(&world.ada(), KEY, &read_file(LAKE)).await;
        assert_eq!(late.refusal(), (409, "idempotency-expired"));
        // A day later the key is free again.
        world.clock.advance(Duration::hours(24));
        // The SDK's credential keeps its token by the machine's clock, which did not move.
        world.restart().await;
        let fresh = world.ask_keyed(&world.ada(), KEY, &read_file(LAKE)).await;
        assert_eq!(fresh.status, 200, "{}", fresh.text);
        assert_ne!(fresh.body["id"], first.body["id"]);
        world.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_issued_and_the_others_replay_it() {
    on_each_engine(async |database| {
        let world = World::on(database).await;
        let replica = world.replica().await;
        world.ada_reads_raw().await;
        let ada = world.ada();
        for round in 0..5 {
            let key = format!("race-{round}");
            let asks = (0..12).map(|i| {
                let base = if i % 2 == 0 {
                    &world.base
                } else {
                    &replica.base
                };
                let request = world
                    .http
                    .post(format!("{base}/v1/sas"))
                    .bearer_auth(&ada)
                    .header("content-type", "application/json")
                    .header("idempotency-key", &key)
                    .body(read_file(LAKE).to_string());
                world.send(request)
            });
            let answers = futures_util::future::join_all(asks).await;
            for answer in &answers {
                assert_eq!(answer.status, 200, "{}", answer.text);
                assert_eq!(answer.body["id"], answers[0].body["id"]);
                assert_eq!(answer.body["expires_at"], answers[0].body["expires_at"]);
            }
        }
        let kinds = world.kinds().await;
        assert_eq!((kinds["issued"], kinds["replayed"]), (5, 55));
        replica.stop().await;
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_decided_again_and_never_lives_longer_than_the_table_now_allows() {
    let world = World::start().await;
    let role = |seconds: u32| json!([{ "name": "brief", "permissions": "r", "lifetime_seconds_max": seconds }]);
    let grants = json!([grant(user(ADA), "brief", LAKE, "raw")]);
    let apply = async |seconds| {
        world
            .apply(json!({ "roles": role(seconds), "grants": grants }))
            .await
    };
    apply(3_600).await;
    let mut body = read_file(LAKE);
    body["lifetime_seconds"] = json!(3_600);
    let ada = world.ada();
    let first = world.ask_keyed(&ada, KEY, &body).await;
    assert_eq!(first.body["expires_at"], world.text_in(Duration::hours(1)));
    apply(600).await;
    let again = world.ask_keyed(&ada, KEY, &body).await;
    assert_eq!(again.body["id"], first.body["id"]);
    assert_eq!(
        again.body["expires_at"],
        world.text_in(Duration::minutes(10)),
        "cut"
    );
    assert_eq!(again.body["bounded_by"], json!(["role brief: 600 s"]));
    assert_eq!(
        query_of(again.body["token"].as_str().unwrap())["se"],
        again.body["expires_at"]
    );
    // A longer ceiling gives no more than was recorded.
    apply(3_600).await;
    world.clock.advance(Duration::minutes(30));
    let again = world.ask_keyed(&world.ada(), KEY, &body).await;
    assert_eq!(again.body["expires_at"], first.body["expires_at"]);

    world.grant(json!([])).await;
    let revoked = world.ask_keyed(&world.ada(), KEY, &body).await;
    assert_eq!(revoked.refusal(), (403, "no-grant"));
    let ends = json!({ "expires": world.text_in(Duration::seconds(90)) });
    world
        .grant(json!([when(grant(user(ADA), "reader", LAKE, "raw"), ends)]))
        .await;
    let again = world.ask_keyed(&world.ada(), KEY, &body).await;
    assert_eq!(
        again.body["expires_at"],
        world.text_in(Duration::seconds(90))
    );
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_was_bound_is_bound_again_when_the_role_no_longer_asks_for_it() {
    let world = World::start().await;
    let principal = json!({ "kind": "user", "tenant_id": OTHER_TENANT, "object_id": GUEST });
    let grants = json!([grant(principal, "bound", LAKE, "raw")]);
    let apply = async |bind: bool| {
        let role = json!([{ "name": "bound", "permissions": "r", "bind_to_caller": bind }]);
        world
            .apply(json!({ "roles": role, "grants": grants }))
            .await
    };
    let guest = world.mint(&person(OTHER_TENANT, GUEST, &[]));
    apply(true).await;
    let first = world.ask_keyed(&guest, KEY, &read_file(LAKE)).await;
    apply(false).await;
    let again = world.ask_keyed(&guest, KEY, &read_file(LAKE)).await;
    for answer in [&first, &again] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["bound_to"], json!(GUEST));
        // A guest's binding needs a key that was asked for the guest's own directory.
        let token = query_of(answer.body["token"].as_str().unwrap());
        assert_eq!(token["skdutid"], OTHER_TENANT.to_string());
        assert_eq!(token["sduoid"], GUEST.to_string());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_replay_says_what_bounds_it() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let first = world.ask_keyed(&world.ada(), KEY, &read_file(LAKE)).await;
    assert_eq!(first.body["bounded_by"], json!(["default: 900 s"]));
    world.clock.advance(Duration::minutes(5));
    let again = world.ask_keyed(&world.ada(), KEY, &read_file(LAKE)).await;
    let bounds: Vec<&str> = again.body["bounded_by"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        !bounds.contains(&"default: 900 s"),
        "the default would end later: {bounds:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_refused_or_failed_request_does_not_use_up_its_key() {
    let world = World::start().await;
    let ada = world.ada();
    let refused = world.ask_keyed(&ada, KEY, &read_file(LAKE)).await;
    assert_eq!(refused.refusal(), (403, "no-grant"));
    let malformed = world
        .ask_keyed(&ada, KEY, &json!({ "account": LAKE }))
        .await;
    assert_eq!(malformed.status, 400);
    world.ada_reads_raw().await;
    let mut body = read_file(LAKE);
    body["permissions"] = json!("w");
    assert_eq!(world.ask_keyed(&ada, KEY, &body).await.status, 403);
    let given = world.ask_keyed(&ada, KEY, &read_file(LAKE)).await;
    assert_eq!(given.status, 200, "{}", given.text);
    world.stop().await;
}
