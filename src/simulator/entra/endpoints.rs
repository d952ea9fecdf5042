//! The HTTPS face of the simulated Entra: discovery, key sets and the token endpoint, each per
//! tenant. There is no authorization endpoint to sign in at; discovery names one because clients
//! demand the member.

use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, PRAGMA};
use actix_web::web::{Data, Path, ServiceConfig, get, post, resource};
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::super::fault::Endpoint;
use super::super::spec::TokenVersion;
use super::super::world::World;
use super::errors::EntraError;
use super::grants::Form;
use super::tokens::{self, Subject, TokenSpec};

/// Longest form the token endpoint reads, in bytes: a client assertion is the longest real field.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Registers every endpoint.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.app_data(web::FormConfig::default().limit(FORM_BYTES_MAX))
        .service(resource("/{tid}/.well-known/openid-configuration").route(get().to(discovery_v1)))
        .service(
            resource("/{tid}/v2.0/.well-known/openid-configuration").route(get().to(discovery_v2)),
        )
        .service(resource("/{tid}/discovery/keys").route(get().to(jwks_v1)))
        .service(resource("/{tid}/discovery/v2.0/keys").route(get().to(jwks_v2)))
        .service(resource("/{tid}/oauth2/v2.0/token").route(post().to(token)));
}

async fn discovery_v1(world: Data<Arc<World>>, tid: Path<String>) -> HttpResponse {
    discovery(&world, &tid, TokenVersion::V1).await
}

async fn discovery_v2(world: Data<Arc<World>>, tid: Path<String>) -> HttpResponse {
    discovery(&world, &tid, TokenVersion::V2).await
}

async fn discovery(world: &World, tid: &str, version: TokenVersion) -> HttpResponse {
    if let Some(answer) = world.faults.meet(Endpoint::Discovery).await {
        return answer;
    }
    let Some(tenant) = world.entra.directory.tenant(tid) else {
        return EntraError::UnknownTenant(tid.into()).response(world.now());
    };
    let base = format!("{}{}", world.entra.authority, tenant.id);
    let (authorize, keys) = match version {
        TokenVersion::V1 => ("oauth2/authorize", "discovery/keys"),
        TokenVersion::V2 => ("oauth2/v2.0/authorize", "discovery/v2.0/keys"),
    };
    HttpResponse::Ok().json(json!({
        "issuer": tokens::issuer(&world.entra.authority, tenant.id, version),
        "authorization_endpoint": format!("{base}/{authorize}"),
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "jwks_uri": format!("{base}/{keys}"),
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "response_types_supported": ["code", "id_token", "code id_token"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "oid", "tid", "ver"],
    }))
}

async fn jwks_v1(world: Data<Arc<World>>, tid: Path<String>) -> HttpResponse {
    jwks(&world, &tid, TokenVersion::V1).await
}

async fn jwks_v2(world: Data<Arc<World>>, tid: Path<String>) -> HttpResponse {
    jwks(&world, &tid, TokenVersion::V2).await
}

async fn jwks(world: &World, tid: &str, version: TokenVersion) -> HttpResponse {
    if let Some(answer) = world.faults.meet(Endpoint::Jwks).await {
        return answer;
    }
    let Some(tenant) = world.entra.directory.tenant(tid) else {
        return EntraError::UnknownTenant(tid.into()).response(world.now());
    };
    let issuer = tokens::issuer(&world.entra.authority, tenant.id, version);
    let issuer = (version == TokenVersion::V2).then_some(issuer.as_str());
    HttpResponse::Ok().json(world.entra.keys().jwks(issuer))
}

async fn token(world: Data<Arc<World>>, tid: Path<String>, form: web::Form<Form>) -> HttpResponse {
    if let Some(answer) = world.faults.meet(Endpoint::Token).await {
        return answer;
    }
    let Some(tenant) = world.entra.directory.tenant(&tid) else {
        return EntraError::UnknownTenant(tid.into_inner()).response(world.now());
    };
    match super::grants::decide(tenant, &form) {
        Ok(spec) => HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "no-store, no-cache"))
            .insert_header((PRAGMA, "no-cache"))
            .json(token_answer(&world, &spec)),
        Err(refusal) => refusal.response(world.now()),
    }
}

fn token_answer(world: &World, spec: &TokenSpec) -> Value {
    let mut answer = json!({
        "token_type": "Bearer",
        "expires_in": tokens::expires_in_seconds(),
        "ext_expires_in": tokens::expires_in_seconds(),
        "access_token": world.mint(spec),
    });
    if let Subject::User { scopes, .. } = &spec.subject {
        answer["scope"] = json!(scopes.join(" "));
    }
    answer
}
