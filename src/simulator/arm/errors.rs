//! ARM's refusals: status, code, sentence, and the JSON around them.
//!
//! The sentences follow Azure's, because people search for them.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::WWW_AUTHENTICATE;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::super::fault::Throttled;

/// Every refusal of the simulated ARM.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ArmError {
    /// No bearer token.
    NoToken,
    /// A token of another audience or issuer, or a forged one.
    InvalidToken,
    /// A good token of another tenant than the subscription's.
    WrongTenant,
    /// A token that was good until some time ago.
    ExpiredToken,
    /// No `api-version`.
    NoApiVersion,
    /// A version this cloud does not know, and those it knows.
    UnknownApiVersion {
        version: String,
        known: Vec<String>,
        /// The call names one account, so that ARM words it by location.
        of_account: bool,
    },
    /// A path or a method that is not simulated.
    UnknownPath(String),
    /// No such subscription.
    SubscriptionNotFound(String),
    /// No such resource group.
    ResourceGroupNotFound(String),
    /// No such account.
    ResourceNotFound { account: String, group: String },
    /// No role of the caller holds the action.
    AuthorizationFailed {
        object_id: Uuid,
        action: &'static str,
        scope: String,
    },
    /// A read-only lock.
    ScopeLocked(String),
    /// Somebody else is at work on the account.
    InProgress,
    /// The body is not what the operation takes.
    InvalidRequestContent,
    /// A parameter in the body has no meaning.
    InvalidParameter(&'static str),
    /// A limiter turned the call away.
    Throttled(Throttled),
}

impl ArmError {
    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Self::NoToken => (401, "AuthenticationFailed"),
            Self::InvalidToken => (401, "InvalidAuthenticationToken"),
            Self::WrongTenant => (401, "InvalidAuthenticationTokenTenant"),
            Self::ExpiredToken => (401, "ExpiredAuthenticationToken"),
            Self::NoApiVersion => (400, "MissingApiVersionParameter"),
            Self::UnknownApiVersion { of_account, .. } => match of_account {
                true => (400, "NoRegisteredProviderFound"),
                false => (400, "InvalidResourceType"),
            },
            Self::UnknownPath(_) => (404, "InvalidResourceType"),
            Self::SubscriptionNotFound(_) => (404, "SubscriptionNotFound"),
            Self::ResourceGroupNotFound(_) => (404, "ResourceGroupNotFound"),
            Self::ResourceNotFound { .. } => (404, "ResourceNotFound"),
            Self::AuthorizationFailed { .. } => (403, "AuthorizationFailed"),
            Self::ScopeLocked(_) => (409, "ScopeLocked"),
            Self::InProgress => (409, "StorageAccountOperationInProgress"),
            Self::InvalidRequestContent => (400, "InvalidRequestContent"),
            Self::InvalidParameter(_) => (400, "InvalidValuesForRequestParameters"),
            Self::Throttled(limit) => match limit.whole_subscription {
                true => (429, "SubscriptionRequestsThrottled"),
                false => (429, "TooManyRequests"),
            },
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::NoToken => "Authentication failed. The 'Authorization' header is missing.".into(),
            Self::InvalidToken => "The access token is invalid.".into(),
            Self::WrongTenant => "The access token is from the wrong issuer. It must match the \
                                  tenant associated with this subscription."
                .into(),
            Self::ExpiredToken => {
                "The access token expiry UTC time is earlier than current UTC time.".into()
            }
            Self::NoApiVersion => {
                "The api-version query parameter (?api-version=) is required for all requests."
                    .into()
            }
            Self::UnknownApiVersion {
                version,
                known,
                of_account,
            } => {
                let known = known.join(", ");
                unknown_version(version, &known, *of_account)
            }
            Self::UnknownPath(path) => {
                format!("The resource type could not be found for the path '{path}'.")
            }
            Self::SubscriptionNotFound(id) => {
                format!("The subscription '{id}' could not be found.")
            }
            Self::ResourceGroupNotFound(group) => {
                format!("Resource group '{group}' could not be found.")
            }
            Self::ResourceNotFound { account, group } => format!(
                "The Resource 'Microsoft.Storage/storageAccounts/{account}' under resource group \
                 '{group}' was not found. For more details please go to \
                 https://aka.ms/ARMResourceNotFoundFix"
            ),
            Self::AuthorizationFailed {
                object_id,
                action,
                scope,
            } => format!(
                "The client with object id '{object_id}' does not have authorization to perform \
                 action '{action}' over scope '{scope}' or the scope is invalid. If access was \
                 recently granted, please refresh your credentials."
            ),
            Self::ScopeLocked(scope) => format!(
                "The scope '{scope}' cannot perform write operation because following scope(s) \
                 are locked: '{scope}'. Please remove the lock and try again."
            ),
            Self::InProgress => "An operation is currently performing on this storage account \
                                 that requires exclusive access."
                .into(),
            Self::InvalidRequestContent => {
                "The request content was invalid and could not be deserialized.".into()
            }
            Self::InvalidParameter(name) => {
                format!("Values for request parameters are invalid: {name}.")
            }
            Self::Throttled(limit) if limit.whole_subscription => {
                "Number of requests for subscription and operation exceeded the backend storage \
                 limit. Please try again later."
                    .into()
            }
            Self::Throttled(_) => "The request is being throttled as the limit has been reached \
                                   for operation type - Write_ObservationWindow_00:05:00. For more \
                                   information, see - https://aka.ms/srpthrottlinglimits"
                .into(),
        }
    }

    /// The answer. A 401 says where to sign in.
    pub(super) fn response(&self, authority: &Url, tenant: Uuid) -> HttpResponse {
        let (status, code) = self.status_and_code();
        let status = StatusCode::from_u16(status).expect("the table holds HTTP statuses");
        let mut answer = HttpResponse::build(status);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = format!(
                "Bearer authorization_uri=\"{authority}{tenant}\", error=\"invalid_token\", \
                 error_description=\"The access token is missing or not accepted.\""
            );
            answer.insert_header((WWW_AUTHENTICATE, challenge));
        }
        answer.json(json!({ "error": { "code": code, "message": self.sentence() } }))
    }
}

fn unknown_version(version: &str, known: &str, of_account: bool) -> String {
    let problem = match of_account {
        true => format!(
            "No registered resource provider found for location 'westeurope' and API version \
             '{version}' for type 'storageAccounts'."
        ),
        false => format!(
            "The resource type 'storageAccounts' could not be found in the namespace \
             'Microsoft.Storage' for api version '{version}'."
        ),
    };
    format!("{problem} The supported api-versions are '{known}'.")
}
