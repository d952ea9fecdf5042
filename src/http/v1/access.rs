//! `GET /v1/access`: what may I reach.

use actix_web::{
    HttpResponse, get,
    web::{Data, Query},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    app::access::{AccessPage, PAGE_DEFAULT, PAGE_MAX, Place},
    domain::{
        decide::Access, grant::Effect, grant::Scope, ids::GrantId, permit::ListAccess,
        time_text::to_text,
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
pub struct AccessQuery {
    /// Grants on the page; 100 if absent, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// One page of the caller's grants.
#[derive(Serialize, ToSchema)]
pub struct AccessAnswer {
    /// The grants, ordered by scope.
    grants: Vec<AccessEntry>,
    /// False if the token does not name the caller's groups: grants of groups are then missing here.
    groups_known: bool,
    /// Cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One grant of the caller.
#[derive(Serialize, ToSchema)]
pub struct AccessEntry {
    /// The grant.
    grant: Uuid,
    /// `allow`, or `deny`, which wins.
    effect: &'static str,
    /// Its role.
    role: String,
    /// The role's letters.
    #[schema(example = "rl")]
    permissions: String,
    /// Storage account.
    account: String,
    /// Container.
    container: String,
    /// Path prefix; absent for the whole container.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Longest lifetime of a token under this grant, in seconds, where it sets one.
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_seconds_max: Option<u32>,
    /// Whether tokens are bound to the caller.
    bind_to_caller: bool,
    /// Whether a request must name an `ip`.
    ip_required: bool,
    /// It counts from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    not_before: Option<String>,
    /// It counts until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires: Option<String>,
}

impl From<&Access> for AccessEntry {
    fn from(access: &Access) -> Self {
        let Access { grant, role } = access;
        let conditions = &grant.conditions;
        let ceilings = [role.lifetime_seconds_max, conditions.lifetime_seconds_max];
        Self {
            grant: grant.id.0,
            effect: match grant.effect {
                Effect::Allow => "allow",
                Effect::Deny => "deny",
            },
            role: role.name.to_string(),
            permissions: role.permissions.to_string(),
            account: grant.scope.account.to_string(),
            container: grant.scope.container.to_string(),
            prefix: grant.scope.prefix.as_ref().map(ToString::to_string),
            lifetime_seconds_max: ceilings.into_iter().flatten().min(),
            bind_to_caller: role.bind_to_caller,
            ip_required: role.require_ip || !conditions.sip_within.is_empty(),
            not_before: conditions.not_before.map(to_text),
            expires: conditions.expires.map(to_text),
        }
    }
}

impl From<AccessPage> for AccessAnswer {
    fn from(page: AccessPage) -> Self {
        Self {
            grants: page.grants.iter().map(AccessEntry::from).collect(),
            groups_known: page.groups_known,
            next: page.next.as_ref().map(to_cursor),
        }
    }
}

/// A cursor is opaque to clients: the place in base64.
fn to_cursor(place: &Place) -> String {
    let text = serde_json::to_vec(&(&place.scope, place.id)).expect("a place is plain JSON");
    URL_SAFE_NO_PAD.encode(text)
}

fn from_cursor(cursor: &str) -> Result<Place, Problem> {
    let place: Option<(Scope, GrantId)> = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let (scope, id) =
        place.ok_or_else(|| Problem::new(code::INVALID_REQUEST, "cursor: not one of ours"))?;
    Ok(Place { scope, id })
}

/// List the caller's own grants.
#[utoipa::path(
    tag = "tokens",
    security(("entra" = [])),
    params(AccessQuery),
    responses(
        (status = 200, description = "A page of grants", body = AccessAnswer),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`policy-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/access")]
pub(crate) async fn list_access(
    permit: Permitted<ListAccess>,
    query: Query<AccessQuery>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("limit: must be 1 to {PAGE_MAX}");
        return Err(Problem::new(code::INVALID_REQUEST, detail));
    }
    let after = query.cursor.as_deref().map(from_cursor).transpose()?;
    let page = state
        .access_list
        .page(&permit.0, after.as_ref(), limit)
        .await?;
    Ok(HttpResponse::Ok().json(AccessAnswer::from(page)))
}
