//! What is no endpoint: 404, or 405 where only the method is wrong.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::header::{ALLOW, HeaderValue},
};

use super::problem::{Problem, code};

/// Paths and methods, for `Allow`. A test compares it with the `OpenAPI` document.
pub const METHODS: &[(&str, &str)] = &[
    ("/v1/sas", "POST"),
    ("/v1/sas/batch", "POST"),
    ("/v1/sas/explain", "POST"),
    ("/v1/access", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/openapi.json", "GET"),
];

/// Answers what no endpoint took.
pub async fn fallback(request: HttpRequest) -> HttpResponse {
    match METHODS.iter().find(|(path, _)| *path == request.path()) {
        Some((_, allowed)) => {
            let detail = format!("this resource knows {allowed} only");
            let mut response = Problem::new(code::METHOD_NOT_ALLOWED, detail).error_response();
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
        None => {
            Problem::new(code::NOT_FOUND, "see /openapi.json for what there is").error_response()
        }
    }
}
