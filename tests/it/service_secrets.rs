//! Canaries: what must stay secret is planted, used in success and failure, and then looked for in
//! everything that outlives a request.

use std::{collections::BTreeMap, fs};

use actix_web::http::StatusCode;
use base64::{Engine, engine::general_purpose::STANDARD};
use sas_broker::{
    config::{Config, EXAMPLE},
    simulator::{Endpoint, Fault, TokenSpec},
};
use serde_json::json;
use time::Duration;

use crate::world::{
    ADA, Answer, BROKER_PRINCIPAL, CLIENT_SECRET, FLAT, LAKE, TENANT, World, grant, logs, query_of,
    read_file, user,
};

/// Secrets by name, each in every spelling that it may have.
#[derive(Default)]
pub(crate) struct Canaries(BTreeMap<String, String>);

impl Canaries {
    pub(crate) fn plant(&mut self, name: &str, secret: &str) {
        assert!(
            secret.len() > 12,
            "{name} is too short to be found for sure"
        );
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.0.insert(format!("{name}, encoded"), encoded);
        self.0.insert(name.to_owned(), secret.to_owned());
    }

    /// A bearer token, and its signature alone.
    fn plant_bearer(&mut self, name: &str, token: &str) {
        let signature = token.rsplit('.').next().unwrap();
        self.plant(&format!("{name}'s signature"), signature);
        self.plant(name, token);
    }

    /// A key as text, in hex, and as a list of bytes.
    pub(crate) fn plant_key(&mut self, name: &str, base64: &str) {
        let bytes = STANDARD.decode(base64).unwrap();
        self.plant(&format!("{name}'s key"), base64);
        self.plant(&format!("{name}'s key in hex"), &hex::encode(&bytes));
        self.plant(
            &format!("{name}'s key as bytes"),
            &format!("{:?}", &bytes[..8]).replace(['[', ']'], ""),
        );
    }

    fn plant_sas(&mut self, name: &str, answer: &serde_json::Value) {
        let token = answer["token"].as_str().unwrap();
        self.plant(name, &query_of(token)["sig"]);
    }

    pub(crate) fn look_in(&self, place: &str, text: &str) {
        for (name, secret) in &self.0 {
            if let Some((before, _)) = text.split_once(secret.as_str()) {
                let start = before.char_indices().rev().nth(300).map_or(0, |(at, _)| at);
                panic!("{place} holds {name}, after: {}", &before[start..]);
            }
        }
    }
}

/// The value of the key that the broker signs with: asked for again with the same elements, the
/// service gives the same one.
async fn delegation_key(world: &World, account: &str) -> String {
    let sas = world.issue(&world.ada(), &read_file(account)).await;
    let fields = query_of(sas["token"].as_str().unwrap());
    let (start, expiry) = (&fields["skt"], &fields["ske"]);
    let broker = TokenSpec::application(TENANT, BROKER_PRINCIPAL, "https://storage.azure.com");
    let url = format!(
        "{}?restype=service&comp=userdelegationkey",
        world.azure.blob_endpoint(account)
    );
    let response = world
        .http
        .post(url)
        .bearer_auth(world.mint(&broker))
        .header("x-ms-version", &fields["skv"])
        .body(format!(
            "<KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>"
        ))
        .send()
        .await
        .unwrap();
    let text = response.text().await.unwrap();
    let (_, value) = text
        .split_once("<Value>")
        .unwrap_or_else(|| panic!("{text}"));
    value.split_once('<').unwrap().0.to_owned()
}

/// Calls in success and in failure; returns what the failures said.
async fn exercise(world: &World, canaries: &mut Canaries) -> Vec<Answer> {
    let mut failures = Vec::new();
    let ada = world.ada();
    canaries.plant_bearer("Ada's bearer", &ada);
    canaries.plant_sas("a token", &world.issue(&ada, &read_file(LAKE)).await);
    for name in ["a keyed token", "its replay"] {
        canaries.plant_sas(
            name,
            &world.ask_keyed(&ada, "key-1", &read_file(FLAT)).await.body,
        );
    }
    let batch = json!({ "requests": [read_file(LAKE), read_file(FLAT)] });
    let batch = world.send(world.post("/v1/sas/batch", &ada, &batch)).await;
    for result in batch.body["results"].as_array().unwrap() {
        canaries.plant_sas("a token of a batch", &result["sas"]);
    }
    let mut write = read_file(LAKE);
    write["permissions"] = json!("w");
    failures.push(world.ask(&ada, &write).await);
    failures.push(world.ask(&ada, &json!({ "account": LAKE })).await);
    let (head, _) = ada.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", "canaryForgedSignature".repeat(12));
    canaries.plant_bearer("a forged bearer", &forged);
    failures.push(world.ask(&forged, &read_file(LAKE)).await);
    let garbage = "garbage-canary-bearer-0001";
    canaries.plant("garbage", garbage);
    failures.push(world.ask(garbage, &read_file(LAKE)).await);
    failures
}

/// The same with everything around broken in turn.
async fn exercise_outages(world: &World, canaries: &mut Canaries) -> Vec<Answer> {
    let ada = world.ada();
    canaries.plant_bearer("Ada's later bearer", &ada);
    let mut failures = Vec::new();
    for (endpoint, code) in [
        (Endpoint::Token, StatusCode::BAD_REQUEST),
        (Endpoint::Token, StatusCode::INTERNAL_SERVER_ERROR),
        (Endpoint::DelegationKey, StatusCode::FORBIDDEN),
    ] {
        let fault = Fault::Status {
            code,
            retry_after_seconds: None,
        };
        world.azure.set_fault(endpoint, Some(fault));
        failures.push(world.ask(&ada, &read_file(FLAT)).await);
        world.azure.set_fault(endpoint, None);
        world.clock.advance(Duration::minutes(2));
    }
    world
        .by_hand("ALTER TABLE journal RENAME TO journal_away")
        .await;
    failures.push(world.ask_keyed(&ada, "key-2", &read_file(LAKE)).await);
    failures.push(world.ask(&ada, &read_file(LAKE)).await);
    world
        .by_hand("ALTER TABLE journal_away RENAME TO journal")
        .await;
    failures
}

#[tokio::test]
async fn no_secret_reaches_logs_errors_debug_texts_or_the_database() {
    let listening = logs::listen();
    let mut canaries = Canaries::default();
    canaries.plant("the client secret", CLIENT_SECRET);
    let world = World::start().await;
    world.ada_reads_raw().await;
    let mut failures = exercise(&world, &mut canaries).await;
    for account in [LAKE, FLAT] {
        canaries.plant_key(account, &delegation_key(&world, account).await);
    }
    let mut broken = World::start().await;
    broken
        .grant(json!([
            grant(user(ADA), "reader", LAKE, "raw"),
            grant(user(ADA), "reader", FLAT, "raw")
        ]))
        .await;
    failures.extend(exercise_outages(&broken, &mut canaries).await);
    broken.restart().await;

    assert!(failures.iter().all(|answer| answer.status >= 400));
    for answer in &failures {
        let said = format!("{:?}\n{}", answer.headers, answer.text);
        canaries.look_in("an error", &said);
        assert!(!answer.text.contains("sig="));
    }
    let mut config = world.config.clone();
    config.database.url = "postgres://broker:canary-db-password@localhost/x".into();
    canaries.plant("the database's password", "canary-db-password");
    canaries.look_in("Debug of the configuration", &format!("{config:#?}"));
    let id = world.records_of("issued").await.remove(0)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut looked_through = Vec::new();
    for world in [&world, &broken] {
        for file in world.database_files() {
            let bytes = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            canaries.look_in(&file.display().to_string(), &bytes);
            looked_through.push(bytes);
        }
    }
    // Controls: what is no secret is found where it belongs.
    let read = looked_through.iter().any(|text| text.contains(&id));
    assert!(read, "the database was not read");
    let request = failures[0].header("x-request-id").to_owned();
    world.stop().await;
    broken.stop().await;
    let heard = listening.heard();
    for heard_of in [
        &request,
        "\"level\":\"TRACE\"",
        "user delegation key fetched",
        "sqlx::query",
        "actix_http::h1::decoder",
        "typespec_client_core::http::policies::logging",
    ] {
        assert!(
            heard.contains(heard_of),
            "the log was not heard: {heard_of}"
        );
    }
    canaries.look_in("the log", &heard);
}

#[test]
fn a_secret_in_the_wrong_place_of_a_configuration_is_not_quoted() {
    let text = EXAMPLE.replace("[database]", "[database]\npassword = \"canary-secret\"");
    assert_ne!(text, EXAMPLE);
    let error = Config::from_toml(&text).unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(
        said.contains("password") && !said.contains("canary-secret"),
        "{said}"
    );
}
