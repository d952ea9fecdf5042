//! Whether a user-delegation SAS is good for one request. The service's full check.
//!
//! Order: the token's own shape, then times, then the delegation key and the signature, then what
//! binds the token to the request (protocol, address, user). Which letters an operation needs, and
//! what the delegating principal itself may do, is decided by the caller in `access`.

use std::net::IpAddr;

use actix_web::http::header::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::super::super::entra::Bearer;
use super::super::delegation_key::{DelegationKeys, KeyId};
use super::super::errors::{BlobError, Code};
use super::letters::Letters;
use super::string_to_sign::{FromRequest, resource, signature_matches, string_to_sign};
use super::token::SasToken;

/// The request as far as a SAS can be bound to it. Absent texts are empty.
pub(crate) struct Facts<'a> {
    pub(crate) account: &'a str,
    pub(crate) hierarchical_namespace: bool,
    pub(crate) container: &'a str,
    /// The blob or path in the URL.
    pub(crate) path: &'a str,
    /// The directory a listing asks for: where a directory token finds its directory then.
    pub(crate) listed: &'a str,
    pub(crate) https: bool,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) query: &'a [(String, String)],
    pub(crate) headers: &'a HeaderMap,
    /// The accepted bearer token of the same request, if it carried one.
    pub(crate) bearer: Option<Bearer>,
    pub(crate) now: OffsetDateTime,
}

/// What a good token gives.
pub(crate) struct Granted {
    /// The letters of `sp`.
    pub(crate) letters: Letters,
    /// The directory a `sr=d` token is confined to.
    pub(crate) directory: Option<String>,
    /// `skoid`: whose own rights bound the token.
    pub(crate) delegator: Uuid,
}

/// Checks `token` against the request and the keys the account has issued.
pub(crate) fn check(
    token: &SasToken,
    facts: &Facts<'_>,
    keys: &DelegationKeys,
) -> Result<Granted, BlobError> {
    refuse_repeats(facts.query)?;
    if let Some(detail) = token.malformation() {
        return Err(failed(detail));
    }
    let letters = Letters::parse(token.get("sp"), token.get("sr"), token.get("sv"))
        .ok_or_else(|| failed("sp is not in correct format"))?;
    if needs_hierarchical_namespace(token) && !facts.hierarchical_namespace {
        return Err(failed("The account has no hierarchical namespace"));
    }
    let key_id = check_times(token, facts.now)?;
    let delegator = key_id.object_id;
    let directory = signed_directory(token, facts)?;
    check_signature(token, facts, directory.as_deref(), keys, &key_id)?;
    check_protocol_and_address(token, facts)?;
    check_bound_user(token, facts.bearer)?;
    Ok(Granted {
        letters,
        directory,
        delegator,
    })
}

/// A repeated parameter would let two readers of the URL see two different tokens.
fn refuse_repeats(query: &[(String, String)]) -> Result<(), BlobError> {
    let repeated = query
        .iter()
        .enumerate()
        .any(|(at, (name, _))| query[..at].iter().any(|(earlier, _)| earlier == name));
    if repeated {
        Err(Code::InvalidQueryParameterValue.into())
    } else {
        Ok(())
    }
}

fn needs_hierarchical_namespace(token: &SasToken) -> bool {
    token.get("sr") == "d" || !token.get("saoid").is_empty() || !token.get("suoid").is_empty()
}

/// Checks the token's window and its key's window against the clock, without any leeway: leeway
/// is the signer's business (a start in the past).
fn check_times(token: &SasToken, now: OffsetDateTime) -> Result<KeyId, BlobError> {
    let malformed = || failed("Signature fields not well formed.");
    let start = match token.get("st") {
        "" => None,
        _ => Some(token.time("st").ok_or_else(malformed)?),
    };
    let expiry = token.time("se").ok_or_else(malformed)?;
    let key_id = key_id(token).ok_or_else(malformed)?;
    if start.is_some_and(|start| now < start) || now >= expiry {
        return Err(out_of_time("time frame", start, expiry, now));
    }
    if now < key_id.start || now >= key_id.expiry {
        return Err(out_of_time(
            "key time frame",
            Some(key_id.start),
            key_id.expiry,
            now,
        ));
    }
    // Azure documents that such a token merely stops at `ske`. The simulator refuses it at once,
    // so that a broker that signs one is caught on the first use and not on the last.
    if expiry > key_id.expiry {
        return Err(failed(
            "Signature expiry is after the expiry of the user delegation key",
        ));
    }
    Ok(key_id)
}

fn key_id(token: &SasToken) -> Option<KeyId> {
    let delegated = token.get("skdutid");
    Some(KeyId {
        object_id: Uuid::try_parse(token.get("skoid")).ok()?,
        tenant_id: Uuid::try_parse(token.get("sktid")).ok()?,
        start: token.time("skt")?,
        expiry: token.time("ske")?,
        version: token.get("skv").into(),
        delegated_tenant_id: match delegated {
            "" => None,
            _ => Some(Uuid::try_parse(delegated).ok()?),
        },
    })
}

fn out_of_time(
    what: &str,
    start: Option<OffsetDateTime>,
    expiry: OffsetDateTime,
    now: OffsetDateTime,
) -> BlobError {
    let text = |time: OffsetDateTime| time.format(&Rfc3339).expect("the year has four digits");
    let start = start.map(text).unwrap_or_default();
    failed(format!(
        "Signature not valid in the specified {what}: Start [{start}] - Expiry [{}] - Current [{}]",
        text(expiry),
        text(now),
    ))
}

/// `sdd` is not signed. The service takes that many segments off the path of the request and
/// signs the directory they make, so a request outside the directory cannot verify.
fn signed_directory(token: &SasToken, facts: &Facts<'_>) -> Result<Option<String>, BlobError> {
    let Some(depth) = token.directory_depth() else {
        return Ok(None);
    };
    let path = if facts.path.is_empty() {
        facts.listed
    } else {
        facts.path
    };
    let segments: Vec<&str> = path.split('/').take(depth).collect();
    if segments.len() < depth || segments.iter().any(|segment| segment.is_empty()) {
        return Err(failed("The request path is not as deep as sdd"));
    }
    Ok(Some(segments.join("/")))
}

fn check_signature(
    token: &SasToken,
    facts: &Facts<'_>,
    directory: Option<&str>,
    keys: &DelegationKeys,
    key_id: &KeyId,
) -> Result<(), BlobError> {
    let path = match token.get("sr") {
        "c" => "",
        "d" => directory.unwrap_or_default(),
        _ => facts.path,
    };
    let snapshot = match token.get("sr") {
        "bs" => query_value(facts.query, "snapshot"),
        "bv" => query_value(facts.query, "versionid"),
        _ => None,
    };
    let request = FromRequest {
        resource: resource(facts.account, facts.container, path),
        snapshot: snapshot.unwrap_or_default(),
        headers: named_values(token, "srh", |name| header_value(facts.headers, name))?,
        query: named_values(token, "srq", |name| {
            query_value(facts.query, name).map(Into::into)
        })?,
    };
    let string = string_to_sign(token, &request);
    let matches = keys
        .value(key_id)
        .is_some_and(|value| signature_matches(value, &string, token.get("sig")));
    if matches {
        Ok(())
    } else {
        // One answer for a wrong signature, a key of another account and a revoked key, as Azure
        // does; the string helps an honest signer and tells a forger nothing.
        Err(failed(format!(
            "Signature did not match. String to sign used was {string}"
        )))
    }
}

fn named_values(
    token: &SasToken,
    field: &str,
    value: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, BlobError> {
    let pair = |name: &str| {
        let value = value(name).ok_or_else(|| failed(format!("{name} is signed but missing")))?;
        Ok((name.to_owned(), value))
    };
    token.names(field).into_iter().map(pair).collect()
}

fn query_value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

fn header_value(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn check_protocol_and_address(token: &SasToken, facts: &Facts<'_>) -> Result<(), BlobError> {
    if token.get("spr") == "https" && !facts.https {
        return Err(Code::AuthorizationProtocolMismatch.into());
    }
    let Some((first, last)) = token.addresses() else {
        return Ok(());
    };
    let inside = match facts.peer {
        Some(IpAddr::V4(peer)) => first <= peer && peer <= last,
        _ => false,
    };
    if inside {
        Ok(())
    } else {
        Err(Code::AuthorizationSourceIpMismatch.into())
    }
}

/// A user-bound token works only together with that user's own bearer token.
fn check_bound_user(token: &SasToken, bearer: Option<Bearer>) -> Result<(), BlobError> {
    if token.get("sduoid").is_empty() {
        return Ok(());
    }
    let tenant = match token.get("skdutid") {
        "" => token.get("sktid"),
        delegated => delegated,
    };
    let same = |text: &str, id: Uuid| Uuid::try_parse(text) == Ok(id);
    match bearer {
        Some(user) if same(token.get("sduoid"), user.object_id) && same(tenant, user.tenant_id) => {
            Ok(())
        }
        Some(_) => Err(failed("The bearer token is not the delegated user's")),
        None => Err(failed("A bearer token of the delegated user is required")),
    }
}

fn failed(detail: impl Into<String>) -> BlobError {
    BlobError::with_detail(Code::AuthenticationFailed, detail)
}
