//! Genuine, forged and remembered tokens at the door.

use std::net::TcpListener;

use serde_json::{Map, Value, json};
use time::Duration;

use super::*;
use crate::{
    app::issuer_keys::tests::fake::FakeEntra,
    domain::{
        caller::TokenVersion,
        caller::forge::{
            CLIENT, FIRST, FIRST_REPLACED, NOW, OTHER_TENANT, SECOND, TENANT, claims, claims_with,
            issuer, policy, unsigned,
        },
    },
    testing::{FakeClock, SeededEntropy},
};

struct Door {
    entra: Arc<FakeEntra>,
    clock: Arc<FakeClock>,
    authenticator: Authenticator,
}

impl Door {
    fn new() -> Self {
        let entra = Arc::new(FakeEntra::publishing(&[&FIRST]));
        let clock = Arc::new(FakeClock::at(NOW));
        let authenticator = Authenticator::new(
            policy(),
            entra.clone(),
            clock.clone(),
            Arc::new(SeededEntropy::default()),
            KeyCacheSettings::default(),
        );
        Self {
            entra,
            clock,
            authenticator,
        }
    }

    async fn knock(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        self.authenticator.authenticate(token).await
    }

    async fn refusal(&self, token: &str) -> TokenRefused {
        match self.knock(token).await {
            Err(AuthError::Refused(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn remembered(&self) -> usize {
        self.authenticator.remembered.len()
    }
}

fn raw(header: &str, claims: &Map<String, Value>) -> String {
    FIRST.sign_raw(header, &Value::from(claims.clone()).to_string())
}

#[tokio::test]
async fn forged_tokens_are_refused_and_never_remembered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let trap = format!("https://{}/keys", listener.local_addr().unwrap());
    let brought = json!({ "jku": trap, "x5u": trap, "jwk": { "kty": "RSA", "kid": "second" } });
    let at = |offset: i64| json!((NOW + Duration::seconds(offset)).unix_timestamp());
    let twice = {
        let payload = Value::from(claims()).to_string();
        let payload = format!(r#"{{"oid":"{CLIENT}",{}"#, &payload[1..]);
        FIRST.sign_raw(r#"{"alg":"RS256","kid":"first"}"#, &payload)
    };
    let rows = [
        ("alg none", unsigned(&claims()), "algorithm"),
        (
            "HS256 by the public key",
            FIRST.sign_with_public_key(&claims()),
            "algorithm",
        ),
        (
            "wrong issuer",
            FIRST.sign(&claims_with("iss", issuer(OTHER_TENANT, TokenVersion::V2))),
            "issuer",
        ),
        (
            "wrong audience",
            FIRST.sign(&claims_with("aud", "https://storage.azure.com")),
            "audience",
        ),
        (
            "wrong tenant",
            FIRST.sign(&claims_with("tid", json!(OTHER_TENANT))),
            "tenant",
        ),
        (
            "expired",
            FIRST.sign(&claims_with("exp", at(-121))),
            "expired",
        ),
        (
            "not yet valid",
            FIRST.sign(&claims_with("nbf", at(121))),
            "not-yet-valid",
        ),
        (
            "too old",
            FIRST.sign(&claims_with("iat", at(-7_321))),
            "too-old",
        ),
        (
            "no oid",
            FIRST.sign(&claims_with("oid", Value::Null)),
            "claim-missing",
        ),
        ("unknown kid", SECOND.sign(&claims()), "unknown-key"),
        (
            "brings its key",
            SECOND.sign_with_header(&claims(), &brought),
            "unknown-key",
        ),
        (
            "brings its key under our kid",
            SECOND.sign_with_header(
                &claims(),
                &json!({ "kid": "first", "jku": trap, "x5u": trap }),
            ),
            "signature",
        ),
        (
            "repeated header member",
            raw(r#"{"alg":"RS256","kid":"first","kid":"first"}"#, &claims()),
            "duplicate-member",
        ),
        ("repeated claim", twice, "duplicate-member"),
        (
            "critical header",
            raw(r#"{"alg":"RS256","kid":"first","crit":[]}"#, &claims()),
            "critical-header",
        ),
        (
            "huge",
            FIRST.sign(&claims_with("x", "x".repeat(20_000))),
            "too-long",
        ),
        ("nothing", String::new(), "malformed"),
        ("not base64", "ä.ö.ü".to_owned(), "malformed"),
    ];
    let door = Door::new();
    for (what, token, code) in rows {
        for _ in 0..2 {
            assert_eq!(door.refusal(&token).await.code(), code, "{what}");
        }
        assert_eq!(door.remembered(), 0, "{what}");
    }
    let untouched = listener.accept().unwrap_err();
    assert_eq!(
        untouched.kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody followed jku or x5u"
    );
    assert!(
        door.knock(&FIRST.sign(&claims())).await.is_ok(),
        "the genuine token passes"
    );
}

#[tokio::test]
async fn a_directory_that_is_not_allowed_causes_no_fetch() {
    let door = Door::new();
    let token = SECOND.sign(&claims_with("tid", json!(OTHER_TENANT)));
    assert_eq!(door.refusal(&token).await, TokenRefused::Tenant);
    assert_eq!(door.entra.fetches(), 0);
}

#[tokio::test]
async fn a_forged_payload_is_refused_after_its_genuine_token_was_remembered() {
    let door = Door::new();
    let genuine = FIRST.sign(&claims());
    door.knock(&genuine).await.unwrap();
    let other = FIRST.sign(&claims_with("oid", json!(CLIENT)));
    let parts: Vec<&str> = genuine.split('.').collect();
    let forged = format!(
        "{}.{}.{}",
        parts[0],
        other.split('.').nth(1).unwrap(),
        parts[2]
    );
    assert_eq!(door.refusal(&forged).await, TokenRefused::Signature);
}

#[tokio::test]
async fn a_remembered_token_is_not_verified_again() {
    let door = Door::new();
    let token = FIRST.sign(&claims());
    let first = door.knock(&token).await.unwrap();
    let again = door.knock(&token).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "the very same caller");
    assert_eq!((door.remembered(), door.entra.fetches()), (1, 1));
}

#[tokio::test]
async fn a_remembered_token_dies_with_its_times() {
    let rows = [
        ("exp", Duration::minutes(62), TokenRefused::Expired),
        ("nbf", -Duration::minutes(8), TokenRefused::NotYetValid),
        ("iat", Duration::minutes(118), TokenRefused::TooOld),
    ];
    for (claim, moved, expected) in rows {
        let door = Door::new();
        let far = (NOW + Duration::days(1)).unix_timestamp();
        let token = FIRST.sign(&match claim {
            "iat" => claims_with("exp", far),
            _ => claims(),
        });
        door.knock(&token).await.unwrap();
        door.clock.advance(moved);
        assert_eq!(door.refusal(&token).await, expected, "{claim}");
        assert_eq!(door.remembered(), 0, "{claim}");
    }
}

#[tokio::test]
async fn a_remembered_token_dies_when_its_key_is_withdrawn() {
    let door = Door::new();
    let token = FIRST.sign(&claims_with(
        "exp",
        (NOW + Duration::hours(2)).unix_timestamp(),
    ));
    door.knock(&token).await.unwrap();
    door.entra.publish(&[&SECOND]);
    assert!(door.knock(&token).await.is_ok(), "nobody has told us yet");
    door.knock(&SECOND.sign(&claims())).await.unwrap();
    assert_eq!(door.refusal(&token).await, TokenRefused::UnknownKey);
    assert_eq!(door.remembered(), 1, "only the newer token's caller");
}

#[tokio::test]
async fn a_remembered_token_dies_when_its_kid_comes_to_stand_for_another_key() {
    let door = Door::new();
    let token = FIRST.sign(&claims_with(
        "exp",
        (NOW + Duration::hours(2)).unix_timestamp(),
    ));
    door.knock(&token).await.unwrap();
    door.entra.publish(&[&FIRST_REPLACED]);
    door.clock.advance(Duration::minutes(67));
    while door.knock(&token).await.is_ok() {
        // The refresh runs behind the requests.
        tokio::task::yield_now().await;
    }
    assert_eq!(door.refusal(&token).await, TokenRefused::Signature);
}

#[tokio::test]
async fn a_roll_over_of_keys_refuses_nobody() {
    let door = Door::new();
    door.knock(&FIRST.sign(&claims())).await.unwrap();
    door.entra.publish(&[&FIRST, &SECOND]);
    door.knock(&SECOND.sign(&claims())).await.unwrap();
    door.knock(&FIRST.sign(&claims_with("uti", "another")))
        .await
        .unwrap();
    assert_eq!(door.entra.fetches(), 2);
}

#[tokio::test]
async fn a_flood_of_forged_kids_makes_one_fetch() {
    let door = Door::new();
    door.knock(&FIRST.sign(&claims())).await.unwrap();
    for number in 0..200 {
        let header = json!({ "kid": format!("forged-{number}") });
        let token = SECOND.sign_with_header(&claims(), &header);
        assert_eq!(door.refusal(&token).await, TokenRefused::UnknownKey);
    }
    assert_eq!(door.entra.fetches(), 2);
}

#[tokio::test]
async fn without_keys_nobody_is_refused_but_told_to_wait() {
    let door = Door::new();
    door.entra.fail(true);
    let token = FIRST.sign(&claims());
    let error = door.knock(&token).await.unwrap_err();
    assert!(matches!(error, AuthError::KeysUnavailable(wait) if !wait.retry_after.is_zero()));
    door.entra.fail(false);
    door.clock.advance(Duration::seconds(3));
    assert!(door.knock(&token).await.is_ok());
}

#[tokio::test]
async fn more_tokens_than_fit_push_others_out() {
    let door = Door::new();
    let token = FIRST.sign(&claims());
    door.knock(&token).await.unwrap();
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let digest: TokenDigest = digest.as_ref().try_into().unwrap();
    let entry = door.authenticator.remembered.get(&digest).unwrap();
    let largest = Remembered {
        token_bytes: TOKEN_BYTES_MAX,
        ..(*entry).clone()
    };
    let largest = Arc::new(largest);
    for number in 0..50_000u32 {
        let mut other = digest;
        other[..4].copy_from_slice(&number.to_be_bytes());
        door.authenticator
            .remembered
            .insert(other, Arc::clone(&largest));
    }
    assert!(door.authenticator.remembered.weight() <= REMEMBERED_BYTES_MAX);
    assert!(door.remembered() < 50_000);
    assert_eq!(door.knock(&token).await.unwrap().tenant_id(), TENANT);
}
