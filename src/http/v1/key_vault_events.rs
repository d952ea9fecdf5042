//! `POST /v1/events/key-vault`: Event Grid's deliveries about secrets, in either of its schemas, and
//! the handshake that each begins with.
//!
//! - Event Grid schema: a JSON array. The handshake is a delivery of one event, told by the header
//!   `aeg-event-type: SubscriptionValidation`, whose code goes back with status 200
//!   (learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema).
//! - `CloudEvents` 1.0, structured JSON, one event or a batch. The handshake is an OPTIONS request
//!   (cloudevents/spec, http-webhook.md, §4).
//!
//! Every message of a subscription that Entra protects carries a bearer token, handshakes included
//! (learn.microsoft.com/azure/event-grid/secure-webhook-delivery); here none is taken without.

use std::collections::HashSet;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ALLOW, HeaderValue},
    options, post,
    web::Data,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use utoipa::ToSchema;

use crate::{
    app::receive_events::{EVENTS_MAX, NamedSecret},
    domain::permit::ReceiveEvents,
    http::{
        EVENTS_BODY_BYTES_MAX,
        authn::Permitted,
        body::RawBody,
        problem::{Problem, code},
        state::State,
    },
};

/// The events that wake an account (learn.microsoft.com/azure/event-grid/event-schema-key-vault);
/// others are taken and ignored.
const WAKING: [&str; 3] = [
    "Microsoft.KeyVault.SecretNearExpiry",
    "Microsoft.KeyVault.SecretExpired",
    "Microsoft.KeyVault.SecretNewVersionCreated",
];

/// The type of the event that is a handshake.
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

/// An event of either schema, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Event {
    /// `eventType` of the Event Grid schema, `type` of `CloudEvents`.
    #[serde(rename = "type", alias = "eventType")]
    kind: String,
    #[serde(default)]
    data: Value,
}

/// What a vault's event says of its secret.
#[derive(Debug, Deserialize)]
struct About {
    /// The version's URL.
    #[serde(rename = "Id", alias = "id")]
    id: Option<Url>,
    #[serde(rename = "VaultName", alias = "vaultName")]
    vault_name: Option<String>,
    #[serde(rename = "ObjectName", alias = "objectName")]
    object_name: Option<String>,
}

impl About {
    /// The secret: by the URL, which holds the vault's host, or else by the two names.
    fn secret(self) -> Option<NamedSecret> {
        let by_url = self.id.and_then(|id| {
            let mut path = id.path_segments()?;
            let (kind, name) = (path.next()?, path.next()?);
            (kind == "secrets").then(|| {
                (
                    id.host_str().unwrap_or_default().to_owned(),
                    name.to_owned(),
                )
            })
        });
        let (vault, secret) = by_url.or_else(|| self.vault_name.zip(self.object_name))?;
        Some(NamedSecret {
            vault: vault.to_ascii_lowercase(),
            secret: secret.to_ascii_lowercase(),
        })
    }
}

impl Event {
    fn secret(self) -> Option<NamedSecret> {
        if !WAKING.contains(&self.kind.as_str()) {
            return None;
        }
        serde_json::from_value::<About>(self.data).ok()?.secret()
    }
}

/// The answer to the handshake of the Event Grid schema.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationAnswer {
    /// The code that was sent.
    validation_response: String,
}

/// The events of a delivery, by its media type.
fn events(body: &RawBody<EVENTS_BODY_BYTES_MAX>) -> Result<Vec<Event>, Problem> {
    let events: Result<Vec<Event>, _> = match body.media_type.as_str() {
        "application/cloudevents+json" => serde_json::from_slice(&body.bytes).map(|one| vec![one]),
        "application/json" | "application/cloudevents-batch+json" => {
            serde_json::from_slice(&body.bytes)
        }
        _ => {
            let detail = "send application/json (Event Grid schema), application/cloudevents+json \
                          or application/cloudevents-batch+json";
            return Err(Problem::new(code::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    let events = events.map_err(|e| Problem::new(code::INVALID_REQUEST, e.to_string()))?;
    if events.len() > EVENTS_MAX {
        let detail = format!("a delivery must hold at most {EVENTS_MAX} events");
        return Err(Problem::new(code::INVALID_REQUEST, detail));
    }
    Ok(events)
}

/// Ask whether events may be delivered (`CloudEvents` handshake).
#[utoipa::path(
    tag = "events",
    security(("entra" = [])),
    params(
        ("WebHook-Request-Origin" = String, Header, description = "Who wants to deliver"),
        ("WebHook-Request-Rate" = Option<String>, Header, description = "How many requests a minute"),
    ),
    responses(
        (status = 200, description = "They may", headers(
            ("WebHook-Allowed-Origin" = String, description = "The origin that was asked for"),
            ("WebHook-Allowed-Rate" = String, description = "No bound: `*`"),
        )),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`identity-provider-unavailable`, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[options("/v1/events/key-vault")]
pub(crate) async fn allow_events(
    _permit: Permitted<ReceiveEvents>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let origin = request.headers().get("webhook-request-origin");
    let origin = origin
        .ok_or_else(|| Problem::new(code::INVALID_REQUEST, "WebHook-Request-Origin: is missing"))?;
    Ok(HttpResponse::Ok()
        .insert_header((ALLOW, HeaderValue::from_static("OPTIONS, POST")))
        .insert_header(("webhook-allowed-origin", origin.clone()))
        .insert_header(("webhook-allowed-rate", HeaderValue::from_static("*")))
        .finish())
}

/// Deliver events of a vault.
///
/// An account whose secret an event names is looked at within a minute or so, by the same planner as
/// ever. Unknown events are taken and ignored.
#[utoipa::path(
    tag = "events",
    security(("entra" = [])),
    params(("aeg-event-type" = Option<String>, Header, description = "`SubscriptionValidation` for the handshake of the Event Grid schema")),
    request_body(description = "Events in the Event Grid schema, or CloudEvents 1.0", content(
        (Vec<Object> = "application/json"),
        (Object = "application/cloudevents+json"),
        (Vec<Object> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 200, description = "The handshake's answer", body = ValidationAnswer),
        (status = 204, description = "The events are taken"),
        (status = 400, description = "`invalid-request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token`, `invalid-token`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient-scope`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`audit-unavailable` and other outages, with `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/events/key-vault")]
pub(crate) async fn receive_events(
    permit: Permitted<ReceiveEvents>,
    request: HttpRequest,
    body: RawBody<EVENTS_BODY_BYTES_MAX>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let events = events(&body)?;
    let kind = request.headers().get("aeg-event-type");
    if kind.is_some_and(|kind| {
        kind.as_bytes()
            .eq_ignore_ascii_case(b"SubscriptionValidation")
    }) {
        return Ok(HttpResponse::Ok().json(validation(&events)?));
    }
    let secrets: HashSet<NamedSecret> = events.into_iter().filter_map(Event::secret).collect();
    state.event_receiver.receive(&permit.0, &secrets).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn validation(events: &[Event]) -> Result<ValidationAnswer, Problem> {
    let validation = events.iter().find(|event| event.kind == VALIDATION);
    let sent = validation.and_then(|event| event.data["validationCode"].as_str());
    let sent = sent.ok_or_else(|| {
        let detail = format!("a SubscriptionValidation needs a {VALIDATION} with a validationCode");
        Problem::new(code::INVALID_REQUEST, detail)
    })?;
    Ok(ValidationAnswer {
        validation_response: sent.to_owned(),
    })
}
