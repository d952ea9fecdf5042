//! Discovery and key sets: from the simulated Entra, and from one that misbehaves.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::http::StatusCode;
use sas_broker::{
    app::{authenticate::Authenticator, issuer_keys::KeyCacheSettings},
    azure::entra::EntraKeySource,
    domain::caller::{TenantPolicy, TokenPolicy, TokenVersion, UnfitIssuer},
    ports::{KeySource, KeySourceError},
    simulator::{Endpoint, Fault, Spec, TenantSpec, TokenSpec},
};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

use super::{
    Middling, NOW, SharedClock, TENANT,
    answers::{Answer, Server},
    http, simulator,
};

const ADA: Uuid = uuid!("00000000-0000-0000-0000-0000000000b1");
const AUDIENCE: &str = "api://sas-broker";

fn world() -> Spec {
    let tenant = TenantSpec {
        id: TENANT.0,
        ..TenantSpec::default()
    };
    Spec {
        tenants: vec![tenant],
        ..Spec::default()
    }
}

#[actix_web::test]
async fn the_simulated_entras_keys_are_read_for_both_token_versions() {
    let azure = simulator(world(), &SharedClock::at(NOW)).await;
    let source = EntraKeySource::new(azure.authority(), http(azure.ca_pem()));
    azure.roll_signing_key();
    for version in TokenVersion::ALL {
        let keys = source.fetch(TENANT, version).await.unwrap();
        let mut published = azure.signing_key_ids();
        published.sort();
        assert_eq!(
            keys.keys().iter().map(|key| key.kid()).collect::<Vec<_>>(),
            published
        );
        assert!(keys.issuer().contains(&TENANT.to_string()));
    }
    azure.set_fault(
        Endpoint::Jwks,
        Some(Fault::Status {
            code: StatusCode::BAD_GATEWAY,
            retry_after_seconds: None,
        }),
    );
    let failed = source.fetch(TENANT, TokenVersion::V2).await.unwrap_err();
    assert_eq!(failed, KeySourceError::Status(502));
    azure.stop().await;
}

#[actix_web::test]
async fn tokens_of_the_simulated_entra_pass_and_a_roll_over_refuses_nobody() {
    let clock = SharedClock::at(NOW);
    let azure = simulator(world(), &clock).await;
    let source = EntraKeySource::new(azure.authority(), http(azure.ca_pem()));
    let policy = TokenPolicy {
        audiences: vec![AUDIENCE.to_owned()],
        clock_skew_seconds: 120,
        token_age_seconds_max: 7_200,
        tenants: BTreeMap::from([(TENANT, TenantPolicy::default())]),
    };
    let settings = KeyCacheSettings::default();
    let door = Authenticator::new(
        policy,
        Arc::new(source),
        clock,
        Arc::new(Middling),
        settings,
    );
    let user = TokenSpec::user(TENANT.0, ADA, AUDIENCE);
    let caller = door.authenticate(&azure.mint(&user)).await.unwrap();
    assert_eq!((caller.tenant_id(), caller.object_id().0), (TENANT, ADA));
    azure.roll_signing_key();
    let application = TokenSpec::application(TENANT.0, ADA, AUDIENCE);
    let v1 = TokenSpec {
        version: sas_broker::simulator::TokenVersion::V1,
        ..application.clone()
    };
    for token in [user, application, v1] {
        door.authenticate(&azure.mint(&token)).await.unwrap();
    }
    assert_eq!(azure.calls(Endpoint::Jwks), 3, "v2 twice, v1 once");
    azure.stop().await;
}

#[actix_web::test]
async fn an_untrusted_certificate_ends_the_call() {
    let azure = simulator(world(), &SharedClock::at(NOW)).await;
    let elsewhere = Server::start();
    let source = EntraKeySource::new(azure.authority(), http(&elsewhere.ca_pem));
    let error = source.fetch(TENANT, TokenVersion::V2).await.unwrap_err();
    assert!(
        error.to_string().contains("certificate"),
        "the reason is told: {error}"
    );
    assert_eq!(azure.calls(Endpoint::Discovery), 0);
    elsewhere.stop().await;
    azure.stop().await;
}

/// A server whose discovery document and key set can be chosen.
struct Strange(Server);

impl Strange {
    fn start() -> Self {
        Self(Server::start())
    }

    fn publish(&self, discovery: &Value, keys: &str) {
        let place = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
        self.0.set(&place, Answer::Body(200, discovery.to_string()));
        self.0.set("/keys", Answer::Body(200, keys.to_owned()));
    }

    fn issuer(&self) -> String {
        let origin = self.0.url.as_str().trim_end_matches('/');
        format!("{origin}/{TENANT}/v2.0")
    }

    fn discovery(&self) -> Value {
        json!({ "issuer": self.issuer(), "jwks_uri": self.0.url.join("keys").unwrap() })
    }

    async fn kids(&self) -> Result<Vec<String>, KeySourceError> {
        let http = http(&self.0.ca_pem);
        let source = EntraKeySource::new(self.0.url.clone(), http);
        let keys = source.fetch(TENANT, TokenVersion::V2).await?;
        Ok(keys.keys().iter().map(|key| key.kid().to_owned()).collect())
    }
}

/// A public key of 2,048 bits; nobody has the private half.
fn jwk(kid: &str) -> Value {
    json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": "x".repeat(341) + "w", "e": "AQAB" })
}

fn jwk_with(kid: &str, name: &str, value: Value) -> Value {
    let mut key = jwk(kid);
    key[name] = value;
    key
}

#[actix_web::test]
async fn keys_that_are_not_for_us_are_skipped_and_spoil_nothing() {
    let entra = Strange::start();
    let foreign = entra.issuer().replace("a1", "a2");
    let template = entra.issuer().replace(&TENANT.to_string(), "{tenantid}");
    let keys = json!({ "keys": [
        { "kty": "future", "kid": "strange", "x": 1 },
        { "kty": "EC", "kid": "ec", "crv": "P-256", "x": "AQ", "y": "AQ" },
        "not even an object",
        { "kty": "RSA", "n": "AQAB", "e": "AQAB" },
        jwk_with("encryption", "use", json!("enc")),
        jwk_with("short", "n", json!("AQAB")),
        jwk_with("foreign issuer", "issuer", json!(foreign)),
        jwk_with("own issuer", "issuer", json!(entra.issuer())),
        jwk_with("any directory", "issuer", json!(template)),
        jwk("plain"),
    ] });
    entra.publish(&entra.discovery(), &keys.to_string());
    assert_eq!(
        entra.kids().await.unwrap(),
        ["any directory", "own issuer", "plain"]
    );
    entra.0.stop().await;
}

#[actix_web::test]
async fn answers_of_a_misbehaving_entra_are_refused() {
    let entra = Strange::start();
    let keys = json!({ "keys": [jwk("plain")] }).to_string();
    let with = |name: &str, value: Value| {
        let mut discovery = entra.discovery();
        discovery[name] = value;
        discovery
    };
    let unfit = |why| Some(KeySourceError::Unfit(why));
    let crowd = json!({ "keys": (0..101).map(|n| jwk(&n.to_string())).collect::<Vec<_>>() });
    let rows = [
        ("as it should be", entra.discovery(), keys.clone(), None),
        (
            "another directory's issuer",
            with("issuer", json!(entra.issuer().replace("a1", "a2"))),
            keys.clone(),
            unfit(UnfitIssuer::Issuer),
        ),
        (
            "no keys",
            entra.discovery(),
            json!({ "keys": [] }).to_string(),
            unfit(UnfitIssuer::NoKeys),
        ),
        (
            "keys over plain HTTP",
            with("jwks_uri", json!("http://127.0.0.1:1/keys")),
            keys.clone(),
            Some(KeySourceError::Malformed("an address is not https")),
        ),
        (
            "endless keys",
            entra.discovery(),
            format!(r#"{{"keys":[{}]}}"#, " ".repeat(256 * 1024)),
            Some(KeySourceError::Malformed("it is longer than 256 KiB")),
        ),
        (
            "a crowd of keys",
            entra.discovery(),
            crowd.to_string(),
            Some(KeySourceError::Malformed("it holds more than 100 keys")),
        ),
        (
            "a page for people",
            entra.discovery(),
            "<html>".to_owned(),
            Some(KeySourceError::Malformed("it cannot be read")),
        ),
    ];
    for (what, discovery, keys, expected) in rows {
        entra.publish(&discovery, &keys);
        assert_eq!(entra.kids().await.err(), expected, "{what}");
    }
    entra.0.stop().await;
}

#[actix_web::test]
async fn redirects_are_not_followed() {
    let entra = Strange::start();
    entra.publish(&entra.discovery(), "");
    let elsewhere = entra.0.url.join("elsewhere").unwrap();
    entra.0.set("/keys", Answer::Redirect(elsewhere.into()));
    assert_eq!(entra.kids().await, Err(KeySourceError::Status(302)));
    assert!(!entra.0.asked().contains(&"/elsewhere".to_owned()));
    entra.0.stop().await;
}
