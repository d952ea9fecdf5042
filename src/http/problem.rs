//! Errors as RFC 9457 problem documents, and the one table from codes to statuses.
//!
//! 401 says who are you, 403 you are known but may not, 4xx otherwise your request is wrong, 503 we
//! cannot now. A code is stable; the sentence beside it is for people.

use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::{Serialize, Serializer};
use tracing::error;
use utoipa::ToSchema;

use crate::{
    app::{
        authenticate::AuthError,
        issue::{IssueError, ItemError},
        mint::MintError,
    },
    domain::{decide::Refusal, permit::NotPermitted},
    ports::StoreError,
};

mod operators;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How long a client should wait where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS_DEFAULT: u32 = 5;

/// One row of the table.
#[derive(Debug, Serialize, ToSchema)]
pub struct Kind {
    /// Identifies the kind of problem: `urn:sas-broker:problem:` and the code.
    #[schema(example = "urn:sas-broker:problem:no-grant")]
    pub r#type: &'static str,
    /// The kind of problem, for people.
    #[schema(example = "No grant covers the request")]
    pub title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 403)]
    pub status: StatusCode,
    /// The stable code.
    #[schema(example = "no-grant")]
    pub code: &'static str,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference to the field"
)]
fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// Declares every code once: its status and its title.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal;)*) => {
        /// The table.
        pub static KINDS: &[Kind] = &[$(Kind {
            r#type: concat!("urn:sas-broker:problem:", $text),
            title: $title,
            status: StatusCode::$status,
            code: $text,
        }),*];

        /// Every code.
        pub mod code {
            $($(#[$doc])* #[doc = $title] pub const $name: &str = $text;)*
        }
    };
}

codes! {
    INVALID_REQUEST = "invalid-request", BAD_REQUEST, "The request is not well formed";
    BODY_TOO_LARGE = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    TARGET_TOO_LONG = "target-too-long", URI_TOO_LONG, "The request target is too long";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is of another media type";
    NOT_FOUND = "not-found", NOT_FOUND, "There is no such resource";
    METHOD_NOT_ALLOWED = "method-not-allowed", METHOD_NOT_ALLOWED, "The resource has no such method";
    TIMEOUT = "timeout", SERVICE_UNAVAILABLE, "The request took too long";
    MISSING_TOKEN = "missing-token", UNAUTHORIZED, "An access token is needed";
    INVALID_TOKEN = "invalid-token", UNAUTHORIZED, "The access token is not accepted";
    INSUFFICIENT_SCOPE = "insufficient-scope", FORBIDDEN, "The access token lacks a scope or role";
    IDENTITY_PROVIDER_UNAVAILABLE = "identity-provider-unavailable", SERVICE_UNAVAILABLE, "Entra's signing keys cannot be had";
    NO_GRANT = "no-grant", FORBIDDEN, "No grant covers the request";
    PERMISSION_NOT_GRANTED = "permission-not-granted", FORBIDDEN, "Some letters are not granted";
    DENIED = "denied", FORBIDDEN, "A deny takes what was asked";
    IP_REQUIRED = "ip-required", FORBIDDEN, "The grant needs an address";
    IP_NOT_ALLOWED = "ip-not-allowed", FORBIDDEN, "The address is outside of the grant's networks";
    NETWORK_NOT_ALLOWED = "network-not-allowed", FORBIDDEN, "The grant does not hold from here";
    SCOPE_EXCEEDS_GRANT = "scope-exceeds-grant", FORBIDDEN, "The grants cover only a part of it";
    DIRECTORY_NEEDS_NAMESPACE = "directory-needs-namespace", FORBIDDEN, "A flat account has no directories";
    ISSUANCE_DISABLED = "issuance-disabled", FORBIDDEN, "Issuing is switched off";
    PERMISSION_DISABLED = "permission-disabled", FORBIDDEN, "This broker does not issue these letters";
    WINDOW_TOO_SHORT = "window-too-short", FORBIDDEN, "The token would live too short";
    GROUPS_MISSING = "groups-missing", FORBIDDEN, "The token does not name the groups";
    GROUPS_OVERAGE = "groups-overage", FORBIDDEN, "Too many groups for a token";
    NOT_SIGNABLE = "not-signable", UNPROCESSABLE_ENTITY, "The configured service version cannot sign this";
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The key belongs to another request";
    IDEMPOTENCY_EXPIRED = "idempotency-expired", CONFLICT, "The recorded token has expired";
    IDEMPOTENCY_REFUSED = "idempotency-refused", CONFLICT, "It was refused when the key was first used";
    DELEGATION_KEY_UNAVAILABLE = "delegation-key-unavailable", SERVICE_UNAVAILABLE, "There is no user delegation key now";
    AUDIT_UNAVAILABLE = "audit-unavailable", SERVICE_UNAVAILABLE, "The journal cannot record";
    POLICY_UNAVAILABLE = "policy-unavailable", SERVICE_UNAVAILABLE, "The role table cannot be read";
    POLICY_UNSETTLED = "policy-unsettled", SERVICE_UNAVAILABLE, "The role table keeps changing";
    DATABASE_UNAVAILABLE = "database-unavailable", SERVICE_UNAVAILABLE, "The database does not answer";
    UNKNOWN_ACCOUNT = "unknown-account", NOT_FOUND, "The broker manages no such account";
    UNKNOWN_ROTATION = "unknown-rotation", NOT_FOUND, "The account has no such rotation";
    ROTATION_NOT_CONFIGURED = "rotation-not-configured", CONFLICT, "The account's keys are not rotated";
    NOTHING_PUBLISHED = "nothing-published", CONFLICT, "No key is published yet";
    RESOURCE_ID_MISSING = "resource-id-missing", CONFLICT, "The account's ARM id is not known";
    AZURE_REFUSED = "azure-refused", BAD_GATEWAY, "Azure does not let the broker do it";
    AZURE_THROTTLED = "azure-throttled", SERVICE_UNAVAILABLE, "Azure asks to be left alone";
    AZURE_UNAVAILABLE = "azure-unavailable", SERVICE_UNAVAILABLE, "Azure cannot do it now";
    AZURE_UNCLEAR = "azure-unclear", GATEWAY_TIMEOUT, "Nobody knows yet whether Azure did it";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "The broker failed";
}

/// A problem document (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Which row of the table.
    #[serde(flatten)]
    kind: &'static Kind,
    /// What happened this time.
    #[schema(example = "no grant covers this request")]
    #[schema(value_type = String)]
    pub detail: Box<str>,
    /// What to do about it, where it is safe to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// What was weighed: one line for each grant of the caller that touches the request.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub reasons: Box<[String]>,
    /// Seconds to wait before trying again, where that can help.
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
    #[serde(skip)]
    challenge: Option<Box<str>>,
}

impl Problem {
    /// A problem of this code, with what happened.
    ///
    /// # Panics
    /// If the code is not in [`KINDS`]; a test walks every code there is.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<Box<str>>) -> Self {
        let kind = KINDS.iter().find(|kind| kind.code == code);
        let kind = kind.expect("every code stands in the table");
        let retry =
            (kind.status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS_DEFAULT);
        Self {
            kind,
            detail: detail.into(),
            hint: None,
            reasons: Box::default(),
            retry_after_seconds: retry,
            challenge: None,
        }
    }

    /// The same, to be tried again after a while.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_seconds = Some(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1));
        self
    }

    /// The same, with what to do about it.
    #[must_use]
    pub const fn hint(mut self, hint: Option<&'static str>) -> Self {
        self.hint = hint;
        self
    }

    fn challenge(mut self, challenge: String) -> Self {
        self.challenge = Some(challenge.into());
        self
    }

    /// No bearer token (RFC 6750 §3.1: no error code without credentials).
    #[must_use]
    pub fn missing_token() -> Self {
        Self::new(
            code::MISSING_TOKEN,
            "send an Entra access token: Authorization: Bearer …",
        )
        .challenge(r#"Bearer realm="sas-broker""#.to_owned())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Some(challenge) = &self.challenge {
            response.insert_header((WWW_AUTHENTICATE, &**challenge));
        }
        response
            .body(serde_json::to_string(self).expect("a problem holds nothing that JSON cannot"))
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Refused(refused) => {
                let reason = refused.to_string();
                let challenge = format!(
                    r#"Bearer realm="sas-broker", error="invalid_token", error_description="{reason}""#
                );
                Self::new(code::INVALID_TOKEN, reason).challenge(challenge)
            }
            AuthError::KeysUnavailable(unavailable) => Self::new(
                code::IDENTITY_PROVIDER_UNAVAILABLE,
                "Entra's signing keys cannot be had",
            )
            .retry_after(unavailable.retry_after),
        }
    }
}

impl From<NotPermitted> for Problem {
    fn from(error: NotPermitted) -> Self {
        let challenge = format!(
            r#"Bearer realm="sas-broker", error="insufficient_scope", error_description="{error}""#
        );
        Self::new(code::INSUFFICIENT_SCOPE, error.to_string()).challenge(challenge)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        error!(%error, "the role table cannot be read");
        Self::new(
            code::POLICY_UNAVAILABLE,
            "the role table cannot be read; try again",
        )
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::AuditUnavailable(_) => Self::new(
                code::AUDIT_UNAVAILABLE,
                "the audit journal cannot record, so no token is given out; try again",
            ),
            IssueError::PolicyUnavailable(error) => error.into(),
            IssueError::Unsettled => Self::new(code::POLICY_UNSETTLED, error.to_string()),
            IssueError::KeyReused => Self::new(code::IDEMPOTENCY_KEY_REUSED, error.to_string())
                .hint(Some("use a new key for a new request")),
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.code().as_str(), refusal.to_string()).hint(refusal.hint())
    }
}

impl From<ItemError> for Problem {
    fn from(error: ItemError) -> Self {
        match error {
            ItemError::Refused(refused) => Self {
                reasons: refused.reasons.into(),
                ..(&refused.refusal).into()
            },
            ItemError::Mint(MintError::Key(unavailable)) => Self::new(
                code::DELEGATION_KEY_UNAVAILABLE,
                "Azure storage gives no user delegation key now; try again",
            )
            .retry_after(unavailable.retry_after),
            ItemError::Mint(error @ MintError::KeyEndsTooSoon) => {
                Self::new(code::DELEGATION_KEY_UNAVAILABLE, error.to_string())
            }
            ItemError::Mint(MintError::NotSignable(error)) => {
                Self::new(code::NOT_SIGNABLE, error.to_string())
            }
            ItemError::ReplayTooLate => {
                Self::new(code::IDEMPOTENCY_EXPIRED, error.to_string()).hint(Some("use a new key"))
            }
            ItemError::RefusedBefore => {
                Self::new(code::IDEMPOTENCY_REFUSED, error.to_string()).hint(Some("use a new key"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::RefusalCode;

    #[test]
    fn every_refusal_of_the_role_table_has_its_row_and_is_a_403() {
        for refusal in RefusalCode::ALL {
            let row = KINDS.iter().find(|kind| kind.code == refusal.as_str());
            assert_eq!(
                row.map(|kind| kind.status),
                Some(StatusCode::FORBIDDEN),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn codes_are_unique() {
        let unique: std::collections::HashSet<_> = KINDS.iter().map(|kind| kind.code).collect();
        assert_eq!(unique.len(), KINDS.len());
    }

    #[test]
    fn the_docs_list_every_code_with_its_status() {
        let page = include_str!("../../docs/errors.md");
        for Kind {
            code,
            status,
            title,
            ..
        } in KINDS
        {
            let row = format!("| `{code}` | {} | {title} |", status.as_u16());
            assert!(page.contains(&row), "docs/errors.md lacks the row: {row}");
        }
    }
}
