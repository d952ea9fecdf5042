//! The signer: a [`SasSpec`] and a [`UserDelegationKey`] become a token. Pure; it decides nothing
//! about who may have what, and a field that cannot be signed is refused, never left out.
//!
//! The facts are those of Microsoft's "Create a user delegation SAS" and of the official SDKs'
//! sources. The simulator verifies tokens with code of its own: two readings of one protocol test
//! each other, so they must not be merged. Next to read: the table in `layout.rs`.

mod ip;
mod key;
mod layout;
mod spec;

use std::{borrow::Cow, fmt};

use aws_lc_rs::digest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use self::layout::{Field, LINES, Layout, Line, letters_too_new, resource_since};
pub use self::{
    ip::{InvalidIp, SignedIp},
    key::{InvalidKey, KeyElements, UserDelegationKey},
    layout::{InvalidVersion, ServiceVersion},
    spec::{
        EndUser, FIELD_TEXT_CHARS_MAX, FieldText, InvalidText, ResponseHeaders, SIGNED_PAIRS_MAX,
        SasSpec, SasTarget, SignedPair,
    },
};
use super::{
    permission::{PermissionSet, SignedResource},
    time_text,
};

/// The only protocol that we sign, `spr`: over plain HTTP the token itself could be read.
pub const SIGNED_PROTOCOL: &str = "https";

/// Why a spec cannot be signed with this key at this service version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A token without a letter opens nothing.
    #[error("a token needs at least one permission letter")]
    NoPermissions,
    /// Letters that the service refuses for this kind of resource.
    #[error("permissions {letters} do not exist for signed resource {}", .resource.code())]
    IllegalLetters {
        /// Those letters.
        letters: PermissionSet,
        /// The resource.
        resource: SignedResource,
    },
    /// Letters that the service version does not know.
    #[error("permissions {letters} need service version {since} or later")]
    LettersTooNew {
        /// Those letters.
        letters: PermissionSet,
        /// The version that brought them.
        since: ServiceVersion,
    },
    /// A resource that the service version does not know.
    #[error("signed resource {} needs service version {since} or later", .resource.code())]
    ResourceTooNew {
        /// The resource.
        resource: SignedResource,
        /// The version that brought it.
        since: ServiceVersion,
    },
    /// A field that the service version does not sign.
    #[error("field {parameter} needs service version {since} or later")]
    FieldTooNew {
        /// Its name in a token.
        parameter: &'static str,
        /// The version that brought it.
        since: ServiceVersion,
    },
    /// The signed form has whole seconds.
    #[error("start and expiry must be whole seconds")]
    FractionOfSecond,
    /// The token would never be valid.
    #[error("a token must not expire before or when it starts")]
    EmptyWindow,
    /// The token would end earlier than it says.
    #[error("a token must not expire after the user delegation key that signs it")]
    OutlivesKey,
    /// Two values for one header or query parameter.
    #[error("field {parameter} must not name anything twice")]
    RepeatedName {
        /// `srh` or `srq`.
        parameter: &'static str,
    },
    /// More than [`SIGNED_PAIRS_MAX`].
    #[error("field {parameter} must not name more than {SIGNED_PAIRS_MAX}")]
    TooManyNames {
        /// `srh` or `srq`.
        parameter: &'static str,
    },
}

/// A signed token. It opens what it says to whoever holds it, so that `Debug` does not show it and
/// memory is cleared behind it.
pub struct SignedSas {
    token: Zeroizing<String>,
    signature_sha256: String,
}

impl SignedSas {
    /// The secret itself: a query string without `?`.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        &self.token
    }

    /// SHA-256 of the signature's base64 text, in lower-case hex. The service's own logs name
    /// a token by it (`identity.tokenHash`), so that it joins a log line to our journal.
    #[must_use]
    pub fn signature_sha256(&self) -> &str {
        &self.signature_sha256
    }
}

impl fmt::Debug for SignedSas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedSas")
            .field("signature_sha256", &self.signature_sha256)
            .finish_non_exhaustive()
    }
}

/// Signs `spec` with `key` as `version` wants it.
///
/// # Errors
/// [`SignError`]; nothing is signed in part.
pub fn sign(
    spec: &SasSpec,
    key: &UserDelegationKey,
    version: ServiceVersion,
) -> Result<SignedSas, SignError> {
    let fields = signed_fields(spec, key, version)?;
    let signature = key.signature(&join(&fields));
    let hash = digest::digest(&digest::SHA256, signature.as_bytes());
    Ok(SignedSas {
        token: token(spec, &fields, &signature),
        signature_sha256: hex::encode(hash),
    })
}

/// The text that [`sign`] signs, for tests and tools. It is no secret.
///
/// # Errors
/// Those of [`sign`].
pub fn string_to_sign(
    spec: &SasSpec,
    key: &UserDelegationKey,
    version: ServiceVersion,
) -> Result<String, SignError> {
    signed_fields(spec, key, version).map(|fields| join(&fields))
}

/// A line of the layout with what stands on it; empty if the spec does not say it.
type SignedField<'a> = (&'static Line, Cow<'a, str>);

fn signed_fields<'a>(
    spec: &'a SasSpec,
    key: &'a UserDelegationKey,
    version: ServiceVersion,
) -> Result<Vec<SignedField<'a>>, SignError> {
    check_permissions(spec, version)?;
    check_window(spec, key.expiry())?;
    check_names("srh", &spec.request_headers)?;
    check_names("srq", &spec.request_query)?;
    let layout = Layout::of(version);
    let mut fields = Vec::with_capacity(LINES.len());
    for line in &LINES {
        let text = text(line.field, spec, key, version);
        if layout.holds(line) {
            fields.push((line, text));
        } else if !text.is_empty() {
            return Err(SignError::FieldTooNew {
                parameter: line.parameter,
                since: line.since,
            });
        }
    }
    Ok(fields)
}

fn check_permissions(spec: &SasSpec, version: ServiceVersion) -> Result<(), SignError> {
    let resource = spec.target.resource();
    let since = resource_since(resource);
    if version < since {
        return Err(SignError::ResourceTooNew { resource, since });
    }
    if spec.permissions.is_empty() {
        return Err(SignError::NoPermissions);
    }
    let letters = spec.permissions.difference(resource.legal());
    if !letters.is_empty() {
        return Err(SignError::IllegalLetters { letters, resource });
    }
    match letters_too_new(spec.permissions, version) {
        Some((letters, since)) => Err(SignError::LettersTooNew { letters, since }),
        None => Ok(()),
    }
}

fn check_window(spec: &SasSpec, key_expiry: OffsetDateTime) -> Result<(), SignError> {
    if spec
        .start
        .into_iter()
        .chain([spec.expiry])
        .any(|at| at.nanosecond() != 0)
    {
        return Err(SignError::FractionOfSecond);
    }
    if spec.start.is_some_and(|start| start >= spec.expiry) {
        return Err(SignError::EmptyWindow);
    }
    if spec.expiry > key_expiry {
        return Err(SignError::OutlivesKey);
    }
    Ok(())
}

/// Header names have no case, and a request could carry only one of two values.
fn check_names(parameter: &'static str, pairs: &[SignedPair]) -> Result<(), SignError> {
    if pairs.len() > SIGNED_PAIRS_MAX {
        return Err(SignError::TooManyNames { parameter });
    }
    let repeats = |(place, pair): (usize, &SignedPair)| {
        pairs[..place]
            .iter()
            .any(|earlier| earlier.name().eq_ignore_ascii_case(pair.name()))
    };
    if pairs.iter().enumerate().any(repeats) {
        return Err(SignError::RepeatedName { parameter });
    }
    Ok(())
}

/// What a field says, as it is signed: unencoded, and empty if absent.
fn text<'a>(
    field: Field,
    spec: &'a SasSpec,
    key: &'a UserDelegationKey,
    version: ServiceVersion,
) -> Cow<'a, str> {
    let overrides = &spec.response_headers;
    match field {
        Field::Permissions => owned(Some(spec.permissions)),
        Field::Start => spec
            .start
            .map(time_text::to_text)
            .unwrap_or_default()
            .into(),
        Field::Expiry => time_text::to_text(spec.expiry).into(),
        Field::CanonicalizedResource => canonicalized_resource(spec).into(),
        Field::KeyObjectId => Cow::Borrowed(&key.signed_oid),
        Field::KeyTenantId => Cow::Borrowed(&key.signed_tid),
        Field::KeyStart => Cow::Borrowed(&key.signed_start),
        Field::KeyExpiry => Cow::Borrowed(&key.signed_expiry),
        Field::KeyService => key.signed_service.as_str().into(),
        Field::KeyVersion => key.signed_version.as_str().into(),
        Field::AuthorizedObjectId => owned(match spec.end_user {
            Some(EndUser::Authorized(object_id)) => Some(object_id),
            Some(EndUser::Unauthorized(_)) | None => None,
        }),
        Field::UnauthorizedObjectId => owned(match spec.end_user {
            Some(EndUser::Unauthorized(object_id)) => Some(object_id),
            Some(EndUser::Authorized(_)) | None => None,
        }),
        Field::CorrelationId => owned(spec.correlation_id),
        Field::KeyDelegatedTenantId => key
            .signed_delegated_user_tid
            .as_deref()
            .unwrap_or_default()
            .into(),
        Field::DelegatedUserObjectId => owned(spec.delegated_user_object_id),
        Field::Ip => owned(spec.ip),
        Field::Protocol => SIGNED_PROTOCOL.into(),
        Field::Version => owned(Some(version)),
        Field::Resource => spec.target.resource().code().into(),
        Field::SnapshotOrVersionId => spec.target.snapshot_or_version_id().into(),
        Field::EncryptionScope => borrowed(spec.encryption_scope.as_ref()),
        Field::RequestHeaders => signed_headers(&spec.request_headers).into(),
        Field::RequestQuery => signed_query(&spec.request_query).into(),
        Field::CacheControl => borrowed(overrides.cache_control.as_ref()),
        Field::ContentDisposition => borrowed(overrides.content_disposition.as_ref()),
        Field::ContentEncoding => borrowed(overrides.content_encoding.as_ref()),
        Field::ContentLanguage => borrowed(overrides.content_language.as_ref()),
        Field::ContentType => borrowed(overrides.content_type.as_ref()),
    }
}

fn owned(value: Option<impl fmt::Display>) -> Cow<'static, str> {
    value.map_or(Cow::Borrowed(""), |value| value.to_string().into())
}

fn borrowed(value: Option<&FieldText>) -> Cow<'_, str> {
    value.map_or("", FieldText::as_str).into()
}

/// The resource by its name, raw: neither encoded nor normalised. Data Lake tokens, too, say
/// `/blob`.
fn canonicalized_resource(spec: &SasSpec) -> String {
    let (account, container) = (&spec.account, &spec.container);
    match spec.target.path() {
        Some(path) => format!("/blob/{account}/{container}/{path}"),
        None => format!("/blob/{account}/{container}"),
    }
}

/// Each header ends in a newline, so that a blank line stands before the next field.
fn signed_headers(pairs: &[SignedPair]) -> String {
    pairs
        .iter()
        .map(|pair| format!("{}:{}\n", pair.name(), pair.value()))
        .collect()
}

/// Each parameter begins with a newline, so that a blank line stands before the first.
fn signed_query(pairs: &[SignedPair]) -> String {
    pairs
        .iter()
        .map(|pair| format!("\n{}:{}", pair.name(), pair.value()))
        .collect()
}

fn join(fields: &[SignedField<'_>]) -> String {
    fields
        .iter()
        .map(|(_, text)| &**text)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What RFC 3986 leaves unreserved; all else is escaped, since a raw `+` or `&` changes a value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn escape(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ESCAPED)
}

/// Bytes that a token can need, all of it escaped.
fn token_room(fields: &[SignedField<'_>], signature: &str) -> usize {
    let room = |text: &str| "&skdutid=".len() + 3 * text.len();
    let deepest = "254";
    fields.iter().map(|(_, text)| room(text)).sum::<usize>() + room(deepest) + room(signature)
}

fn token(spec: &SasSpec, fields: &[SignedField<'_>], signature: &str) -> Zeroizing<String> {
    // Growing would leave a copy of the secret behind.
    let mut token = Zeroizing::new(String::with_capacity(token_room(fields, signature)));
    for (line, text) in fields.iter().filter(|(line, _)| !line.parameter.is_empty()) {
        let name = line.parameter;
        match line.field {
            // The names alone: a request brings the values.
            Field::RequestHeaders => push(&mut token, name, names(&spec.request_headers)),
            Field::RequestQuery => push(&mut token, name, names(&spec.request_query)),
            _ => push(
                &mut token,
                name,
                Some(&**text).filter(|text| !text.is_empty()),
            ),
        }
    }
    if let SasTarget::Directory(path) = &spec.target {
        // Not signed: the service rebuilds the signed path from the request's URL and this depth.
        push(&mut token, "sdd", [&*path.depth().to_string()]);
    }
    push(&mut token, "sig", [signature]);
    token
}

fn names(pairs: &[SignedPair]) -> impl Iterator<Item = &str> {
    pairs.iter().map(SignedPair::name)
}

/// Adds a parameter, its values between bare commas; nothing if there is no value.
fn push<'a>(token: &mut String, name: &str, values: impl IntoIterator<Item = &'a str>) {
    for (place, value) in values.into_iter().enumerate() {
        match place {
            0 if token.is_empty() => token.extend([name, "="]),
            0 => token.extend(["&", name, "="]),
            _ => token.push(','),
        }
        token.extend(escape(value));
    }
}

#[cfg(test)]
mod tests;
