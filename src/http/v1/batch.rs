//! `POST /v1/sas/batch`: up to 1,000 tokens in one transaction.

use actix_web::{HttpResponse, post, web::Data};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    issue::NO_STORE,
    sas::{SasAnswer, SasRequest},
};
use crate::{
    app::issue::BATCH_ITEMS_MAX,
    domain::{permit::Issue, request::AccessRequest},
    http::{
        BATCH_BODY_BYTES_MAX,
        authn::Permitted,
        body::StrictJson,
        idempotency::IdempotencyHeader,
        problem::{Problem, code},
        state::State,
    },
};

/// A batch of requests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 1,000 requests.
    #[schema(min_items = 1, max_items = 1000)]
    pub requests: Vec<SasRequest>,
}

/// The answers, in the order of the requests.
#[derive(Serialize, ToSchema)]
pub struct BatchAnswer {
    results: Vec<BatchResult>,
}

/// One answer: a token or a problem.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchResult {
    /// The token.
    Sas(Box<SasAnswer>),
    /// Why there is none.
    Problem(Problem),
}

/// Issue up to 1,000 tokens.
///
/// Every item is decided for itself; all records are made durable in one transaction, or none and the
/// whole batch is answered 503.
#[utoipa::path(
    tag = "tokens",
    security(("entra" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry answer with the recorded ids and windows")),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "A token or a problem for each item", body = BatchAnswer),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`idempotency-key-reused`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`audit-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/sas/batch")]
pub(crate) async fn issue_batch(
    permit: Permitted<Issue>,
    idempotency: IdempotencyHeader,
    body: StrictJson<BatchRequest, BATCH_BODY_BYTES_MAX>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let items = body.value.requests;
    if items.is_empty() || items.len() > BATCH_ITEMS_MAX {
        let detail = format!("requests: must hold 1 to {BATCH_ITEMS_MAX} items");
        return Err(Problem::new(code::INVALID_REQUEST, detail));
    }
    let minimum = state.issuer.limits.lifetime_seconds_min;
    let parsed: Vec<Result<AccessRequest, Problem>> =
        items.into_iter().map(|item| item.parse(minimum)).collect();
    let valid: Vec<AccessRequest> = parsed
        .iter()
        .filter_map(|item| item.as_ref().ok())
        .cloned()
        .collect();
    let idempotency = idempotency.with(body.sha256);
    let answers = state
        .issuer
        .issue(&permit.0, &valid, idempotency.as_ref())
        .await?;
    let mut answers = answers.into_iter();
    let results = parsed
        .into_iter()
        .map(|item| match item {
            Err(problem) => BatchResult::Problem(problem),
            Ok(_) => match answers.next().expect("one answer for each valid item") {
                Ok(recorded) => BatchResult::Sas(Box::new(SasAnswer::from(&recorded))),
                Err(error) => BatchResult::Problem(error.into()),
            },
        })
        .collect();
    Ok(HttpResponse::Ok()
        .insert_header(NO_STORE)
        .json(BatchAnswer { results }))
}
