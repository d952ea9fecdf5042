//! Answers that are late, lost, or not what one hoped for: `regenerateKey` and new versions whose
//! outcome nobody heard, and keys that the data plane does not take yet, or cannot be asked about.

use std::collections::BTreeSet;

use sas_broker::simulator::{Effect, Endpoint, Fault, KeySlot, Seen};
use serde_json::json;
use time::Duration;

use crate::{
    service_rotating::{ADOPTED, ROTATED},
    world::{LAKE, World},
};

impl World {
    /// A world whose account is adopted, and whose first rotation comes due with the next tick.
    pub(crate) async fn with_due_keys(policy: serde_json::Value) -> Self {
        let world = Self::with_keys(policy).await;
        world.tick().await;
        world.clock.advance(Duration::days(30));
        world
    }

    /// The effect of a call whose answer is lost: at once, or after so many minutes.
    fn effect_after(&self, minutes: Option<i64>) -> Effect {
        match minutes {
            None => Effect::Never,
            Some(0) => Effect::Now,
            Some(minutes) => Effect::At(self.now() + Duration::minutes(minutes)),
        }
    }
}

#[tokio::test]
async fn a_regeneration_without_an_answer_takes_place_at_most_once_and_is_settled_in_ten_minutes() {
    let rows = [
        (None, Seen::Cut),
        (Some(0), Seen::Cut),
        (Some(0), Seen::GatewayTimeout),
        (Some(4), Seen::GatewayTimeout),
    ];
    for (effect_after, seen) in rows {
        let world = World::with_due_keys(json!({})).await;
        let former = world.live(KeySlot::Key2);
        let effect = world.effect_after(effect_after);
        let lost = Fault::Lost { effect, seen };
        world
            .azure
            .fail_calls(Endpoint::ArmRegenerateKey, 0..1, lost);
        world.tick().await;
        let mut values = BTreeSet::from([former, world.live(KeySlot::Key2)]);
        let told = format!("{lost:?}");
        let process = world.process().await;
        for _ in 0..9 {
            world.minute(&process).await;
            values.insert(world.live(KeySlot::Key2));
            assert_eq!(world.mutations(), [1, 1, 0, 0], "{told}: nothing meanwhile");
            assert!(world.reasons().await.contains("is not known yet"), "{told}");
        }
        let state = match effect {
            Effect::Never => "due",
            _ => "regenerated_unpublished",
        };
        assert_eq!(world.state().await, state, "{told}");
        world.minute(&process).await;
        process.close().await;
        values.insert(world.live(KeySlot::Key2));
        assert_eq!(values.len(), 2, "{told}: once");
        let first = match effect {
            Effect::Never => "regenerate key2 not_seen, regenerate key2 done",
            _ => "regenerate key2 seen",
        };
        let rotated = ROTATED.replace("regenerate key2 done", first);
        assert_eq!(world.stories().await, [ADOPTED, &rotated], "{told}");
        assert_eq!(world.newest_value(), world.live(KeySlot::Key2), "{told}");
        assert_eq!(world.state().await, "fresh", "{told}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_regeneration_that_never_takes_place_is_asked_for_twice_and_not_more() {
    let world = World::with_due_keys(json!({})).await;
    let former = world.live(KeySlot::Key2);
    let lost = Fault::Lost {
        effect: Effect::Never,
        seen: Seen::Cut,
    };
    world
        .azure
        .set_fault(Endpoint::ArmRegenerateKey, Some(lost));
    world.tick().await;
    world.tick_minutes(20).await;
    let failed = "schedule failed: regenerate key2 not_seen, regenerate key2 not_seen";
    assert_eq!(world.stories().await, [ADOPTED, failed]);
    assert_eq!(world.live(KeySlot::Key2), former);
    assert_eq!(world.published(), ["key1 on"]);
    let detail = &world.rotations().await[1]["detail"];
    assert_eq!(
        detail,
        "regenerateKey was asked for twice and did not take place"
    );
    world.azure.set_fault(Endpoint::ArmRegenerateKey, None);
    world.tick_after(Duration::minutes(2)).await;
    assert_eq!(world.stories().await, [ADOPTED, failed, ROTATED]);
    world.stop().await;
}

#[tokio::test]
async fn a_version_without_an_answer_is_found_or_made_again_and_never_doubled() {
    let rows = [
        (Some(0), 0, "publish key2 seen"),
        (Some(4), 4, "publish key2 seen"),
        (
            None,
            10,
            "publish key2 not_seen, prove key2 done, publish key2 done",
        ),
    ];
    for (effect_after, settled_after, published) in rows {
        let world = World::with_due_keys(json!({})).await;
        let effect = world.effect_after(effect_after);
        let seen = Seen::GatewayTimeout;
        let lost = Fault::Lost { effect, seen };
        world.azure.fail_calls(Endpoint::VaultSet, 0..1, lost);
        world.tick().await;
        if settled_after > 0 {
            world.tick_minutes(settled_after - 1).await;
            assert_eq!(world.mutations()[1], 2, "{lost:?}: nothing is repeated");
            assert_eq!(world.state().await, "regenerated_unpublished", "{lost:?}");
            world.tick_minutes(1).await;
        }
        let rotated = ROTATED.replace("publish key2 done", published);
        assert_eq!(world.stories().await, [ADOPTED, &rotated], "{lost:?}");
        assert_eq!(world.published(), ["key1 on", "key2 on"], "{lost:?}");
        assert_eq!(world.state().await, "fresh", "{lost:?}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_key_that_the_data_plane_learns_late_is_proved_once_a_minute() {
    let world = World::with_due_keys(json!({})).await;
    let delay = Duration::minutes(3);
    world.azure.set_key_propagation(LAKE, delay).unwrap();
    world.tick().await;
    assert_eq!(world.published(), ["key1 on"], "not before it is proved");
    assert_eq!(world.state().await, "regenerated_unpublished");
    let reasons = world.reasons().await;
    assert!(
        reasons.contains("does not accept the key, or not yet"),
        "{reasons}"
    );
    world.tick_minutes(3).await;
    let refused = "prove key2 refused, ".repeat(3);
    let rotated = ROTATED.replace("prove", &format!("{refused}prove"));
    assert_eq!(world.stories().await, [ADOPTED, &rotated]);
    assert_eq!(world.mutations(), [1, 2, 0, 0]);
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_the_data_plane_refuses_for_longer_is_given_up_unpublished_and_repaired_later() {
    let world = World::with_due_keys(json!({})).await;
    let delay = Duration::minutes(30);
    world.azure.set_key_propagation(LAKE, delay).unwrap();
    world.tick().await;
    world.tick_minutes(10).await;
    let refused = format!("{}prove key2 refused", "prove key2 refused, ".repeat(9));
    let failed = format!("schedule failed: regenerate key2 done, {refused}");
    assert_eq!(world.stories().await, [ADOPTED, &failed]);
    let detail = world.rotations().await[1]["detail"].take();
    assert_eq!(
        detail,
        "prove was refused for too long: the Blob service does not accept the key, or not yet"
    );
    assert_eq!(world.published(), ["key1 on"]);
    assert_eq!(world.state().await, "regenerated_unpublished");
    assert_eq!(world.status().await["failures"], 1);

    world.tick_minutes(20).await;
    let stories = world.stories().await;
    assert_eq!(stories[2], format!("repair failed: {refused}"));
    let (proofs, published) = stories[3].rsplit_once("prove key2 done").unwrap();
    assert!(proofs.starts_with("repair succeeded: prove key2 refused"));
    assert_eq!(published, ", publish key2 done");
    assert_eq!(world.mutations(), [1, 2, 0, 0], "regenerated once");
    assert_eq!(world.state().await, "fresh");
    world.stop().await;
}

#[tokio::test]
async fn where_the_network_keeps_the_broker_out_the_policy_says_what_proves_a_key() {
    let world = World::with_due_keys(json!({})).await;
    world.azure.set_network_denies(LAKE, true).unwrap();
    world.tick().await;
    world.tick_minutes(10).await;
    assert_eq!(world.published(), ["key1 on"]);
    assert_eq!(world.state().await, "regenerated_unpublished");
    let detail = world.rotations().await[1]["detail"].take();
    assert_eq!(
        detail,
        "prove was refused for too long: the Blob service could not be asked: \
         403 AuthorizationFailure"
    );
    world
        .rotate_by(json!({ "proof": "listkeys_if_unreachable" }))
        .await;
    world.tick_after(Duration::minutes(1)).await;
    let repaired = "repair succeeded: prove key2 done, publish key2 done";
    assert_eq!(world.stories().await[2], repaired);
    assert_eq!(world.newest_value(), world.live(KeySlot::Key2));
    let proof = world.rotations().await[2]["steps"][0]["detail"].take();
    assert_eq!(
        proof,
        "ARM lists the key; the Blob service was not reached: 403 AuthorizationFailure"
    );
    assert_eq!(world.mutations(), [1, 2, 0, 0]);
    world.stop().await;
}
