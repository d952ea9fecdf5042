//! A revocation is final: what another process commits counts for every request that starts later,
//! and for every record that is made later, on every replica.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::{join, join_all};
use sas_broker::simulator::{Endpoint, Fault};
use serde_json::{Value, json};

use crate::{
    storage_database::on_each_engine,
    world::{ADA, Answer, LAKE, World, deny, grant, read_file, user},
};

const CLIENTS: usize = 16;
const ROUNDS: usize = 4;

fn place(record: &Value) -> (String, i64) {
    (
        record["writer"].to_string(),
        record["seq"].as_i64().unwrap(),
    )
}

impl World {
    async fn ask_at(&self, base: &str, bearer: &str) -> Answer {
        let request = self
            .http
            .post(format!("{base}/v1/sas"))
            .bearer_auth(bearer)
            .header("content-type", "application/json")
            .body(read_file(LAKE).to_string());
        self.send(request).await
    }

    /// Four ways to take away what the reader's grant gives.
    async fn revoke(&self, round: usize) -> i64 {
        let reads = || grant(user(ADA), "reader", LAKE, "raw");
        let mut switched_off = self.accounts();
        switched_off[0]["issuance_enabled"] = json!(false);
        let ends = self.text_in(time::Duration::ZERO);
        let document = match round % 4 {
            0 => json!({ "grants": [] }),
            1 => json!({ "grants": [reads(), deny(grant(user(ADA), "auditor", LAKE, "raw")),
                                    deny(grant(user(ADA), "reader", LAKE, "raw/2026"))] }),
            2 => json!({ "grants": [reads()], "accounts": switched_off }),
            _ => json!({ "grants": [crate::world::when(reads(), json!({ "expires": ends }))] }),
        };
        self.apply(document).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_revocation_by_another_process_no_request_gets_a_token_on_any_replica() {
    on_each_engine(async |database| {
        let world = World::on(database).await;
        let replica = world.replica().await;
        let ada = world.ada();
        // Odd while it is revoked for certain, even from right before each grant on.
        let (epoch, over) = (AtomicUsize::new(1), AtomicBool::new(false));
        let given = AtomicUsize::new(0);
        let client = async |number: usize| {
            let base = if number.is_multiple_of(2) {
                &world.base
            } else {
                &replica.base
            };
            while !over.load(Ordering::SeqCst) {
                let before = epoch.load(Ordering::SeqCst);
                let answer = world.ask_at(base, &ada).await;
                match answer.status {
                    200 => {
                        let stayed_revoked =
                            before % 2 == 1 && epoch.load(Ordering::SeqCst) == before;
                        assert!(
                            !stayed_revoked,
                            "a token for a request that began after the revocation"
                        );
                        given.fetch_add(1, Ordering::SeqCst);
                    }
                    403 => {}
                    _ => panic!("{}", answer.text),
                }
            }
        };
        let admin = async {
            for round in 0..ROUNDS {
                let given_before = given.load(Ordering::SeqCst);
                epoch.fetch_add(1, Ordering::SeqCst);
                world.ada_reads_raw().await;
                while given.load(Ordering::SeqCst) < given_before + 2 * CLIENTS {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                let version = world.revoke(round).await;
                epoch.fetch_add(1, Ordering::SeqCst);
                let at_commit: BTreeSet<_> = world.records().await.iter().map(place).collect();
                tokio::time::sleep(Duration::from_millis(300)).await;
                let mut since = world.records().await;
                since.retain(|record| !at_commit.contains(&place(record)));
                for record in since {
                    assert_ne!(record["kind"], "issued", "round {round}: {record}");
                    let decided_on = record["policy_version"].as_i64().unwrap_or(version);
                    assert!(decided_on >= version, "round {round}: {record}");
                }
            }
            over.store(true, Ordering::SeqCst);
        };
        join(admin, join_all((0..CLIENTS).map(client))).await;
        let issued = world.kinds().await["issued"];
        assert_eq!(
            issued,
            given.load(Ordering::SeqCst),
            "a record for every token, and no other"
        );
        replica.stop().await;
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_decided_before_the_revocation_is_decided_again() {
    on_each_engine(async |database| {
        let world = World::on(database).await;
        world.ada_reads_raw().await;
        let ada = world.ada();
        let slow = Fault::Delay(Duration::from_millis(1_500));
        world.azure.set_fault(Endpoint::DelegationKey, Some(slow));
        let revoking = async {
            while world.azure.calls(Endpoint::DelegationKey) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            world.grant(json!([])).await
        };
        // The request is past its decision and waits for the key when the revocation commits.
        let file = read_file(LAKE);
        let single = world.ask(&ada, &file);
        let batch = json!({ "requests": [read_file(LAKE), read_file(LAKE)] });
        let batch = world.send(world.post("/v1/sas/batch", &ada, &batch));
        let ((single, batch), version) = join(join(single, batch), revoking).await;
        assert_eq!(single.refusal(), (403, "no-grant"));
        assert_eq!(batch.status, 200);
        for result in batch.body["results"].as_array().unwrap() {
            assert_eq!(result["problem"]["code"], "no-grant");
        }
        assert!(world.records_of("issued").await.is_empty());
        for refused in world.records_of("refused").await {
            assert_eq!(refused["policy_version"], version);
        }
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_lifted_by_a_grant_that_another_process_commits() {
    let world = World::start().await;
    let ada = world.ada();
    assert_eq!(world.ask(&ada, &read_file(LAKE)).await.status, 403);
    world.ada_reads_raw().await;
    assert_eq!(
        world.ask(&ada, &read_file(LAKE)).await.status,
        200,
        "at once"
    );
    world.stop().await;
}
