//! How the simulated Azure Storage checks a bearer token: signature, issuer, audience, times.
//!
//! This is the *service's* side. The broker has its own verifier in `domain::caller`; the two
//! share nothing, so that a mistake in one is seen by the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::super::spec::TokenVersion;
use super::directory;
use super::keys::KeyRing;
use super::tokens;

/// The principal behind a bearer token that storage accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// `tid`.
    pub(crate) tenant_id: Uuid,
    /// `oid`.
    pub(crate) object_id: Uuid,
}

/// Accepts a token for Azure Storage, or `None`; the service does not say what it disliked.
pub(super) fn verify(
    token: &str,
    keys: &KeyRing,
    authority: &Url,
    now: OffsetDateTime,
) -> Option<Bearer> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header = object(header)?;
    if header.get("alg")?.as_str()? != "RS256" {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !keys.verifies(header.get("kid")?.as_str()?, message.as_bytes(), &signature) {
        return None;
    }
    let claims = object(payload)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
    let bearer = Bearer {
        tenant_id: Uuid::try_parse(text("tid")?).ok()?,
        object_id: Uuid::try_parse(text("oid")?).ok()?,
    };
    let issued_by_us = [TokenVersion::V1, TokenVersion::V2]
        .into_iter()
        .any(|version| {
            text("iss") == Some(tokens::issuer(authority, bearer.tenant_id, version).as_str())
        });
    let now = now.unix_timestamp();
    let timely = seconds("nbf")? <= now && now < seconds("exp")?;
    (issued_by_us && timely && directory::is_storage(text("aud")?)).then_some(bearer)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
