//! What is no endpoint: 404, or 405 where only the method is wrong.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::header::{ALLOW, HeaderValue},
};

use super::problem::{Problem, code};

/// Paths, with parameters in braces, and methods, for `Allow`. A test compares it with the `OpenAPI`
/// document.
pub const METHODS: &[(&str, &str)] = &[
    ("/v1/sas", "POST"),
    ("/v1/sas/batch", "POST"),
    ("/v1/sas/explain", "POST"),
    ("/v1/access", "GET"),
    ("/v1/admin/accounts/{account}/rotations", "GET"),
    ("/v1/admin/accounts/{account}/rotations", "POST"),
    ("/v1/admin/accounts/{account}/rotations/{id}", "GET"),
    (
        "/v1/admin/accounts/{account}/revoke-user-delegation-keys",
        "POST",
    ),
    ("/v1/events/key-vault", "OPTIONS"),
    ("/v1/events/key-vault", "POST"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/openapi.json", "GET"),
];

/// Answers what no endpoint took.
pub async fn fallback(request: HttpRequest) -> HttpResponse {
    let allowed = methods_of(request.path()).join(", ");
    if allowed.is_empty() {
        return Problem::new(code::NOT_FOUND, "see /openapi.json for what there is")
            .error_response();
    }
    let detail = format!("this resource knows {allowed} only");
    let mut response = Problem::new(code::METHOD_NOT_ALLOWED, detail).error_response();
    let allowed = HeaderValue::from_str(&allowed).expect("methods make a header value");
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// The methods that a path knows; none if it is no resource.
fn methods_of(path: &str) -> Vec<&'static str> {
    let known = METHODS.iter().filter(|(template, _)| fits(template, path));
    known.map(|(_, method)| *method).collect()
}

/// Whether a path fits a template: parameters stand for one segment that is not empty.
fn fits(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fit = template.split('/').all(|wanted| {
        let parameter = wanted.starts_with('{');
        let fits = |segment: &str| segment == wanted || parameter && !segment.is_empty();
        segments.next().is_some_and(fits)
    });
    fit && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_stands_for_one_segment() {
        let rotations = "/v1/admin/accounts/acct1/rotations";
        assert_eq!(methods_of(rotations), ["GET", "POST"]);
        assert_eq!(methods_of(&format!("{rotations}/1")), ["GET"]);
        assert_eq!(methods_of("/v1/events/key-vault"), ["OPTIONS", "POST"]);
        assert_eq!(methods_of("/v1/sas"), ["POST"]);
        for unknown in [
            "/",
            "/v1/admin/accounts//rotations",
            "/v1/admin/accounts/a/b/rotations",
            "/v1/admin/accounts/acct1/rotations/",
            "/v1/admin/accounts/acct1/rotations/1/2",
            "/v1/sas/",
            "v1/sas",
        ] {
            assert!(methods_of(unknown).is_empty(), "{unknown}");
        }
    }
}
