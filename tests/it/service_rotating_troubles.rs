//! What Azure says no to, and what becomes of it: the tables "States" and "What to do when it is
//! blocked" of the documentation. Whatever it is, the key in use is left alone.

use actix_web::http::StatusCode;
use sas_broker::simulator::{
    ArmRole, Endpoint, Fault, KeySlot, Lock, NewSecret, Running, VaultRole, VaultRoleAssignment,
    VaultSpec,
};
use serde_json::json;
use time::Duration;

use crate::{
    service_rotating::{ADOPTED, KEY_VAULT, ROTATED, SECRET},
    world::{BROKER_PRINCIPAL, LAKE, World, text},
};

const FOREIGN: &str = "a-password-of-somebody-else";

fn officer() -> VaultRoleAssignment {
    VaultRoleAssignment {
        principal: BROKER_PRINCIPAL,
        role: VaultRole::SecretsOfficer,
        secret: None,
    }
}

/// Something in the way that a person must take away.
struct Obstacle {
    what: &'static str,
    put: fn(&Running),
    take_away: fn(&Running),
    says: &'static str,
    /// Whether it is met in a step already, and not in the look.
    in_a_step: bool,
}

const OBSTACLES: [Obstacle; 6] = [
    Obstacle {
        what: "a read-only lock",
        put: |azure| azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap(),
        take_away: |azure| azure.set_lock(LAKE, None).unwrap(),
        says: "regenerate: locked: 409 ScopeLocked",
        in_a_step: true,
    },
    Obstacle {
        what: "no role at ARM",
        put: |azure| azure.remove_arm_roles(LAKE, BROKER_PRINCIPAL).unwrap(),
        take_away: |azure| {
            for role in [ArmRole::Reader, ArmRole::KeyOperator] {
                azure.assign_arm_role(LAKE, BROKER_PRINCIPAL, role).unwrap();
            }
        },
        says: "ARM: refused: 403 AuthorizationFailed",
        in_a_step: false,
    },
    Obstacle {
        what: "no role for keys",
        put: |azure| {
            azure.remove_arm_roles(LAKE, BROKER_PRINCIPAL).unwrap();
            let reader = azure.assign_arm_role(LAKE, BROKER_PRINCIPAL, ArmRole::Reader);
            reader.unwrap();
        },
        take_away: |azure| {
            let operator = azure.assign_arm_role(LAKE, BROKER_PRINCIPAL, ArmRole::KeyOperator);
            operator.unwrap();
        },
        says: "regenerate: refused: 403 AuthorizationFailed",
        in_a_step: true,
    },
    Obstacle {
        what: "no role at the vault",
        put: |azure| {
            azure
                .remove_vault_roles(KEY_VAULT, BROKER_PRINCIPAL)
                .unwrap()
        },
        take_away: |azure| azure.assign_vault_role(KEY_VAULT, officer()).unwrap(),
        says: "vault: refused: 403 Forbidden (ForbiddenByRbac)",
        in_a_step: false,
    },
    Obstacle {
        what: "the vault's firewall",
        put: |azure| azure.set_vault_firewall(KEY_VAULT, true).unwrap(),
        take_away: |azure| azure.set_vault_firewall(KEY_VAULT, false).unwrap(),
        says: "vault: refused: 403 Forbidden (ForbiddenByFirewall)",
        in_a_step: false,
    },
    Obstacle {
        what: "a deleted secret",
        put: |azure| azure.delete_secret(KEY_VAULT, SECRET).unwrap(),
        take_away: |azure| azure.recover_secret(KEY_VAULT, SECRET).unwrap(),
        says: "the secret was deleted and can be recovered; recover or purge it, or set \
               deleted_secret: recover",
        in_a_step: false,
    },
];

#[tokio::test]
async fn what_a_person_must_take_away_blocks_with_growing_pauses_and_then_it_goes_on() {
    for obstacle in OBSTACLES {
        let world = World::with_due_keys(json!({})).await;
        let Obstacle { what, says, .. } = obstacle;
        let keys = [KeySlot::Key1, KeySlot::Key2].map(|slot| world.live(slot));
        (obstacle.put)(&world.azure);
        let process = world.process().await;
        for (failures, pause) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
            process.tick().await.unwrap();
            let status = world.status().await;
            assert_eq!(status["state"], "blocked", "{what}");
            assert_eq!(status["failures"], failures, "{what}");
            let until = world.now() + Duration::minutes(pause);
            assert_eq!(status["look_at"], text(until), "{what}");
            let reasons = world.reasons().await;
            assert!(reasons.ends_with(says), "{what}: {reasons}");
            world.clock.advance(Duration::minutes(pause));
        }
        process.close().await;
        let unchanged = [KeySlot::Key1, KeySlot::Key2].map(|slot| world.live(slot));
        assert_eq!(unchanged, keys, "{what}: no key was touched");
        let failed = world.stories().await.len() - 1;
        assert_eq!(failed, if obstacle.in_a_step { 4 } else { 0 }, "{what}");

        (obstacle.take_away)(&world.azure);
        world.tick().await;
        assert_eq!(world.stories().await.pop().unwrap(), ROTATED, "{what}");
        let status = world.status().await;
        assert_eq!(status["state"], "fresh", "{what}");
        assert_eq!(status["failures"], 0, "{what}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_dead_key_in_use_is_told_although_a_lock_keeps_it_from_being_repaired() {
    let world = World::with_keys(json!({})).await;
    world.azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap();
    world.tick().await;
    assert_eq!(world.state().await, "blocked");
    world.azure.set_lock(LAKE, None).unwrap();
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.state().await, "fresh");

    world.azure.regenerate_key(LAKE, KeySlot::Key1).unwrap();
    world.azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap();
    world.clock.advance(Duration::hours(6));
    world.tick_anyhow().await;
    assert_eq!(world.state().await, "drifted");
    assert_eq!(
        world.reasons().await,
        "key1 was regenerated, and the newest version holds its dead value; \
         prove: locked: 409 ScopeLocked"
    );
    world.azure.set_lock(LAKE, None).unwrap();
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.state().await, "fresh");
    world.stop().await;
}

#[tokio::test]
async fn what_lasts_is_looked_at_four_times_a_day() {
    let world = World::with_due_keys(json!({})).await;
    world.azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap();
    let mut looks = 0;
    while looks < 12 {
        world.tick().await;
        let look_at = world.status().await["look_at"].take();
        let pause = [1, 2, 4, 8, 16, 32, 64, 128, 256].get(looks).copied();
        let pause = Duration::minutes(pause.unwrap_or(360));
        assert_eq!(look_at, text(world.now() + pause), "look {looks}");
        world.clock.advance(pause);
        looks += 1;
    }
    assert_eq!(world.published(), ["key1 on"]);
    world.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_not_ours_is_never_written_over() {
    let world = World::with_keys(json!({})).await;
    let put = world
        .azure
        .put_secret(KEY_VAULT, SECRET, NewSecret::of(FOREIGN));
    put.unwrap();
    world.tick_anyhow().await;
    assert_eq!(world.state().await, "blocked");
    let reasons = world.reasons().await;
    assert_eq!(
        reasons,
        "the secret holds something that is not this account's; give the account another \
         secret_name, or remove that secret"
    );
    assert_eq!(world.mutations(), [0; 4]);
    // Somebody asks all the same, also by breaking the glass.
    world.operate(&json!({})).await;
    let leaked = json!({ "key": "key2", "reason": "INC-1" });
    assert_eq!(world.operate(&leaked).await.status, 202);
    world.tick_anyhow().await;
    assert_eq!(world.mutations(), [0; 4]);
    assert_eq!(world.newest_value(), FOREIGN);
    world.stop().await;
}

#[tokio::test]
async fn a_version_of_somebody_else_over_ours_and_a_version_switched_off_are_repaired() {
    let world = World::with_keys(json!({})).await;
    world.tick().await;
    let put = world
        .azure
        .put_secret(KEY_VAULT, SECRET, NewSecret::of(FOREIGN));
    put.unwrap();
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.newest_value(), world.live(KeySlot::Key1));
    assert_eq!(world.published(), ["key1 on", "foreign on", "key1 on"]);
    let version = world.versions().pop().unwrap().id;
    let off = world
        .azure
        .set_secret_enabled(KEY_VAULT, SECRET, &version, false);
    off.unwrap();
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.published(), ["key1 on", "foreign on", "key1 on"]);
    // In the portal: the key in use, and then the other one.
    for slot in [KeySlot::Key1, KeySlot::Key2] {
        world.clock.advance(Duration::minutes(1));
        world.azure.regenerate_key(LAKE, slot).unwrap();
        world.tick_after(Duration::hours(6)).await;
        assert_eq!(world.newest_value(), world.live(slot));
    }
    let published = |key| format!("repair succeeded: prove {key} done, publish {key} done");
    let stories = world.stories().await;
    assert_eq!(stories[1], published("key1"));
    assert_eq!(stories[2], "repair succeeded: enable done");
    assert!(stories[3].starts_with(&published("key1")), "{stories:?}");
    assert!(stories[4].starts_with(&published("key2")), "{stories:?}");
    assert_eq!(stories.len(), 5);
    assert_eq!(world.mutations()[0], 0, "a repair regenerates nothing");
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_secret_is_recovered_where_the_policy_says_so() {
    let vault = VaultSpec {
        recovery_takes: Duration::minutes(3),
        ..VaultSpec::default()
    };
    let policy = json!({ "deleted_secret": "recover" });
    let world = World::with_vault(vault, policy).await;
    world.tick().await;
    let version = world.versions().pop().unwrap().id;
    world.azure.delete_secret(KEY_VAULT, SECRET).unwrap();
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.versions().len(), 0, "it takes the vault a while");
    world.tick_minutes(5).await;
    assert_eq!(world.versions().pop().unwrap().id, version);
    assert_eq!(world.state().await, "fresh");
    let recovered = "repair succeeded: recover done";
    assert_eq!(world.stories().await, [ADOPTED, recovered]);
    assert_eq!(world.mutations(), [0, 1, 0, 1], "asked for once");
    world.stop().await;
}

#[tokio::test]
async fn after_a_purge_the_active_key_is_published_anew() {
    let world = World::with_due_keys(json!({})).await;
    world.tick().await;
    world.azure.delete_secret(KEY_VAULT, SECRET).unwrap();
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.state().await, "blocked");
    world.azure.purge_secret(KEY_VAULT, SECRET).unwrap();
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.published(), ["key2 on"]);
    assert_eq!(world.newest_value(), world.live(KeySlot::Key2));
    assert_eq!(world.mutations(), [1, 3, 0, 0]);
    world.stop().await;
}

#[tokio::test]
async fn throttled_nothing_is_sent_until_azure_says_so() {
    let world = World::with_due_keys(json!({})).await;
    let limit = Fault::SubscriptionThrottled {
        retry_after_seconds: Some(290),
    };
    let regenerate = Endpoint::ArmRegenerateKey;
    world.azure.fail_calls(regenerate, 0..1, limit);
    let process = world.process().await;
    process.tick().await.unwrap();
    let asked = (world.looks(), world.mutations());
    for _ in 0..4 {
        assert_eq!(world.state().await, "unknown");
        assert_eq!(world.reasons().await, "ARM: throttled");
        world.clock.advance(Duration::minutes(1));
        process.tick().await.unwrap();
        assert_eq!((world.looks(), world.mutations()), asked, "nothing is sent");
    }
    for _ in 0..4 {
        world.clock.advance(Duration::minutes(1));
        process.tick().await.unwrap();
    }
    process.close().await;
    let rotated = ROTATED.replace("regenerate", "regenerate key2 refused, regenerate");
    assert_eq!(world.stories().await, [ADOPTED, &rotated]);
    assert_eq!(world.state().await, "fresh");
    world.stop().await;
}

#[tokio::test]
async fn an_account_that_another_operation_holds_is_tried_again_each_minute() {
    let world = World::with_due_keys(json!({})).await;
    world.azure.set_in_progress(LAKE, true).unwrap();
    world.tick().await;
    assert_eq!(world.state().await, "due");
    let reasons = world.reasons().await;
    let busy = "busy: 409 StorageAccountOperationInProgress";
    assert!(reasons.contains(busy), "{reasons}");
    world.tick_minutes(2).await;
    world.azure.set_in_progress(LAKE, false).unwrap();
    world.tick_minutes(1).await;
    let refused = "regenerate key2 refused, ".repeat(3);
    let rotated = ROTATED.replace("regenerate", &format!("{refused}regenerate"));
    assert_eq!(world.stories().await, [ADOPTED, &rotated]);
    world.stop().await;
}

#[tokio::test]
async fn while_arm_or_the_vault_cannot_be_read_nothing_is_done_and_their_return_is_noticed_soon() {
    let unavailable = Fault::Status {
        code: StatusCode::SERVICE_UNAVAILABLE,
        retry_after_seconds: None,
    };
    for (endpoint, who) in [(Endpoint::ArmRead, "ARM"), (Endpoint::VaultList, "vault")] {
        let world = World::with_due_keys(json!({})).await;
        world.azure.set_fault(endpoint, Some(unavailable));
        world.tick().await;
        assert_eq!(world.state().await, "unknown");
        let expected = format!("{who}: unavailable: 503 without a code");
        assert_eq!(world.reasons().await, expected);
        world.clock.advance(Duration::days(1));
        world.tick().await;
        assert_eq!(world.mutations(), [0, 1, 0, 0], "{who}");
        let page = world.status().await;
        assert_eq!(page["failures"], 2);
        world.azure.set_fault(endpoint, None);
        world.tick_after(Duration::minutes(15)).await;
        assert_eq!(world.stories().await, [ADOPTED, ROTATED], "{who}");
        world.stop().await;
    }
}

#[tokio::test]
async fn an_account_that_refuses_shared_key_is_not_rotated_unless_the_policy_says_so() {
    let world = World::with_due_keys(json!({})).await;
    let allow = |allowed| world.azure.set_allow_shared_key_access(LAKE, allowed);
    allow(Some(false)).unwrap();
    world.tick().await;
    assert_eq!(world.state().await, "not_needed");
    let answer = world.operate(&json!({})).await.body;
    world.tick_after(Duration::minutes(1)).await;
    assert_eq!(world.mutations(), [0, 1, 0, 0]);
    assert_eq!(world.stories().await, [ADOPTED, "operator refused: "]);
    assert_eq!(world.rotations().await[1]["id"], answer["id"]);

    world
        .rotate_by(json!({ "rotate_disallowed_keys": true }))
        .await;
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.stories().await[2], ROTATED);
    let proof = world.rotations().await[2]["steps"][1]["detail"].take();
    assert_eq!(proof, "ARM lists the key; the account refuses Shared Key");
    allow(None).unwrap();
    world.tick_after(Duration::hours(6)).await;
    assert_eq!(world.state().await, "fresh");
    world.stop().await;
}

#[tokio::test]
async fn an_account_that_is_gone_blocks_until_it_is_taken_out_of_the_role_table() {
    let world = World::with_due_keys(json!({})).await;
    world.azure.delete_account(LAKE).unwrap();
    world.tick_anyhow().await;
    assert_eq!(world.state().await, "blocked");
    assert_eq!(world.reasons().await, "ARM: gone: 404 ResourceNotFound");
    assert_eq!(world.mutations(), [0, 1, 0, 0]);
    world.operate(&json!({})).await;
    world.apply(json!({ "grants": [] })).await;
    world.clock.advance(Duration::hours(1));
    world.tick_anyhow().await;
    let rotation = world.rotations().await.pop().unwrap();
    assert_eq!(rotation["state"], "failed");
    assert_eq!(rotation["detail"], "the account is not rotated any more");
    world.stop().await;
}
