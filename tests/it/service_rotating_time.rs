//! When rotations happen: after months of silence, in a window, by a cron expression in a time zone,
//! put off by a jitter; and what an event or a request brings forward.

use sas_broker::simulator::{Endpoint, KeySlot, NewSecret};
use serde_json::json;
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::{
    service_events::{about, grid},
    service_rotating::{ADOPTED, KEY_VAULT, ROTATED, SECRET},
    world::{LAKE, START, World, text},
};

impl World {
    /// A tick at this instant.
    async fn tick_at(&self, at: OffsetDateTime) {
        self.clock.advance(at - self.now());
        self.tick().await;
    }

    async fn due_at(&self) -> String {
        let status = self.status().await;
        status["due_at"].as_str().unwrap().to_owned()
    }

    /// How often keys were regenerated.
    fn regenerated(&self) -> u64 {
        self.azure.calls(Endpoint::ArmRegenerateKey)
    }

    /// Event Grid tells of the secret.
    async fn event(&self, kind: &str) {
        let vault = self.azure.vault_url(KEY_VAULT).unwrap();
        let event = grid(kind, &about(vault.authority(), SECRET));
        let answer = self.deliver("application/json", &json!([event])).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_hundred_days_without_any_process_are_made_up_for_by_one_rotation() {
    let world = World::with_keys(json!({})).await;
    world.tick().await;
    world.clock.advance(Duration::days(100));
    world.tick().await;
    world.tick_minutes(5).await;
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.stories().await, [ADOPTED, ROTATED]);
    assert_eq!(world.mutations(), [1, 2, 0, 0]);
    let due = START + Duration::days(130);
    assert_eq!(world.due_at().await, text(due), "counted from then");
    world.stop().await;
}

#[tokio::test]
async fn outside_of_its_window_no_rotation_starts_and_one_that_has_started_is_finished() {
    let window = json!({ "from": "01:00", "until": "05:00", "time_zone": "Europe/Paris" });
    let world = World::with_keys(json!({ "window": window })).await;
    world.tick().await;
    // Thirty days later it is 14:00 in Paris, in summer time.
    let opens = datetime!(2031-04-03 23:00 UTC);
    assert_eq!(world.due_at().await, text(opens));
    world.tick_at(datetime!(2031-04-03 12:01 UTC)).await;
    world.tick_at(opens - Duration::SECOND).await;
    assert_eq!(
        (world.regenerated(), world.state().await.as_str()),
        (0, "fresh")
    );
    world.tick_at(opens).await;
    assert_eq!(world.regenerated(), 1);

    // Missed, and noticed at noon, by when the next window is told.
    world.tick_at(datetime!(2031-05-10 12:00 UTC)).await;
    assert_eq!(
        (world.regenerated(), world.state().await.as_str()),
        (1, "due")
    );
    let reasons = world.reasons().await;
    let waits = "it waits for its window, which opens at 2031-05-10T23:00:00Z";
    assert!(reasons.ends_with(waits), "{reasons}");
    world.azure.set_in_progress(LAKE, true).unwrap();
    world.tick_at(datetime!(2031-05-11 02:59 UTC)).await;
    world.azure.set_in_progress(LAKE, false).unwrap();
    world.tick_at(datetime!(2031-05-11 03:01 UTC)).await;
    let finished = world.stories().await.pop().unwrap();
    let expected = "schedule succeeded: regenerate key1 refused, regenerate key1 done";
    assert!(finished.starts_with(expected), "{finished}");

    // An operator need not wait for it.
    world.clock.advance(Duration::days(2));
    world.operate(&json!({})).await;
    world.tick().await;
    assert_eq!(world.regenerated(), 4);
    world.stop().await;
}

#[tokio::test]
async fn a_cron_expression_is_meant_in_its_time_zone_in_winter_and_in_summer() {
    let schedule = json!({
        "kind": "cron", "expression": "0 3 * * 0", "time_zone": "Europe/Paris",
    });
    let world = World::with_keys(json!({ "schedule": schedule })).await;
    world.tick().await;
    for (rotations, due) in (1..).zip([
        datetime!(2031-03-09 02:00 UTC),
        datetime!(2031-03-16 02:00 UTC),
        datetime!(2031-03-23 02:00 UTC),
        // That night the clocks go forward, from two to three.
        datetime!(2031-03-30 01:00 UTC),
        datetime!(2031-04-06 01:00 UTC),
    ]) {
        assert_eq!(world.due_at().await, text(due));
        world.tick_at(due - Duration::SECOND).await;
        assert_eq!(world.regenerated(), rotations - 1);
        world.tick_at(due).await;
        assert_eq!(world.regenerated(), rotations);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_jitter_puts_a_rotation_off_and_is_never_redrawn() {
    let world = World::with_keys(json!({ "jitter_minutes": 60 })).await;
    world.tick().await;
    let told = world.due_at().await;
    let due = OffsetDateTime::parse(&told, &time::format_description::well_known::Rfc3339);
    let due = due.unwrap();
    let earliest = START + Duration::days(30);
    assert!(
        due > earliest && due <= earliest + Duration::hours(1),
        "{due}"
    );
    for at in [
        earliest - Duration::hours(6),
        earliest,
        due - Duration::SECOND,
    ] {
        world.tick_at(at).await;
        assert_eq!(world.due_at().await, told);
        assert_eq!(world.regenerated(), 0);
    }
    world.tick_at(due + Duration::SECOND).await;
    assert_eq!(world.regenerated(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_event_of_the_vault_brings_the_next_look_forward_and_nothing_else() {
    let world = World::with_keys(json!({})).await;
    world.tick().await;
    let looks = world.looks();
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.looks(), looks, "at rest it is not looked at");
    for kind in ["SecretNearExpiry", "SecretExpired"] {
        let looks = (world.looks(), world.azure.calls(Endpoint::VaultList));
        world.event(&format!("Microsoft.KeyVault.{kind}")).await;
        assert_eq!(world.looks(), looks.0, "not by the one that is told");
        world.tick_after(Duration::minutes(1)).await;
        let after = (world.looks(), world.azure.calls(Endpoint::VaultList));
        assert_eq!(after, (looks.0 + 1, looks.1 + 1), "{kind}");
        world.tick_after(Duration::minutes(1)).await;
        assert_eq!(world.looks(), looks.0 + 1, "once");
    }
    assert_eq!(world.mutations(), [0, 1, 0, 0]);
    assert_eq!(world.stories().await, [ADOPTED]);

    let put = world
        .azure
        .put_secret(KEY_VAULT, SECRET, NewSecret::of("of another hand"));
    put.unwrap();
    world
        .event("Microsoft.KeyVault.SecretNewVersionCreated")
        .await;
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.newest_value(), world.live(KeySlot::Key1), "repaired");
    world.stop().await;
}

#[tokio::test]
async fn whoever_regenerated_the_active_key_elsewhere_can_ask_for_its_repair_at_once() {
    let world = World::with_keys(json!({})).await;
    world.tick().await;
    world.clock.advance(Duration::minutes(5));
    world.azure.regenerate_key(LAKE, KeySlot::Key1).unwrap();
    let answer = world.operate(&json!({ "reason": "by mistake" })).await;
    assert_eq!(answer.status, 202);
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.newest_value(), world.live(KeySlot::Key1));
    let repaired = world.stories().await.pop().unwrap();
    assert!(
        repaired.starts_with("operator succeeded: prove key1 done, publish key1 done"),
        "although it is inside the overlap: {repaired}"
    );
    assert_eq!(world.regenerated(), 0);
    world.stop().await;
}
