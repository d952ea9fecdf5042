//! Prometheus metrics: what a scrape says about the accounts in the database of each engine, what it
//! counts, and where it is served.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Client;
use sas_broker::{
    cli::compose::Broker,
    config::sections,
    domain::rotation::{
        AccountStatus, KeyName, Publication, RotationWrite, State, StepKind, StepOutcome,
    },
    metrics::{Metrics, Rotated, listener::Listener},
    ports::StepMeter,
};

use crate::{
    journal_support::StandingClock,
    rotation_storage_support::{Process, at, id, status},
    storage_database::{Database, on_each_engine, on_postgres},
    world::World,
};

const HOUR: i64 = 3_600;

/// The clock that the metrics are read by shows `at(0)`, but for a microsecond.
fn metrics(process: &Process, rotated: Rotated) -> Arc<Metrics> {
    let records = process.store.clone();
    Arc::new(Metrics::new(records, rotated, StandingClock::new()))
}

/// Each sample by its name and labels.
pub(crate) fn samples(page: &str) -> BTreeMap<&str, f64> {
    assert!(page.ends_with("# EOF\n"), "{page}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line| {
        let (name, value): (&str, &str) = str::rsplit_once(line, ' ').unwrap();
        (name, value.parse().unwrap())
    };
    lines.map(sample).collect()
}

fn published(name: &str, since: i64, state: State, due: Option<i64>) -> AccountStatus {
    AccountStatus {
        state,
        due_at: due.map(at),
        published: Some(Publication {
            version: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            key: KeyName::Key1,
            rotation: id(1),
            at: at(since),
        }),
        ..status(name, 0, 1)
    }
}

fn is(page: &BTreeMap<&str, f64>, name: &str, expected: f64) {
    let found = page.get(name).copied();
    let near = found.is_some_and(|found| (found - expected).abs() < 0.01);
    assert!(near, "{name} is {found:?} and not {expected}");
}

#[tokio::test]
async fn a_scrape_tells_of_every_rotated_account() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let blocked = AccountStatus {
            state: State::Blocked,
            failures: 3,
            ..status("blocked", 0, 1)
        };
        let looks = [
            published("fresh", -HOUR, State::Fresh, Some(HOUR)),
            published("late", -9 * HOUR, State::Due, Some(-2 * HOUR)),
            published("unneeded", -9 * HOUR, State::NotNeeded, Some(-2 * HOUR)),
            blocked,
            published("former", -9 * HOUR, State::Due, Some(-2 * HOUR)),
            published("ahead", HOUR, State::Fresh, None),
        ];
        let looks = looks.into_iter().map(RotationWrite::Look);
        process.write(looks.collect()).await;
        let metrics = metrics(&process, Box::new(|name| name.as_str() != "former"));
        let page = metrics.scrape().await;
        let page = samples(&page);
        for (account, age, overdue, state, failures) in [
            ("fresh", Some(HOUR), 0, "fresh", 0),
            ("late", Some(9 * HOUR), 2 * HOUR, "due", 0),
            ("unneeded", Some(9 * HOUR), 0, "not_needed", 0),
            ("blocked", None, 0, "blocked", 3),
            ("ahead", Some(0), 0, "fresh", 0),
        ] {
            let of =
                |metric: &str| format!("sas_broker_rotation_{metric}{{account=\"{account}\"}}");
            #[expect(clippy::cast_precision_loss, reason = "hours are small")]
            match age {
                Some(age) => is(&page, &of("age_seconds"), age as f64),
                None => assert!(!page.contains_key(of("age_seconds").as_str())),
            }
            is(&page, &of("overdue_seconds"), f64::from(overdue as i32));
            is(&page, &of("failures"), f64::from(failures));
            for known in State::ALL {
                let name =
                    format!("sas_broker_rotation_state{{account=\"{account}\",state=\"{known}\"}}");
                let present = f64::from(u8::from(known.as_str() == state));
                is(&page, &name, present);
            }
        }
        assert!(!page.keys().any(|name| name.contains("former")));
        let version = env!("CARGO_PKG_VERSION");
        is(
            &page,
            &format!("sas_broker_build_info{{version=\"{version}\"}}"),
            1.0,
        );
        is(&page, "sas_broker_rotation_scrape_errors_total", 0.0);
    })
    .await;
}

#[tokio::test]
async fn accounts_are_read_page_by_page() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let looks = (0..1_001).map(|n| RotationWrite::Look(status(&format!("acct{n:04}"), 0, 1)));
        process.write(looks.collect()).await;
        let page = metrics(&process, Box::new(|_| true)).scrape().await;
        let told = page
            .lines()
            .filter(|line| line.starts_with("sas_broker_rotation_failures{"));
        assert_eq!(told.count(), 1_001);
    })
    .await;
}

#[tokio::test]
async fn steps_are_counted_from_zero_by_act_and_outcome() {
    let database = Database::sqlite().await;
    let process = Process::start(&database, 1).await;
    let metrics = metrics(&process, Box::new(|_| true));
    let page = metrics.scrape().await;
    let steps = |page: &BTreeMap<&str, f64>| {
        let counters = page
            .iter()
            .filter(|(name, _)| name.starts_with("sas_broker_rotation_steps_total{"));
        counters.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    // Six acts; of the outcomes those four that are final.
    assert_eq!(steps(&samples(&page)), [0.0; 24]);
    metrics.count(StepKind::Publish, StepOutcome::Done);
    metrics.count(StepKind::Publish, StepOutcome::Done);
    metrics.count(StepKind::Regenerate, StepOutcome::NotSeen);
    let page = metrics.scrape().await;
    let page = samples(&page);
    let of = |act: &str, outcome: &str| {
        format!("sas_broker_rotation_steps_total{{act=\"{act}\",outcome=\"{outcome}\"}}")
    };
    is(&page, &of("publish", "done"), 2.0);
    is(&page, &of("regenerate", "not_seen"), 1.0);
    assert_eq!(steps(&page).iter().sum::<f64>(), 3.0);
}

#[tokio::test]
async fn a_failing_database_costs_the_accounts_and_is_counted() {
    on_each_engine(async |db: &Database| {
        let process = Process::start(db, 1).await;
        process
            .write(vec![RotationWrite::Look(status("acct1", 0, 1))])
            .await;
        let metrics = metrics(&process, Box::new(|_| true));
        metrics.count(StepKind::Prove, StepOutcome::Done);
        db.by_hand("ALTER TABLE rotation_status RENAME TO away")
            .await
            .unwrap();
        let page = metrics.scrape().await;
        let without = samples(&page);
        is(&without, "sas_broker_rotation_scrape_errors_total", 1.0);
        assert!(!without.keys().any(|name| name.contains("account=")));
        let steps = "sas_broker_rotation_steps_total{act=\"prove\",outcome=\"done\"}";
        is(&without, steps, 1.0);

        db.by_hand("ALTER TABLE away RENAME TO rotation_status")
            .await
            .unwrap();
        let page = metrics.scrape().await;
        let again = samples(&page);
        is(&again, "sas_broker_rotation_scrape_errors_total", 1.0);
        is(
            &again,
            "sas_broker_rotation_failures{account=\"acct1\"}",
            0.0,
        );
    })
    .await;
}

#[tokio::test]
async fn a_database_that_does_not_answer_holds_a_scrape_up_for_seconds_only() {
    on_postgres(async |db: &Database| {
        let process = Process::start(db, 1).await;
        let metrics = metrics(&process, Box::new(|_| true));
        let lock = "BEGIN; LOCK TABLE rotation_status; SELECT pg_sleep(8); COMMIT";
        let page = async {
            // The lock is there once another look at the table has to wait.
            let wait = "SET lock_timeout = 20; SELECT count(*) FROM rotation_status";
            while db.by_hand(wait).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::timeout(Duration::from_secs(7), metrics.scrape()).await
        };
        let (locked, page) = tokio::join!(db.by_hand(lock), page);
        locked.unwrap();
        let page = page.unwrap();
        is(
            &samples(&page),
            "sas_broker_rotation_scrape_errors_total",
            1.0,
        );
    })
    .await;
}

#[tokio::test]
async fn the_page_is_served_on_a_listener_of_its_own_and_nothing_else_is() {
    let database = Database::sqlite().await;
    let process = Process::start(&database, 1).await;
    let metrics = metrics(&process, Box::new(|_| true));
    let listener = Listener::start(metrics, "127.0.0.1:0".parse().unwrap()).unwrap();
    let base = format!("http://{}", listener.address());
    let http = Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{base}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.headers()["content-type"], content_type);
    let page = answer.text().await.unwrap();
    is(
        &samples(&page),
        "sas_broker_rotation_scrape_errors_total",
        0.0,
    );
    for request in [
        http.get(&base),
        http.get(format!("{base}/metrics/")),
        http.get(format!("{base}/healthz")),
        http.get(format!("{base}/v1/access")),
        http.post(format!("{base}/metrics")),
        http.head(format!("{base}/metrics")),
        http.delete(format!("{base}/metrics")),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 404);
    }
    listener.stop().await;
    assert!(http.get(format!("{base}/metrics")).send().await.is_err());
}

#[tokio::test]
async fn a_configured_broker_serves_its_metrics_and_its_api_does_not() {
    let world = World::start().await;
    let mut config = world.config.clone();
    let broker = Broker::start(&config, world.ambient()).await.unwrap();
    assert_eq!(broker.metrics_address(), None, "off unless configured");
    broker.stop().await;

    config.metrics = Some(sections::Metrics {
        listen: "127.0.0.1:0".parse().unwrap(),
        beyond_loopback: false,
    });
    let broker = Broker::start(&config, world.ambient()).await.unwrap();
    let address = broker.metrics_address().unwrap();
    let http = Client::builder().no_proxy().build().unwrap();
    let metrics = |address| http.get(format!("http://{address}/metrics")).send();
    let page = metrics(address).await.unwrap().text().await.unwrap();
    assert!(page.contains("sas_broker_build_info"), "{page}");
    assert_eq!(metrics(broker.address()).await.unwrap().status(), 404);

    // Taken already: the start fails and says which key is at fault.
    config.metrics.as_mut().unwrap().listen = address;
    let taken = Broker::start(&config, world.ambient()).await.err().unwrap();
    assert!(taken.to_string().contains("metrics.listen"), "{taken}");
    broker.stop().await;
    assert!(metrics(address).await.is_err());
    world.stop().await;
}
