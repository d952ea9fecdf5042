//! Credentials that do not stall, do not leak, and sign what Entra wants.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenRequestOptions};
use azure_identity::ClientAssertion;
use jsonwebtoken::Algorithm;
use time::macros::datetime;

use super::*;
use crate::{domain::time_text, testing::FakeClock};

#[derive(Debug)]
struct Entra {
    clock: Arc<FakeClock>,
    calls: AtomicUsize,
    down: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl TokenCredential for Entra {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.down.load(Ordering::SeqCst) {
            let text = "AADSTS7000215: Invalid client secret hunter2 provided";
            return Err(azure_core::Error::with_message(ErrorKind::Credential, text));
        }
        let expires_on = self.clock.now() + time::Duration::hours(1);
        Ok(AccessToken::new(format!("token {call}"), expires_on))
    }
}

fn world() -> (Arc<FakeClock>, Arc<Entra>, Arc<Steady>) {
    let clock = Arc::new(FakeClock::at(datetime!(2026-11-23 10:00 UTC)));
    let entra = Arc::new(Entra {
        clock: Arc::clone(&clock),
        calls: AtomicUsize::new(0),
        down: false.into(),
    });
    let inner = Arc::clone(&entra) as Arc<dyn TokenCredential>;
    let steady = Arc::new(Steady::new(inner, Arc::clone(&clock) as Arc<dyn Clock>));
    (clock, entra, steady)
}

#[tokio::test]
async fn a_burst_of_first_callers_asks_once() {
    let (_, entra, steady) = world();
    let calls = (0..50).map(|_| {
        let steady = Arc::clone(&steady);
        tokio::spawn(async move { steady.get_token(&["s"], None).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().token.secret(), "token 0");
    }
    assert_eq!(entra.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_valid_token_is_served_while_entra_is_down_and_renewed_when_it_is_back() {
    let (clock, entra, steady) = world();
    steady.get_token(&["s"], None).await.unwrap();
    entra.down.store(true, Ordering::SeqCst);
    clock.advance(time::Duration::minutes(40));
    let served = steady.get_token(&["s"], None).await.unwrap();
    assert_eq!(served.token.secret(), "token 0");
    while entra.calls.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    entra.down.store(false, Ordering::SeqCst);
    clock.advance(time::Duration::minutes(2));
    steady.get_token(&["s"], None).await.unwrap();
    while entra.calls.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    let renewed = steady.get_token(&["s"], None).await.unwrap();
    assert_eq!(renewed.token.secret(), "token 2");
}

#[tokio::test]
async fn errors_name_entras_code_and_nothing_else() {
    let (_, entra, steady) = world();
    entra.down.store(true, Ordering::SeqCst);
    let error = steady.get_token(&["s"], None).await.unwrap_err();
    assert_eq!(error.to_string(), "Entra answered AADSTS7000215");
}

#[tokio::test]
async fn an_assertion_is_signed_with_the_certificates_key() {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let pair = pair.unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["broker".to_owned()])
        .unwrap()
        .self_signed(&pair);
    let (clock, ..) = world();
    let clock = clock as Arc<dyn Clock>;
    let entropy = Arc::new(crate::system::SystemEntropy) as Arc<dyn Entropy>;
    let client = crate::web::client(None, crate::web::Route::Direct).unwrap();
    let authority = "https://login.microsoftonline.com".parse().unwrap();
    let around = Surroundings {
        authority: &authority,
        client: &client,
        direct: &client,
        clock: &clock,
        entropy: &entropy,
    };
    let id = Uuid::from_u128(7);
    let assertion = SignedAssertion::new(
        TenantId(id),
        id,
        &certificate.unwrap().pem(),
        &pair.serialize_pem().into(),
        &around,
    );
    let jwt = assertion.unwrap().secret(None).await.unwrap();
    let header = jsonwebtoken::decode_header(&jwt).unwrap();
    assert_eq!(header.alg, Algorithm::PS256);
    assert_eq!(header.x5t_s256.map(|thumbprint| thumbprint.len()), Some(43));
    let key = jsonwebtoken::DecodingKey::from_rsa_der(rcgen::PublicKeyData::der_bytes(&pair));
    let mut validation = jsonwebtoken::Validation::new(Algorithm::PS256);
    validation.validate_exp = false;
    validation.set_audience(&[format!("{authority}{id}/oauth2/v2.0/token")]);
    let claims: serde_json::Value = jsonwebtoken::decode(&jwt, &key, &validation)
        .unwrap()
        .claims;
    assert_eq!(claims["iss"], id.to_string());
    assert_eq!(
        time_text::from_micros(claims["exp"].as_i64().unwrap() * 1_000_000),
        Some(datetime!(2026-11-23 10:05 UTC))
    );
}
