//! What surrounds every request: its id, its time limit, its log line.

use std::time::Duration;

use actix_web::{
    Error, HttpMessage, HttpRequest, ResponseError,
    body::MessageBody,
    dev::{ResponseHead, ServiceRequest, ServiceResponse},
    error::InternalError,
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};
use tokio::time::Instant;
use tracing::{Instrument, info, info_span};

use super::{
    TARGET_BYTES_MAX,
    problem::{Problem, code},
    state::State,
};
use crate::domain::ids::RequestId;

/// The header that carries the request's id back to the client.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request.
///
/// # Panics
/// Outside of [`surround`], which every request passes.
#[must_use]
pub fn request_id(request: &HttpRequest) -> RequestId {
    *request
        .extensions()
        .get::<RequestId>()
        .expect("every request passes `surround`")
}

/// Gives the request its id, bounds its time and its target, and logs its end. The log names the
/// route, not the path, and never a header or body.
///
/// # Errors
/// Those of the handler, and the problem `timeout`.
pub async fn surround(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let state = request
        .app_data::<Data<State>>()
        .expect("the state is always there")
        .clone();
    let limit = *request
        .app_data::<Data<TimeLimit>>()
        .expect("the limit is always there")
        .get_ref();
    let id = RequestId(state.entropy.uuid_v7(state.clock.now()));
    request.extensions_mut().insert(id);
    let method = request.method().clone();
    let route = request.match_pattern().unwrap_or_else(|| "-".to_owned());
    let span = info_span!("request", request_id = %id, %method, %route);
    let began = Instant::now();
    let answered = if request.uri().to_string().len() > TARGET_BYTES_MAX {
        let problem = Problem::new(code::TARGET_TOO_LONG, "the request target is over 8 KiB");
        let response = request.into_response(problem.error_response());
        Ok(response.map_into_right_body())
    } else {
        let answer = next.call(request).instrument(span.clone());
        let answered = tokio::time::timeout(limit.0, answer).await;
        let too_late = |_| Err(Problem::new(code::TIMEOUT, "the request took too long").into());
        answered
            .unwrap_or_else(too_late)
            .map(ServiceResponse::map_into_left_body)
    };
    let finish = |head: &mut ResponseHead| {
        let value = HeaderValue::from_str(&id.to_string()).expect("a GUID is a header value");
        head.headers_mut().insert(REQUEST_ID.clone(), value);
        let status = head.status.as_u16();
        // Refusals of known callers are the journal's; these others anybody can cause.
        let suppressed = match status {
            400..=499 if status != 403 => state.noise.line(state.clock.now().unix_timestamp()),
            _ => Some(0),
        };
        if let Some(suppressed) = suppressed {
            let micros = began.elapsed().as_micros();
            span.in_scope(|| info!(status, micros, suppressed, "answered"));
        }
    };
    match answered {
        Ok(mut response) => {
            finish(response.response_mut().head_mut());
            Ok(response)
        }
        Err(error) => {
            let mut response = error.error_response();
            finish(response.head_mut());
            Err(InternalError::from_response(error, response).into())
        }
    }
}

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimit(pub Duration);
