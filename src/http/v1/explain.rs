//! `POST /v1/sas/explain`: the decision with its reasons, no token.

use actix_web::{HttpResponse, post, web::Data};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::sas::SasRequest;
use crate::{
    domain::{decide::Decision, permit::Explain, time_text::to_text},
    http::{BODY_BYTES_MAX, authn::Permitted, body::StrictJson, problem::Problem, state::State},
};

/// A decision, explained.
#[derive(Serialize, ToSchema)]
pub struct Explanation {
    /// Whether a token would be issued now.
    allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    /// When the token would end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// What decides the end.
    bounded_by: Vec<String>,
    /// The user that the token would be bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_to: Option<Uuid>,
    /// The grants that would give a letter.
    grants: Vec<Uuid>,
    /// Everything that was weighed: one line for each grant of the caller that touches the request.
    reasons: Vec<String>,
    /// The role table's version that was read.
    policy_version: i64,
}

impl From<Decision> for Explanation {
    fn from(decision: Decision) -> Self {
        let allowed = decision.verdict.as_ref().ok();
        Self {
            allowed: allowed.is_some(),
            problem: decision.verdict.as_ref().err().map(Problem::from),
            expires_at: allowed.map(|allowed| to_text(allowed.expiry().at())),
            bounded_by: allowed
                .map(|allowed| {
                    allowed
                        .expiry()
                        .bounds()
                        .iter()
                        .map(ToString::to_string)
                        .collect()
                })
                .unwrap_or_default(),
            bound_to: allowed
                .and_then(|allowed| allowed.bound_to())
                .map(|object_id| object_id.0),
            grants: allowed
                .map(|allowed| allowed.grants().iter().map(|grant| grant.id.0).collect())
                .unwrap_or_default(),
            reasons: decision
                .considered
                .iter()
                .map(ToString::to_string)
                .collect(),
            policy_version: decision.policy_version,
        }
    }
}

/// Explain what `POST /v1/sas` would decide now. Nothing is issued and nothing is recorded.
#[utoipa::path(
    tag = "tokens",
    security(("entra" = [])),
    request_body = SasRequest,
    responses(
        (status = 200, description = "The decision, whether allowed or not", body = Explanation),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`policy-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/sas/explain")]
pub(crate) async fn explain_sas(
    permit: Permitted<Explain>,
    body: StrictJson<SasRequest, BODY_BYTES_MAX>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let request = body.value.parse(state.issuer.limits.lifetime_seconds_min)?;
    let decision = state.explainer.explain(&permit.0, &request).await?;
    Ok(HttpResponse::Ok().json(Explanation::from(decision)))
}
