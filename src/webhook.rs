//! Tells a webhook about rotations: one `POST` for each event, `CloudEvents` 1.0 JSON in structured
//! mode, signed by the scheme of Standard Webhooks 1.0. When an event is sent again, and when it is
//! given up, is [`crate::app::deliver`]'s business.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, USER_AGENT},
};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    domain::{
        rotation::Notification,
        time_text,
        webhook::{EventSource, SigningSecret, WebhookUrl},
    },
    ports::{Clock, NOTIFY_TIMEOUT, NotAccepted, Notifier},
    web::with_causes,
};

/// The media type of one event in structured mode (`CloudEvents` 1.0.2, HTTP binding §3.2).
const EVENT: &str = "application/cloudevents+json; charset=UTF-8";

/// Who sends, for the receiver's logs.
const AGENT: &str = concat!("sas-broker/", env!("CARGO_PKG_VERSION"));

/// Sends events to one receiver.
pub struct WebhookNotifier {
    url: WebhookUrl,
    source: EventSource,
    secret: SigningSecret,
    former_secret: Option<SigningSecret>,
    http: Client,
    clock: Arc<dyn Clock>,
}

/// A `CloudEvents` 1.0.2 event.
#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'static str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: Map<String, Value>,
}

impl WebhookNotifier {
    /// Events go to `url` and name `source`. While a secret is being replaced, each is signed by
    /// the former one too, so that the receiver may change over at any moment.
    #[must_use]
    pub const fn new(
        url: WebhookUrl,
        source: EventSource,
        secret: SigningSecret,
        former_secret: Option<SigningSecret>,
        http: Client,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            url,
            source,
            secret,
            former_secret,
            http,
            clock,
        }
    }

    /// The event's bytes, which are what is signed.
    fn body(&self, notification: &Notification) -> Result<Vec<u8>, NotAccepted> {
        let data = serde_json::from_str(&notification.data);
        let mut data: Map<String, Value> =
            data.map_err(|_| NotAccepted("its data is no JSON object; nothing was sent".into()))?;
        data.insert("account".into(), notification.account.as_str().into());
        if let Some(rotation) = notification.rotation {
            data.insert("rotation".into(), rotation.to_string().into());
        }
        let event = Event {
            specversion: "1.0",
            id: notification.id,
            source: self.source.as_str(),
            event_type: notification.kind.event_type(),
            subject: notification.account.as_str(),
            time: time_text::to_text(notification.at),
            datacontenttype: "application/json",
            data,
        };
        Ok(serde_json::to_vec(&event).expect("an event is plain JSON"))
    }

    /// The value of `webhook-signature`: one signature for each secret.
    fn signatures(&self, id: Uuid, timestamp: i64, body: &[u8]) -> String {
        let secrets = [Some(&self.secret), self.former_secret.as_ref()];
        let signed = secrets.into_iter().flatten();
        let signed = signed.map(|secret| secret.sign(id, timestamp, body));
        signed.collect::<Vec<_>>().join(" ")
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    async fn send(&self, notification: &Notification) -> Result<(), NotAccepted> {
        let body = self.body(notification)?;
        let timestamp = self.clock.now().unix_timestamp();
        let signatures = self.signatures(notification.id, timestamp, &body);
        let request = self
            .http
            .post(self.url.expose().clone())
            .timeout(NOTIFY_TIMEOUT)
            .header(CONTENT_TYPE, EVENT)
            .header(USER_AGENT, AGENT)
            .header("webhook-id", notification.id.to_string())
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures)
            .body(body);
        // The answer's body is not read: it says nothing that counts, and has no bound.
        let answer = request.send().await.map_err(no_answer)?;
        judge(answer.status())
    }
}

impl fmt::Debug for WebhookNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookNotifier")
            .field("url", &self.url)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Why there was no answer, without the address, which may hold a secret.
fn no_answer(error: reqwest::Error) -> NotAccepted {
    let timed_out = error.is_timeout();
    NotAccepted(if timed_out {
        format!("no answer within {} s", NOTIFY_TIMEOUT.as_secs())
    } else {
        with_causes(&error.without_url())
    })
}

/// Any 2xx is an acceptance (Standard Webhooks 1.0, "Response").
fn judge(status: StatusCode) -> Result<(), NotAccepted> {
    let number = status.as_u16();
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(NotAccepted(
            "status 410, by which a receiver says that it wants no more events: correct webhook.url, \
             or take the section out of the configuration"
                .into(),
        )),
        status if status.is_redirection() => Err(NotAccepted(format!(
            "status {number}, and redirects are not followed: webhook.url must be the last address"
        ))),
        _ => Err(NotAccepted(format!("status {number}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;
    use uuid::uuid;

    use super::*;
    use crate::{
        domain::{ids::RotationId, rotation::NotificationKind},
        testing::FakeClock,
        web::{Route, client},
    };

    const SECRET: &str = "whsec_GB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5";
    const FORMER: &str = "whsec_ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vk=";

    fn notifier(former: Option<&str>) -> WebhookNotifier {
        WebhookNotifier::new(
            "https://hooks.example/x?sig=canary-3fa1".parse().unwrap(),
            EventSource::default(),
            SECRET.parse().unwrap(),
            former.map(|former| former.parse().unwrap()),
            client(None, Route::Environment).unwrap(),
            Arc::new(FakeClock::at(datetime!(2026-11-23 10:00 UTC))),
        )
    }

    fn notification(rotation: Option<RotationId>, data: &str) -> Notification {
        Notification {
            id: uuid!("0199d1a0-0000-7000-8000-000000000001"),
            kind: NotificationKind::Overdue,
            account: "acct1".parse().unwrap(),
            rotation,
            at: datetime!(2026-11-23 09:59:30.25 UTC),
            data: data.to_owned(),
        }
    }

    #[test]
    fn an_event_says_everything_that_cloudevents_asks_for() {
        let rotation = RotationId(uuid!("0199d1a0-0000-7000-8000-0000000000ff"));
        let rows = [
            (
                None,
                json!({ "due_at": "2026-11-23T08:00:00Z", "account": "acct1" }),
            ),
            (
                Some(rotation),
                json!({
                    "due_at": "2026-11-23T08:00:00Z", "account": "acct1",
                    "rotation": "0199d1a0-0000-7000-8000-0000000000ff",
                }),
            ),
        ];
        for (rotation, data) in rows {
            let told = notification(rotation, r#"{"due_at":"2026-11-23T08:00:00Z"}"#);
            let body = notifier(None).body(&told).unwrap();
            let event: Value = serde_json::from_slice(&body).unwrap();
            let expected = json!({
                "specversion": "1.0",
                "id": "0199d1a0-0000-7000-8000-000000000001",
                "source": "urn:sas-broker",
                "type": "sas-broker.rotation.overdue.v1",
                "subject": "acct1",
                "time": "2026-11-23T09:59:30Z",
                "datacontenttype": "application/json",
                "data": data,
            });
            assert_eq!(event, expected);
        }
        for data in ["", "[]", "1", "{"] {
            let refused = notifier(None).body(&notification(None, data));
            assert!(refused.is_err(), "{data}");
        }
    }

    #[test]
    fn each_secret_signs_and_the_present_one_first() {
        let id = uuid!("0199d1a0-0000-7000-8000-000000000002");
        let sign = |secret: &str| {
            let secret: SigningSecret = secret.parse().unwrap();
            secret.sign(id, 1_795_428_000, b"{}")
        };
        let one = notifier(None).signatures(id, 1_795_428_000, b"{}");
        assert_eq!(one, sign(SECRET));
        let both = notifier(Some(FORMER)).signatures(id, 1_795_428_000, b"{}");
        assert_eq!(both, format!("{} {}", sign(SECRET), sign(FORMER)));
    }

    #[test]
    fn only_2xx_is_an_acceptance_and_410_is_told_apart() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), Ok(()));
        }
        for (status, says) in [
            (302, "redirects"),
            (307, "redirects"),
            (400, "status 400"),
            (410, "wants no more"),
            (429, "status 429"),
            (500, "status 500"),
        ] {
            let error = judge(StatusCode::from_u16(status).unwrap()).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn debug_shows_where_events_go_but_no_secret() {
        let shown = format!("{:?}", notifier(Some(FORMER)));
        assert!(shown.contains("https://hooks.example"), "{shown}");
        for secret in ["canary", SECRET, FORMER] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
