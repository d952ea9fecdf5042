//! The `OpenAPI` 3.1 document, generated from the code: served, and printed by `sas-broker openapi`.

use actix_web::{App, HttpResponse, get, web::Data};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_actix_web::AppExt;

use super::{routes, state::State};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sas-broker",
        description = "Issues short-lived, least-privilege Azure user-delegation SAS tokens to \
                       Entra ID callers, and rotates account keys. Errors are problem documents (RFC 9457) with a stable `code`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "tokens", description = "For callers with an Entra access token"),
        (name = "rotation", description = "For operators and auditors: rotation of account keys, revocation of delegation keys"),
        (name = "events", description = "For Event Grid"),
        (name = "operations", description = "Probes and this document"),
    ),
    modifiers(&BearerScheme),
)]
struct Base;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut Document) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        scheme.description = Some("An Entra ID access token for the broker's audience".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("entra", SecurityScheme::Http(scheme));
    }
}

/// The document, pretty-printed, with a newline at its end.
///
/// # Panics
/// Never: the document holds nothing that JSON cannot.
#[must_use]
pub fn generate() -> String {
    let (_, document) = App::new()
        .into_utoipa_app()
        .openapi(Base::openapi())
        .configure(routes)
        .split_for_parts();
    let mut text = document
        .to_pretty_json()
        .expect("the document holds nothing that JSON cannot");
    text.push('\n');
    text
}

/// This document.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, description = "The OpenAPI 3.1 document", content_type = "application/json")),
)]
#[get("/openapi.json")]
pub(crate) async fn openapi_document(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(state.openapi.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::fallback::METHODS;

    #[test]
    fn the_document_and_the_fallback_know_the_same_endpoints() {
        let document: serde_json::Value = serde_json::from_str(&generate()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        let documented: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let known = METHODS
            .iter()
            .map(|(path, method)| ((*path).to_owned(), (*method).to_owned()));
        assert_eq!(documented, known.collect());
    }

    #[test]
    fn every_operation_of_the_api_names_its_security_and_its_refusals() {
        let document: serde_json::Value = serde_json::from_str(&generate()).unwrap();
        for (path, method) in METHODS.iter().filter(|(path, _)| path.starts_with("/v1/")) {
            let operation = &document["paths"][path][method.to_lowercase()];
            assert_eq!(
                operation["security"],
                serde_json::json!([{ "entra": [] }]),
                "{path}"
            );
            let told = |status: &str| operation["responses"][status].is_object();
            assert!(told("200") || told("202"), "{path}");
            for status in ["401", "403", "503"] {
                assert!(told(status), "{path} {status}");
            }
        }
    }
}
