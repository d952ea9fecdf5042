//! The adapter to ARM against a server that plays a script.

use std::{sync::Arc, time::Duration};

use sas_broker::{
    azure::arm::{ArmAccounts, ArmOptions},
    domain::{
        account::Account,
        cloud::Cloud,
        rotation::{CreationTime, CreationTimes, KeyName, observation::AccountFacts},
    },
    ports::{OutsideError, StorageAccounts},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{
    NOW, SharedClock,
    rotation::{CANARY, account, bearer, cloud, credentials, error, is_unclear, resource_id},
    script::{Script, Turn},
};
use crate::world::logs;

fn adapter(script: &Script, clock: &Arc<SharedClock>) -> ArmAccounts {
    let (credentials, _) = credentials();
    let (client, cloud) = (script.client(), cloud(script));
    ArmAccounts::new(
        &credentials,
        &client,
        &cloud,
        ArmOptions::default(),
        clock.clone(),
    )
}

fn arm(script: &Script) -> ArmAccounts {
    adapter(script, &SharedClock::at(NOW))
}

fn facts(properties: &Value) -> Value {
    json!({ "id": resource_id("ACCT1"), "properties": properties })
}

fn keys() -> Value {
    json!({ "keys": [
        { "keyName": "Key1", "value": CANARY, "permissions": "Full" },
        { "keyName": "key2", "value": "", "permissions": "FULL", "creationTime": null },
    ] })
}

#[actix_web::test]
async fn each_call_is_the_request_that_azure_documents() {
    let script = Script::start(|asked| match asked.path().rsplit('/').next() {
        Some("acct1") => Turn::json(200, &facts(&json!({}))),
        Some("listKeys" | "regenerateKey") => Turn::json(200, &keys()),
        _ => Turn::empty(200),
    });
    let (arm, account) = (arm(&script), account(&script.url));
    arm.look(&account).await.unwrap();
    arm.key(&account, KeyName::Key1).await.unwrap();
    arm.regenerate_key(&account, KeyName::Key2).await.unwrap();
    arm.revoke_user_delegation_keys(&account).await.unwrap();

    let path = resource_id("acct1").replace(' ', "%20");
    let rows = [
        ("GET", String::new(), ""),
        ("POST", "/listKeys".to_owned(), ""),
        ("POST", "/regenerateKey".to_owned(), r#"{"keyName":"key2"}"#),
        ("POST", "/revokeUserDelegationKeys".to_owned(), ""),
    ];
    let asked = script.asked();
    assert_eq!(asked.len(), rows.len());
    let scope = format!("{}.default", script.url);
    let token = format!("Bearer {}", bearer("rotation", &scope));
    for (asked, (method, action, body)) in asked.iter().zip(rows) {
        let target = format!("{path}{action}?api-version=2024-01-01");
        assert_eq!((asked.method.as_str(), &asked.target), (method, &target));
        assert_eq!(asked.body, body);
        assert_eq!(asked.header("authorization"), Some(token.as_str()));
    }
    assert_eq!(asked[2].header("content-type"), Some("application/json"));
}

#[actix_web::test]
async fn the_configuration_may_name_another_api_version_and_audience() {
    let script = Script::start(|_| Turn::json(400, &error("NoRegisteredProviderFound")));
    let (credentials, rotation) = credentials();
    let (client, cloud) = (script.client(), cloud(&script));
    let options = ArmOptions {
        api_version: Some("2026-09-01-preview".to_owned()),
        audience: Some("https://management.corp.example/".to_owned()),
    };
    let clock = SharedClock::at(NOW);
    let arm = ArmAccounts::new(&credentials, &client, &cloud, options, clock);
    let account = account(&script.url);
    let refused = arm.regenerate_key(&account, KeyName::Key1).await;
    let refused = refused.unwrap_err();
    assert!(matches!(&refused, OutsideError::Misconfigured(text)
        if text.contains("cloud.resource_manager_api_version")));
    assert!(
        script.asked()[0]
            .target
            .ends_with("?api-version=2026-09-01-preview")
    );
    let scope = "https://management.corp.example/.default";
    assert_eq!(rotation.scopes(), [scope]);
}

#[actix_web::test]
async fn what_is_absent_has_its_documented_meaning() {
    let time = |text: &str| Some(CreationTime::new(text));
    let both = json!({ "key1": "2026-11-23T10:00:00Z", "key2": "2026-11-24T10:00:00Z" });
    let rows = [
        (json!({}), (None, None), true),
        (
            json!({ "keyCreationTime": null, "allowSharedKeyAccess": null }),
            (None, None),
            true,
        ),
        (
            json!({ "keyCreationTime": { "key1": null, "key2": "2026-11-24T10:00:00Z" } }),
            (None, time("2026-11-24T10:00:00Z")),
            true,
        ),
        (
            json!({ "keyCreationTime": both, "allowSharedKeyAccess": false }),
            (time("2026-11-23T10:00:00Z"), time("2026-11-24T10:00:00Z")),
            false,
        ),
    ];
    for (properties, (key1, key2), shared_key_allowed) in rows {
        let answer = facts(&properties);
        let script = Script::start(move |_| Turn::json(200, &answer));
        let found = arm(&script).look(&account(&script.url)).await;
        let created = CreationTimes { key1, key2 };
        let expected = AccountFacts {
            created,
            shared_key_allowed,
        };
        assert_eq!(found, Ok(expected), "{properties}");
    }
}

#[actix_web::test]
async fn an_answer_of_no_meaning_is_no_observation() {
    let other = json!({ "id": resource_id("acct2"), "properties": {} });
    let rows = [
        json!({}),
        json!({ "id": resource_id("acct1") }),
        other,
        json!([]),
    ];
    for answer in rows {
        let body = answer.clone();
        let script = Script::start(move |_| Turn::json(200, &body));
        let (arm, account) = (arm(&script), account(&script.url));
        let looked = arm.look(&account).await;
        assert!(
            matches!(looked, Err(OutsideError::Unavailable(_))),
            "{answer}"
        );
        let key = arm.key(&account, KeyName::Key1).await;
        assert!(matches!(key, Err(OutsideError::Unavailable(_))), "{answer}");
    }
    let script = Script::start(|_| Turn::json(200, &keys()));
    let empty = arm(&script).key(&account(&script.url), KeyName::Key2).await;
    assert!(
        matches!(empty, Err(OutsideError::Unavailable(_))),
        "an empty key is none"
    );
}

#[actix_web::test]
async fn a_mutation_is_sent_once_whatever_becomes_of_it() {
    let unclear = [
        Turn::empty(500),
        Turn::json(500, &error("InternalServerError")),
        Turn::Answer(502, vec![], "<html>".to_owned()),
        Turn::empty(503),
        Turn::empty(503).with("retry-after", "30"),
        Turn::empty(504),
        Turn::empty(408),
        Turn::empty(202),
        Turn::HangUp,
        Turn::Stall,
    ];
    for turn in unclear {
        let played = turn.clone();
        let script = Script::start(move |_| played.clone());
        let account = account(&script.url);
        let done = arm(&script).regenerate_key(&account, KeyName::Key1).await;
        assert!(is_unclear(&done), "{turn:?}: {done:?}");
        assert_eq!(script.asked().len(), 1, "{turn:?}");
        let done = arm(&script).revoke_user_delegation_keys(&account).await;
        assert!(is_unclear(&done), "{turn:?}: {done:?}");
        assert_eq!(script.asked().len(), 2, "{turn:?}");
    }
    // The head said that it took place.
    let script = Script::start(|_| Turn::BreakOff);
    let account = account(&script.url);
    let done = arm(&script).regenerate_key(&account, KeyName::Key1).await;
    assert_eq!(done, Ok(()));
}

#[actix_web::test]
async fn what_azure_refuses_or_what_never_left_did_not_take_place() {
    let rows = [
        (409, "StorageAccountOperationInProgress", "busy"),
        (409, "ScopeLocked", "locked"),
        (403, "AuthorizationFailed", "refused"),
        (401, "ExpiredAuthenticationToken", "refused"),
        (404, "ResourceNotFound", "gone"),
        (400, "InvalidRequestContent", "unavailable"),
    ];
    for (status, code, class) in rows {
        let script = Script::start(move |_| Turn::json(status, &error(code)));
        let account = account(&script.url);
        let done = arm(&script).regenerate_key(&account, KeyName::Key1).await;
        let said = done.unwrap_err().to_string();
        assert_eq!(said, format!("{class}: {status} {code}"));
        assert_eq!(script.asked().len(), 1, "{code}");
    }
    // A closed port, and one behind which nobody speaks TLS.
    let script = Script::start(|_| Turn::empty(200));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [&listener, &mute].map(|listener| listener.local_addr().unwrap());
    drop(listener);
    for address in addresses {
        let cloud = Cloud {
            resource_manager: Some(format!("https://{address}").parse().unwrap()),
            ..cloud(&script)
        };
        let (credentials, _) = credentials();
        let clock = SharedClock::at(NOW);
        let arm = ArmAccounts::new(
            &credentials,
            &script.client(),
            &cloud,
            ArmOptions::default(),
            clock,
        );
        let account = account(&script.url);
        let done = arm.regenerate_key(&account, KeyName::Key1).await;
        let text = "the host could not be connected to".to_owned();
        assert_eq!(done, Err(OutsideError::Unavailable(text)));
    }
}

#[actix_web::test]
async fn a_read_is_repeated_a_little_but_not_while_azure_throttles() {
    let rows = [
        (Turn::empty(500), 3),
        (Turn::empty(502), 3),
        (Turn::HangUp, 3),
        (Turn::empty(503), 1),
        (Turn::empty(429).with("retry-after", "600"), 1),
        (Turn::json(404, &error("ResourceNotFound")), 1),
        (Turn::BreakOff, 3),
    ];
    for (turn, times) in rows {
        let played = turn.clone();
        let script = Script::start(move |_| played.clone());
        let done = arm(&script).look(&account(&script.url)).await;
        assert!(done.is_err() && !is_unclear(&done), "{turn:?}: {done:?}");
        assert_eq!(script.asked().len(), times, "{turn:?}");
    }
}

#[actix_web::test]
async fn a_throttled_subscription_is_left_alone_for_as_long_as_azure_says() {
    let answers = std::sync::Mutex::new(vec![
        Turn::json(429, &error("SubscriptionRequestsThrottled")).with("retry-after", "30"),
    ]);
    let script = Script::start(move |_| {
        let next = answers.lock().unwrap().pop();
        next.unwrap_or_else(|| Turn::json(200, &keys()))
    });
    let clock = SharedClock::at(NOW);
    let arm = adapter(&script, &clock);
    let account = account(&script.url);
    let neighbour = Account {
        name: "acct2".parse().unwrap(),
        resource_id: Some(resource_id("acct2")),
        ..account.clone()
    };
    let elsewhere = Account {
        resource_id: Some(resource_id("acct1").replace("60000000", "70000000")),
        ..account.clone()
    };
    let wait = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        Err(OutsideError::Throttled { retry_after })
    };
    let regenerate = async |account| arm.regenerate_key(account, KeyName::Key1).await;
    assert_eq!(regenerate(&account).await, wait(30));
    clock.set(NOW + time::Duration::seconds(10));
    assert_eq!(regenerate(&account).await, wait(20));
    assert_eq!(regenerate(&neighbour).await, wait(20));
    assert_eq!(arm.key(&neighbour, KeyName::Key1).await.map(drop), wait(20));
    assert_eq!(script.asked().len(), 1, "nothing is sent meanwhile");
    assert_eq!(regenerate(&elsewhere).await, Ok(()));
    clock.set(NOW + time::Duration::seconds(30));
    assert_eq!(regenerate(&neighbour).await, Ok(()));
}

#[actix_web::test]
async fn a_subscription_is_never_asked_faster_than_its_pace() {
    let script = Script::start(|_| Turn::empty(200));
    let clock = SharedClock::at(NOW);
    let arm = adapter(&script, &clock);
    let account = account(&script.url);
    let mut sent = 0;
    let refused = loop {
        match arm.revoke_user_delegation_keys(&account).await {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    let retry_after = Some(Duration::from_secs(6));
    assert_eq!(refused, OutsideError::Throttled { retry_after });
    assert_eq!((sent, script.asked().len()), (60, 60));
}

#[actix_web::test]
async fn without_its_configuration_nothing_is_sent() {
    let script = Script::start(|_| Turn::empty(200));
    let whole = account(&script.url);
    let no_resource = Account {
        resource_id: None,
        ..whole.clone()
    };
    let stranger = Account {
        management_identity: Some("stranger".parse().unwrap()),
        ..whole.clone()
    };
    let (credentials, _) = credentials();
    let with_arm = cloud(&script);
    let without_arm = Cloud {
        resource_manager: None,
        ..with_arm.clone()
    };
    for (account, cloud) in [
        (no_resource, with_arm.clone()),
        (stranger, with_arm),
        (whole, without_arm),
    ] {
        let clock = SharedClock::at(NOW);
        let arm = ArmAccounts::new(
            &credentials,
            &script.client(),
            &cloud,
            ArmOptions::default(),
            clock,
        );
        let done = arm.regenerate_key(&account, KeyName::Key1).await;
        assert!(
            matches!(done, Err(OutsideError::Misconfigured(_))),
            "{done:?}"
        );
    }
    assert!(script.asked().is_empty());
}

#[actix_web::test]
async fn tokens_of_two_credentials_never_mix() {
    let script = Script::start(|_| Turn::json(200, &keys()));
    let arm = arm(&script);
    let one = account(&script.url);
    let two = Account {
        management_identity: None,
        ..one.clone()
    };
    for account in [&one, &two, &one, &two] {
        arm.key(account, KeyName::Key1).await.unwrap();
    }
    let scope = format!("{}.default", script.url);
    let tokens: Vec<String> = script
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").unwrap().to_owned())
        .collect();
    let expected = ["rotation", "blob", "rotation", "blob"];
    assert_eq!(
        tokens,
        expected.map(|name| format!("Bearer {}", bearer(name, &scope)))
    );
}

#[actix_web::test]
async fn a_key_s_value_is_told_to_nobody_but_the_caller() {
    let listening = logs::listen();
    let script = Script::start(|asked| match asked.path().rsplit('/').next() {
        Some("listKeys") => Turn::json(200, &keys()),
        Some("regenerateKey") => Turn::json(500, &error(CANARY)),
        _ => Turn::json(400, &keys()),
    });
    let (arm, account) = (arm(&script), account(&script.url));
    let key = arm.key(&account, KeyName::Key1).await.unwrap();
    assert_eq!(key.value.expose_secret(), CANARY);
    let mut told = format!("{key:?}");
    let errors = [
        arm.regenerate_key(&account, KeyName::Key1)
            .await
            .unwrap_err(),
        arm.look(&account).await.unwrap_err(),
    ];
    for error in errors {
        told.push_str(&format!("{error} {error:?}"));
    }
    told.push_str(&listening.heard());
    assert!(
        told.contains("/regenerateKey"),
        "the SDK's own log was heard"
    );
    let token = bearer("rotation", &format!("{}.default", script.url));
    for secret in [CANARY, &token] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}
