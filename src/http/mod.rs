//! The door: actix-web extractors, one file per endpoint under `v1/`, and the only table from errors
//! to statuses ([`problem`]). It calls use cases and decides nothing.
//!
//! A handler gets only proven values: [`authn::Permitted`] for who may, [`body::StrictJson`] for
//! what, [`idempotency::IdempotencyHeader`]. Next to read: [`v1::issue`].

pub mod authn;
pub mod body;
pub mod client_address;
pub mod fallback;
pub mod health;
pub mod idempotency;
pub mod noise;
pub mod openapi;
pub mod problem;
pub mod request;
pub mod server;
pub mod state;
pub mod v1;

/// Largest body of a single request, in bytes: a path of 1,024 characters of 4 bytes, escaped, and
/// everything else, with room to spare.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Largest body of a batch, in bytes.
pub const BATCH_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Longest request target (path and query), in bytes.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Largest delivery of events, in bytes: Event Grid's largest batch, 1 MiB, with room to spare.
pub const EVENTS_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

const _: () = assert!(BODY_BYTES_MAX < BATCH_BODY_BYTES_MAX);

/// Every endpoint that the `OpenAPI` document knows.
pub fn routes(config: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    config
        .service(v1::issue::issue_sas)
        .service(v1::batch::issue_batch)
        .service(v1::explain::explain_sas)
        .service(v1::access::list_access)
        .service(v1::request_rotation::request_rotation)
        .service(v1::read_rotations::list_rotations)
        .service(v1::read_rotations::get_rotation)
        .service(v1::revoke_delegation_keys::revoke_delegation_keys)
        .service(v1::key_vault_events::allow_events)
        .service(v1::key_vault_events::receive_events)
        .service(health::healthz)
        .service(health::readyz)
        .service(openapi::openapi_document);
}
