//! `POST /v1/sas/batch`: each item for itself, all records in one transaction.

use serde_json::{Value, json};
use time::Duration;

use crate::world::{ADA, Answer, FLAT, LAKE, World, grant, outcome, query_of, read_file, user};

impl World {
    async fn batch(&self, bearer: &str, items: &[Value]) -> Answer {
        self.send(self.post("/v1/sas/batch", bearer, &json!({ "requests": items })))
            .await
    }
}

fn results(answer: &Answer) -> &Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["results"].as_array().unwrap()
}

/// The code of each item, `sas` for a token.
fn codes(answer: &Answer) -> Vec<&str> {
    let code = |result: &'_ Value| match result["problem"]["code"].as_str() {
        Some(_) => None,
        None => Some("sas"),
    };
    results(answer)
        .iter()
        .map(|result| code(result).unwrap_or_else(|| result["problem"]["code"].as_str().unwrap()))
        .collect()
}

fn file(path: &str) -> Value {
    let mut body = read_file(LAKE);
    body["path"] = json!(path);
    body
}

#[tokio::test]
async fn items_are_answered_in_their_order_each_for_itself_and_recorded_side_by_side() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    let mut write = read_file(LAKE);
    write["permissions"] = json!("w");
    let mut hidden = read_file(FLAT);
    hidden["container"] = json!("private");
    let items = [
        read_file(LAKE),
        file("../up"),
        write,
        read_file(FLAT),
        hidden,
        file("2026/12/file.csv"),
        json!({ "account": "nowhere", "container": "raw", "permissions": "r" }),
    ];
    let answer = world.batch(&ada, &items).await;
    let expected = [
        "sas",
        "invalid-request",
        "permission-not-granted",
        "sas",
        "no-grant",
        "sas",
        "no-grant",
    ];
    assert_eq!(codes(&answer), expected);
    assert_eq!(answer.header("cache-control"), "no-store");
    for place in [0, 3, 5] {
        let sas = &results(&answer)[place]["sas"];
        assert_eq!(sas["path"], items[place]["path"]);
        assert_eq!(sas["account"], items[place]["account"]);
        let read = outcome(world.http.get(sas["url"].as_str().unwrap())).await;
        assert_eq!(read.0, 200, "{place}");
    }
    for place in [1, 2, 4, 6] {
        let problem = &results(&answer)[place]["problem"];
        for member in ["type", "title", "status", "code", "detail"] {
            assert!(!problem[member].is_null(), "{place}: {problem}");
        }
    }

    let id = answer.header("x-request-id");
    let records = world.records().await;
    let mine: Vec<&Value> = records
        .iter()
        .filter(|record| record["request_id"] == id)
        .collect();
    let kinds: Vec<&str> = mine
        .iter()
        .filter_map(|record| record["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "issued", "refused", "issued", "refused", "issued", "refused"
        ]
    );
    let places: Vec<i64> = mine
        .iter()
        .filter_map(|record| record["seq"].as_i64())
        .collect();
    assert!(
        places.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{places:?}"
    );
    assert!(
        mine.iter()
            .all(|record| record["writer"] == mine[0]["writer"])
    );
    world.stop().await;
}

#[tokio::test]
async fn a_thousand_items_are_taken_one_more_is_not() {
    let world = World::start().await;
    world
        .grant(json!([grant(user(ADA), "reader", LAKE, "raw")]))
        .await;
    let ada = world.ada();
    let items: Vec<Value> = (0..1_001).map(|i| file(&format!("many/{i}"))).collect();
    for wrong in [&items[..], &[]] {
        assert_eq!(
            world.batch(&ada, wrong).await.refusal(),
            (400, "invalid-request")
        );
    }
    let mut doubled = json!({ "requests": [read_file(LAKE)], "atomic": true });
    let answer = world
        .send(world.post("/v1/sas/batch", &ada, &doubled))
        .await;
    assert_eq!(answer.refusal(), (400, "invalid-request"));
    doubled["requests"] = json!("all");
    let answer = world
        .send(world.post("/v1/sas/batch", &ada, &doubled))
        .await;
    assert_eq!(answer.refusal(), (400, "invalid-request"));

    let answer = world.batch(&ada, &items[..1_000]).await;
    assert!(codes(&answer).iter().all(|code| *code == "sas"));
    let paths: Vec<&str> = results(&answer)
        .iter()
        .filter_map(|result| result["sas"]["path"].as_str())
        .collect();
    assert!(
        paths
            .iter()
            .enumerate()
            .all(|(i, path)| *path == format!("many/{i}"))
    );
    let mut ids: Vec<&str> = results(&answer)
        .iter()
        .filter_map(|result| result["sas"]["id"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(world.records_of("issued").await.len(), 1_000);
    world.stop().await;
}

#[tokio::test]
async fn a_batch_of_nothing_but_refusals_is_answered_item_by_item() {
    let world = World::start().await;
    let ada = world.ada();
    let answer = world.batch(&ada, &[read_file(LAKE), read_file(FLAT)]).await;
    assert_eq!(codes(&answer), ["no-grant", "no-grant"]);
    assert_eq!(
        codes(&world.batch(&ada, &[file("/")]).await),
        ["invalid-request"]
    );
    for _ in 0..3 {
        let alone = world.batch(&ada, &[read_file(LAKE)]).await;
        assert_eq!(codes(&alone), ["no-grant"]);
    }
    let refused = world.kinds().await["refused"];
    assert_eq!(refused, 3, "equal refusals that come alone fold");
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_batch_gives_the_same_ids_and_windows_under_its_key() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    let mut write = read_file(LAKE);
    write["permissions"] = json!("w");
    let body = json!({ "requests": [read_file(LAKE), file("a//b"), write, read_file(FLAT)] });
    let batch = async || {
        let request = world.post("/v1/sas/batch", &ada, &body);
        world
            .send(request.header("idempotency-key", "nightly-1"))
            .await
    };
    let first = batch().await;
    world.clock.advance(Duration::minutes(5));
    let again = batch().await;
    let expected = ["sas", "invalid-request", "permission-not-granted", "sas"];
    assert_eq!(codes(&first), expected);
    assert_eq!(codes(&again), expected);
    for place in [0, 3] {
        let (first, again) = (
            &results(&first)[place]["sas"],
            &results(&again)[place]["sas"],
        );
        for member in ["id", "starts_at", "expires_at", "token"] {
            assert_eq!(first[member], again[member], "{member}");
        }
        assert_eq!(
            query_of(again["token"].as_str().unwrap())["se"],
            again["expires_at"]
        );
    }
    // What was refused then stays so, even where it is granted by now.
    let grants = json!([
        grant(user(ADA), "contributor", LAKE, "raw"),
        grant(user(ADA), "reader", FLAT, "raw"),
    ]);
    world.grant(grants).await;
    let wider = batch().await;
    assert_eq!(
        codes(&wider),
        ["sas", "invalid-request", "idempotency-refused", "sas"]
    );
    assert_eq!(world.kinds().await["issued"], 2);
    assert_eq!(world.kinds().await["replayed"], 4);
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_batch_of_which_other_items_are_valid_by_now_is_another_request() {
    let mut world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    let mut short = file("2026/12/file.csv");
    short["lifetime_seconds"] = json!(60);
    let body = json!({ "requests": [short, read_file(LAKE)] });
    let batch = async |world: &World| {
        let request = world.post("/v1/sas/batch", &ada, &body);
        world
            .send(request.header("idempotency-key", "nightly-1"))
            .await
    };
    assert_eq!(codes(&batch(&world).await), ["sas", "sas"]);
    world.config.issuing.lifetime_seconds_min = 120;
    world.restart().await;
    let again = batch(&world).await;
    assert_eq!(
        again.refusal(),
        (422, "idempotency-key-reused"),
        "{}",
        again.text
    );
    world.stop().await;
}
