//! Shared Key on the simulated data plane, over its socket. That Azure's own client signs the same
//! text is shown by `tests/thirdparty/test_simulator.py`.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sas_broker::simulator::{Endpoint, Fault, KeySlot};
use secrecy::ExposeSecret as _;
use time::format_description::well_known::Rfc2822;

use super::*;

const PROPERTIES: &str = "?restype=account&comp=properties";
const SIGNED_PROPERTIES: &str = "comp:properties\nrestype:account";

impl World {
    fn key_value(&self, slot: KeySlot) -> String {
        let key = self.azure.account_key("acct1", slot).unwrap();
        key.value.expose_secret().to_owned()
    }

    /// A call to a path of `acct1` that is signed with a key, dated some time from now.
    fn signed(&self, method: &str, path: &str, lines: &str, key: &str) -> reqwest::RequestBuilder {
        self.signed_at(method, path, lines, key, Duration::ZERO)
    }

    fn signed_at(
        &self,
        method: &str,
        path: &str,
        lines: &str,
        key: &str,
        from_now: Duration,
    ) -> reqwest::RequestBuilder {
        let date = (self.now() + from_now).format(&Rfc2822).unwrap();
        let date = date.replace("+0000", "GMT");
        let plain = path.split('?').next().unwrap();
        let text = format!(
            "{method}\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2025-11-05\n\
             /acct1/acct1{plain}\n{lines}"
        );
        let text = text.trim_end_matches('\n');
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let url = format!("{}{path}", self.azure.blob_endpoint("acct1"));
        self.http
            .request(method.parse().unwrap(), url)
            .header("x-ms-date", date)
            .header("x-ms-version", "2025-11-05")
            .header("authorization", format!("SharedKey acct1:{signature}"))
    }

    async fn prove(&self, key: &str) -> (u16, String) {
        outcome(self.signed("GET", PROPERTIES, SIGNED_PROPERTIES, key)).await
    }
}

fn accepted() -> (u16, String) {
    (200, String::new())
}

#[actix_web::test]
async fn either_live_key_opens_the_account_and_a_dead_one_does_not() {
    let world = World::start().await;
    let [one, two] = [KeySlot::Key1, KeySlot::Key2].map(|slot| world.key_value(slot));
    assert_eq!(world.prove(&one).await, accepted());
    assert_eq!(world.prove(&two).await, accepted());
    world.azure.regenerate_key("acct1", KeySlot::Key1).unwrap();
    assert_eq!(
        world.prove(&one).await,
        refused(403, "AuthenticationFailed")
    );
    assert_eq!(world.prove(&two).await, accepted());
    let one = world.key_value(KeySlot::Key1);
    assert_eq!(world.prove(&one).await, accepted());
    let answer = world.signed("GET", PROPERTIES, SIGNED_PROPERTIES, &one);
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.headers()["x-ms-account-kind"], "StorageV2");
    assert_eq!(answer.headers()["x-ms-sku-name"], "Standard_LRS");
    // A signature for something else than what is asked.
    let other = world.signed("GET", "?comp=list", SIGNED_PROPERTIES, &one);
    assert_eq!(outcome(other).await, refused(403, "AuthenticationFailed"));
}

#[actix_web::test]
async fn a_request_is_good_for_a_quarter_of_an_hour_around_its_date() {
    let world = World::start().await;
    let key = world.key_value(KeySlot::Key1);
    for (minutes, expected) in [
        (-16, refused(403, "AuthenticationFailed")),
        (-14, accepted()),
        (14, accepted()),
        (16, refused(403, "AuthenticationFailed")),
    ] {
        let by = Duration::minutes(minutes);
        let call = world.signed_at("GET", PROPERTIES, SIGNED_PROPERTIES, &key, by);
        assert_eq!(outcome(call).await, expected, "{minutes}");
    }
}

#[actix_web::test]
async fn the_data_plane_learns_a_new_key_after_its_propagation() {
    let world = World::start().await;
    let delay = Duration::seconds(90);
    world.azure.set_key_propagation("acct1", delay).unwrap();
    let old = world.key_value(KeySlot::Key2);
    world.azure.regenerate_key("acct1", KeySlot::Key2).unwrap();
    let new = world.key_value(KeySlot::Key2);
    assert_eq!(
        world.prove(&new).await,
        refused(403, "AuthenticationFailed")
    );
    assert_eq!(world.prove(&old).await, accepted());
    world.advance(delay);
    assert_eq!(world.prove(&new).await, accepted());
    assert_eq!(
        world.prove(&old).await,
        refused(403, "AuthenticationFailed")
    );
}

#[actix_web::test]
async fn an_account_can_refuse_keys_and_its_network_everybody() {
    let world = World::start().await;
    let key = world.key_value(KeySlot::Key1);
    world.azure.put_blob("acct1", "raw", "x", "1").unwrap();
    let delegation_key = world.key("acct1", 1).await;
    let expiry = world.now() + Duration::minutes(30);
    let sas = azure_storage_sas::SasBuilder::new("acct1", &delegation_key, expiry)
        .unwrap()
        .blob("raw", "x")
        .read()
        .build();
    let by_sas = format!("{}/raw/x?{sas}", world.azure.blob_endpoint("acct1"));
    world
        .azure
        .set_allow_shared_key_access("acct1", Some(false))
        .unwrap();
    let not_permitted = refused(403, "KeyBasedAuthenticationNotPermitted");
    assert_eq!(world.prove(&key).await, not_permitted);
    assert_eq!(world.get(&by_sas).await, accepted());
    world
        .azure
        .set_allow_shared_key_access("acct1", None)
        .unwrap();
    assert_eq!(world.prove(&key).await, accepted());
    world.azure.set_network_denies("acct1", true).unwrap();
    assert_eq!(
        world.prove(&key).await,
        refused(403, "AuthorizationFailure")
    );
    assert_eq!(
        world.get(&by_sas).await,
        refused(403, "AuthorizationFailure")
    );
}

#[actix_web::test]
async fn a_key_makes_and_lists_containers_and_reads_blobs() {
    let world = World::start().await;
    let key = world.key_value(KeySlot::Key1);
    let call = |method: &str, path: &str, lines: &str| world.signed(method, path, lines, &key);
    let container = "restype:container";
    let made = call("PUT", "/fresh?restype=container", container);
    assert_eq!(outcome(made.header("content-length", "0")).await.0, 201);
    let again = call("PUT", "/fresh?restype=container", container);
    let again = outcome(again.header("content-length", "0")).await;
    assert_eq!(again, refused(409, "ContainerAlreadyExists"));
    let seen = call("GET", "/fresh?restype=container", container);
    assert_eq!(outcome(seen).await, accepted());
    let listed = call("GET", "/?comp=list", "comp:list")
        .send()
        .await
        .unwrap();
    let listed = listed.bytes().await.unwrap();
    let listed = String::from_utf8(listed.to_vec()).unwrap();
    for name in ["fresh", "other", "raw"] {
        assert!(listed.contains(&format!("<Name>{name}</Name>")), "{listed}");
    }
    let service = call(
        "GET",
        "/?restype=service&comp=properties",
        "comp:properties\nrestype:service",
    );
    assert_eq!(outcome(service).await, accepted());
    world.azure.put_blob("acct1", "fresh", "x", "1").unwrap();
    assert_eq!(outcome(call("GET", "/fresh/x", "")).await, accepted());
    let gone = call("DELETE", "/fresh?restype=container", container);
    assert_eq!(outcome(gone).await.0, 202);
    let gone = call("GET", "/fresh?restype=container", container);
    assert_eq!(outcome(gone).await, refused(404, "ContainerNotFound"));
    let missing = call(
        "GET",
        "/raw?restype=container&comp=acl",
        "comp:acl\nrestype:container",
    );
    assert_eq!(outcome(missing).await, refused(501, "NotImplemented"));
}

#[actix_web::test]
async fn calls_with_a_key_are_counted_and_fail_apart_from_others() {
    let world = World::start().await;
    let key = world.key_value(KeySlot::Key1);
    let busy = Fault::Throttled {
        retry_after_seconds: Some(1),
    };
    world.azure.fail_calls(Endpoint::SharedKey, 1..2, busy);
    assert_eq!(world.prove(&key).await, accepted());
    assert_eq!(world.prove(&key).await, refused(503, "ServerBusy"));
    assert_eq!(world.prove(&key).await, accepted());
    let anonymous = format!("{}/raw/x", world.azure.blob_endpoint("acct1"));
    assert_eq!(world.get(&anonymous).await.0, 401);
    assert_eq!(world.azure.calls(Endpoint::SharedKey), 3);
    assert_eq!(world.azure.calls(Endpoint::Data), 1);
}
