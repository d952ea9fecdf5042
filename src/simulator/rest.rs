//! What ARM and the vaults have in common as JSON services: a request taken out of its connection,
//! and the way its work is done, left undone, or done later, as the faults of the day demand.
//!
//! The data plane and Entra do not use this: their calls are answered where they arrive.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, DATE, HeaderName, HeaderValue, RETRY_AFTER,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::macros::format_description;
use url::form_urlencoded;

use super::fault::{Endpoint, Strike, Throttled};
use super::random;
use super::world::World;

/// Largest request body, in bytes. A secret's value is the largest thing in one: 25 KiB, written
/// in JSON at its worst in six bytes each.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;

/// One request, independent of the connection it came by. No `Debug`: it holds a token.
pub(super) struct Request {
    pub(super) method: Method,
    /// The decoded segments of the path. A trailing slash makes no segment.
    pub(super) segments: Vec<String>,
    query: Vec<(String, String)>,
    /// The token after `Authorization: Bearer`.
    pub(super) bearer: Option<String>,
    body: Bytes,
}

impl Request {
    /// Takes what matters out of a request. Undecodable bytes become replacement characters, which
    /// no name contains.
    pub(super) fn new(http: &HttpRequest, body: Bytes) -> Self {
        let path = http.uri().path().trim_matches('/').split('/');
        let segments = path
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let query = http.uri().query().unwrap_or_default().as_bytes();
        let authorization = http.headers().get(AUTHORIZATION);
        let bearer = authorization
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.to_owned());
        Self {
            method: http.method().clone(),
            segments,
            query: form_urlencoded::parse(query).into_owned().collect(),
            bearer,
            body,
        }
    }

    /// The first parameter of this name, in any case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self
            .query
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body, if it is a JSON object.
    pub(super) fn object(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What remains to be done of a call whose rights were checked; takes the instant at which it is
/// done.
pub(super) type Work = Box<dyn FnOnce(&World, OffsetDateTime) -> HttpResponse + Send>;

/// Does the work of one call, or what the faults in force make of it. `throttled` is the refusal of
/// the service's own limiter.
pub(super) async fn carry_out(
    world: &Arc<World>,
    endpoint: Endpoint,
    throttled: impl FnOnce(Throttled) -> HttpResponse,
    work: impl FnOnce(&World) -> Work,
) -> HttpResponse {
    let strike = world.faults.strike(endpoint).await;
    world.settle();
    match strike {
        Strike::Work => work(world)(world, world.now()),
        Strike::Answer(answer) => answer,
        Strike::Throttle(limit) => {
            let mut answer = throttled(limit);
            if let Some(seconds) = limit.retry_after_seconds {
                let headers = answer.headers_mut();
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            answer
        }
        Strike::WorkUnseen(seen) => {
            drop(work(world)(world, world.now()));
            seen.answer().await
        }
        Strike::WorkLater(instant, seen) => {
            world.put_off(instant, work(world));
            seen.answer().await
        }
    }
}

/// Headers of every answer of both services. `Date` is the simulated time.
pub(super) fn stamp(world: &World, http: &HttpRequest, answer: &mut HttpResponse) {
    let date = http_date(world.now());
    let request_id = random::guid().to_string();
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            answer.headers_mut().insert(name, value);
        }
    };
    set(CACHE_CONTROL, Some(HeaderValue::from_static("no-cache")));
    set(DATE, HeaderValue::from_str(&date).ok());
    set(
        HeaderName::from_static("x-ms-request-id"),
        HeaderValue::from_str(&request_id).ok(),
    );
    let client_request_id = HeaderName::from_static("x-ms-client-request-id");
    let echoed = http.headers().get(&client_request_id).cloned();
    set(client_request_id, echoed);
}

fn http_date(time: OffsetDateTime) -> String {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time.format(form)
        .expect("the format needs only what an instant has")
}
