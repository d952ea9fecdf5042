//! What operators ask for, carried out: an ordinary rotation, one inside the overlap, and a key that
//! must die.

use sas_broker::simulator::{Endpoint, Fault, KeySlot};
use serde_json::{Value, json};
use time::Duration;

use crate::{
    service_rotating::{ADOPTED, ROTATED, story},
    world::{ADA, LAKE, World, text},
};

impl World {
    /// Asks, and is taken at its word; the rotation's id.
    async fn accepted(&self, body: &Value) -> String {
        let answer = self.operate(body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(answer.body["state"], "requested");
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// One rotation, as the API tells it.
    async fn rotation(&self, id: &str) -> Value {
        let path = format!("/v1/admin/accounts/lake1/rotations/{id}");
        self.get(&path, &self.operator()).await.body
    }
}

#[tokio::test]
async fn a_rotation_that_is_asked_for_is_carried_out_at_the_next_tick_and_moves_the_schedule() {
    let world = World::with_keys(json!({})).await;
    world.tick().await;
    world.clock.advance(Duration::hours(24));
    let id = world.accepted(&json!({ "reason": "CHG-1204" })).await;
    assert_eq!(world.mutations(), [0, 1, 0, 0], "nobody but a tick acts");
    world.tick_after(Duration::minutes(1)).await;
    let rotation = world.rotation(&id).await;
    let expected = ROTATED.replace("schedule", "operator");
    assert_eq!(story(&rotation), expected);
    assert_eq!(rotation["reason"], "CHG-1204");
    assert_eq!(rotation["ended_at"], text(world.now()));
    assert_eq!(world.newest_value(), world.live(KeySlot::Key2));
    let due = world.status().await["due_at"].take();
    assert_eq!(due, text(world.now() + Duration::days(30)));

    // Asked for together with one that is due, it is one rotation.
    world.clock.advance(Duration::days(30));
    let id = world.accepted(&json!({})).await;
    world.tick().await;
    world.tick_after(Duration::minutes(1)).await;
    assert!(story(&world.rotation(&id).await).starts_with("operator succeeded: regenerate key1"));
    assert_eq!(world.mutations(), [2, 3, 1, 0]);
    assert_eq!(world.stories().await.len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn inside_the_overlap_it_is_refused_with_the_time_at_which_that_ends() {
    let world = World::with_keys(json!({ "overlap_hours": 48 })).await;
    world.tick().await;
    let ends = text(world.now() + Duration::hours(48));
    world.clock.advance(Duration::hours(47));
    let id = world.accepted(&json!({})).await;
    world.tick().await;
    let rotation = world.rotation(&id).await;
    assert_eq!(story(&rotation), "operator refused: ");
    let why = format!("inside the overlap, which ends at {ends}");
    assert_eq!(rotation["detail"], why);
    assert_eq!(world.mutations(), [0, 1, 0, 0]);
    assert_eq!(world.state().await, "fresh");
    let mut ended = world.records_of("rotation_ended").await;
    ended.retain(|record| record["rotation"] == id);
    assert_eq!(ended[0]["state"], "refused");
    assert_eq!(ended[0]["detail"], why);

    world.clock.advance(Duration::hours(1));
    let id = world.accepted(&json!({})).await;
    world.tick().await;
    assert_eq!(world.rotation(&id).await["state"], "succeeded");
    world.stop().await;
}

#[tokio::test]
async fn a_leaked_active_key_dies_after_the_other_one_is_published() {
    let world = World::with_keys(json!({})).await;
    let leaked = world.live(KeySlot::Key1);
    let other = world.live(KeySlot::Key2);
    world.tick().await;
    world.clock.advance(Duration::minutes(5));
    let reason = "INC-4711: key in a public repository";
    let id = world
        .accepted(&json!({ "key": "active", "reason": reason }))
        .await;
    // ARM is busy, which shows what has been done by then.
    world.azure.set_in_progress(LAKE, true).unwrap();
    world.tick_anyhow().await;
    assert_eq!(
        world.published(),
        ["key1 on"],
        "no key can be listed either"
    );
    world.azure.set_in_progress(LAKE, false).unwrap();
    let limit = Fault::Throttled {
        retry_after_seconds: Some(60),
    };
    world
        .azure
        .fail_calls(Endpoint::ArmRegenerateKey, 0..1, limit);
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.published(), ["key1 on", "key2 on"]);
    assert_eq!(world.newest_value(), other, "its live value, not a new one");
    assert_eq!(world.key_opens(&leaked).await, Some(true), "not dead yet");

    world.tick_after(Duration::minutes(2)).await;
    assert_eq!(world.key_opens(&leaked).await, Some(false));
    assert_eq!(world.key_opens(&other).await, Some(true));
    assert_eq!(world.newest_value(), world.live(KeySlot::Key1));
    assert_eq!(world.published(), ["key1 off", "key2 on", "key1 on"]);
    let rotation = world.rotation(&id).await;
    let expected = "break_glass succeeded: prove key2 refused, prove key2 done, publish key2 done, \
                    regenerate key1 refused, regenerate key1 done, prove key1 done, \
                    publish key1 done, disable key1 done";
    assert_eq!(story(&rotation), expected);
    assert_eq!(
        (&rotation["key"], &rotation["reason"]),
        (&json!("key1"), &json!(reason))
    );
    let mut opened = world.records_of("rotation_opened").await;
    opened.retain(|record| record["rotation"] == id);
    assert_eq!(opened[0]["reason"], reason);
    assert_eq!(opened[0]["actor"]["object_id"], json!(ADA));
    world.stop().await;
}

#[tokio::test]
async fn a_leaked_alternate_key_dies_at_once_and_only_its_new_value_is_published() {
    let world = World::with_keys(json!({})).await;
    world.tick().await;
    world.clock.advance(Duration::days(30));
    world.tick().await;
    let superseded = world.live(KeySlot::Key1);
    let active = world.live(KeySlot::Key2);
    world.clock.advance(Duration::minutes(5));
    let body = json!({ "key": "alternate", "reason": "INC-4712" });
    let id = world.accepted(&body).await;
    world.tick().await;
    assert_eq!(world.key_opens(&superseded).await, Some(false));
    assert_eq!(world.key_opens(&active).await, Some(true));
    let expected = "break_glass succeeded: regenerate key1 done, prove key1 done, \
                    publish key1 done, disable key1 done";
    assert_eq!(story(&world.rotation(&id).await), expected);
    assert_eq!(world.published(), ["key1 off", "key2 on", "key1 on"]);
    assert_eq!(world.stories().await[..2], [ADOPTED, ROTATED]);
    world.stop().await;
}
