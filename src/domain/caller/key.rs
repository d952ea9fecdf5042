//! An issuer and the keys that it signs with, checked once when they come in. Never how they are
//! fetched or kept.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use url::Url;

use super::super::ids::TenantId;

/// Bits of the shortest RSA modulus that counts, and of the longest that the verifier takes.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Longest `kid`, in bytes; Entra's have 27 to 43.
pub(super) const KID_BYTES_MAX: usize = 256;

/// Which of Entra's two token shapes: the API's own manifest decides it, and each has an issuer and
/// a discovery document of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenVersion {
    /// Claim `ver` is `1.0`; the issuer ends in `/{tid}/`.
    V1,
    /// Claim `ver` is `2.0`; the issuer ends in `/{tid}/v2.0`.
    V2,
}

impl TokenVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The value of claim `ver`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }

    /// Reads claim `ver`.
    #[must_use]
    pub fn from_claim(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }
}

impl fmt::Display for TokenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// SHA-256 of a public key: tells whether a `kid` still names the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The members of a JSON web key (RFC 7517 §4, RFC 7518 §6.3) that decide whether it may verify
/// access tokens, as they stand in the set. Everything else in a key, certificates included, is
/// ignored.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyMembers<'a> {
    /// `kty`.
    pub kty: &'a str,
    /// `kid`.
    pub kid: &'a str,
    /// `use`.
    pub public_key_use: Option<&'a str>,
    /// `key_ops`.
    pub key_ops: Option<&'a [String]>,
    /// `alg`; Entra leaves it out.
    pub alg: Option<&'a str>,
    /// `n`, base64url of the big-endian modulus.
    pub n: &'a str,
    /// `e`, base64url of the big-endian exponent.
    pub e: &'a str,
}

/// Why a key may not verify access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKey {
    /// Not RSA, or kept for another use or algorithm.
    #[error("the key is not an RSA key for RS256 signatures")]
    Purpose,
    /// No `kid`, or an overlong one.
    #[error("the key's kid is missing or too long")]
    KeyId,
    /// Shorter than 2,048 bits, longer than 8,192, or with an exponent that no sound key has.
    #[error("the key's modulus or exponent is not sound")]
    Strength,
}

/// One RSA key of an issuer.
#[derive(Clone)]
pub struct SigningKey {
    kid: Box<str>,
    fingerprint: Fingerprint,
    decoding: DecodingKey,
}

impl SigningKey {
    /// Checks the members: `kty` RSA, `use` `sig` or absent, `key_ops` `verify` or absent, `alg`
    /// `RS256` or absent, 2,048 bits at least.
    ///
    /// # Errors
    /// [`UnfitKey`] names the rule.
    pub fn new(members: &KeyMembers<'_>) -> Result<Self, UnfitKey> {
        let verifies = |operations: &[String]| operations.iter().any(|op| op == "verify");
        let fits = members.kty == "RSA"
            && members
                .public_key_use
                .is_none_or(|purpose| purpose == "sig")
            && members.key_ops.is_none_or(verifies)
            && members.alg.is_none_or(|algorithm| algorithm == "RS256");
        if !fits {
            return Err(UnfitKey::Purpose);
        }
        if members.kid.is_empty() || members.kid.len() > KID_BYTES_MAX {
            return Err(UnfitKey::KeyId);
        }
        let modulus = unsigned(members.n)?;
        let exponent = unsigned(members.e)?;
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let sound = MODULUS_BITS.contains(&bits(&modulus))
            && odd(&modulus)
            && (2..=32).contains(&bits(&exponent))
            && odd(&exponent);
        if !sound {
            return Err(UnfitKey::Strength);
        }
        Ok(Self {
            kid: members.kid.into(),
            fingerprint: fingerprint(&modulus, &exponent),
            decoding: DecodingKey::from_rsa_raw_components(&modulus, &exponent),
        })
    }

    /// Its id within the issuer's set.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What tells it from another key under the same id.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Big-endian bytes without leading zeros.
fn unsigned(text: &str) -> Result<Vec<u8>, UnfitKey> {
    let mut bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| UnfitKey::Strength)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

fn bits(number: &[u8]) -> usize {
    number
        .first()
        .map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn fingerprint(modulus: &[u8], exponent: &[u8]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    // The length keeps the border between the two numbers.
    context.update(&modulus.len().to_be_bytes());
    context.update(modulus);
    context.update(exponent);
    Fingerprint(
        context
            .finish()
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes"),
    )
}

/// Why a discovery document is not the expected issuer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitIssuer {
    /// Its `issuer` is not an https URL that ends in the directory's id in the version's form.
    #[error("the discovery document names another issuer than the directory's")]
    Issuer,
    /// None of its keys can be used.
    #[error("the issuer publishes no usable signing key")]
    NoKeys,
}

/// The issuer of one directory's tokens of one version, with its current keys.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    issuer: Box<str>,
    tenant_id: TenantId,
    version: TokenVersion,
    keys: Vec<SigningKey>,
}

impl IssuerKeys {
    /// Takes over what discovery said. The issuer's host is the cloud's choice
    /// (`https://sts.windows.net/…`, `https://sts.chinacloudapi.cn/…`), its path is the
    /// directory's. A `kid` that stands for two different keys stands for neither.
    ///
    /// # Errors
    /// [`UnfitIssuer`].
    pub fn new(
        issuer: &str,
        tenant_id: TenantId,
        version: TokenVersion,
        mut keys: Vec<SigningKey>,
    ) -> Result<Self, UnfitIssuer> {
        let url: Url = issuer.parse().map_err(|_| UnfitIssuer::Issuer)?;
        let path = match version {
            TokenVersion::V1 => format!("/{tenant_id}/"),
            TokenVersion::V2 => format!("/{tenant_id}/v2.0"),
        };
        let plain = url.scheme() == "https" && url.query().is_none() && url.fragment().is_none();
        if !plain || url.path() != path {
            return Err(UnfitIssuer::Issuer);
        }
        keys.sort_by(|a, b| a.kid.cmp(&b.kid));
        keys.dedup_by(|a, b| a.kid == b.kid && a.fingerprint == b.fingerprint);
        let kids: Vec<Box<str>> = keys.iter().map(|key| key.kid.clone()).collect();
        keys.retain(|key| kids.iter().filter(|kid| **kid == key.kid).count() == 1);
        if keys.is_empty() {
            return Err(UnfitIssuer::NoKeys);
        }
        Ok(Self {
            issuer: issuer.into(),
            tenant_id,
            version,
            keys,
        })
    }

    /// What claim `iss` must be.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What claim `tid` must be.
    #[must_use]
    pub const fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    /// What claim `ver` must be.
    #[must_use]
    pub const fn version(&self) -> TokenVersion {
        self.version
    }

    /// Its keys, ordered by `kid`, each `kid` once.
    #[must_use]
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// Whether the set still holds this very key.
    #[must_use]
    pub fn holds(&self, kid: &str, fingerprint: Fingerprint) -> bool {
        self.keys
            .iter()
            .any(|key| &*key.kid == kid && key.fingerprint == fingerprint)
    }
}
