//! The simulated ARM over its socket, with plain requests. That Azure's own client agrees is shown
//! by `tests/thirdparty/test_simulator.py`.

use std::time::Duration as Wait;

use sas_broker::simulator::{ArmRole, Effect, Endpoint, Fault, KeySlot, Lock, Seen, TokenSpec};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;

const VERSION: &str = "2025-06-01";

/// Status and JSON of an answer; nothing for an empty body.
async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    read_answer(request.send().await.unwrap()).await
}

async fn read_answer(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or(""))
}

impl World {
    fn arm_token(&self) -> String {
        let audience = "https://management.azure.com/";
        self.azure
            .mint(&TokenSpec::application(TENANT, BROKER, audience))
    }

    fn arm_url(&self, action: &str) -> String {
        let id = self.azure.resource_id("acct1").unwrap();
        let base = self.azure.arm_url();
        format!("{}{action}?api-version={VERSION}", base.join(&id).unwrap())
    }

    async fn account(&self) -> (u16, Value) {
        let request = self.http.get(self.arm_url(""));
        read(request.bearer_auth(self.arm_token())).await
    }

    fn post(&self, action: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(self.arm_url(action));
        request.bearer_auth(self.arm_token())
    }

    async fn list_keys(&self) -> (u16, Value) {
        read(self.post("/listKeys")).await
    }

    fn regenerate(&self, name: &str) -> reqwest::RequestBuilder {
        let body = json!({ "keyName": name }).to_string();
        self.post("/regenerateKey").body(body)
    }

    fn live(&self, slot: KeySlot) -> String {
        let key = self.azure.account_key("acct1", slot).unwrap();
        key.value.expose_secret().to_owned()
    }

    fn give(&self, roles: &[ArmRole]) {
        self.azure.remove_arm_roles("acct1", BROKER).unwrap();
        for role in roles {
            self.azure.assign_arm_role("acct1", BROKER, *role).unwrap();
        }
    }
}

#[actix_web::test]
async fn an_account_is_read_and_its_keys_are_listed_and_regenerated() {
    let world = World::start().await;
    world.give(&[ArmRole::Reader, ArmRole::KeyOperator]);
    let (status, account) = world.account().await;
    assert_eq!(status, 200);
    assert_eq!(account["id"], world.azure.resource_id("acct1").unwrap());
    assert_eq!(account["type"], "Microsoft.Storage/storageAccounts");
    let properties = &account["properties"];
    let blob = format!("{}/", world.azure.blob_endpoint("acct1"));
    assert_eq!(properties["primaryEndpoints"]["blob"], blob);
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert!(properties.get("keyCreationTime").is_none());
    assert!(properties.get("allowSharedKeyAccess").is_none());

    let (status, listed) = world.list_keys().await;
    assert_eq!(status, 200);
    assert_eq!(listed["keys"][0]["value"], world.live(KeySlot::Key1));
    assert_eq!(listed["keys"][0]["permissions"], "FULL");
    assert!(listed["keys"][1].get("creationTime").is_none());

    let (status, regenerated) = read(world.regenerate("KEY2")).await;
    assert_eq!(status, 200);
    assert_eq!(regenerated["keys"][0]["value"], listed["keys"][0]["value"]);
    assert_ne!(regenerated["keys"][1]["value"], listed["keys"][1]["value"]);
    assert_eq!(regenerated["keys"][1]["value"], world.live(KeySlot::Key2));
    let created = "2031-03-04T12:00:00.0000000Z";
    assert_eq!(regenerated["keys"][1]["creationTime"], created);
    let (_, account) = world.account().await;
    let times = json!({ "key1": null, "key2": created });
    assert_eq!(account["properties"]["keyCreationTime"], times);

    world
        .azure
        .set_allow_shared_key_access("acct1", Some(false))
        .unwrap();
    let (_, account) = world.account().await;
    assert_eq!(account["properties"]["allowSharedKeyAccess"], false);
    let bad = read(world.regenerate("key3")).await;
    assert_eq!(code(&bad), (400, "InvalidValuesForRequestParameters"));
    let bad = read(world.post("/regenerateKey").body("{")).await;
    assert_eq!(code(&bad), (400, "InvalidRequestContent"));
}

#[actix_web::test]
async fn each_role_holds_its_own_actions() {
    let world = World::start().await;
    let cases = [
        (ArmRole::Owner, [200, 200, 200, 200]),
        (ArmRole::Contributor, [200, 200, 200, 200]),
        (ArmRole::Reader, [200, 403, 403, 403]),
        (ArmRole::KeyOperator, [403, 200, 200, 403]),
        (ArmRole::DelegationKeyRevoker, [403, 403, 403, 200]),
    ];
    for (role, expected) in cases {
        world.give(&[role]);
        let answers = [
            world.account().await,
            world.list_keys().await,
            read(world.regenerate("key1")).await,
            read(world.post("/revokeUserDelegationKeys")).await,
        ];
        assert_eq!(
            answers.each_ref().map(|answer| answer.0),
            expected,
            "{role:?}"
        );
        let refused = answers.iter().filter(|answer| answer.0 == 403);
        for answer in refused {
            assert_eq!(code(answer).1, "AuthorizationFailed");
        }
    }
}

#[actix_web::test]
async fn only_a_live_token_for_arm_of_the_subscriptions_tenant_is_accepted() {
    let world = World::start().await;
    world.give(&[ArmRole::Owner]);
    let answer = world.http.get(world.arm_url("")).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    let expected = format!(
        "Bearer authorization_uri=\"{}{TENANT}\", error=\"invalid_token\"",
        world.azure.authority()
    );
    assert!(challenge.starts_with(&expected), "{challenge}");
    assert_eq!(
        code(&read_answer(answer).await),
        (401, "AuthenticationFailed")
    );
    let ask = async |token: TokenSpec| {
        let token = world.azure.mint(&token);
        read(world.http.get(world.arm_url("")).bearer_auth(token)).await
    };
    for (audience, status) in [
        ("https://management.azure.com", 200),
        ("https://management.core.windows.net/", 200),
        ("https://storage.azure.com/", 401),
        ("https://vault.azure.net", 401),
    ] {
        let answer = ask(TokenSpec::application(TENANT, BROKER, audience)).await;
        assert_eq!(answer.0, status, "{audience}");
    }
    let audience = "https://management.azure.com/";
    let foreign = ask(TokenSpec::application(OTHER_TENANT, BROKER, audience)).await;
    assert_eq!(code(&foreign), (401, "InvalidAuthenticationTokenTenant"));
    let token = world.arm_token();
    world.advance(Duration::hours(2));
    let late = world.http.get(world.arm_url("")).bearer_auth(token);
    assert_eq!(code(&read(late).await), (401, "ExpiredAuthenticationToken"));
}

#[actix_web::test]
async fn what_is_not_there_is_named_and_versions_are_known_or_not() {
    let world = World::start().await;
    world.give(&[ArmRole::Owner]);
    let id = world.azure.resource_id("acct1").unwrap();
    let base = world.azure.arm_url();
    let get = async |path: &str| {
        let request = world.http.get(base.join(path).unwrap());
        read(request.bearer_auth(world.arm_token())).await
    };
    let version = format!("?api-version={VERSION}");
    let with = |path: &str| format!("{path}{version}");
    let (no_version, unknown) = ("MissingApiVersionParameter", "NoRegisteredProviderFound");
    let upper = id
        .to_uppercase()
        .replace("/SUBSCRIPTIONS", "/Subscriptions");
    for (path, expected) in [
        (id.clone(), (400, no_version)),
        (format!("{id}?api-version=2031-01-01"), (400, unknown)),
        (
            with(&id.replace("05b5", "0bad")),
            (404, "SubscriptionNotFound"),
        ),
        (
            with(&id.replace("/data/", "/none/")),
            (404, "ResourceGroupNotFound"),
        ),
        (
            with(&id.replace("acct1", "acct9")),
            (404, "ResourceNotFound"),
        ),
        (
            with(&format!("{id}/blobServices/default")),
            (404, "InvalidResourceType"),
        ),
        (with(&upper), (200, "")),
    ] {
        assert_eq!(code(&get(&path).await), expected, "{path}");
    }
    world.azure.set_arm_api_versions(&["2019-06-01"]);
    assert_eq!(code(&world.account().await), (400, unknown));
    world.azure.set_arm_api_versions(&[VERSION]);
    world.azure.delete_account("acct1").unwrap();
    assert_eq!(code(&get(&with(&id)).await), (404, "ResourceNotFound"));
}

#[actix_web::test]
async fn a_lock_stops_every_post_before_another_operation_does() {
    let world = World::start().await;
    world.give(&[ArmRole::Owner]);
    let azure = &world.azure;
    azure.set_in_progress("acct1", true).unwrap();
    let in_progress = (409, "StorageAccountOperationInProgress");
    assert_eq!(code(&world.list_keys().await), in_progress);
    azure.set_lock("acct1", Some(Lock::ReadOnly)).unwrap();
    assert_eq!(code(&world.list_keys().await), (409, "ScopeLocked"));
    assert_eq!(world.account().await.0, 200);
    azure.set_in_progress("acct1", false).unwrap();
    azure.set_lock("acct1", Some(Lock::CanNotDelete)).unwrap();
    assert_eq!(world.list_keys().await.0, 200);
}

#[actix_web::test]
async fn accounts_are_listed_as_far_as_the_caller_may_read_them() {
    let world = World::start().await;
    world.give(&[ArmRole::Reader]);
    let id = world.azure.resource_id("acct1").unwrap();
    let group = id.rsplit_once('/').unwrap().0;
    let subscription = "/subscriptions/00000000-0000-4000-8000-0000000005b5/providers/\
                        Microsoft.Storage/storageAccounts";
    for path in [group, subscription] {
        let url = world.azure.arm_url().join(path).unwrap();
        let request = world.http.get(format!("{url}?api-version={VERSION}"));
        let (status, list) = read(request.bearer_auth(world.arm_token())).await;
        assert_eq!(status, 200);
        assert_eq!(list["value"].as_array().unwrap().len(), 1, "{path}");
        assert_eq!(list["value"][0]["name"], "acct1");
    }
}

#[actix_web::test]
async fn revocation_kills_delegation_keys_and_no_account_key() {
    let world = World::start().await;
    world.give(&[ArmRole::DelegationKeyRevoker]);
    world.azure.put_blob("acct1", "raw", "x", "1").unwrap();
    let key = world.key("acct1", 1).await;
    let before = world.live(KeySlot::Key1);
    let expiry = world.now() + Duration::minutes(30);
    let sas = azure_storage_sas::SasBuilder::new("acct1", &key, expiry)
        .unwrap()
        .blob("raw", "x")
        .read()
        .build();
    let url = format!("{}/raw/x?{sas}", world.azure.blob_endpoint("acct1"));
    assert_eq!(world.get(&url).await.0, 200);
    world.azure.regenerate_key("acct1", KeySlot::Key1).unwrap();
    world.azure.regenerate_key("acct1", KeySlot::Key2).unwrap();
    assert_ne!(world.live(KeySlot::Key1), before);
    assert_eq!(
        world.get(&url).await.0,
        200,
        "a delegation key needs no account key"
    );
    let before = world.live(KeySlot::Key1);
    let answer = world
        .post("/revokeUserDelegationKeys")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(world.get(&url).await, refused(403, "AuthenticationFailed"));
    assert_eq!(world.live(KeySlot::Key1), before);
}

#[actix_web::test]
async fn throttling_speaks_for_the_provider_or_for_the_subscription() {
    let world = World::start().await;
    world.give(&[ArmRole::KeyOperator]);
    let retry_after_seconds = Some(17);
    let provider = Fault::Throttled {
        retry_after_seconds,
    };
    let subscription = Fault::SubscriptionThrottled {
        retry_after_seconds,
    };
    world
        .azure
        .fail_calls(Endpoint::ArmListKeys, 0..1, provider);
    world
        .azure
        .fail_calls(Endpoint::ArmListKeys, 1..2, subscription);
    let answer = world.post("/listKeys").send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "17");
    assert!(answer.headers().contains_key("x-ms-correlation-request-id"));
    assert!(
        answer
            .headers()
            .contains_key("x-ms-ratelimit-remaining-subscription-writes")
    );
    assert_eq!(answer.status(), 429);
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "TooManyRequests");
    let answer = world.list_keys().await;
    assert_eq!(code(&answer), (429, "SubscriptionRequestsThrottled"));
    assert_eq!(world.list_keys().await.0, 200);
    assert_eq!(world.azure.calls(Endpoint::ArmListKeys), 3);
}

#[actix_web::test]
async fn an_answer_can_be_lost_before_after_and_long_before_its_effect() {
    let world = World::start().await;
    world.give(&[ArmRole::KeyOperator]);
    let first = world.live(KeySlot::Key1);
    let lose = |effect, seen| {
        let fault = Fault::Lost { effect, seen };
        world
            .azure
            .fail_calls(Endpoint::ArmRegenerateKey, 0..1, fault);
    };
    lose(Effect::Never, Seen::Cut);
    let error = world.regenerate("key1").send().await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
    assert_eq!(world.live(KeySlot::Key1), first);

    lose(Effect::Now, Seen::Cut);
    world.regenerate("key1").send().await.unwrap_err();
    let second = world.live(KeySlot::Key1);
    assert_ne!(second, first);

    lose(Effect::Now, Seen::GatewayTimeout);
    assert_eq!(read(world.regenerate("key1")).await, (504, Value::Null));
    let third = world.live(KeySlot::Key1);
    assert_ne!(third, second);

    lose(Effect::Never, Seen::Silence);
    let patience = Wait::from_millis(200);
    let error = world
        .regenerate("key1")
        .timeout(patience)
        .send()
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(world.live(KeySlot::Key1), third);

    let later = world.now() + Duration::minutes(5);
    lose(Effect::At(later), Seen::Cut);
    world.regenerate("key1").send().await.unwrap_err();
    assert_eq!(world.live(KeySlot::Key1), third);
    // What was allowed when the call arrived is not asked again when it takes effect.
    world.give(&[]);
    world.advance(Duration::hours(3));
    let key = world.azure.account_key("acct1", KeySlot::Key1).unwrap();
    assert_ne!(key.value.expose_secret(), third);
    assert_eq!(key.created, Some(later));
    assert_eq!(world.azure.calls(Endpoint::ArmRegenerateKey), 5);
    assert_eq!(
        code(&read(world.regenerate("key1")).await),
        (403, "AuthorizationFailed")
    );
}
