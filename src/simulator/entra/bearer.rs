//! How the simulated Azure services check a bearer token: signature, issuer, audience, times.
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
use super::directory::AzureService;
use super::keys::KeyRing;
use super::tokens;

/// The principal behind a bearer token that a service accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// `tid`.
    pub(crate) tenant_id: Uuid,
    /// `oid`.
    pub(crate) object_id: Uuid,
}

/// Why a token was not accepted. Storage does not tell the two apart; ARM and the vaults do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BearerRefusal {
    /// It was good until some time ago.
    Expired,
    /// Anything else.
    Invalid,
}

/// Accepts a token for one of Azure's services.
pub(super) fn verify(
    token: &str,
    service: AzureService,
    keys: &KeyRing,
    authority: &Url,
    now: OffsetDateTime,
) -> Result<Bearer, BearerRefusal> {
    let accepted = read(token, service, keys, authority).ok_or(BearerRefusal::Invalid)?;
    let now = now.unix_timestamp();
    if now >= accepted.expires {
        Err(BearerRefusal::Expired)
    } else if now < accepted.not_before {
        Err(BearerRefusal::Invalid)
    } else {
        Ok(accepted.bearer)
    }
}

/// A token in which everything but the time is right.
struct Accepted {
    bearer: Bearer,
    not_before: i64,
    expires: i64,
}

fn read(token: &str, service: AzureService, keys: &KeyRing, authority: &Url) -> Option<Accepted> {
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
    let accepted = Accepted {
        bearer,
        not_before: seconds("nbf")?,
        expires: seconds("exp")?,
    };
    (issued_by_us && service.is(text("aud")?)).then_some(accepted)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
