//! What leaves no record: explanations, one's own access, probes, the document of the API.

use std::{collections::BTreeSet, fs, path::Path};

use sas_broker::http::openapi;
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::world::{
    ADA, ANALYSTS, Answer, BEN, EVE, FLAT, GUEST, LAKE, OTHER_TENANT, TENANT, World, deny, grant,
    group, person, read_file, user, when,
};

impl World {
    async fn explain(&self, bearer: &str, body: &Value) -> Value {
        let answer = self.send(self.post("/v1/sas/explain", bearer, body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }
}

#[tokio::test]
async fn an_explanation_is_the_decision_with_its_reasons_and_leaves_no_record() {
    let world = World::start().await;
    let later = json!({ "not_before": world.text_in(Duration::minutes(10)) });
    let version = world
        .grant(json!([
            grant(user(ADA), "contributor", LAKE, "raw/2026/11"),
            grant(group(ANALYSTS), "reader", LAKE, "raw"),
            when(deny(grant(user(ADA), "uploader", LAKE, "raw")), later),
            grant(user(BEN), "reader", LAKE, "raw"),
        ]))
        .await;
    let ada = world.ada();
    let mut body = read_file(LAKE);
    body["permissions"] = json!("wr");
    let told = world.explain(&ada, &body).await;
    assert_eq!(told["allowed"], true);
    assert_eq!(told["policy_version"], version);
    assert_eq!(told["expires_at"], world.text_in(Duration::minutes(10)));
    let bound = told["bounded_by"][0].as_str().unwrap();
    assert!(
        bound.starts_with("deny ") && bound.contains(" begins "),
        "{bound}"
    );
    assert_eq!(
        told["reasons"].as_array().unwrap().len(),
        3,
        "the caller's own grants only: {told}"
    );
    let issued = world.issue(&ada, &body).await;
    for member in ["expires_at", "bounded_by"] {
        assert_eq!(issued[member], told[member]);
    }
    world.clock.advance(Duration::minutes(10));
    let told = world.explain(&world.ada(), &body).await;
    assert_eq!(told["allowed"], false);
    assert_eq!(told["problem"]["code"], "denied");
    assert!(told.get("expires_at").is_none());
    let reasons = told["reasons"].to_string();
    assert!(
        reasons.contains("takes w") && reasons.contains("gives rw"),
        "{reasons}"
    );
    let stranger = world
        .explain(&world.mint(&person(OTHER_TENANT, GUEST, &[])), &body)
        .await;
    assert_eq!(stranger["problem"]["code"], "no-grant");
    assert_eq!(stranger["reasons"], json!([]));
    let eve = world
        .explain(&world.mint(&person(TENANT, EVE, &[])), &read_file(LAKE))
        .await;
    assert_eq!(eve["problem"]["code"], "groups-missing");
    let mut kinds = world.kinds().await;
    kinds.remove("chain_opened");
    let only = [("issued".to_owned(), 1), ("policy_changed".to_owned(), 1)];
    assert_eq!(kinds, only.into());
    world.stop().await;
}

async fn page(world: &World, bearer: &str, limit: usize, cursor: Option<&str>) -> Answer {
    let cursor = cursor
        .map(|cursor| format!("&cursor={cursor}"))
        .unwrap_or_default();
    let answer = world
        .get(&format!("/v1/access?limit={limit}{cursor}"), bearer)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

#[tokio::test]
async fn ones_own_access_comes_by_pages_in_a_steady_order() {
    let world = World::start().await;
    let mut grants: Vec<Value> = (0..23)
        .map(|i| grant(user(ADA), "reader", LAKE, &format!("raw/team-{i:02}")))
        .collect();
    grants.push(grant(group(ANALYSTS), "uploader", FLAT, "raw"));
    grants.push(deny(grant(user(ADA), "contributor", LAKE, "private")));
    grants.push(grant(user(BEN), "reader", LAKE, "raw"));
    let over = json!({ "expires": world.text_in(Duration::minutes(1)) });
    grants.push(when(grant(user(ADA), "auditor", LAKE, "raw"), over));
    world.grant(json!(grants)).await;
    world.clock.advance(Duration::minutes(2));
    let ada = world.ada();

    let (mut places, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let answer = page(&world, &ada, 7, cursor.as_deref()).await;
        assert_eq!(answer.body["groups_known"], true);
        for entry in answer.body["grants"].as_array().unwrap() {
            places.push(format!(
                "{}/{}/{}",
                entry["account"], entry["container"], entry["prefix"]
            ));
        }
        pages += 1;
        match answer.body["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(
        (pages, places.len()),
        (4, 25),
        "without Ben's and the one that is over"
    );
    let mut unique: BTreeSet<String> = places.iter().cloned().collect();
    assert_eq!(unique.len(), 25);
    assert!(
        unique.remove(&places[0]) && places[0].contains(FLAT),
        "{}",
        places[0]
    );
    let all = page(&world, &ada, 500, None).await;
    let entries = all.body["grants"].as_array().unwrap();
    assert_eq!(entries.len(), 25);
    let denied = entries
        .iter()
        .find(|entry| entry["effect"] == "deny")
        .unwrap();
    assert_eq!(denied["container"], "private");

    for token in [person(TENANT, ADA, &[]), person(OTHER_TENANT, GUEST, &[])] {
        let answer = page(&world, &world.mint(&token), 500, None).await;
        assert_eq!(answer.body["groups_known"], false);
    }
    let many: Vec<Uuid> = (0..201).map(Uuid::from_u128).collect();
    let eve = page(&world, &world.mint(&person(TENANT, EVE, &many)), 500, None).await;
    assert_eq!(eve.body, json!({ "grants": [], "groups_known": false }));
    assert!(world.records_of("issued").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn probes_and_the_document_are_open_to_everybody() {
    let world = World::start().await;
    let get = async |path: &str| {
        let request = world.http.get(format!("{}{path}", world.base));
        world.send(request).await
    };
    assert_eq!(get("/healthz").await.text, "ok\n");
    let ready = get("/readyz").await;
    assert_eq!(
        ready.body,
        json!({ "ready": true, "database": true, "journal": true })
    );
    assert_eq!(get("/openapi.json").await.text, openapi::generate());
    world.stop().await;
}

#[test]
fn the_document_in_the_repository_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/sas-broker.v1.json");
    let stored = fs::read_to_string(path).unwrap();
    assert!(
        stored == openapi::generate(),
        "openapi/ has drifted from the code: run 'make openapi'"
    );
}
