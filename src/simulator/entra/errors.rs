//! Entra's error answers: the OAuth code, the AADSTS number and the JSON around them.
//!
//! The numbers and the sentences' wording follow Entra, because clients cut them out of the text.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

use super::super::random;

/// Every refusal of the simulated Entra.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntraError {
    /// 90002: no such tenant.
    UnknownTenant(String),
    /// 900144: a form field is missing.
    MissingParameter(&'static str),
    /// 70003: a grant type this simulator does not know.
    UnsupportedGrantType,
    /// 700016: no such client in the tenant.
    UnknownClient(String),
    /// 7000218: a confidential client showed no secret.
    MissingClientSecret,
    /// 7000215: the secret is wrong.
    WrongClientSecret,
    /// 70011: the scope cannot be understood or is not offered.
    InvalidScope(String),
    /// 1002012: client credentials need exactly one `…/.default`.
    ScopeNotDefault(String),
    /// 500011: nobody in the tenant answers to this resource.
    UnknownResource(String),
    /// 50126: wrong user name or password; the two are not told apart.
    WrongPassword,
}

impl EntraError {
    /// Status, OAuth error and AADSTS number.
    fn codes(&self) -> (StatusCode, &'static str, u32) {
        let bad = StatusCode::BAD_REQUEST;
        let denied = StatusCode::UNAUTHORIZED;
        match self {
            Self::UnknownTenant(_) => (bad, "invalid_request", 90_002),
            Self::MissingParameter(_) => (bad, "invalid_request", 900_144),
            Self::UnsupportedGrantType => (bad, "unsupported_grant_type", 70_003),
            Self::UnknownClient(_) => (bad, "unauthorized_client", 700_016),
            Self::MissingClientSecret => (denied, "invalid_client", 7_000_218),
            Self::WrongClientSecret => (denied, "invalid_client", 7_000_215),
            Self::InvalidScope(_) => (bad, "invalid_scope", 70_011),
            Self::ScopeNotDefault(_) => (bad, "invalid_scope", 1_002_012),
            Self::UnknownResource(_) => (bad, "invalid_resource", 500_011),
            Self::WrongPassword => (bad, "invalid_grant", 50_126),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::UnknownTenant(tenant) => format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID \
                 and are signing into the correct cloud."
            ),
            Self::MissingParameter(name) => {
                format!("The request body must contain the following parameter: '{name}'.")
            }
            Self::UnsupportedGrantType => "The app requested an unsupported grant type.".into(),
            Self::UnknownClient(client) => {
                format!("Application with identifier '{client}' was not found in the directory.")
            }
            Self::MissingClientSecret => "The request body must contain the following parameter: \
                                          'client_assertion' or 'client_secret'."
                .into(),
            Self::WrongClientSecret => "Invalid client secret provided.".into(),
            Self::InvalidScope(scope) => format!(
                "The provided value for the input parameter 'scope' is not valid. The scope \
                 {scope} is not valid."
            ),
            Self::ScopeNotDefault(scope) => format!(
                "The provided value for scope {scope} is not valid. Client credential flows must \
                 have a scope value with /.default suffixed to the resource identifier \
                 (application ID URI)."
            ),
            Self::UnknownResource(resource) => {
                format!("The resource principal named {resource} was not found in the tenant.")
            }
            Self::WrongPassword => {
                "Error validating credentials due to invalid username or password.".into()
            }
        }
    }

    /// The answer as Entra writes it, `\r\n` inside the description included.
    pub(super) fn response(&self, now: OffsetDateTime) -> HttpResponse {
        let ((status, error, number), sentence) = (self.codes(), self.sentence());
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
        let timestamp = now
            .format(format)
            .expect("the format needs only what an instant has");
        let (trace_id, correlation_id) = (random::guid(), random::guid());
        HttpResponse::build(status).json(json!({
            "error": error,
            "error_description": format!(
                "AADSTS{number}: {sentence}\r\nTrace ID: {trace_id}\r\nCorrelation ID: \
                 {correlation_id}\r\nTimestamp: {timestamp}"
            ),
            "error_codes": [number],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
        }))
    }
}
