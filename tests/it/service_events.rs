//! Event Grid at the door: both schemas, both handshakes, and what a delivery wakes.

use reqwest::{Method, RequestBuilder};
use sas_broker::{app::receive_events::EVENTS_MAX, domain::rotation::KeyName};
use serde_json::{Value, json};
use time::Duration;

use crate::{
    service_rotations::VAULT,
    world::{Answer, OTHER_TENANT, World, robot, text},
};

const EVENTS: &str = "/v1/events/key-vault";
const ROLE: &str = "AzureEventGridSecureWebhookSubscriber";

/// As Microsoft's page shows it (event-schema-key-vault).
pub(crate) fn about(vault: &str, secret: &str) -> Value {
    json!({
        "Id": format!("https://{vault}/secrets/{secret}/ee059b2bb5bc48398a53b168c6cdcb10"),
        "VaultName": vault.split('.').next(),
        "ObjectType": "Secret",
        "ObjectName": secret,
        "Version": "ee059b2bb5bc48398a53b168c6cdcb10",
        "NBF": "1559081980",
        "EXP": "1559082102",
    })
}

pub(crate) fn grid(kind: &str, data: &Value) -> Value {
    json!({
        "id": "00eccf70-95a7-4e7c-8299-2eb17ee9ad64",
        "topic": "/subscriptions/x/resourceGroups/y/providers/Microsoft.KeyVault/vaults/z",
        "subject": "newsecret",
        "eventType": kind,
        "eventTime": "2019-07-25T01:08:33.1036736Z",
        "data": data,
        "dataVersion": "1",
        "metadataVersion": "1",
    })
}

fn cloud(kind: &str, data: &Value) -> Value {
    json!({
        "id": "1", "source": "/subscriptions/x", "specversion": "1.0", "type": kind,
        "subject": "newsecret", "time": "2019-07-25T01:08:33.1036736Z", "data": data,
    })
}

impl World {
    fn event_grid(&self) -> String {
        self.mint(&robot(&[ROLE]))
    }

    fn delivery(&self, media_type: &str, body: &Value) -> RequestBuilder {
        let request = self.http.post(format!("{}{EVENTS}", self.base));
        let request = request.header("content-type", media_type);
        request.body(body.to_string())
    }

    pub(crate) async fn deliver(&self, media_type: &str, body: &Value) -> Answer {
        let request = self.delivery(media_type, body);
        self.send(request.bearer_auth(self.event_grid())).await
    }

    /// Looks at `lake1`, delivers, and says whether that has called for another look.
    async fn wakes(&self, media_type: &str, body: &Value) -> bool {
        // The look that has certainly answered the last event.
        self.clock.advance(Duration::minutes(1));
        self.enact(vec![self.look(KeyName::Key1)]).await;
        self.clock.advance(Duration::seconds(10));
        let answer = self.deliver(media_type, body).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        let rotations = "/v1/admin/accounts/lake1/rotations";
        let page = self.get(rotations, &self.operator()).await;
        page.body["status"]["look_at"] == text(self.now())
    }
}

#[tokio::test]
async fn an_event_about_an_account_s_secret_wakes_it_and_does_nothing_more() {
    let world = World::rotating().await;
    let secret = "sa-lake1";
    let near = "Microsoft.KeyVault.SecretNearExpiry";
    for kind in [
        near,
        "Microsoft.KeyVault.SecretExpired",
        "Microsoft.KeyVault.SecretNewVersionCreated",
    ] {
        let data = about(VAULT, secret);
        assert!(
            world
                .wakes(
                    "application/json; charset=utf-8",
                    &json!([grid(kind, &data)])
                )
                .await
        );
        assert!(
            world
                .wakes("application/cloudevents+json", &cloud(kind, &data))
                .await
        );
        let batch = json!([cloud("Other.Event", &json!(null)), cloud(kind, &data)]);
        assert!(
            world
                .wakes("application/cloudevents-batch+json", &batch)
                .await
        );
    }
    let mut by_names = about(&VAULT.to_uppercase(), "SA-Lake1");
    assert!(
        world
            .wakes("application/json", &json!([grid(near, &by_names)]))
            .await
    );
    by_names.as_object_mut().unwrap().remove("Id");
    assert!(
        world
            .wakes("application/json", &json!([grid(near, &by_names)]))
            .await
    );
    for (what, event) in [
        (
            "a key",
            grid("Microsoft.KeyVault.KeyNearExpiry", &about(VAULT, secret)),
        ),
        ("another secret", grid(near, &about(VAULT, "sa-lake2"))),
        (
            "another vault",
            grid(near, &about("kv-other.vault.example", secret)),
        ),
        ("no data", grid(near, &json!(null))),
        ("odd data", grid(near, &json!({ "Id": 7, "VaultName": [] }))),
    ] {
        assert!(
            !world.wakes("application/json", &json!([event])).await,
            "{what}"
        );
    }
    assert!(!world.wakes("application/json", &json!([])).await);
    assert!(world.records_of("rotation_opened").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn both_handshakes_are_answered_to_event_grid_alone() {
    let world = World::rotating().await;
    let code = json!({
        "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
        "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/validate?id=512d38b6",
    });
    let kind = "Microsoft.EventGrid.SubscriptionValidationEvent";
    let validation = |data: &Value| {
        let request = world.delivery("application/json", &json!([grid(kind, data)]));
        request.header("aeg-event-type", "SubscriptionValidation")
    };
    let answer = world
        .send(validation(&code).bearer_auth(world.event_grid()))
        .await;
    assert_eq!(
        answer.status, 200,
        "Event Grid takes no other status: {}",
        answer.text
    );
    assert_eq!(
        answer.body,
        json!({ "validationResponse": code["validationCode"] })
    );
    let answer = world
        .send(validation(&json!({})).bearer_auth(world.event_grid()))
        .await;
    assert_eq!(answer.refusal(), (400, "invalid-request"));

    let preflight = || {
        let request = world
            .http
            .request(Method::OPTIONS, format!("{}{EVENTS}", world.base));
        request.header("webhook-request-rate", "120")
    };
    let asking = || preflight().header("webhook-request-origin", "eventgrid.azure.net");
    let answer = world.send(asking().bearer_auth(world.event_grid())).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("webhook-allowed-origin"),
        "eventgrid.azure.net"
    );
    assert_eq!(answer.header("webhook-allowed-rate"), "*");
    assert_eq!(answer.header("allow"), "OPTIONS, POST");
    let answer = world
        .send(preflight().bearer_auth(world.event_grid()))
        .await;
    assert_eq!(answer.refusal(), (400, "invalid-request"));

    let delivery = || world.delivery("application/json", &json!([]));
    for request in [validation(&code), asking(), delivery()] {
        assert_eq!(world.send(request).await.refusal(), (401, "missing-token"));
    }
    let mut elsewhere = robot(&[ROLE]);
    elsewhere.tenant_id = OTHER_TENANT;
    let strangers = [world.ada(), world.operator(), world.mint(&elsewhere)];
    for token in strangers {
        for request in [validation(&code), asking(), delivery()] {
            let answer = world.send(request.bearer_auth(&token)).await;
            assert_eq!(answer.refusal(), (403, "insufficient-scope"));
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn deliveries_are_bounded_and_of_a_known_form() {
    let world = World::rotating().await;
    let event = json!({ "eventType": "x" });
    let invalid = (400, "invalid-request");
    let typed = (415, "unsupported-media-type");
    let rows = [
        ("application/json", json!([event]), (204, "")),
        ("application/json", event.clone(), invalid),
        ("application/cloudevents+json", json!([event]), invalid),
        ("application/json", json!([{ "data": {} }]), invalid),
        ("application/json", json!([7]), invalid),
        (
            "application/json",
            json!(vec![&event; EVENTS_MAX]),
            (204, ""),
        ),
        (
            "application/json",
            json!(vec![&event; EVENTS_MAX + 1]),
            invalid,
        ),
        ("text/plain", json!([event]), typed),
        ("application/cloudevents+xml", json!([event]), typed),
    ];
    for (media_type, body, expected) in rows {
        let answer = world.deliver(media_type, &body).await;
        assert_eq!(answer.refusal(), expected, "{media_type} {}", answer.text);
    }
    let large = json!([{ "eventType": "x".repeat(2 * 1024 * 1024) }]);
    let answer = world.deliver("application/json", &large).await;
    assert_eq!(answer.refusal(), (413, "body-too-large"));
    world.stop().await;
}
