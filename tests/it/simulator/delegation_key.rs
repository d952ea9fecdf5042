//! Get User Delegation Key: who may, for how long, and the exact answer.

use sas_broker::simulator::{Endpoint, TokenSpec};

use super::*;

impl World {
    /// Asks for an hour's key of `acct1` with this bearer token.
    pub(super) async fn key_with(&self, token: &str) -> (u16, String) {
        outcome(self.key_request("acct1", token, &self.key_info(Duration::hours(1)))).await
    }

    fn key_request(&self, account: &str, token: &str, body: &str) -> reqwest::RequestBuilder {
        let endpoint = self.azure.blob_endpoint(account);
        self.http
            .post(format!(
                "{endpoint}/?restype=service&comp=userdelegationkey"
            ))
            .header("authorization", format!("Bearer {token}"))
            .header("x-ms-version", "2025-11-05")
            .header("content-type", "application/xml")
            .body(body.to_owned())
    }

    fn key_info(&self, life: Duration) -> String {
        let text = |time: OffsetDateTime| {
            time.format(&time::format_description::well_known::Rfc3339)
                .unwrap()
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<KeyInfo>\n  <Start>{}</Start>\n  \
             <Expiry>{}</Expiry>\n</KeyInfo>",
            text(self.now()),
            text(self.now() + life)
        )
    }

    fn token_of(&self, principal: Uuid) -> String {
        self.azure.mint(&TokenSpec::application(
            TENANT,
            principal,
            "https://storage.azure.com",
        ))
    }
}

#[actix_web::test]
async fn the_official_client_gets_a_key_over_tls() {
    let world = World::start().await;
    let key = world.key("acct1", 24).await;
    assert_eq!(key.signed_oid.as_deref(), Some(BROKER.to_string().as_str()));
    assert_eq!(key.signed_tid.as_deref(), Some(TENANT.to_string().as_str()));
    assert_eq!(key.signed_start, Some(START - Duration::minutes(20)));
    assert_eq!(key.signed_expiry, Some(START + Duration::hours(24)));
    assert_eq!(key.signed_service.as_deref(), Some("b"));
    assert_eq!(key.value.unwrap().len(), 32);
    assert_eq!(world.azure.calls(Endpoint::DelegationKey), 1);
    assert_eq!(world.azure.calls(Endpoint::Token), 1);
}

#[actix_web::test]
async fn the_answer_is_the_services_xml() {
    let world = World::start().await;
    let request = world.key_request(
        "acct1",
        &world.token_of(BROKER),
        &world.key_info(Duration::hours(1)),
    );
    let answer = request
        .header("x-ms-client-request-id", "7")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-ms-client-request-id"], "7");
    assert_eq!(answer.headers()["x-ms-version"], "2025-11-05");
    assert_eq!(answer.headers()["date"], "Tue, 04 Mar 2031 12:00:00 GMT");
    assert!(answer.headers().contains_key("x-ms-request-id"));
    let xml = answer.text().await.unwrap();
    let expected = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey><SignedOid>{BROKER}\
         </SignedOid><SignedTid>{TENANT}</SignedTid><SignedStart>2031-03-04T12:00:00Z</SignedStart>\
         <SignedExpiry>2031-03-04T13:00:00Z</SignedExpiry><SignedService>b</SignedService>\
         <SignedVersion>2025-11-05</SignedVersion><Value>"
    );
    assert!(xml.starts_with(&expected), "{xml}");
}

#[actix_web::test]
async fn a_key_needs_a_role_on_the_account_a_sound_window_and_a_sound_body() {
    let world = World::start().await;
    let broker = world.token_of(BROKER);
    let hour = world.key_info(Duration::hours(1));
    let week = world.key_info(Duration::days(7));
    let longer = world.key_info(Duration::days(7) + Duration::seconds(1));
    let cross = hour.replace(
        "</KeyInfo>",
        &format!("<DelegatedUserTid>{OTHER_TENANT}</DelegatedUserTid></KeyInfo>"),
    );
    let entity = "<!DOCTYPE a [<!ENTITY b \"c\">]><KeyInfo><Start>&b;</Start></KeyInfo>";
    let no_start = hour.replace("Start", "Begin");
    let cases = [
        ("week", broker.clone(), week.as_str(), 200, ""),
        (
            "longer",
            broker.clone(),
            &longer,
            400,
            "InvalidXmlNodeValue",
        ),
        (
            "backwards",
            broker.clone(),
            &world.key_info(-Duration::hours(1)),
            400,
            "InvalidXmlNodeValue",
        ),
        (
            "no start",
            broker.clone(),
            &no_start,
            400,
            "MissingRequiredXmlNode",
        ),
        ("entity", broker.clone(), entity, 400, "InvalidXmlDocument"),
        (
            "cross-tenant not allowed",
            broker.clone(),
            &cross,
            403,
            "AuthorizationFailure",
        ),
        ("delegator only", world.token_of(READER), &hour, 200, ""),
        (
            "container role",
            world.token_of(ADA),
            &hour,
            403,
            "AuthorizationPermissionMismatch",
        ),
        (
            "no role",
            world.token_of(EVE),
            &hour,
            403,
            "AuthorizationPermissionMismatch",
        ),
    ];
    for (name, token, body, status, code) in cases {
        let got = outcome(world.key_request("acct1", &token, body)).await;
        assert_eq!(got, refused(status, code), "{name}");
    }
    let unknown = outcome(world.key_request("nobody", &broker, &hour)).await;
    assert_eq!(unknown, refused(404, "ResourceNotFound"));

    let url = format!(
        "{}/?restype=service&comp=userdelegationkey",
        world.azure.blob_endpoint("acct1")
    );
    let answer = world.http.post(url).body(hour).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(
        answer.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Bearer ")
    );
}
