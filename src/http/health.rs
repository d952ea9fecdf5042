//! Probes: alive, and ready to issue.

use actix_web::{HttpResponse, get, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

use super::state::State;

/// Whether the process is alive.
#[utoipa::path(tag = "operations", responses((status = 200, description = "The process is alive")))]
#[get("/healthz")]
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// Readiness in its parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether tokens can be issued.
    pub ready: bool,
    /// The database answers.
    pub database: bool,
    /// The journal records, within its lag bound.
    pub journal: bool,
}

/// Whether tokens can be issued: the database answers and the journal records.
#[utoipa::path(
    tag = "operations",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready; the parts say why", body = Readiness),
    ),
)]
#[get("/readyz")]
pub(crate) async fn readyz(state: Data<State>) -> HttpResponse {
    let database = state.policy_store.version().await.is_ok();
    let journal = state.journal.healthy();
    let ready = database && journal;
    let mut response = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response.json(Readiness {
        ready,
        database,
        journal,
    })
}
