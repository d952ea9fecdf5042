//! The simulated vaults over their sockets: with Microsoft's Rust client where it has a call for
//! it, and with plain requests where the exact words matter.

use std::collections::{BTreeSet, HashMap};

use azure_core::error::ErrorKind;
use azure_security_keyvault_secrets::models::{
    SecretAttributes, SecretClientGetSecretOptions,
    SecretClientListSecretPropertiesVersionsOptions, SecretClientUpdateSecretPropertiesOptions,
    SetSecretParameters, UpdateSecretPropertiesParameters,
};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use futures_util::TryStreamExt as _;
use sas_broker::simulator::{
    Effect, Endpoint, Fault, NewSecret, Seen, TokenSpec, VaultRole, VaultRoleAssignment, VaultSpec,
};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use url::Url;

use super::*;

const VAULT: &str = "kv1";
const SECRET: &str = "sa-acct1";

/// A world with one vault, the broker its officer.
struct Scene {
    world: World,
    url: Url,
}

fn role(principal: Uuid, role: VaultRole, secret: Option<&str>) -> VaultRoleAssignment {
    VaultRoleAssignment {
        principal,
        role,
        secret: secret.map(String::from),
    }
}

impl Scene {
    async fn start() -> Self {
        Self::with(VaultSpec::default()).await
    }

    async fn with(spec: VaultSpec) -> Self {
        let world = World::start().await;
        let spec = VaultSpec {
            name: VAULT.into(),
            tenant_id: TENANT,
            role_assignments: vec![role(BROKER, VaultRole::SecretsOfficer, None)],
            ..spec
        };
        let url = world.azure.create_vault(spec).unwrap();
        Self { world, url }
    }

    /// Microsoft's client, signed in as the broker.
    fn client(&self) -> SecretClient {
        let options = SecretClientOptions {
            client_options: self.world.client_options(),
            verify_challenge_resource: Some(false),
            ..SecretClientOptions::default()
        };
        let credential = self.world.credential(BROKER_SECRET);
        SecretClient::new(self.url.as_str(), credential, Some(options)).unwrap()
    }

    fn token(&self, principal: Uuid) -> String {
        let audience = "https://vault.azure.net";
        self.world
            .azure
            .mint(&TokenSpec::application(TENANT, principal, audience))
    }

    /// A plain request of a principal; status, code and inner code.
    async fn call(&self, who: Uuid, method: &str, path: &str, body: &str) -> (u16, String) {
        let url = format!("{}{path}?api-version=7.6", self.url);
        let request = self.world.http.request(method.parse().unwrap(), url);
        let answer = request.bearer_auth(self.token(who)).body(body.to_owned());
        read(answer).await
    }

    fn put(&self, value: &str) -> String {
        let secret = NewSecret::of(value);
        self.world.azure.put_secret(VAULT, SECRET, secret).unwrap()
    }

    fn values(&self) -> Vec<String> {
        let versions = self.world.azure.secret_versions(VAULT, SECRET).unwrap();
        let values = versions.iter().map(|version| version.value.expose_secret());
        values.map(String::from).collect()
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (code, inner) = (
        text(&body["error"]["code"]),
        text(&body["error"]["innererror"]["code"]),
    );
    (status, format!("{code} {inner}").trim_end().to_owned())
}

fn version_option(version: Option<String>) -> Option<SecretClientGetSecretOptions<'static>> {
    Some(SecretClientGetSecretOptions {
        secret_version: version,
        ..SecretClientGetSecretOptions::default()
    })
}

/// Status and code of a refusal as the client reports it.
fn refusal<T>(answer: azure_core::Result<T>) -> (u16, String) {
    let error = answer.err().expect("the call was refused");
    match error.kind() {
        ErrorKind::HttpResponse {
            status, error_code, ..
        } => (u16::from(*status), error_code.clone().unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn the_official_client_writes_and_reads_versions() {
    let scene = Scene::start().await;
    let client = scene.client();
    let expires = START + Duration::days(60);
    let set = async |value: &str| {
        let new = SetSecretParameters {
            value: Some(value.into()),
            content_type: Some("text/plain".into()),
            secret_attributes: Some(SecretAttributes {
                expires: Some(expires),
                ..SecretAttributes::default()
            }),
            tags: Some(HashMap::from([("CredentialId".into(), value.into())])),
        };
        let answer = client.set_secret(SECRET, new.try_into().unwrap(), None);
        answer.await.unwrap().into_model().unwrap()
    };
    let (first, second) = (set("one").await, set("two").await);
    assert_eq!(scene.values(), ["one", "two"]);
    let get = async |name: &str, version: Option<String>| {
        let answer = client.get_secret(name, version_option(version)).await;
        answer.unwrap().into_model().unwrap()
    };
    let newest = get("SA-Acct1", None).await;
    assert_eq!(newest.value.as_deref(), Some("two"));
    assert_eq!(newest.id, second.id);
    let attributes = newest.attributes.unwrap();
    assert_eq!(attributes.expires, Some(expires));
    assert_eq!(attributes.created, Some(START));
    assert_eq!(attributes.recoverable_days, Some(90));
    let version = first.resource_id().unwrap().version;
    let read = get(SECRET, version).await;
    assert_eq!(read.value.as_deref(), Some("one"));
    assert_eq!(read.tags.unwrap()["CredentialId"], "one");
    assert_eq!(scene.world.azure.calls(Endpoint::VaultChallenge), 1);
}

#[actix_web::test]
async fn the_official_client_switches_a_version_off_and_still_finds_it_listed() {
    let scene = Scene::start().await;
    let client = scene.client();
    let (first, _) = (scene.put("one"), scene.put("two"));
    let off = UpdateSecretPropertiesParameters {
        secret_attributes: Some(SecretAttributes {
            enabled: Some(false),
            ..SecretAttributes::default()
        }),
        ..UpdateSecretPropertiesParameters::default()
    };
    let options = SecretClientUpdateSecretPropertiesOptions {
        secret_version: Some(first.clone()),
        ..SecretClientUpdateSecretPropertiesOptions::default()
    };
    scene.world.advance(Duration::seconds(5));
    let off = off.try_into().unwrap();
    let updated = client.update_secret_properties(SECRET, off, Some(options));
    let updated = updated.await.unwrap().into_model().unwrap();
    assert_eq!(updated.attributes.unwrap().updated, Some(scene.world.now()));
    let refused = client.get_secret(SECRET, version_option(Some(first.clone())));
    assert_eq!(refusal(refused.await), (403, "Forbidden".into()));
    let path = format!("secrets/{SECRET}/{first}");
    let refused = scene.call(BROKER, "GET", &path, "").await;
    assert_eq!(refused, (403, "Forbidden SecretDisabled".into()));
    let listed: Vec<_> = client
        .list_secret_properties_versions(SECRET, None)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let enabled = listed
        .iter()
        .map(|item| item.attributes.as_ref().unwrap().enabled == Some(true));
    assert_eq!(enabled.filter(|enabled| *enabled).count(), 1);
    assert_eq!(listed.len(), 2);
}

#[actix_web::test]
async fn a_list_comes_in_pages_and_shows_no_value() {
    let scene = Scene::start().await;
    let made: BTreeSet<String> = (0..60).map(|n| scene.put(&format!("canary-{n}"))).collect();
    let client = scene.client();
    let options = SecretClientListSecretPropertiesVersionsOptions {
        maxresults: Some(7),
        ..SecretClientListSecretPropertiesVersionsOptions::default()
    };
    for (options, pages) in [(None, 3), (Some(options), 9)] {
        let before = scene.world.azure.calls(Endpoint::VaultList);
        let listed: Vec<_> = client
            .list_secret_properties_versions(SECRET, options)
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let ids = listed
            .iter()
            .map(|item| item.resource_id().unwrap().version.unwrap());
        assert_eq!(ids.collect::<BTreeSet<_>>(), made);
        assert_eq!(scene.world.azure.calls(Endpoint::VaultList) - before, pages);
    }
    let url = format!("{}secrets/{SECRET}/versions?api-version=7.6", scene.url);
    let list = scene.world.http.get(&url).bearer_auth(scene.token(BROKER));
    let list = String::from_utf8(list.send().await.unwrap().bytes().await.unwrap().to_vec());
    assert!(!list.unwrap().contains("canary"));
    // Azure answers an empty list about a secret that is not there.
    let none: Vec<_> = client
        .list_secret_properties_versions("nothing", None)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(none.is_empty());
    let bad = format!("{url}&maxresults=26");
    let bad = scene.world.http.get(bad).bearer_auth(scene.token(BROKER));
    assert_eq!(read(bad).await, (400, "BadParameter".into()));
}

#[actix_web::test]
async fn a_deleted_secret_keeps_its_name_until_it_is_purged() {
    let scene = Scene::with(VaultSpec {
        deletion_takes: Duration::seconds(10),
        recovery_takes: Duration::seconds(20),
        ..VaultSpec::default()
    })
    .await;
    scene.put("one");
    let (secret, deleted) = (
        format!("secrets/{SECRET}"),
        format!("deletedsecrets/{SECRET}"),
    );
    let body = "{\"value\":\"two\"}";
    let conflict = |inner: &str| (409, format!("Conflict {inner}"));
    let not_found = (404, "SecretNotFound".to_owned());
    assert_eq!(scene.call(BROKER, "GET", &deleted, "").await, not_found);
    assert_eq!(scene.call(BROKER, "DELETE", &secret, "").await.0, 200);
    assert_eq!(scene.call(BROKER, "GET", &deleted, "").await, not_found);
    assert_eq!(
        scene.call(BROKER, "PUT", &secret, body).await,
        conflict("ObjectIsBeingDeleted")
    );
    scene.world.advance(Duration::seconds(10));
    assert_eq!(scene.call(BROKER, "GET", &deleted, "").await.0, 200);
    assert_eq!(scene.call(BROKER, "GET", &secret, "").await, not_found);
    let refused = scene.call(BROKER, "PUT", &secret, body).await;
    assert_eq!(refused, conflict("ObjectIsDeletedButRecoverable"));

    let recover = format!("{deleted}/recover");
    assert_eq!(scene.call(BROKER, "POST", &recover, "").await.0, 200);
    assert_eq!(scene.call(BROKER, "GET", &secret, "").await, not_found);
    assert_eq!(
        scene.call(BROKER, "PUT", &secret, body).await,
        conflict("ObjectIsBeingRecovered")
    );
    scene.world.advance(Duration::seconds(20));
    assert_eq!(scene.call(BROKER, "PUT", &secret, body).await.0, 200);
    assert_eq!(scene.values(), ["one", "two"]);

    scene.world.azure.delete_secret(VAULT, SECRET).unwrap();
    scene.world.advance(Duration::seconds(10));
    assert_eq!(scene.call(BROKER, "DELETE", &deleted, "").await.0, 204);
    assert_eq!(scene.call(BROKER, "PUT", &secret, body).await.0, 200);
    assert_eq!(scene.values(), ["two"]);
    scene.world.azure.delete_secret(VAULT, SECRET).unwrap();
    scene.world.advance(Duration::days(91));
    assert_eq!(scene.call(BROKER, "GET", &deleted, "").await, not_found);
}

#[actix_web::test]
async fn a_protected_vault_purges_nothing() {
    let scene = Scene::with(VaultSpec {
        purge_protection: true,
        ..VaultSpec::default()
    })
    .await;
    scene.put("one");
    scene.world.azure.delete_secret(VAULT, SECRET).unwrap();
    let purge = scene
        .call(BROKER, "DELETE", &format!("deletedsecrets/{SECRET}"), "")
        .await;
    assert_eq!(purge, (403, "Forbidden ForbiddenByPolicy".into()));
    scene.world.azure.recover_secret(VAULT, SECRET).unwrap();
    assert_eq!(scene.values(), ["one"]);
}

#[actix_web::test]
async fn the_challenge_names_the_tenant_and_only_its_tokens_open_the_vault() {
    let scene = Scene::start().await;
    scene.put("one");
    let url = format!("{}secrets/{SECRET}?api-version=7.6", scene.url);
    let answer = scene.world.http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let expected = format!(
        "Bearer authorization=\"{}{TENANT}\", resource=\"https://vault.azure.net\"",
        scene.world.azure.authority()
    );
    assert_eq!(answer.headers()["www-authenticate"], expected);
    for (tenant, audience, status) in [
        (TENANT, "https://vault.azure.net", 200),
        (TENANT, "https://vault.azure.net/", 200),
        (OTHER_TENANT, "https://vault.azure.net", 401),
        (TENANT, "https://management.azure.com/", 401),
    ] {
        let token = TokenSpec::application(tenant, BROKER, audience);
        let token = scene.world.azure.mint(&token);
        let answer = read(scene.world.http.get(&url).bearer_auth(token)).await;
        assert_eq!(answer.0, status, "{audience}");
    }
    for query in ["", "?api-version=6.0"] {
        let url = format!("{}secrets/{SECRET}{query}", scene.url);
        let answer = scene.world.http.get(url).bearer_auth(scene.token(BROKER));
        assert_eq!(read(answer).await, (400, "BadParameter".into()));
    }
}

#[actix_web::test]
async fn each_role_holds_its_own_actions_on_the_vault_or_on_one_secret() {
    let scene = Scene::start().await;
    scene.put("one");
    let azure = &scene.world.azure;
    let path = format!("secrets/{SECRET}");
    let cases = [
        (Some(VaultRole::SecretsOfficer), None, [200, 200, 200, 200]),
        (Some(VaultRole::SecretsUser), None, [200, 200, 200, 403]),
        (Some(VaultRole::Reader), None, [403, 200, 200, 403]),
        (
            Some(VaultRole::SecretsOfficer),
            Some("SA-ACCT1"),
            [200, 200, 403, 200],
        ),
        (
            Some(VaultRole::SecretsOfficer),
            Some("another"),
            [403, 403, 403, 403],
        ),
        (None, None, [403, 403, 403, 403]),
    ];
    for (given, secret, expected) in cases {
        azure.remove_vault_roles(VAULT, ADA).unwrap();
        if let Some(given) = given {
            azure
                .assign_vault_role(VAULT, role(ADA, given, secret))
                .unwrap();
        }
        let answers = [
            scene.call(ADA, "GET", &path, "").await,
            scene
                .call(ADA, "GET", &format!("{path}/versions"), "")
                .await,
            scene.call(ADA, "GET", "secrets", "").await,
            scene.call(ADA, "PUT", &path, "{\"value\":\"x\"}").await,
        ];
        assert_eq!(
            answers.each_ref().map(|answer| answer.0),
            expected,
            "{given:?} {secret:?}"
        );
        let refused = answers.iter().filter(|answer| answer.0 == 403);
        for (_, code) in refused {
            assert_eq!(code, "Forbidden ForbiddenByRbac");
        }
    }
    azure.set_vault_firewall(VAULT, true).unwrap();
    let answer = scene.call(BROKER, "GET", &path, "").await;
    assert_eq!(answer, (403, "Forbidden ForbiddenByFirewall".into()));
}

#[actix_web::test]
async fn faults_strike_the_call_itself_and_not_its_challenge() {
    let scene = Scene::start().await;
    let azure = &scene.world.azure;
    let throttled = Fault::Throttled {
        retry_after_seconds: Some(3),
    };
    let lost = |effect| Fault::Lost {
        effect,
        seen: Seen::GatewayTimeout,
    };
    let later = START + Duration::minutes(1);
    azure.fail_calls(Endpoint::VaultSet, 0..1, throttled);
    azure.fail_calls(Endpoint::VaultSet, 1..2, lost(Effect::Now));
    azure.fail_calls(Endpoint::VaultSet, 2..3, lost(Effect::At(later)));
    let path = format!("secrets/{SECRET}");
    let put = |value: &str| format!("{{\"value\":\"{value}\"}}");
    let answer = scene.call(BROKER, "PUT", &path, &put("a")).await;
    assert_eq!(answer, (429, "Throttled".into()));
    assert!(scene.values().is_empty());
    assert_eq!(scene.call(BROKER, "PUT", &path, &put("b")).await.0, 504);
    assert_eq!(scene.values(), ["b"]);
    assert_eq!(scene.call(BROKER, "PUT", &path, &put("c")).await.0, 504);
    assert_eq!(scene.call(BROKER, "PUT", &path, &put("d")).await.0, 200);
    assert_eq!(scene.values(), ["b", "d"]);
    scene.world.advance(Duration::minutes(2));
    assert_eq!(scene.values(), ["b", "d", "c"]);
    let versions = azure.secret_versions(VAULT, SECRET).unwrap();
    assert_eq!(versions[2].created, later.unix_timestamp());
    assert_eq!(azure.calls(Endpoint::VaultSet), 4);
}

#[actix_web::test]
async fn vaults_are_apart() {
    let scene = Scene::start().await;
    let other = VaultSpec {
        name: "kv2".into(),
        tenant_id: TENANT,
        ..VaultSpec::default()
    };
    let url = scene.world.azure.create_vault(other.clone()).unwrap();
    assert!(scene.world.azure.create_vault(other).is_err());
    assert_ne!(url, scene.url);
    assert_eq!(scene.world.azure.vault_url("kv2"), Ok(url.clone()));
    scene.put("one");
    let answer = scene
        .world
        .http
        .get(format!("{url}secrets/{SECRET}?api-version=7.6"));
    let answer = read(answer.bearer_auth(scene.token(BROKER))).await;
    assert_eq!(answer, (403, "Forbidden ForbiddenByRbac".into()));
    let World { azure, http, .. } = scene.world;
    azure.stop().await;
    // A worker that is just ending may answer once more on a kept connection; then nobody is there.
    for _ in 0..200 {
        if http.get(url.clone()).send().await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the vault still answers");
}
