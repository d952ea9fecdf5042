//! Signing keys and tokens for tests, genuine and forged ones. Keys are made at run time, so that no
//! private key lies in the repository.

use std::{collections::BTreeMap, sync::LazyLock};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::{Uuid, uuid};

use super::{IssuerKeys, KeyMembers, SigningKey, TenantPolicy, TokenPolicy, TokenVersion};
use crate::domain::ids::TenantId;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
pub(crate) const TENANT: TenantId = TenantId(uuid!("00000000-0000-0000-0000-0000000000a1"));
pub(crate) const OTHER_TENANT: TenantId = TenantId(uuid!("00000000-0000-0000-0000-0000000000a2"));
pub(crate) const CALLER: Uuid = uuid!("00000000-0000-0000-0000-0000000000b1");
pub(crate) const CLIENT: Uuid = uuid!("00000000-0000-0000-0000-0000000000c1");
pub(crate) const AUDIENCE: &str = "api://sas-broker";

/// The key that the test issuer publishes as `first`.
pub(crate) static FIRST: LazyLock<TestKey> = LazyLock::new(|| TestKey::generate("first"));
/// The key that it rolls over to.
pub(crate) static SECOND: LazyLock<TestKey> = LazyLock::new(|| TestKey::generate("second"));

/// Another key under the first one's `kid`.
pub(crate) static FIRST_REPLACED: LazyLock<TestKey> = LazyLock::new(|| TestKey::generate("first"));

/// A private key with the id under which it signs.
pub(crate) struct TestKey {
    pub(crate) kid: &'static str,
    pair: RsaKeyPair,
}

impl TestKey {
    fn generate(kid: &'static str) -> Self {
        Self {
            kid,
            pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    /// The public half, as published under `kid`.
    pub(crate) fn published_as(&self, kid: &str) -> SigningKey {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.pair.public_key());
        let n = URL_SAFE_NO_PAD.encode(public.n);
        let e = URL_SAFE_NO_PAD.encode(public.e);
        SigningKey::new(&KeyMembers {
            kty: "RSA",
            kid,
            n: &n,
            e: &e,
            ..KeyMembers::default()
        })
        .unwrap()
    }

    pub(crate) fn published(&self) -> SigningKey {
        self.published_as(self.kid)
    }

    /// Signs texts as they stand, whatever they are.
    pub(crate) fn sign_raw(&self, header: &str, payload: &str) -> String {
        let message = message(header, payload);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> String {
        self.sign_with_header(claims, &json!({}))
    }

    /// Signs with members added to the usual header.
    pub(crate) fn sign_with_header(&self, claims: &Map<String, Value>, more: &Value) -> String {
        let mut header = json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid });
        header
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.sign_raw(
            &header.to_string(),
            &Value::from(claims.clone()).to_string(),
        )
    }

    /// HS256 with the public key as the shared secret: the classic confusion.
    pub(crate) fn sign_with_public_key(&self, claims: &Map<String, Value>) -> String {
        let header = json!({ "typ": "JWT", "alg": "HS256", "kid": self.kid });
        let message = message(
            &header.to_string(),
            &Value::from(claims.clone()).to_string(),
        );
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        let tag = hmac::sign(&secret, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}

fn message(header: &str, payload: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    )
}

/// A token that says `alg: none` and has no signature.
pub(crate) fn unsigned(claims: &Map<String, Value>) -> String {
    let header = json!({ "typ": "JWT", "alg": "none", "kid": "first" }).to_string();
    format!(
        "{}.",
        message(&header, &Value::from(claims.clone()).to_string())
    )
}

/// The issuer of a directory's tokens.
pub(crate) fn issuer(tenant: TenantId, version: TokenVersion) -> String {
    match version {
        TokenVersion::V1 => format!("https://sts.windows.net/{tenant}/"),
        TokenVersion::V2 => format!("https://login.microsoftonline.com/{tenant}/v2.0"),
    }
}

/// The issuer's published keys.
pub(crate) fn keys(tenant: TenantId, version: TokenVersion, keys: &[&TestKey]) -> IssuerKeys {
    let keys = keys.iter().map(|key| key.published()).collect();
    IssuerKeys::new(&issuer(tenant, version), tenant, version, keys).unwrap()
}

/// Expectations that [`claims`] meets; the groups claim is configured.
pub(crate) fn policy() -> TokenPolicy {
    TokenPolicy {
        audiences: vec![AUDIENCE.to_owned()],
        clock_skew_seconds: 120,
        token_age_seconds_max: 7_200,
        tenants: BTreeMap::from([(TENANT, TenantPolicy { groups_claim: true })]),
    }
}

/// What Entra writes into a v2 token of a user, five minutes old.
pub(crate) fn claims() -> Map<String, Value> {
    let issued = (NOW - Duration::minutes(5)).unix_timestamp();
    let claims = json!({
        "iss": issuer(TENANT, TokenVersion::V2),
        "aud": AUDIENCE,
        "tid": TENANT,
        "oid": CALLER,
        "sub": "pairwise",
        "azp": CLIENT,
        "scp": "Sas.Issue openid",
        "ver": "2.0",
        "uti": "aB3_-x",
        "iat": issued,
        "nbf": issued,
        "exp": (NOW + Duration::hours(1)).unix_timestamp(),
    });
    claims.as_object().unwrap().clone()
}

/// [`claims`] with one of them replaced; null takes it out.
pub(crate) fn claims_with(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    let mut claims = claims();
    match value.into() {
        Value::Null => claims.remove(name),
        value => claims.insert(name.to_owned(), value),
    };
    claims
}
