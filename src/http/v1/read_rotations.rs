//! `GET /v1/admin/accounts/{account}/rotations` and `…/{id}`: how rotations went, and how they go.

use actix_web::{
    HttpResponse, get,
    web::{Data, Path, Query},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::rotation::{RotationAnswer, StatusAnswer};
use crate::{
    app::read_rotations::{PAGE_DEFAULT, PAGE_MAX, RotationPage},
    domain::{
        ids::{AccountName, RotationId},
        permit::ReadRotations,
    },
    http::{
        authn::Permitted,
        problem::{Problem, code},
        state::State,
    },
};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RotationQuery {
    /// Rotations on the page; 50 if absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// One page of an account's rotations.
#[derive(Serialize, ToSchema)]
pub struct RotationsAnswer {
    /// What the last look at the account showed; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusAnswer>,
    /// The rotations, newest first.
    rotations: Vec<RotationAnswer>,
    /// Cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl From<RotationPage> for RotationsAnswer {
    fn from(page: RotationPage) -> Self {
        Self {
            status: page.status.as_ref().map(StatusAnswer::from),
            rotations: page.rotations.iter().map(RotationAnswer::from).collect(),
            next: page.next.as_ref().map(ToString::to_string),
        }
    }
}

/// List an account's rotations, with its status.
#[utoipa::path(
    tag = "rotation",
    security(("entra" = [])),
    params(("account" = String, Path, description = "Storage account"), RotationQuery),
    responses(
        (status = 200, description = "A page of rotations", body = RotationsAnswer),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown-account`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/admin/accounts/{account}/rotations")]
pub(crate) async fn list_rotations(
    permit: Permitted<ReadRotations>,
    account: Path<AccountName>,
    query: Query<RotationQuery>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let invalid = |detail: String| Problem::new(code::INVALID_REQUEST, detail);
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(invalid(format!("limit: must be 1 to {PAGE_MAX}")));
    }
    let before = query.cursor.as_deref().map(str::parse::<RotationId>);
    let before = before
        .transpose()
        .map_err(|_| invalid("cursor: not one of ours".to_owned()))?;
    let page = state
        .rotation_reader
        .page(&permit.0, &account, before, limit)
        .await?;
    Ok(HttpResponse::Ok().json(RotationsAnswer::from(page)))
}

/// Read one rotation with all its steps.
#[utoipa::path(
    tag = "rotation",
    security(("entra" = [])),
    params(
        ("account" = String, Path, description = "Storage account"),
        ("id" = Uuid, Path, description = "The rotation"),
    ),
    responses(
        (status = 200, description = "The rotation", body = RotationAnswer),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown-rotation`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/admin/accounts/{account}/rotations/{id}")]
pub(crate) async fn get_rotation(
    permit: Permitted<ReadRotations>,
    path: Path<(AccountName, RotationId)>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let (account, id) = path.into_inner();
    let rotation = state.rotation_reader.one(&permit.0, &account, id).await?;
    Ok(HttpResponse::Ok().json(RotationAnswer::from(&rotation)))
}
