//! Rotation's notifications over sockets: from the outbox of each engine to a receiver that was
//! written from the specification, by the delivery that a tick calls.

pub(crate) mod receiver;

use std::{fs, sync::Arc, time::Duration};

use sas_broker::{
    app::deliver::{AT_ONCE_MAX, ATTEMPTS_MAX, Delivered, Delivery},
    cli::compose::Broker,
    config::sections::Webhook,
    domain::{
        rotation::{Notification, NotificationKind, RotationWrite},
        webhook::EventSource,
    },
    ports::{Notifier, Rotations},
    web::{Route, client},
    webhook::WebhookNotifier,
};
use serde_json::json;
use uuid::Uuid;

use self::receiver::{Answer, Receiver};
use crate::{
    journal_support::{Counting, StandingClock},
    rotation_storage_support::{Process, account, at, id},
    storage_database::{Database, on_each_engine},
    world::{World, logs},
};

/// Canaries: 24 bytes and 64.
pub(crate) const SECRET: &str = "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTI0";
const FORMER: &str = "whsec_Y2FuYXJ5LWZvcm1lci13ZWJob29rLXNlY3JldC1vZi02NC1ieXRlcy1jYW5hcnktZm9ybWVyLXdlYmhvb2stcw==";

/// As receivers have it that know no signatures: the address itself is a secret.
const PATH: &str = "/hook/canary-path-5d1c?sig=canary-query-77e0";

/// One process with an outbox, and a receiver.
struct Scene {
    process: Process,
    clock: Arc<StandingClock>,
    receiver: Receiver,
    delivery: Delivery,
}

impl Scene {
    async fn start(db: &Database, answers: &[Answer]) -> Self {
        let process = Process::start(db, 1).await;
        let clock = StandingClock::new();
        // The notifications of these tests are of `at(0)` and a little later.
        clock.advance(Duration::from_secs(100));
        let receiver = Receiver::start(answers);
        let notifier = WebhookNotifier::new(
            receiver.url(PATH).parse().unwrap(),
            EventSource::default(),
            SECRET.parse().unwrap(),
            Some(FORMER.parse().unwrap()),
            client(None, Route::Direct).unwrap(),
            clock.clone(),
        );
        let delivery = Delivery {
            records: process.store.clone(),
            notifier: Some(Arc::new(notifier) as Arc<dyn Notifier>),
            clock: clock.clone(),
            entropy: Arc::new(Counting),
        };
        Self {
            process,
            clock,
            receiver,
            delivery,
        }
    }

    async fn tell(&self, notifications: impl IntoIterator<Item = Notification>) {
        let writes = notifications.into_iter().map(RotationWrite::Notify);
        self.process.write(writes.collect()).await;
    }

    async fn deliver(&self) -> Delivered {
        self.delivery.deliver_due().await.unwrap()
    }

    /// What waits, whenever its time comes.
    async fn waiting(&self) -> usize {
        let waiting = self.process.store.notifications(at(9_999_999), 1_000);
        waiting.await.unwrap().len()
    }
}

fn notification(number: u128, kind: NotificationKind) -> Notification {
    Notification {
        id: Uuid::from_u128(number),
        kind,
        account: account("acct1"),
        rotation: Some(id(number)),
        at: at(i64::try_from(number).unwrap()),
        data: json!({ "key": "key2", "version": "0123" }).to_string(),
    }
}

fn accepted(accepted: usize) -> Delivered {
    Delivered {
        accepted,
        ..Delivered::default()
    }
}

fn postponed(postponed: usize) -> Delivered {
    Delivered {
        postponed,
        ..Delivered::default()
    }
}

#[tokio::test]
async fn an_event_is_signed_delivered_once_and_forgotten() {
    on_each_engine(async |db: &Database| {
        let scene = Scene::start(db, &[Answer::Status(200), Answer::Endless]).await;
        let kinds = NotificationKind::ALL;
        scene
            .tell(
                (1..)
                    .zip(kinds)
                    .map(|(number, kind)| notification(number, kind)),
            )
            .await;
        assert_eq!(scene.deliver().await, accepted(4));
        assert_eq!(scene.deliver().await, accepted(0));
        assert_eq!(scene.waiting().await, 0);

        let mut received = scene.receiver.received();
        received.sort_by_key(|request| request.header("webhook-id").to_owned());
        assert_eq!(received.len(), 4);
        for ((number, kind), request) in (1..).zip(kinds).zip(&received) {
            let content_type = "application/cloudevents+json; charset=UTF-8";
            assert_eq!(request.header("content-type"), content_type);
            assert_eq!(request.header("webhook-timestamp"), "1795428100");
            assert!(request.is_signed_by(SECRET) && request.is_signed_by(FORMER));
            assert!(!request.is_signed_by("whsec_AAAA"));
            let told = Uuid::from_u128(number);
            assert_eq!(request.header("webhook-id"), told.to_string());
            let data = json!({
                "account": "acct1", "rotation": id(number).to_string(),
                "key": "key2", "version": "0123",
            });
            let expected = json!({
                "specversion": "1.0", "id": told, "source": "urn:sas-broker",
                "type": kind.event_type(), "subject": "acct1",
                "time": format!("2026-11-23T10:00:0{number}Z"),
                "datacontenttype": "application/json", "data": data,
            });
            assert_eq!(request.event(), expected);
        }
        scene.receiver.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_accepted_is_sent_again_after_a_pause_that_grows() {
    on_each_engine(async |db: &Database| {
        let refusals = [500, 302, 410, 429].map(Answer::Status);
        let scene = Scene::start(db, &refusals).await;
        scene
            .tell([notification(1, NotificationKind::Failed)])
            .await;
        // The first attempt at once; then half a minute, doubling, each moved by a tenth at most.
        for pause in [30, 60, 120, 240] {
            assert_eq!(scene.deliver().await, postponed(1));
            scene.clock.advance(Duration::from_secs(pause * 9 / 10 - 1));
            assert_eq!(scene.deliver().await, accepted(0), "not before its time");
            scene.clock.advance(Duration::from_secs(pause * 2 / 10 + 2));
        }
        assert_eq!(scene.deliver().await, accepted(1));
        assert_eq!(scene.waiting().await, 0);
        let received = scene.receiver.received();
        assert_eq!(received.len(), 5, "no redirect was followed");
        for request in &received {
            assert_eq!(request.body, received[0].body, "the same event each time");
            assert!(request.is_signed_by(SECRET));
        }
        let times = received.iter().map(|r| r.header("webhook-timestamp"));
        assert!(times.is_sorted(), "each attempt has a time of its own");
        scene.receiver.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_left_in_time_and_the_others_are_told_meanwhile() {
    let database = Database::sqlite().await;
    let scene = Scene::start(&database, &[Answer::Silence]).await;
    let told = (1..=3).map(|number| notification(number, NotificationKind::Overdue));
    scene.tell(told).await;
    let delivered = tokio::time::timeout(Duration::from_secs(20), scene.deliver());
    let expected = Delivered {
        accepted: 2,
        ..postponed(1)
    };
    assert_eq!(delivered.await.unwrap(), expected);
    scene.clock.advance(Duration::from_secs(40));
    assert_eq!(scene.deliver().await, accepted(1));
    scene.receiver.stop().await;
}

#[tokio::test]
async fn a_call_delivers_a_bounded_number_the_oldest_first_and_a_few_at_a_time() {
    on_each_engine(async |db: &Database| {
        let scene = Scene::start(db, &[]).await;
        let all = u128::try_from(AT_ONCE_MAX).unwrap() + 5;
        let told = (1..=all).map(|number| notification(number, NotificationKind::Drift));
        scene.tell(told).await;
        assert_eq!(scene.deliver().await, accepted(AT_ONCE_MAX));
        let mut first: Vec<_> = scene.receiver.received();
        first.sort_by_key(|request| request.header("webhook-id").to_owned());
        let last = Uuid::from_u128(all - 5).to_string();
        assert_eq!(first.last().unwrap().header("webhook-id"), last);
        assert_eq!(scene.deliver().await, accepted(5));
        let busiest = scene.receiver.busiest();
        assert!((2..=8).contains(&busiest), "{busiest} at a time");
        scene.receiver.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_is_given_up_after_about_a_day_and_told_without_a_secret() {
    let heard = logs::listen();
    let database = Database::sqlite().await;
    let refusals = [Answer::Status(503); ATTEMPTS_MAX as usize];
    let scene = Scene::start(&database, &refusals).await;
    // Found in the log by this id; other tests write to the same one.
    let number = 0xdead_0001;
    let mut told = notification(1, NotificationKind::Failed);
    told.id = Uuid::from_u128(number);
    scene.tell([told.clone()]).await;
    for _ in 1..ATTEMPTS_MAX {
        assert_eq!(scene.deliver().await, postponed(1));
        scene.clock.advance(Duration::from_hours(4));
    }
    let given_up = Delivered {
        given_up: 1,
        ..Delivered::default()
    };
    assert_eq!(scene.deliver().await, given_up);
    assert_eq!(scene.waiting().await, 0);
    assert_eq!(scene.deliver().await, accepted(0));
    assert_eq!(scene.receiver.received().len(), ATTEMPTS_MAX as usize);

    // One that cannot even be sent: nobody listens there any more.
    scene.tell([notification(2, NotificationKind::Drift)]).await;
    scene.receiver.stop().await;
    assert_eq!(scene.delivery.deliver_due().await.unwrap(), postponed(1));

    let heard = heard.heard();
    let about: Vec<_> = heard
        .lines()
        .filter(|line| line.contains(&told.id.to_string()) && line.contains("given up"))
        .collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert!(about[0].contains("WARN") && about[0].contains("status 503"));
    assert!(
        heard.contains("will be sent again"),
        "the failures were told"
    );
    for secret in [
        "canary-path-5d1c",
        "canary-query-77e0",
        "canary-of-the-receiver",
    ] {
        let line = heard.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    for secret in [SECRET, FORMER] {
        let bare = secret.strip_prefix("whsec_").unwrap();
        assert!(!heard.contains(bare));
    }
}

#[tokio::test]
async fn without_a_webhook_the_outbox_is_emptied() {
    on_each_engine(async |db: &Database| {
        let mut scene = Scene::start(db, &[]).await;
        scene.delivery.notifier = None;
        let told = (1..=2).map(|number| notification(number, NotificationKind::Published));
        scene.tell(told).await;
        let dropped = Delivered {
            dropped: 2,
            ..Delivered::default()
        };
        assert_eq!(scene.deliver().await, dropped);
        assert_eq!(scene.waiting().await, 0);
        assert_eq!(scene.receiver.received().len(), 0);
        scene.receiver.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_configured_broker_tells_its_webhook_and_refuses_a_malformed_secret() {
    let world = World::start().await;
    let receiver = Receiver::start(&[]);
    let file = |name: &str, text: &str| {
        let path = world.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let mut config = world.config.clone();
    config.webhook = Some(Webhook {
        url: receiver.url(PATH).parse().unwrap(),
        secret_file: Some(file("webhook", &format!("{SECRET}\n"))),
        secret_env: None,
        former_secret_file: None,
        former_secret_env: None,
        source: EventSource::try_from("urn:sas-broker:prod".to_owned()).unwrap(),
    });
    let shown = format!("{config:?}");
    assert!(!shown.contains("canary-path") && !shown.contains("canary-query"));

    let broker = Broker::start(&config, world.ambient()).await.unwrap();
    world
        .by_hand(
            "INSERT INTO notifications (id, kind, account, rotation, at, data, attempts, \
             next_attempt_at) VALUES ('00000000-0000-0000-0000-000000000001', \
             'sas-broker.rotation.drift.v1', 'acct1', NULL, 0, '{}', 0, 0)",
        )
        .await;
    let delivered = broker.signals().delivery.deliver_due().await;
    assert_eq!(delivered.unwrap(), accepted(1));
    let received = receiver.received().remove(0);
    assert!(received.is_signed_by(SECRET) && !received.is_signed_by(FORMER));
    assert_eq!(received.event()["source"], "urn:sas-broker:prod");
    broker.stop().await;

    let canary = "whsec_canary-that-is-no-base64";
    let section = config.webhook.as_mut().unwrap();
    section.former_secret_file = Some(file("former", canary));
    let refused = Broker::start(&config, world.ambient()).await.err().unwrap();
    let refused = format!("{refused} {refused:?}");
    assert!(refused.contains("webhook.former_secret_file"), "{refused}");
    assert!(!refused.contains("canary-that"), "{refused}");
    let section = config.webhook.as_mut().unwrap();
    section.former_secret_file = Some("/nowhere/former".into());
    assert!(Broker::start(&config, world.ambient()).await.is_err());
    receiver.stop().await;
    world.stop().await;
}
