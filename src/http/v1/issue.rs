//! `POST /v1/sas`: issue one token.

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, HeaderName, HeaderValue},
    post,
    web::Data,
};

use super::sas::{SasAnswer, SasRequest};
use crate::{
    domain::permit::Issue,
    http::{
        BODY_BYTES_MAX, authn::Permitted, body::StrictJson, idempotency::IdempotencyHeader,
        problem::Problem, state::State,
    },
};

/// Tokens are for the caller's memory only, never for a cache.
pub const NO_STORE: (HeaderName, HeaderValue) =
    (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Issue one token.
///
/// The decision is recorded before the token leaves the broker. Letters or a scope beyond the grants
/// are refused with reasons; a lifetime beyond a ceiling is shortened, and `bounded_by` says by what.
#[utoipa::path(
    tag = "tokens",
    security(("entra" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry answer with the recorded id and window")),
    request_body = SasRequest,
    responses(
        (status = 200, description = "The token", body = SasAnswer),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`, or the role table says no", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency-expired`, `idempotency-refused`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`idempotency-key-reused`, `not-signable`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`audit-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/sas")]
pub(crate) async fn issue_sas(
    permit: Permitted<Issue>,
    idempotency: IdempotencyHeader,
    body: StrictJson<SasRequest, BODY_BYTES_MAX>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let request = body.value.parse(state.issuer.limits.lifetime_seconds_min)?;
    let idempotency = idempotency.with(body.sha256);
    let answers = state
        .issuer
        .issue(&permit.0, &[request], idempotency.as_ref())
        .await?;
    let answer = answers
        .into_iter()
        .next()
        .expect("one answer for each request")?;
    Ok(HttpResponse::Ok()
        .insert_header(NO_STORE)
        .json(SasAnswer::from(&answer)))
}
