//! The proof of a key against a server that plays a script.

use sas_broker::{
    azure::key_proof::SharedKeyProof,
    domain::{account::Account, rotation::KeyName},
    ports::{AccountKey, KeyProof, Proof},
};
use url::Url;

use super::{
    NOW, SharedClock,
    rotation::{CANARY, account, cloud},
    script::{BLOB_HOST, Script, Turn},
};
use crate::world::logs;

fn key(value: &str) -> AccountKey {
    AccountKey {
        name: KeyName::Key1,
        value: value.into(),
    }
}

async fn prove(script: &Script, account: &Account, value: &str) -> Proof {
    let prover = SharedKeyProof::new(script.client(), cloud(script), SharedClock::at(NOW));
    prover.prove(account, &key(value)).await
}

fn refusal(status: u16, code: &str) -> Turn {
    Turn::empty(status).with("x-ms-error-code", code)
}

#[actix_web::test]
async fn an_answer_proves_what_it_says_and_nothing_else_proves_anything() {
    let unreachable = |said: &str| Proof::Unreachable(said.to_owned());
    let elsewhere = Script::start(|_| Turn::empty(200));
    let rows = [
        (Turn::empty(200), Proof::Accepted),
        (refusal(403, "AuthenticationFailed"), Proof::Rejected),
        (
            refusal(403, "KeyBasedAuthenticationNotPermitted"),
            Proof::Disallowed,
        ),
        (
            refusal(403, "AuthorizationFailure"),
            unreachable("403 AuthorizationFailure"),
        ),
        (
            refusal(403, "AccountIsDisabled"),
            unreachable("403 AccountIsDisabled"),
        ),
        (
            refusal(401, "AuthenticationFailed"),
            unreachable("401 AuthenticationFailed"),
        ),
        (refusal(403, CANARY), unreachable("403 without a code")),
        (Turn::empty(403), unreachable("403 without a code")),
        (Turn::empty(202), unreachable("202 without a code")),
        (
            Turn::empty(302).with("location", elsewhere.url.as_str()),
            unreachable("302 without a code"),
        ),
        (refusal(503, "ServerBusy"), unreachable("503 ServerBusy")),
        (Turn::HangUp, unreachable("no answer")),
        (Turn::Stall, unreachable("no answer")),
    ];
    for (turn, expected) in rows {
        let played = turn.clone();
        let script = Script::start(move |_| played.clone());
        let found = prove(&script, &account(&script.url), CANARY).await;
        assert_eq!(found, expected, "{turn:?}");
    }
    assert!(elsewhere.asked().is_empty(), "redirects are not followed");
}

#[actix_web::test]
async fn the_call_is_signed_for_either_form_of_endpoint() {
    // Signatures of azure-storage-blob 12.31.1 (Python) for 23 November 2026, 12:00, with a key of
    // the bytes 0 to 63. A path names the account a second time.
    let value =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
    let script = Script::start(|_| Turn::empty(200));
    let in_path = account(&script.url);
    let in_host = Account {
        blob_endpoint: format!("https://{BLOB_HOST}").parse().unwrap(),
        ..in_path.clone()
    };
    let rows = [
        (
            in_path,
            "/acct1/",
            "NIk4VTVvBI4Rt/3ml/18rjmshNJaLzXEJ1O/UgwgxE4=",
        ),
        (in_host, "/", "K7u21ma6QlOZ1AUq1BKlAOVOSLpKauUF1FbzMPmeUOg="),
    ];
    for (account, path, signature) in rows {
        assert_eq!(prove(&script, &account, value).await, Proof::Accepted);
        let asked = script.asked().pop().unwrap();
        let target = format!("{path}?restype=account&comp=properties");
        assert_eq!((asked.method.as_str(), &asked.target), ("GET", &target));
        let authorization = format!("SharedKey acct1:{signature}");
        assert_eq!(asked.header("authorization"), Some(authorization.as_str()));
        assert_eq!(
            asked.header("x-ms-date"),
            Some("Mon, 23 Nov 2026 12:00:00 GMT")
        );
        assert_eq!(asked.header("x-ms-version"), Some("2025-11-05"));
    }
}

#[actix_web::test]
async fn what_cannot_be_asked_is_not_asked() {
    let script = Script::start(|_| Turn::empty(200));
    let whole = account(&script.url);
    assert_eq!(prove(&script, &whole, "no base64!").await, Proof::Rejected);
    let foreign: Url = "https://acct1.blob.evil.example".parse().unwrap();
    let foreign = Account {
        blob_endpoint: foreign,
        ..whole.clone()
    };
    let found = prove(&script, &foreign, CANARY).await;
    assert!(matches!(found, Proof::Unreachable(_)), "{found:?}");
    assert!(script.asked().is_empty());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut cloud = cloud(&script);
    cloud.allowed_hosts.push(address.to_string());
    let nobody = Account {
        blob_endpoint: format!("https://{address}/acct1").parse().unwrap(),
        ..whole
    };
    let prover = SharedKeyProof::new(script.client(), cloud, SharedClock::at(NOW));
    let text = "the host could not be connected to".to_owned();
    assert_eq!(
        prover.prove(&nobody, &key(CANARY)).await,
        Proof::Unreachable(text)
    );
}

#[actix_web::test]
async fn neither_the_key_nor_its_signature_is_told() {
    let listening = logs::listen();
    let script = Script::start(|_| refusal(403, "AuthenticationFailed"));
    let found = prove(&script, &account(&script.url), CANARY).await;
    let asked = script.asked().pop().unwrap();
    let signed = asked.header("authorization").unwrap();
    let told = format!("{found:?} {}", listening.heard());
    let signature = signed.split(':').next_back().unwrap();
    for secret in [CANARY, signature] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}
