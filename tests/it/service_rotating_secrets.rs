//! Canaries of rotation: every value that the account's keys and the vault's secret ever have is
//! looked for in everything that outlives a rotation, whether it went well or not.

use std::fs;

use actix_web::http::StatusCode;
use sas_broker::{
    ports::AccountKey,
    simulator::{Effect, Endpoint, Fault, KeySlot, Lock, NewSecret, Seen},
};
use serde_json::json;
use time::Duration;

use crate::{
    service_rotating::{KEY_VAULT, SECRET},
    service_secrets::Canaries,
    webhook::receiver::Receiver,
    world::{CLIENT_SECRET, LAKE, World, logs},
};

const FOREIGN: &str = "canary-of-another-hand-58c1";

impl World {
    /// Plants the keys as they are now; asked for after every change.
    fn plant_keys(&self, canaries: &mut Canaries, when: &str) {
        for slot in [KeySlot::Key1, KeySlot::Key2] {
            canaries.plant_key(&format!("{slot:?} {when}"), &self.live(slot));
        }
    }
}

/// One thing after the other goes wrong, and right in the end; the keys are planted on the way.
async fn exercise(world: &World, canaries: &mut Canaries) {
    let fault = |endpoint, fault| world.azure.fail_calls(endpoint, 0..1, fault);
    let seen = Seen::GatewayTimeout;
    let refused = |code| Fault::Status {
        code,
        retry_after_seconds: None,
    };
    world.plant_keys(canaries, "at the start");
    fault(Endpoint::VaultSet, refused(StatusCode::BAD_REQUEST));
    fault(Endpoint::ArmListKeys, refused(StatusCode::NOT_FOUND));
    world.tick().await;
    world.tick_minutes(3).await;
    world.clock.advance(Duration::days(30));
    let effect = Effect::Now;
    fault(Endpoint::ArmRegenerateKey, Fault::Lost { effect, seen });
    fault(Endpoint::VaultSet, Fault::Lost { effect, seen });
    world
        .azure
        .set_key_propagation(LAKE, Duration::minutes(12))
        .unwrap();
    world.tick().await;
    world.plant_keys(canaries, "after a lost answer");
    world.tick_minutes(13).await;
    world.clock.advance(Duration::days(30));
    world.azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap();
    world.tick().await;
    world.azure.set_lock(LAKE, None).unwrap();
    world.tick_after(Duration::minutes(1)).await;
    world.plant_keys(canaries, "while it is proved");
    world.tick_minutes(13).await;
    let put = world
        .azure
        .put_secret(KEY_VAULT, SECRET, NewSecret::of(FOREIGN));
    put.unwrap();
    world.tick_after(Duration::hours(6)).await;
    let leaked = json!({ "key": "active", "reason": "INC-1" });
    world.operate(&leaked).await;
    fault(Endpoint::SharedKey, refused(StatusCode::IM_A_TEAPOT));
    world.tick_after(Duration::minutes(1)).await;
    world.tick_minutes(15).await;
    world.plant_keys(canaries, "after the glass was broken");
    world
        .rotate_by(json!({ "value": "connection_string" }))
        .await;
    world.clock.advance(Duration::days(30));
}

#[tokio::test]
async fn no_key_and_no_secret_value_is_told_kept_or_logged() {
    let listening = logs::listen();
    let mut canaries = Canaries::default();
    canaries.plant("the client secret", CLIENT_SECRET);
    canaries.plant("another hand's secret", FOREIGN);
    let world = World::with_keys(json!({})).await;
    exercise(&world, &mut canaries).await;
    let receiver = Receiver::start(&[]);
    world
        .azure
        .set_key_propagation(LAKE, Duration::ZERO)
        .unwrap();
    let outbox = world.broker_tells(&receiver, 10).await;
    world.plant_keys(&mut canaries, "in the end");
    assert!(world.newest_value().contains("AccountKey="));

    canaries.look_in("a scrape", &outbox.metrics);
    canaries.look_in("the webhook", &format!("{:?}", receiver.received()));
    let rotations = world.rotations().await;
    assert!(rotations.len() > 5, "{rotations:#?}");
    let answers = format!("{} {:?}", world.status().await, rotations);
    canaries.look_in("the API's answers", &answers);
    let records = format!("{:?}", world.records().await);
    assert!(records.contains("unclear") && records.contains("refused"));
    canaries.look_in("the journal", &records);
    debug_texts(&world, &canaries).await;
    let id = rotations[0]["id"].as_str().unwrap();
    let mut read = false;
    for file in world.database_files() {
        let bytes = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        canaries.look_in(&file.display().to_string(), &bytes);
        read |= bytes.contains(id);
    }
    assert!(read, "the database was not read");
    receiver.stop().await;
    world.stop().await;
    let heard = listening.heard();
    for heard_of in [
        id,
        "\"level\":\"TRACE\"",
        "rotation failed",
        "typespec_client_core::http::policies::logging",
        "actix_http::h1::decoder",
        "/listKeys",
    ] {
        assert!(heard.contains(heard_of), "not heard: {heard_of}");
    }
    canaries.look_in("the log", &heard);
}

/// What somebody would print who looks for a fault.
async fn debug_texts(world: &World, canaries: &Canaries) {
    let key = AccountKey {
        name: sas_broker::domain::rotation::KeyName::Key1,
        value: world.live(KeySlot::Key1).into(),
    };
    let process = world.process().await;
    let account = LAKE.parse().unwrap();
    let plan = process.preview(&account).await;
    let rotations = world.rotations().await;
    let id = rotations[1]["id"].as_str().unwrap().parse().unwrap();
    let rotation = process.rotation(&account, id).await;
    let text = format!(
        "{key:?} {plan:#?} {rotation:#?} {:?} {:?} {:#?}",
        world.azure,
        world.versions(),
        world.config
    );
    assert!(text.contains("Fresh"), "{text}");
    canaries.look_in("Debug", &text);
    process.close().await;
}
