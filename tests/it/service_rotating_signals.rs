//! What others hear of rotations: the counters and gauges of a serving broker, and its webhook. Each
//! broker here rotates, and ticks at its start; a real minute is never waited for.

use std::{fs, path::PathBuf, time::Duration as StdDuration};

use sas_broker::{
    cli::compose::Broker,
    config::{Config, sections},
    domain::webhook::EventSource,
    simulator::{KeySlot, Lock},
};
use serde_json::{Value, json};
use time::Duration;

use crate::{
    metrics::samples,
    webhook::{SECRET, receiver::Receiver},
    world::{LAKE, World, text},
};

/// Longest wait for what a tick does, which takes a moment.
const PATIENCE: StdDuration = StdDuration::from_secs(20);

impl World {
    /// The configuration of a broker that rotates, serves metrics, and tells `receiver`.
    pub(crate) fn signalling(&self, receiver: &Receiver) -> Config {
        let secret: PathBuf = self.dir.path().join("webhook");
        fs::write(&secret, SECRET).unwrap();
        let mut config = self.config.clone();
        config.rotation.enabled = true;
        config.metrics = Some(sections::Metrics {
            listen: "127.0.0.1:0".parse().unwrap(),
            beyond_loopback: false,
        });
        config.webhook = Some(sections::Webhook {
            url: receiver.url("/hook").parse().unwrap(),
            secret_file: Some(secret),
            secret_env: None,
            former_secret_file: None,
            former_secret_env: None,
            source: EventSource::default(),
        });
        config
    }

    /// Starts such a broker, waits until it has told so many events in all, and ends it: its metrics
    /// then, and what was told since the last time.
    pub(crate) async fn broker_tells(&self, receiver: &Receiver, events: usize) -> Told {
        let before = receiver.received().len();
        let config = self.signalling(receiver);
        let broker = Broker::start(&config, self.ambient()).await.unwrap();
        let url = format!("http://{}/metrics", broker.metrics_address().unwrap());
        let told = async {
            while receiver.received().len() < before + events {
                tokio::time::sleep(StdDuration::from_millis(10)).await;
            }
        };
        let told = tokio::time::timeout(PATIENCE, told).await;
        assert!(told.is_ok(), "{:?}", receiver.received());
        let metrics = self.http.get(url).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        broker.stop().await;
        let received = receiver.received().split_off(before);
        assert!(received.iter().all(|request| request.is_signed_by(SECRET)));
        let mut events: Vec<Value> = received.iter().map(|request| request.event()).collect();
        events.sort_by_key(|event| event["type"].to_string());
        Told { metrics, events }
    }
}

/// What a broker told.
pub(crate) struct Told {
    pub(crate) metrics: String,
    /// By type.
    pub(crate) events: Vec<Value>,
}

impl Told {
    fn kinds(&self) -> Vec<&str> {
        let events = self.events.iter();
        events
            .map(|event| event["type"].as_str().unwrap())
            .collect()
    }

    /// A metric of the account, by its name and further labels.
    fn is(&self, name: &str, expected: f64) {
        let samples = samples(&self.metrics);
        let name = format!("sas_broker_rotation_{name}");
        assert_eq!(samples.get(name.as_str()), Some(&expected), "{name}");
    }

    /// Steps that were counted, but for those that are still 0.
    fn steps(&self) -> Vec<(String, f64)> {
        let samples = samples(&self.metrics);
        let steps = samples.iter().filter_map(|(name, value)| {
            let labels = name.strip_prefix("sas_broker_rotation_steps_total")?;
            Some((labels.to_owned(), *value)).filter(|(_, value)| *value > 0.0)
        });
        steps.collect()
    }
}

fn step(act: &str, outcome: &str) -> (String, f64) {
    (format!("{{act=\"{act}\",outcome=\"{outcome}\"}}"), 1.0)
}

const PUBLISHED: &str = "sas-broker.rotation.published.v1";
const DRIFT: &str = "sas-broker.rotation.drift.v1";
const FAILED: &str = "sas-broker.rotation.failed.v1";
const OVERDUE: &str = "sas-broker.rotation.overdue.v1";

#[tokio::test]
async fn the_stories_of_an_account_are_counted_and_told() {
    let receiver = Receiver::start(&[]);
    let world = World::with_keys(json!({})).await;
    let told = world.broker_tells(&receiver, 1).await;
    let published = [step("prove", "done"), step("publish", "done")];
    assert_eq!(told.steps(), published);
    told.is("state{account=\"lake1\",state=\"fresh\"}", 1.0);
    told.is("age_seconds{account=\"lake1\"}", 0.0);
    let rotation = world.rotations().await[0]["id"].take();
    let version = &world.versions()[0].id;
    let data = json!({
        "account": LAKE, "rotation": rotation, "key": "key1", "version": version,
    });
    assert_eq!(told.events[0]["type"], PUBLISHED);
    assert_eq!(told.events[0]["data"], data);
    assert_eq!(told.events[0]["time"], text(world.now()));

    world.azure.regenerate_key(LAKE, KeySlot::Key1).unwrap();
    world.clock.advance(Duration::hours(6));
    let told = world.broker_tells(&receiver, 2).await;
    assert_eq!(told.kinds(), [DRIFT, PUBLISHED]);
    let mut repaired = published.to_vec();
    repaired.insert(0, step("disable", "done"));
    assert_eq!(told.steps(), repaired);
    let why = "key1 was regenerated, and the newest version holds its dead value";
    assert_eq!(told.events[0]["data"]["reason"], why);
    told.is("state{account=\"lake1\",state=\"fresh\"}", 1.0);

    world.clock.advance(Duration::days(30));
    let due = text(world.now());
    world.azure.set_lock(LAKE, Some(Lock::ReadOnly)).unwrap();
    let told = world.broker_tells(&receiver, 1).await;
    assert_eq!(told.kinds(), [FAILED]);
    assert_eq!(told.steps(), [step("regenerate", "refused")]);
    let locked = "regenerate: locked: 409 ScopeLocked";
    assert_eq!(told.events[0]["data"]["reason"], locked);
    told.is("state{account=\"lake1\",state=\"blocked\"}", 1.0);
    told.is("failures{account=\"lake1\"}", 1.0);

    world.clock.advance(Duration::hours(2));
    let told = world.broker_tells(&receiver, 2).await;
    assert_eq!(told.kinds(), [FAILED, OVERDUE]);
    told.is("overdue_seconds{account=\"lake1\"}", 7200.0);
    let data = &told.events[1]["data"];
    let reasons = json!([format!("a rotation is due since {due}"), locked]);
    assert_eq!(
        *data,
        json!({ "account": LAKE, "due_at": due, "state": "blocked", "reasons": reasons })
    );
    // Told once for each due time; that the next attempt fails, too, is news of its own.
    world.clock.advance(Duration::hours(2));
    let told = world.broker_tells(&receiver, 1).await;
    assert_eq!(told.kinds(), [FAILED]);

    world.azure.set_lock(LAKE, None).unwrap();
    world.clock.advance(Duration::hours(6));
    let told = world.broker_tells(&receiver, 1).await;
    assert_eq!(told.kinds(), [PUBLISHED]);
    assert_eq!(told.events[0]["data"]["key"], "key2");
    let mut rotated = published.to_vec();
    rotated.push(step("regenerate", "done"));
    assert_eq!(told.steps(), rotated);
    told.is("overdue_seconds{account=\"lake1\"}", 0.0);
    told.is("failures{account=\"lake1\"}", 0.0);
    receiver.stop().await;
    world.stop().await;
}
