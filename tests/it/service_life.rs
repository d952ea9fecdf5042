//! From start to stop: TLS, requests in flight at the end, the journal and its search.

use std::{fs, time::Duration};

use futures_util::future::join;
use sas_broker::{
    app::verify_journal::verify_journal,
    config::{Config, EXAMPLE},
    ports::{AuditFilter, JournalReader},
    simulator::{Endpoint, Fault},
};
use serde_json::{Value, json};

use crate::world::{LAKE, World, client, read_file};

#[tokio::test]
async fn requests_in_flight_at_the_end_are_answered_and_recorded() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let slow = Fault::Delay(Duration::from_millis(1_200));
    world.azure.set_fault(Endpoint::DelegationKey, Some(slow));
    let request = world.post("/v1/sas", &world.ada(), &read_file(LAKE));
    let in_flight = tokio::spawn(request.send());
    while world.azure.calls(Endpoint::DelegationKey) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let late = world.post("/v1/sas", &world.ada(), &read_file(LAKE));
    let remains = world.stop_broker().await;
    assert!(late.send().await.is_err(), "nobody listens any more");
    let response = in_flight.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();

    let store = remains.store().await;
    let rows = store.rows(None, 1_000).await.unwrap();
    let bodies: Vec<Value> = rows
        .iter()
        .map(|row| serde_json::from_slice(&row.body).unwrap())
        .collect();
    assert!(
        bodies.iter().any(|record| record["id"] == answer["id"]),
        "it is in the journal"
    );
    assert_eq!(verify_journal(&store).await.unwrap().findings_total, 0);
    remains.stop().await;
}

#[tokio::test]
async fn an_issuance_is_found_by_its_id_and_by_its_signature_within_seconds() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let sas = world.issue(&world.ada(), &read_file(LAKE)).await;
    let record = world.records_of("issued").await.remove(0);
    let by_id = AuditFilter {
        issuance_id: Some(sas["id"].as_str().unwrap().parse().unwrap()),
        ..AuditFilter::default()
    };
    let by_signature = AuditFilter {
        signature_sha256: record["signature_sha256"].as_str().map(str::to_owned),
        ..AuditFilter::default()
    };
    let store = world.store().await;
    for filter in [by_id, by_signature] {
        let mut found = Vec::new();
        for _ in 0..100 {
            found = store.search(&filter, None, 10).await.unwrap();
            if !found.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(found.len(), 1, "{filter:?}");
        let body: Value = serde_json::from_slice(&found[0].body).unwrap();
        assert_eq!(body["id"], sas["id"]);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_restart_begins_a_new_chain_that_names_the_old_one() {
    let mut world = World::start().await;
    world.ada_reads_raw().await;
    for _ in 0..3 {
        world.issue(&world.ada(), &read_file(LAKE)).await;
        world.restart().await;
    }
    let opened = world.records_of("chain_opened").await;
    let mut named: Vec<usize> = opened
        .iter()
        .map(|record| record["heads"].as_array().unwrap().len())
        .collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [0, 1, 2, 3],
        "one chain of `apply` and one of each run"
    );
    world.stop().await;
}

#[tokio::test]
async fn with_a_certificate_the_broker_speaks_tls_and_nothing_else() {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = pair.cert.pem();
    let dir = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = (
        file("tls.pem", &certificate),
        file("tls.key", &pair.signing_key.serialize_pem()),
    );
    let world = World::with(|config| {
        config.server.tls_certificate = Some(cert);
        config.server.tls_key = Some(key);
    })
    .await;
    assert!(world.base.starts_with("https://"));
    let trusting = client(&certificate);
    let (h2, plain) = join(
        trusting.get(format!("{}/healthz", world.base)).send(),
        trusting
            .get(format!("{}/healthz", world.base.replace("https", "http")))
            .send(),
    )
    .await;
    assert_eq!(h2.unwrap().text().await.unwrap(), "ok\n");
    assert!(
        plain.is_err() || plain.unwrap().status() != 200,
        "no plain HTTP on that port"
    );
    let stranger = world
        .http
        .get(format!("{}/healthz", world.base))
        .send()
        .await;
    assert!(
        stranger.is_err(),
        "the simulator's authority did not sign it"
    );
    world.stop().await;
}

#[test]
fn tokens_do_not_leave_the_machine_in_clear_text_unless_told_so() {
    let at = |address: &str, more: &str| {
        let listen = format!("listen = \"{address}\"\n{more}");
        let text = EXAMPLE.replace("listen = \"127.0.0.1:8080\"", &listen);
        assert_ne!(text, EXAMPLE);
        Config::from_toml(&text)
    };
    for address in ["0.0.0.0:8443", "[::]:8443", "192.0.2.1:8443"] {
        let error = at(address, "").unwrap_err().to_string();
        assert!(
            error.contains("server.listen") && error.contains("tls_certificate"),
            "{error}"
        );
        let half = at(address, "tls_certificate = \"a.pem\"")
            .unwrap_err()
            .to_string();
        assert!(half.contains("server.tls_key"), "{half}");
        at(address, "tls_certificate = \"a.pem\"\ntls_key = \"a.key\"").unwrap();
    }
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        at(address, "").unwrap();
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended_with_a_problem() {
    let world = World::with(|config| config.server.request_timeout_seconds = 1).await;
    world.ada_reads_raw().await;
    world
        .azure
        .set_fault(Endpoint::DelegationKey, Some(Fault::Hang));
    let answer = world.ask(&world.ada(), &read_file(LAKE)).await;
    assert_eq!(answer.refusal(), (503, "timeout"));
    assert!(world.records_of("issued").await.is_empty());
    world.azure.set_fault(Endpoint::DelegationKey, None);
    let quick = json!({ "account": LAKE, "container": "private", "permissions": "l" });
    assert_eq!(
        world.ask(&world.ada(), &quick).await.refusal(),
        (403, "no-grant")
    );
    world.stop().await;
}
