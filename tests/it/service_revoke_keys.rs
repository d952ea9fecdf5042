//! An operator revokes an account's delegation keys, over HTTP, at the simulated Azure: what dies,
//! what lives on, and what is said when Azure does not play along.

use std::time::Duration;

use actix_web::http::StatusCode;
use futures_util::future::{join, join_all};
use sas_broker::{
    ports::PolicyStore,
    simulator::{ArmRole, Effect, Endpoint, Fault, Lock, Seen},
};
use serde_json::{Value, json};

use crate::{
    storage_database::on_each_engine,
    world::{ADA, Answer, BROKER_PRINCIPAL, FLAT, LAKE, World, grant, outcome, read_file, user},
};

const REVOKE: &str = "/v1/admin/accounts/lake1/revoke-user-delegation-keys";

impl World {
    /// Ada may read `raw` on `lake1`, whose ARM id is known and whose keys nobody rotates; the broker
    /// may revoke its delegation keys and do nothing else there.
    async fn revocable(&self) {
        let mut accounts = self.accounts();
        accounts[0]["resource_id"] = json!(self.azure.resource_id(LAKE).unwrap());
        let grants = json!([grant(user(ADA), "reader", LAKE, "raw")]);
        self.apply(json!({ "accounts": accounts, "grants": grants }))
            .await;
        self.may_revoke();
    }

    fn may_revoke(&self) {
        let role = ArmRole::DelegationKeyRevoker;
        self.azure
            .assign_arm_role(LAKE, BROKER_PRINCIPAL, role)
            .unwrap();
    }

    async fn revoke_keys(&self, body: &Value) -> Answer {
        self.send(self.post(REVOKE, &self.operator(), body)).await
    }

    /// What storage says to a token.
    async fn opens(&self, token: &Value) -> u16 {
        outcome(self.http.get(token["url"].as_str().unwrap()))
            .await
            .0
    }

    /// The outcomes that the journal tells, in order.
    async fn told(&self) -> Vec<Value> {
        let records = self.records_of("delegation_keys_revoked").await;
        records.iter().map(|told| told["outcome"].clone()).collect()
    }
}

#[tokio::test]
async fn every_token_dies_and_every_replica_signs_with_new_keys() {
    on_each_engine(async |database| {
        let world = World::on(database).await;
        let replica = world.replica().await;
        world.revocable().await;
        let ada = world.ada();
        let ask = async |number: usize| {
            let base = [&world.base, &replica.base][number % 2];
            let request = world.http.post(format!("{base}/v1/sas")).bearer_auth(&ada);
            let request = request.header("content-type", "application/json");
            let request = request.body(read_file(LAKE).to_string());
            world.send(request).await.body
        };
        let before = join(ask(0), ask(1)).await;
        for token in [&before.0, &before.1] {
            assert_eq!(world.opens(token).await, 200, "{token}");
        }
        let answer = world.revoke_keys(&json!({ "reason": "INC-4712" })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body, json!({ "account": LAKE, "outcome": "done" }));
        for token in [&before.0, &before.1] {
            assert_eq!(world.opens(token).await, 403);
        }
        for token in join_all((0..16).map(ask)).await {
            assert_eq!(world.opens(&token).await, 200, "{token}");
        }
        let fetched = world.azure.calls(Endpoint::DelegationKey);
        // One before and one after, on each; and one more where the announcement alone was seen.
        assert!((4..=6).contains(&fetched), "{fetched}");
        assert_eq!(world.told().await, ["intended", "done"]);
        for record in world.records_of("delegation_keys_revoked").await {
            assert_eq!(record["account"], LAKE);
            assert_eq!(record["reason"], "INC-4712");
            assert_eq!(record["actor"]["object_id"], json!(ADA));
            assert_eq!(record["client"], "127.0.0.1");
            assert_eq!(record["request_id"], answer.header("x-request-id"));
        }
        replica.stop().await;
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_was_fetched_while_azure_worked_signs_nothing_afterwards() {
    let world = World::start().await;
    world.revocable().await;
    let ada = world.ada();
    let slow = Fault::Delay(Duration::from_millis(1_000));
    world
        .azure
        .set_fault(Endpoint::ArmRevokeDelegationKeys, Some(slow));
    let meanwhile = async {
        while world.told().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.issue(&ada, &read_file(LAKE)).await
    };
    let body = json!({});
    let (answer, doomed) = join(world.revoke_keys(&body), meanwhile).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(world.opens(&doomed).await, 403, "signed in between");
    let next = world.issue(&ada, &read_file(LAKE)).await;
    assert_eq!(world.opens(&next).await, 200);
    world.stop().await;
}

#[tokio::test]
async fn no_token_of_a_revoked_key_is_released_to_a_request_that_waited() {
    on_each_engine(async |database| {
        let world = World::on(database).await;
        world.revocable().await;
        let slow = Fault::Delay(Duration::from_millis(1_500));
        world.azure.set_fault(Endpoint::DelegationKey, Some(slow));
        let revoking = async {
            while world.azure.calls(Endpoint::DelegationKey) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            world.azure.set_fault(Endpoint::DelegationKey, None);
            world.revoke_keys(&json!({})).await
        };
        // The request is past its decision and waits for its key when the revocation is recorded.
        let (ada, file) = (world.ada(), read_file(LAKE));
        let (answer, revoked) = join(world.ask(&ada, &file), revoking).await;
        assert_eq!((revoked.status, answer.status), (200, 200));
        assert_eq!(world.opens(&answer.body).await, 200);
        let fetched = world.azure.calls(Endpoint::DelegationKey);
        assert_eq!(fetched, 2, "the first key signed nothing that left");
        let version = world.store().await.version().await.unwrap();
        let issued = world.records_of("issued").await;
        assert_eq!(issued.len(), 1);
        assert_eq!(issued[0]["policy_version"], version);
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_retried_request_is_signed_anew_after_a_revocation() {
    let world = World::start().await;
    world.revocable().await;
    let ada = world.ada();
    let first = world.ask_keyed(&ada, "once", &read_file(LAKE)).await.body;
    assert_eq!(world.revoke_keys(&json!({})).await.status, 200);
    let again = world.ask_keyed(&ada, "once", &read_file(LAKE)).await.body;
    assert_eq!(again["id"], first["id"]);
    assert_ne!(again["token"], first["token"]);
    let opens = (world.opens(&first).await, world.opens(&again).await);
    assert_eq!(opens, (403, 200));
    world.stop().await;
}

#[tokio::test]
async fn what_azure_does_instead_is_told_and_recorded() {
    let status = |code| Fault::Status {
        code,
        retry_after_seconds: None,
    };
    let lost = |effect, seen| Fault::Lost { effect, seen };
    let throttled = Fault::Throttled {
        retry_after_seconds: Some(17),
    };
    let internal = StatusCode::INTERNAL_SERVER_ERROR;
    let rows = [
        (throttled, (503, "azure-throttled"), "refused"),
        (status(internal), (504, "azure-unclear"), "unclear"),
        (
            lost(Effect::Now, Seen::Cut),
            (504, "azure-unclear"),
            "unclear",
        ),
        (
            lost(Effect::Never, Seen::GatewayTimeout),
            (504, "azure-unclear"),
            "unclear",
        ),
    ];
    for (fault, refusal, outcome) in rows {
        let world = World::start().await;
        world.revocable().await;
        let ada = world.ada();
        world.issue(&ada, &read_file(LAKE)).await;
        let place = Endpoint::ArmRevokeDelegationKeys;
        world.azure.fail_calls(place, 0..1, fault);
        let answer = world.revoke_keys(&json!({})).await;
        assert_eq!(answer.refusal(), refusal, "{fault:?} {}", answer.text);
        if refusal.0 == 503 {
            assert_eq!(answer.header("retry-after"), "17");
        }
        assert_eq!(world.told().await, ["intended", outcome], "{fault:?}");
        assert_eq!(world.azure.calls(place), 1, "never repeated by itself");
        let token = world.issue(&ada, &read_file(LAKE)).await;
        assert_eq!(world.opens(&token).await, 200, "{fault:?}: issuing goes on");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_missing_role_or_a_lock_is_azure_s_refusal_and_leaves_tokens_alone() {
    let world = World::start().await;
    world.revocable().await;
    let token = world.issue(&world.ada(), &read_file(LAKE)).await;
    world
        .azure
        .remove_arm_roles(LAKE, BROKER_PRINCIPAL)
        .unwrap();
    let answer = world.revoke_keys(&json!({})).await;
    assert_eq!(answer.refusal(), (502, "azure-refused"), "{}", answer.text);
    assert!(
        answer.text.contains("AuthorizationFailed"),
        "{}",
        answer.text
    );
    world.may_revoke();
    world.azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap();
    let answer = world.revoke_keys(&json!({})).await;
    assert_eq!(answer.refusal(), (502, "azure-refused"), "{}", answer.text);
    assert!(answer.text.contains("ScopeLocked"), "{}", answer.text);
    assert_eq!(world.opens(&token).await, 200);
    world.azure.set_lock(LAKE, None).unwrap();
    assert_eq!(world.revoke_keys(&json!({})).await.status, 200);
    let told = [
        "intended", "refused", "intended", "refused", "intended", "done",
    ];
    assert_eq!(world.told().await, told);
    let flat = format!("/v1/admin/accounts/{FLAT}/revoke-user-delegation-keys");
    let answer = world
        .send(world.post(&flat, &world.operator(), &json!({})))
        .await;
    assert_eq!(answer.refusal(), (409, "resource-id-missing"));
    world.stop().await;
}

#[tokio::test]
async fn a_broker_that_stops_waits_for_what_a_client_left_behind() {
    let world = World::start().await;
    world.revocable().await;
    let slow = Fault::Delay(Duration::from_millis(1_000));
    let place = Endpoint::ArmRevokeDelegationKeys;
    world.azure.set_fault(place, Some(slow));
    let hasty = world.post(REVOKE, &world.operator(), &json!({}));
    let gone = hasty.timeout(Duration::from_millis(300)).send().await;
    assert!(gone.unwrap_err().is_timeout());
    assert_eq!(world.azure.calls(place), 1);
    let remains = world.stop_broker().await;
    let rows = sas_broker::ports::JournalReader::rows(&remains.store().await, None, 100)
        .await
        .unwrap();
    let outcomes: Vec<Value> = rows
        .iter()
        .filter(|row| row.kind == "delegation_keys_revoked")
        .map(|row| serde_json::from_slice::<Value>(&row.body).unwrap()["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["intended", "done"]);
    remains.stop().await;
}
