//! `POST /v1/admin/accounts/{account}/rotations`: ask for a rotation, or break the glass.

use actix_web::{
    HttpResponse,
    http::header::LOCATION,
    post,
    web::{Data, Path},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::rotation::RotationAnswer;
use crate::{
    app::request_rotation::Order,
    domain::{
        ids::{AccountName, Reason},
        permit::RequestRotation,
    },
    http::{
        BODY_BYTES_MAX,
        authn::Permitted,
        body::StrictJson,
        idempotency::IdempotencyHeader,
        problem::{Problem, code},
        state::State,
    },
};

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationOrder {
    /// Break-glass: the key that must die, overlap or not: `active`, `alternate`, `key1` or `key2`.
    /// Without it, the next ordinary rotation is asked for.
    #[schema(example = "active", pattern = "^(active|alternate|key1|key2)$")]
    key: Option<String>,
    /// Why; a break-glass needs it.
    #[schema(
        example = "INC-4711: key in a public repository",
        min_length = 1,
        max_length = 500
    )]
    reason: Option<String>,
}

impl RotationOrder {
    fn parse(self) -> Result<Order, Problem> {
        let invalid = |detail: String| Problem::new(code::INVALID_REQUEST, detail);
        let reason = self.reason.map(|reason| reason.parse::<Reason>());
        let reason = reason.transpose().map_err(|e| invalid(e.to_string()))?;
        let Some(key) = self.key else {
            return Ok(Order::Next { reason });
        };
        let key = key.parse().map_err(|e| invalid(format!("key: {e}")))?;
        let reason = reason.ok_or_else(|| invalid("reason: a break-glass needs one".to_owned()))?;
        Ok(Order::BreakGlass { key, reason })
    }
}

/// Ask for a rotation.
///
/// It is recorded and carried out within a minute or so; `Location` tells how it goes. An ordinary one
/// inside an overlap ends as `refused`. Where an equal rotation is open already, that one is the answer.
#[utoipa::path(
    tag = "rotation",
    security(("entra" = [])),
    params(
        ("account" = String, Path, description = "Storage account"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry answer with the same rotation"),
    ),
    request_body = RotationOrder,
    responses(
        (status = 202, description = "The rotation", body = RotationAnswer, headers(("Location" = String, description = "Where it can be read"))),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown-account`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`rotation-not-configured`, `nothing-published`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`idempotency-key-reused`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`audit-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/admin/accounts/{account}/rotations")]
pub(crate) async fn request_rotation(
    permit: Permitted<RequestRotation>,
    account: Path<AccountName>,
    idempotency: IdempotencyHeader,
    body: StrictJson<RotationOrder, BODY_BYTES_MAX>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let order = body.value.parse()?;
    let idempotency = idempotency.with(body.sha256);
    let rotation = state
        .rotation_requester
        .request(&permit.0, &account, &order, idempotency.as_ref())
        .await?;
    let (account, id) = (&rotation.account, rotation.id);
    let location = format!("/v1/admin/accounts/{account}/rotations/{id}");
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, location))
        .json(RotationAnswer::from(&rotation)))
}
