//! Outages on demand: what a client sees of them, and that every call is counted.

use actix_web::http::StatusCode;
use sas_broker::simulator::{Endpoint, Fault};

use super::*;

#[actix_web::test]
async fn a_faulty_endpoint_fails_until_it_is_mended_and_the_others_go_on() {
    let world = World::start().await;
    let metadata = format!(
        "{}{TENANT}/v2.0/.well-known/openid-configuration",
        world.azure.authority()
    );
    let keys = format!("{}{TENANT}/discovery/v2.0/keys", world.azure.authority());
    let busy = Fault::Status {
        code: StatusCode::SERVICE_UNAVAILABLE,
        retry_after_seconds: Some(7),
    };
    world.azure.set_fault(Endpoint::Discovery, Some(busy));
    let answer = world.http.get(&metadata).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(world.get(&keys).await.0, 200);
    world.azure.set_fault(Endpoint::Discovery, None);
    assert_eq!(world.get(&metadata).await.0, 200);
    assert_eq!(world.azure.calls(Endpoint::Discovery), 2);
    assert_eq!(world.azure.calls(Endpoint::Jwks), 1);
}

#[actix_web::test]
async fn a_hanging_endpoint_holds_its_caller_and_does_not_hold_up_the_stop() {
    let world = World::start().await;
    world.azure.set_fault(Endpoint::Data, Some(Fault::Hang));
    let url = format!("{}/raw/x", world.azure.blob_endpoint("acct1"));
    let patience = std::time::Duration::from_millis(200);
    let error = world
        .http
        .get(&url)
        .timeout(patience)
        .send()
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    let World { azure, http, .. } = world;
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(5), azure.stop()).await;
    assert!(stopped.is_ok(), "the stop waited for the hanging request");
    assert!(http.get(&url).send().await.unwrap_err().is_connect());
}
