//! Key Vault's refusals: status, code, inner code, sentence, and the JSON around them.
//!
//! The sentences follow Azure's, because people search for them.

use std::fmt;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::WWW_AUTHENTICATE;
use serde_json::json;
use url::Url;
use uuid::Uuid;

/// Every refusal of a simulated vault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum VaultError {
    /// No bearer token: the first half of the challenge.
    NoToken,
    /// A token of another audience, issuer or tenant, or a forged one.
    InvalidToken,
    /// A token that was good until some time ago.
    ExpiredToken,
    /// The vault's firewall.
    ForbiddenByFirewall,
    /// No role of the caller holds the action.
    ForbiddenByRbac {
        object_id: Uuid,
        action: &'static str,
        resource: String,
        vault: String,
    },
    /// The vault has purge protection.
    PurgeProtected,
    /// No `api-version`, or one that is not known.
    ApiVersion(String),
    /// Something in the request has no meaning; the sentence says what.
    BadParameter(&'static str),
    /// A path or a method that is not simulated.
    MethodNotAllowed,
    /// No such secret or version.
    SecretNotFound(String),
    /// No such deleted secret.
    DeletedSecretNotFound(String),
    /// The value of a version that is switched off.
    SecretDisabled,
    /// Its deletion is under way.
    BeingDeleted(String),
    /// It is deleted, and its name is taken until it is purged.
    DeletedButRecoverable(String),
    /// Its recovery is under way.
    BeingRecovered(String),
    /// The limiter turned the call away.
    Throttled,
    /// More secrets or versions than the simulator keeps; Azure has no such answer.
    Full,
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

impl VaultError {
    /// Status, code and inner code.
    fn codes(&self) -> (u16, &'static str, Option<&'static str>) {
        match self {
            Self::NoToken | Self::InvalidToken | Self::ExpiredToken => (401, "Unauthorized", None),
            Self::ForbiddenByFirewall => (403, "Forbidden", Some("ForbiddenByFirewall")),
            Self::ForbiddenByRbac { .. } => (403, "Forbidden", Some("ForbiddenByRbac")),
            Self::PurgeProtected => (403, "Forbidden", Some("ForbiddenByPolicy")),
            Self::SecretDisabled => (403, "Forbidden", Some("SecretDisabled")),
            Self::ApiVersion(_) | Self::BadParameter(_) => (400, "BadParameter", None),
            Self::MethodNotAllowed => (405, "MethodNotAllowed", None),
            Self::SecretNotFound(_) | Self::DeletedSecretNotFound(_) => {
                (404, "SecretNotFound", None)
            }
            Self::BeingDeleted(_) => (409, "Conflict", Some("ObjectIsBeingDeleted")),
            Self::DeletedButRecoverable(_) => {
                (409, "Conflict", Some("ObjectIsDeletedButRecoverable"))
            }
            Self::BeingRecovered(_) => (409, "Conflict", Some("ObjectIsBeingRecovered")),
            Self::Throttled | Self::Full => (429, "Throttled", None),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::NoToken => "AKV10000: Request is missing a Bearer or PoP token.".into(),
            Self::InvalidToken => "AKV10022: Invalid audience or issuer of the token.".into(),
            Self::ExpiredToken => "AKV10001: The token is expired.".into(),
            Self::ForbiddenByFirewall => "Client address is not authorized and caller is not a \
                                          trusted service.\r\nClient address: 127.0.0.1\r\n"
                .into(),
            Self::ForbiddenByRbac {
                object_id,
                action,
                resource,
                vault,
            } => format!(
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, \
                 deny assignments or role definitions were changed recently, please observe \
                 propagation time.\r\nCaller: oid={object_id}\r\nAction: '{action}'\r\n\
                 Resource: '{resource}'\r\nAssignment: (not found)\r\nVault: \
                 {vault};location=westeurope\r\n"
            ),
            Self::PurgeProtected => {
                "Operation \"purge\" is not allowed because purge protection is enabled for this \
                 vault."
                    .into()
            }
            Self::SecretDisabled => "Operation get is not allowed on a disabled secret.".into(),
            Self::ApiVersion(version) if version.is_empty() => {
                "api-version must be specified".into()
            }
            Self::ApiVersion(version) => format!(
                "The specified version ({version}) is not recognized. Consider using the latest \
                 supported version (2026-04-01)."
            ),
            Self::BadParameter(sentence) => (*sentence).into(),
            Self::MethodNotAllowed => "The simulator does not know this operation.".into(),
            Self::SecretNotFound(name) => format!(
                "A secret with (name/id) {name} was not found in this key vault. If you recently \
                 deleted this secret you may be able to recover it using the correct recovery \
                 command. For help resolving this issue, please see \
                 https://go.microsoft.com/fwlink/?linkid=2125182"
            ),
            Self::DeletedSecretNotFound(name) => format!("Deleted Secret not found: {name}"),
            Self::BeingDeleted(name) => {
                format!("Secret {name} is currently being deleted.")
            }
            Self::DeletedButRecoverable(name) => format!(
                "Secret {name} is currently in a deleted but recoverable state, and its name \
                 cannot be reused; in this state, the secret can only be recovered or purged."
            ),
            Self::BeingRecovered(name) => {
                format!("Secret {name} is currently being recovered.")
            }
            Self::Throttled => "Request was not processed because too many requests were \
                                received. Reason: VaultRequestTypeLimitReached"
                .into(),
            Self::Full => "The simulator keeps no more than this.".into(),
        }
    }

    /// The answer. A 401 is the challenge: where to sign in, and for what.
    pub(super) fn response(&self, authority: &Url, tenant: Uuid) -> HttpResponse {
        let (status, code, inner) = self.codes();
        let status = StatusCode::from_u16(status).expect("the table holds HTTP statuses");
        let mut answer = HttpResponse::build(status);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = format!(
                "Bearer authorization=\"{authority}{tenant}\", resource=\"https://vault.azure.net\""
            );
            answer.insert_header((WWW_AUTHENTICATE, challenge));
        }
        let mut error = json!({ "code": code, "message": self.sentence() });
        if let Some(inner) = inner {
            error["innererror"] = json!({ "code": inner });
        }
        answer.json(json!({ "error": error }))
    }
}
