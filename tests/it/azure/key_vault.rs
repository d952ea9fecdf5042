//! The adapter to Key Vault against a server that plays a script.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sas_broker::{
    azure::key_vault::KeyVault,
    domain::{
        account::Account,
        ids::{RotationId, SecretVersion},
        resource_id::ResourceId,
        rotation::{
            CreationTime, CreationTimes, KeyName,
            observation::{Origin, Published, SecretFacts, VersionFacts},
        },
    },
    ports::{NewVersion, OutsideError, Vault},
};
use serde_json::{Value, json};
use time::macros::datetime;
use url::Url;
use uuid::Uuid;

use super::{
    NOW, SharedClock,
    rotation::{
        CANARY, Named, account, bearer, cloud, credentials, error, is_unclear, policy, resource_id,
    },
    script::{Asked, Script, Turn, VAULT_HOST},
};
use crate::world::logs;

const AUDIENCE: &str = "https://vault.azure.net";

/// Asks who does not sign in for a token of an audience, as a vault does; then plays the rest.
fn challenging(
    audience: &'static str,
    play: impl Fn(&Asked) -> Turn + Send + Sync + 'static,
) -> Script {
    Script::start(move |asked| {
        if asked.header("authorization").is_some() {
            return play(asked);
        }
        let challenge = format!(
            r#"Bearer authorization="https://login.microsoftonline.com/t", resource="{audience}""#
        );
        Turn::empty(401).with("www-authenticate", &challenge)
    })
}

fn vault_of(script: &Script, clock: &Arc<SharedClock>) -> (KeyVault, Arc<Named>) {
    let (credentials, rotation) = credentials();
    let (client, cloud) = (script.client(), cloud(script));
    let vault = KeyVault::new(credentials, client, cloud, None, clock.clone());
    (vault, rotation)
}

fn vault(script: &Script) -> KeyVault {
    vault_of(script, &SharedClock::at(NOW)).0
}

fn version(n: u8) -> SecretVersion {
    format!("{n:032x}").parse().unwrap()
}

fn id(n: u8) -> String {
    format!("https://kv1.vault.azure.net/secrets/sa-acct1/{:032X}", n)
}

fn listed(n: u8, tags: &BTreeMap<&'static str, String>) -> Value {
    json!({
        "id": id(n),
        "attributes": { "created": 1_700_000_000 + i64::from(n), "enabled": n != 1, "exp": 1 },
        "contentType": "text/plain",
        "tags": tags,
    })
}

fn published() -> (Published, BTreeMap<&'static str, String>) {
    let created = CreationTimes {
        key1: None,
        key2: Some(CreationTime::new("2026-11-23T10:00:00Z")),
    };
    let published = Published::now(KeyName::Key2, RotationId(Uuid::from_u128(7)), &created);
    let account: ResourceId = resource_id("acct1").parse().unwrap();
    let tags = published.tags(&account, 60);
    (published, tags)
}

fn new_version() -> NewVersion {
    NewVersion {
        value: CANARY.into(),
        content_type: "text/plain",
        expires: datetime!(2027-01-01 0:00 UTC),
        tags: published().1,
    }
}

#[actix_web::test]
async fn a_look_reads_every_page_and_no_value() {
    let (published, tags) = published();
    let script = challenging(AUDIENCE, move |asked| {
        let next = "/secrets/sa-acct1/versions?api-version=2025-07-01&$skiptoken=2";
        Turn::json(
            200,
            &match asked.target.contains("skiptoken") {
                false => json!({ "value": [listed(2, &tags)], "nextLink": next }),
                true => json!({ "value": [listed(1, &BTreeMap::new())], "nextLink": null }),
            },
        )
    });
    let (vault, rotation) = vault_of(&script, &SharedClock::at(NOW));
    let found = vault.look(&account(&script.url)).await;
    let facts = |n: u8, origin| VersionFacts {
        version: version(n),
        created: 1_700_000_000 + i64::from(n),
        enabled: n != 1,
        origin,
    };
    let expected = vec![facts(2, Origin::Ours(published)), facts(1, Origin::Foreign)];
    assert_eq!(found, Ok(SecretFacts::Versions(expected)));

    assert_eq!(rotation.scopes(), [format!("{AUDIENCE}/.default")]);
    let token = format!(
        "Bearer {}",
        bearer("rotation", "https://vault.azure.net/.default")
    );
    let asked = script.signed_in();
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!(
            (asked.method.as_str(), asked.path()),
            ("GET", "/secrets/sa-acct1/versions")
        );
        assert!(
            asked.target.contains("api-version=2025-07-01"),
            "{}",
            asked.target
        );
        assert_eq!(asked.header("authorization"), Some(token.as_str()));
    }
}

#[actix_web::test]
async fn a_secret_without_versions_is_absent_or_deleted() {
    let empty = || Turn::json(200, &json!({ "value": [], "nextLink": null }));
    let missing = || Turn::json(404, &error("SecretNotFound"));
    let forbidden = || Turn::json(403, &error("Forbidden"));
    let deleted = || Turn::json(200, &json!({ "recoveryId": "x", "value": CANARY }));
    let rows = [
        (empty(), missing(), SecretFacts::Absent),
        (missing(), missing(), SecretFacts::Absent),
        (empty(), deleted(), SecretFacts::Deleted),
        (missing(), deleted(), SecretFacts::Deleted),
        (empty(), forbidden(), SecretFacts::Absent),
    ];
    for (list, of_deleted, expected) in rows {
        let script = challenging(AUDIENCE, move |asked| match asked.path() {
            "/secrets/sa-acct1/versions" => list.clone(),
            "/deletedsecrets/sa-acct1" => of_deleted.clone(),
            _ => Turn::empty(500),
        });
        let found = vault(&script).look(&account(&script.url)).await;
        assert_eq!(found, Ok(expected));
    }
    for (list, of_deleted) in [(empty(), Turn::HangUp), (forbidden(), missing())] {
        let script = challenging(AUDIENCE, move |asked| match asked.path() {
            "/secrets/sa-acct1/versions" => list.clone(),
            _ => of_deleted.clone(),
        });
        let found = vault(&script).look(&account(&script.url)).await;
        assert!(found.is_err(), "nothing is known: {found:?}");
    }
}

#[actix_web::test]
async fn a_list_that_may_lack_the_newest_version_is_an_error() {
    let (_, tags) = published();
    let next = "/secrets/sa-acct1/versions?api-version=2025-07-01&$skiptoken=x";
    let page: Vec<Value> = (0..25).map(|n| listed(n, &tags)).collect();
    for (page, pages_max) in [(page, 41), (vec![], 100)] {
        let body = json!({ "value": page, "nextLink": next });
        let script = challenging(AUDIENCE, move |_| Turn::json(200, &body));
        let found = vault(&script).look(&account(&script.url)).await;
        assert!(
            matches!(found, Err(OutsideError::Misconfigured(_))),
            "{found:?}"
        );
        assert_eq!(script.signed_in().len(), pages_max);
    }
    let no_time = json!({ "value": [{ "id": id(1), "attributes": { "enabled": true } }] });
    let no_id = json!({ "value": [{ "attributes": { "enabled": true, "created": 1 } }] });
    for body in [no_time, no_id] {
        let script = challenging(AUDIENCE, move |_| Turn::json(200, &body));
        let found = vault(&script).look(&account(&script.url)).await;
        assert!(
            matches!(found, Err(OutsideError::Unavailable(_))),
            "{found:?}"
        );
    }
}

#[actix_web::test]
async fn a_next_page_elsewhere_is_not_fetched() {
    let elsewhere = Script::start(|_| Turn::json(200, &json!({ "value": [] })));
    let next = elsewhere.url.join("/secrets/sa-acct1/versions").unwrap();
    let body = json!({ "value": [], "nextLink": next });
    let script = challenging(AUDIENCE, move |_| Turn::json(200, &body));
    let found = vault(&script).look(&account(&script.url)).await;
    assert!(
        matches!(found, Err(OutsideError::Unavailable(_))),
        "{found:?}"
    );
    assert!(elsewhere.asked().is_empty());
}

#[actix_web::test]
async fn a_publication_is_one_put_of_the_whole_version() {
    let made = json!({ "id": id(9), "value": CANARY, "attributes": {} });
    let script = challenging(AUDIENCE, move |_| Turn::json(200, &made));
    let done = vault(&script)
        .publish(&account(&script.url), new_version())
        .await;
    assert_eq!(done, Ok(version(9)));
    let [challenged, sent] = &script.asked()[..] else {
        panic!("a challenge and one PUT");
    };
    assert_eq!(
        challenged.body, "",
        "no value goes out before the token is there"
    );
    let target = "/secrets/sa-acct1?api-version=2025-07-01";
    assert_eq!(
        (sent.method.as_str(), sent.target.as_str()),
        ("PUT", target)
    );
    let expected = json!({
        "value": CANARY,
        "contentType": "text/plain",
        "attributes": { "enabled": true, "exp": 1_798_761_600 },
        "tags": published().1,
    });
    assert_eq!(sent.json(), expected);
}

#[actix_web::test]
async fn a_mutation_is_sent_once_whatever_becomes_of_it() {
    let unclear = [
        Turn::empty(500),
        Turn::json(502, &error("BadGateway")),
        Turn::empty(503),
        Turn::empty(503).with("retry-after", "1"),
        Turn::empty(504),
        Turn::HangUp,
        Turn::Stall,
        Turn::BreakOff,
    ];
    for turn in unclear {
        let played = turn.clone();
        let script = challenging(AUDIENCE, move |_| played.clone());
        let account = account(&script.url);
        let done = vault(&script).publish(&account, new_version()).await;
        assert!(is_unclear(&done), "publish, {turn:?}: {done:?}");
        let done = vault(&script)
            .set_enabled(&account, &version(1), false)
            .await;
        assert!(is_unclear(&done), "set_enabled, {turn:?}: {done:?}");
        let done = vault(&script).recover(&account).await;
        assert!(is_unclear(&done), "recover, {turn:?}: {done:?}");
        assert_eq!(script.signed_in().len(), 3, "{turn:?}");
    }
    for body in [
        json!({}),
        json!({ "id": "https://kv1.vault.azure.net/secrets/sa-acct1" }),
    ] {
        let script = challenging(AUDIENCE, move |_| Turn::json(200, &body));
        let done = vault(&script)
            .publish(&account(&script.url), new_version())
            .await;
        assert!(is_unclear(&done), "{done:?}");
    }
}

#[actix_web::test]
async fn what_the_vault_refuses_did_not_take_place() {
    let inner = |code: &str, inner: &str| json!({ "error": { "code": code, "message": CANARY, "innererror": { "code": inner } } });
    let deleted = "locked: the secret is deleted and can be recovered: \
                   409 Conflict (ObjectIsDeletedButRecoverable)";
    let rows = [
        (
            409,
            inner("Conflict", "ObjectIsDeletedButRecoverable"),
            deleted,
        ),
        (
            409,
            inner("Conflict", "ObjectIsBeingRecovered"),
            "busy: 409 Conflict (ObjectIsBeingRecovered)",
        ),
        (
            403,
            inner("Forbidden", "ForbiddenByRbac"),
            "refused: 403 Forbidden (ForbiddenByRbac)",
        ),
        (
            403,
            inner("Forbidden", "ForbiddenByFirewall"),
            "refused: 403 Forbidden (ForbiddenByFirewall)",
        ),
        (429, error("Throttled"), "throttled"),
        (400, error("BadParameter"), "unavailable: 400 BadParameter"),
    ];
    for (status, body, expected) in rows {
        let script = challenging(AUDIENCE, move |_| Turn::json(status, &body));
        let done = vault(&script)
            .publish(&account(&script.url), new_version())
            .await;
        assert_eq!(done.unwrap_err().to_string(), expected);
        assert_eq!(script.signed_in().len(), 1, "{expected}");
    }
}

#[actix_web::test]
async fn a_version_is_switched_and_a_secret_recovered_by_what_azure_documents() {
    let script = challenging(AUDIENCE, |_| Turn::json(200, &json!({ "id": id(3) })));
    let (vault, account) = (vault(&script), account(&script.url));
    vault
        .set_enabled(&account, &version(3), false)
        .await
        .unwrap();
    vault.recover(&account).await.unwrap();
    let [switched, recovered] = &script.signed_in()[..] else {
        panic!("two calls");
    };
    let path = format!("/secrets/sa-acct1/{}", version(3));
    assert_eq!(
        (switched.method.as_str(), switched.path()),
        ("PATCH", path.as_str())
    );
    assert_eq!(
        switched.json(),
        json!({ "attributes": { "enabled": false } })
    );
    let path = "/deletedsecrets/sa-acct1/recover";
    assert_eq!(
        (recovered.method.as_str(), recovered.path()),
        ("POST", path)
    );
}

#[actix_web::test]
async fn a_secret_that_is_recovered_already_needs_nothing() {
    let inner = json!({ "error": {
        "code": "Conflict", "innererror": { "code": "ObjectIsBeingRecovered" },
    } });
    let rows = [(404, error("SecretNotFound"), true), (409, inner, true)];
    for (status, body, fine) in rows.into_iter().chain([(409, error("Conflict"), false)]) {
        let script = challenging(AUDIENCE, move |_| Turn::json(status, &body));
        let done = vault(&script).recover(&account(&script.url)).await;
        assert_eq!(done.is_ok(), fine, "{done:?}");
    }
}

#[actix_web::test]
async fn a_throttled_vault_is_left_alone_for_as_long_as_azure_says() {
    let answers = Mutex::new(vec![Turn::empty(429).with("retry-after", "20")]);
    let script = challenging(AUDIENCE, move |_| {
        let next = answers.lock().unwrap().pop();
        next.unwrap_or_else(|| Turn::json(200, &json!({ "id": id(1) })))
    });
    let clock = SharedClock::at(NOW);
    let (vault, _) = vault_of(&script, &clock);
    let account = account(&script.url);
    let throttled = |seconds| OutsideError::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
    };
    let refused = vault.publish(&account, new_version()).await;
    assert_eq!(refused, Err(throttled(20)));
    let sent = script.asked().len();
    clock.set(NOW + time::Duration::seconds(5));
    assert_eq!(vault.look(&account).await, Err(throttled(15)));
    assert_eq!(vault.recover(&account).await, Err(throttled(15)));
    assert_eq!(script.asked().len(), sent, "nothing is sent meanwhile");
    clock.set(NOW + time::Duration::seconds(20));
    assert_eq!(vault.recover(&account).await, Ok(()));
}

#[actix_web::test]
async fn a_vault_may_ask_for_a_token_of_its_own_audience_only() {
    let rows = [
        (AUDIENCE, true),
        ("https://graph.microsoft.com", false),
        ("https://azure.net", false),
    ];
    let at_cloud: Url = format!("https://{VAULT_HOST}").parse().unwrap();
    for (audience, fine) in rows {
        let script = challenging(audience, |_| Turn::json(200, &json!({ "id": id(1) })));
        let (vault, rotation) = vault_of(&script, &SharedClock::at(NOW));
        for url in [at_cloud.clone(), script.url.clone()] {
            let account = Account {
                rotation: Some(policy(&url)),
                ..account(&script.url)
            };
            let done = vault.publish(&account, new_version()).await;
            assert_eq!(done.is_ok(), fine, "{audience} at {url}: {done:?}");
            assert!(!is_unclear(&done));
        }
        assert_eq!(rotation.scopes().is_empty(), !fine, "{audience}");
        assert_eq!(script.signed_in().is_empty(), !fine, "{audience}");
    }
    // A custom cloud without a suffix has no audience of its own: the allow-list vouches alone.
    let script = challenging("https://vault.corp.example", |_| {
        Turn::json(200, &json!({ "id": id(1) }))
    });
    let (credentials, _) = credentials();
    let mut cloud = cloud(&script);
    cloud.vault_suffix = None;
    let clock = SharedClock::at(NOW);
    let vault = KeyVault::new(credentials, script.client(), cloud, None, clock);
    let done = vault.publish(&account(&script.url), new_version()).await;
    assert_eq!(done, Ok(version(1)));
}

#[actix_web::test]
async fn the_brokers_bearer_goes_to_no_vault_that_the_configuration_does_not_allow() {
    let script = challenging(AUDIENCE, |_| Turn::empty(200));
    let elsewhere = challenging(AUDIENCE, |_| Turn::empty(200));
    let whole = account(&script.url);
    let unmanaged = Account {
        rotation: None,
        ..whole.clone()
    };
    let stranger = Account {
        management_identity: Some("stranger".parse().unwrap()),
        ..whole.clone()
    };
    let foreign = Account {
        rotation: Some(policy(&elsewhere.url)),
        ..whole
    };
    let (vault, rotation) = vault_of(&script, &SharedClock::at(NOW));
    for account in [unmanaged, stranger, foreign] {
        let done = vault.publish(&account, new_version()).await;
        assert!(
            matches!(done, Err(OutsideError::Misconfigured(_))),
            "{done:?}"
        );
    }
    assert!(script.asked().is_empty() && elsewhere.asked().is_empty());
    assert!(rotation.scopes().is_empty());
}

#[actix_web::test]
async fn tokens_of_two_credentials_never_mix() {
    let script = challenging(AUDIENCE, |_| Turn::json(200, &json!({ "id": id(1) })));
    let vault = vault(&script);
    let one = account(&script.url);
    let two = Account {
        management_identity: None,
        ..one.clone()
    };
    for account in [&one, &two, &one, &two] {
        vault.recover(account).await.unwrap();
    }
    let asked = script.signed_in();
    let tokens: Vec<&str> = asked
        .iter()
        .map(|asked| asked.header("authorization").unwrap())
        .collect();
    let scope = format!("{AUDIENCE}/.default");
    let names = ["rotation", "blob", "rotation", "blob"];
    assert_eq!(
        tokens,
        names.map(|name| format!("Bearer {}", bearer(name, &scope)))
    );
}

#[actix_web::test]
async fn a_published_value_is_told_to_the_vault_alone() {
    let listening = logs::listen();
    let mut told = String::new();
    let echo = json!({ "id": id(9), "value": CANARY });
    let answers = [
        Turn::json(200, &echo),
        Turn::json(500, &error(CANARY)),
        Turn::json(
            409,
            &json!({ "error": { "code": "Conflict", "innererror": { "code": CANARY } } }),
        ),
        Turn::json(200, &json!({ "value": CANARY })),
        Turn::HangUp,
    ];
    for turn in answers {
        let script = challenging(AUDIENCE, move |_| turn.clone());
        let new = new_version();
        told.push_str(&format!("{new:?}"));
        let done = vault(&script).publish(&account(&script.url), new).await;
        told.push_str(&format!(
            "{done:?} {:?}",
            done.as_ref().map_err(ToString::to_string)
        ));
        assert!(script.signed_in()[0].body.contains(CANARY));
    }
    told.push_str(&listening.heard());
    assert!(
        told.contains("/secrets/sa-acct1"),
        "the SDK's own log was heard"
    );
    let token = bearer("rotation", "https://vault.azure.net/.default");
    for secret in [CANARY, &token] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}
