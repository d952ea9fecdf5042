//! The signature of a token in compact form (RFC 7515 §7.1): RS256 by one of the given keys, or
//! nothing. Never what the payload means.
//!
//! The algorithm comes from our list of one, never from the token. `jku`, `jwk`, `x5u` and `x5c`
//! are not even read: a key that the token brings along proves nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{
    key::{KID_BYTES_MAX, SigningKey},
    strict_json::{self, NotStrict},
    verify::TokenRefused,
};

/// Longest token that is looked at, in bytes. Entra's stay under 8 KiB even with 200 groups, and
/// Entra itself keeps tokens small enough for common header limits.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token taken apart, nothing of it trusted.
#[derive(Clone, Copy)]
pub(super) struct Compact<'t> {
    /// Header and payload as they were signed.
    message: &'t str,
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Compact<'t> {
    /// Splits three parts.
    pub(super) fn split(token: &'t str) -> Result<Self, TokenRefused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenRefused::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenRefused::Malformed)?;
        if payload.contains('.') {
            return Err(TokenRefused::Malformed);
        }
        Ok(Self {
            message,
            header,
            payload,
            signature,
        })
    }

    /// The payload's bytes.
    pub(super) fn payload(&self) -> Result<Vec<u8>, TokenRefused> {
        decode(self.payload)
    }
}

/// Checks a token's signature: exactly three parts in unpadded base64url, a header with `alg` RS256,
/// a `kid` of `keys` and no critical extension, and a true signature. Returns the payload, whatever
/// it is, and the key that signed it.
///
/// # Errors
/// [`TokenRefused`] names the first rule that was broken.
pub fn verify_rs256<'k>(
    token: &str,
    keys: &'k [SigningKey],
) -> Result<(Vec<u8>, &'k SigningKey), TokenRefused> {
    let token = Compact::split(token)?;
    let header = object(&decode(token.header)?)?;
    if header.get("alg").and_then(Value::as_str) != Some("RS256") {
        return Err(TokenRefused::Algorithm);
    }
    // We understand no extension, so none may be critical (RFC 7515 §4.1.11).
    if header.contains_key("crit") {
        return Err(TokenRefused::CriticalHeader);
    }
    let kid = header
        .get("kid")
        .and_then(Value::as_str)
        .ok_or(TokenRefused::NoKeyId)?;
    if kid.is_empty() || kid.len() > KID_BYTES_MAX {
        return Err(TokenRefused::NoKeyId);
    }
    let key = keys
        .iter()
        .find(|key| key.kid() == kid)
        .ok_or(TokenRefused::UnknownKey)?;
    let message = token.message.as_bytes();
    let genuine =
        jsonwebtoken::crypto::verify(token.signature, message, key.decoding(), Algorithm::RS256);
    if !genuine.unwrap_or(false) {
        return Err(TokenRefused::Signature);
    }
    Ok((token.payload()?, key))
}

/// One JSON object with unique members.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, TokenRefused> {
    strict_json::object(bytes).map_err(|error| match error {
        NotStrict::Malformed => TokenRefused::Malformed,
        NotStrict::Duplicate => TokenRefused::DuplicateMember,
    })
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRefused> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenRefused::Malformed)
}
