//! `POST /v1/admin/accounts/{account}/revoke-user-delegation-keys`: kill every live token of an
//! account.

use actix_web::{
    HttpResponse, post,
    web::{Data, Path},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{
        ids::{AccountName, Reason},
        permit::RevokeDelegationKeys,
    },
    http::{
        BODY_BYTES_MAX,
        authn::Permitted,
        body::StrictJson,
        problem::{Problem, code},
        state::State,
    },
};

/// A revocation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationOrder {
    /// Why.
    #[schema(
        example = "INC-4712: token in a chat",
        min_length = 1,
        max_length = 500
    )]
    reason: Option<String>,
}

/// What became of it.
#[derive(Serialize, ToSchema)]
pub struct RevocationAnswer {
    /// Storage account.
    #[schema(example = "acct1")]
    account: String,
    /// Always `done`: whatever else becomes of it is a problem.
    #[schema(example = "done")]
    outcome: &'static str,
}

/// Revoke every user delegation key of an account.
///
/// Every live token of the account dies, whoever signed it; Azure caches keys, so allow minutes. Tokens
/// that the broker gives out from then on are signed by new keys. Repeating it is safe. The work goes
/// on if the client hangs up; its outcome is in the audit journal.
#[utoipa::path(
    tag = "rotation",
    security(("entra" = [])),
    params(("account" = String, Path, description = "Storage account")),
    request_body = RevocationOrder,
    responses(
        (status = 200, description = "The keys are revoked", body = RevocationAnswer),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown-account`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`resource-id-missing`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 502, description = "`azure-refused`: nothing took place", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`azure-throttled`, `azure-unavailable`, `audit-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`azure-unclear`: it may have taken place, or may yet; safe to repeat", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/admin/accounts/{account}/revoke-user-delegation-keys")]
pub(crate) async fn revoke_delegation_keys(
    permit: Permitted<RevokeDelegationKeys>,
    account: Path<AccountName>,
    body: StrictJson<RevocationOrder, BODY_BYTES_MAX>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let reason = body.value.reason.map(|reason| reason.parse::<Reason>());
    let reason = reason
        .transpose()
        .map_err(|error| Problem::new(code::INVALID_REQUEST, error.to_string()))?;
    state
        .key_revoker
        .revoke(&permit.0, &account, reason)
        .await?;
    Ok(HttpResponse::Ok().json(RevocationAnswer {
        account: account.to_string(),
        outcome: "done",
    }))
}
