//! The signing keys of the simulated Entra: RS256, 2048 bit, several published at once.
//!
//! Knows JSON Web Signatures and key sets, nothing about claims (`tokens`) or HTTP (`endpoints`).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::super::random;

/// How a token is signed. Everything but [`TokenSignature::Current`] and
/// [`TokenSignature::Key`] is a forgery for tests of the verifying side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenSignature {
    /// By the newest published key.
    #[default]
    Current,
    /// By the published key with this `kid`, or like `Unpublished` if there is none.
    Key(String),
    /// By a key that no key set holds.
    Unpublished,
    /// `alg` none and an empty signature.
    Unsigned,
    /// HS256 with the newest public key (PKCS#1, DER) as the shared secret.
    HmacWithPublicKey,
}

/// One RSA key with its id.
struct SigningKey {
    kid: String,
    pair: RsaKeyPair,
}

impl SigningKey {
    fn generate() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bit is a legal key size");
        Self {
            kid: URL_SAFE_NO_PAD.encode(random::bytes::<20>()),
            pair,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .expect("the buffer has the length of the modulus");
        signature
    }

    fn public(&self) -> RsaPublicKeyComponents<Vec<u8>> {
        RsaPublicKeyComponents::from(self.pair.public_key())
    }

    /// As Entra publishes it: no `alg`, `x5t` equal to `kid`, and `issuer` on the v2 endpoint
    /// only. `x5c` is left out: no certificate stands behind the key.
    fn jwk(&self, issuer: Option<&str>) -> Value {
        let public = self.public();
        let mut jwk = json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": URL_SAFE_NO_PAD.encode(public.n),
            "e": URL_SAFE_NO_PAD.encode(public.e),
        });
        if let Some(issuer) = issuer {
            jwk["issuer"] = json!(issuer);
        }
        jwk
    }
}

/// The published keys, oldest first; the last one signs.
pub(crate) struct KeyRing {
    keys: Vec<SigningKey>,
}

impl KeyRing {
    /// A ring with one fresh key.
    pub(crate) fn new() -> Self {
        Self {
            keys: vec![SigningKey::generate()],
        }
    }

    /// Publishes a fresh key that signs from now on, and returns its `kid`.
    pub(crate) fn roll(&mut self) -> String {
        let key = SigningKey::generate();
        let kid = key.kid.clone();
        self.keys.push(key);
        kid
    }

    /// Takes a key out of the published set. The last key stays: an Entra without keys does not
    /// exist. Returns whether a key was removed.
    pub(crate) fn remove(&mut self, kid: &str) -> bool {
        let before = self.keys.len();
        if before > 1 {
            self.keys.retain(|key| key.kid != kid);
        }
        self.keys.len() < before
    }

    /// Ids of the published keys, oldest first.
    pub(crate) fn key_ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.kid.clone()).collect()
    }

    /// The JSON Web Key Set; `issuer` is written into each key if given.
    pub(crate) fn jwks(&self, issuer: Option<&str>) -> Value {
        json!({ "keys": self.keys.iter().map(|key| key.jwk(issuer)).collect::<Vec<_>>() })
    }

    /// Signs `claims`. The header holds `typ`, `alg`, `kid` (and `x5t` for a v1 token) unless
    /// `header` overrides a member; an override of `null` takes the member out.
    pub(crate) fn sign(
        &self,
        claims: &Map<String, Value>,
        header: &Map<String, Value>,
        with_x5t: bool,
        signature: &TokenSignature,
    ) -> String {
        let signer = self.signer(signature);
        let mut members = Map::new();
        members.insert("typ".into(), json!("JWT"));
        members.insert("alg".into(), json!(signer.algorithm()));
        if let Some(kid) = signer.kid() {
            members.insert("kid".into(), json!(kid));
            if with_x5t {
                members.insert("x5t".into(), json!(kid));
            }
        }
        override_members(&mut members, header);
        let claims = Value::from(claims.clone()).to_string();
        signer.compact(&Value::from(members).to_string(), &claims)
    }

    /// Signs header and payload exactly as given, by the newest key: for tokens that no JSON
    /// writer would produce, such as one with a repeated member.
    pub(crate) fn sign_raw(&self, header: &str, payload: &str) -> String {
        Signer::Published(self.current()).compact(header, payload)
    }

    /// Checks an RS256 signature by the key with this `kid`.
    pub(crate) fn verifies(&self, kid: &str, message: &[u8], signature: &[u8]) -> bool {
        self.keys
            .iter()
            .find(|key| key.kid == kid)
            .is_some_and(|key| {
                key.public()
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                    .is_ok()
            })
    }

    fn current(&self) -> &SigningKey {
        self.keys.last().expect("a ring never loses its last key")
    }

    fn signer(&self, signature: &TokenSignature) -> Signer<'_> {
        let published = |kid: &str| self.keys.iter().find(|key| key.kid == kid);
        match signature {
            TokenSignature::Current => Signer::Published(self.current()),
            TokenSignature::Key(kid) => published(kid).map_or_else(
                || Signer::Stranger(SigningKey::generate()),
                Signer::Published,
            ),
            TokenSignature::Unpublished => Signer::Stranger(SigningKey::generate()),
            TokenSignature::Unsigned => Signer::Nobody,
            TokenSignature::HmacWithPublicKey => Signer::Hmac(self.current()),
        }
    }
}

/// Who signs one token.
enum Signer<'a> {
    Published(&'a SigningKey),
    Stranger(SigningKey),
    Hmac(&'a SigningKey),
    Nobody,
}

impl Signer<'_> {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Published(_) | Self::Stranger(_) => "RS256",
            Self::Hmac(_) => "HS256",
            Self::Nobody => "none",
        }
    }

    fn kid(&self) -> Option<&str> {
        match self {
            Self::Published(key) | Self::Hmac(key) => Some(&key.kid),
            Self::Stranger(key) => Some(&key.kid),
            Self::Nobody => None,
        }
    }

    fn compact(&self, header: &str, payload: &str) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = match self {
            Self::Published(key) => key.sign(message.as_bytes()),
            Self::Stranger(key) => key.sign(message.as_bytes()),
            Self::Hmac(key) => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, key.pair.public_key().as_ref());
                hmac::sign(&secret, message.as_bytes()).as_ref().to_vec()
            }
            Self::Nobody => Vec::new(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Writes every member of `overrides` over `members`; `null` removes.
pub(super) fn override_members(members: &mut Map<String, Value>, overrides: &Map<String, Value>) {
    for (name, value) in overrides {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}
