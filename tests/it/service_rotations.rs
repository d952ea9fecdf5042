//! The operator's side of rotation: who may ask, what a request becomes, how it is read. Nobody
//! carries anything out here.

use std::{collections::BTreeSet, sync::Arc};

use sas_broker::{
    cli::compose::open_journal,
    config::Config,
    domain::{
        ids::RotationId,
        rotation::{
            AccountStatus, KeyName, Publication, Rotation, RotationBatch, RotationState,
            RotationWrite, State, StepKind, StepOutcome, Trigger, record::RotationStep,
        },
    },
    journal::{Enacted, Enactment},
    ports::PolicyStore,
    simulator::{Subject, TokenSpec},
};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::storage_database::on_each_engine;
use crate::world::{
    ADA, Answer, FLAT, LAKE, OTHER_TENANT, TENANT, World, grant, person, read_file, robot, text,
    user,
};

pub(crate) const VAULT: &str = "kv-data.vault.example";
const ROTATIONS: &str = "/v1/admin/accounts/lake1/rotations";

/// A person with these app roles and a scope that opens nothing here.
pub(crate) fn with_roles(tenant: Uuid, roles: &[&str]) -> TokenSpec {
    let mut token = person(tenant, ADA, &[]);
    if let Subject::User { scopes, .. } = &mut token.subject {
        *scopes = vec!["User.Read".to_owned()];
    }
    token.roles = roles.iter().map(ToString::to_string).collect();
    token
}

fn allow_vault(config: &mut Config) {
    config.cloud.allowed_hosts.push(VAULT.to_owned());
}

impl World {
    /// A world whose `lake1` has keys to rotate; `flat1` has no ARM id even.
    pub(crate) async fn rotating() -> Self {
        let world = Self::with(allow_vault).await;
        world.rotate_lake().await;
        world
    }

    async fn rotate_lake(&self) {
        let mut accounts = self.accounts();
        accounts[0]["resource_id"] = json!(self.azure.resource_id(LAKE).unwrap());
        accounts[0]["rotation"] = json!({
            "vault": format!("https://{VAULT}"),
            "schedule": { "kind": "interval", "days": 30 },
        });
        self.apply(json!({ "accounts": accounts, "grants": [] }))
            .await;
    }

    async fn ada_reads_raw_and_rotates(&self) {
        let store = self.store().await;
        let accounts = store.load().await.unwrap().accounts;
        let grants = json!([grant(user(ADA), "reader", LAKE, "raw")]);
        self.apply(json!({ "accounts": accounts, "grants": grants }))
            .await;
    }

    pub(crate) fn operator(&self) -> String {
        self.mint(&with_roles(TENANT, &["SasBroker.Operator"]))
    }

    async fn order(&self, body: &Value) -> Answer {
        self.send(self.post(ROTATIONS, &self.operator(), body))
            .await
    }

    async fn order_keyed(&self, key: &str, body: &Value) -> Answer {
        let request = self.post(ROTATIONS, &self.operator(), body);
        self.send(request.header("idempotency-key", key)).await
    }

    /// Writes as the holder of the lease would, in another process.
    pub(crate) async fn enact(&self, writes: Vec<RotationWrite>) {
        let journal = open_journal(Arc::new(self.store().await), &self.ambient());
        let enactment = Enactment {
            events: vec![],
            batch: RotationBatch {
                fence: None,
                writes,
            },
            decided_on: None,
            claim: None,
        };
        let enacted = journal.enact(enactment).await.unwrap();
        assert!(matches!(enacted, Enacted::Written(_)), "{enacted:?}");
        journal.close().await;
    }

    fn end(&self, id: &Value) -> RotationWrite {
        RotationWrite::End {
            rotation: id.as_str().unwrap().parse().unwrap(),
            state: RotationState::Refused,
            detail: "inside the overlap".to_owned(),
            at: self.now(),
        }
    }

    /// The look after which `key` is the active one of `lake1`; the next is far away.
    pub(crate) fn look(&self, key: KeyName) -> RotationWrite {
        RotationWrite::Look(AccountStatus {
            account: LAKE.parse().unwrap(),
            state: State::Fresh,
            reasons: vec!["nothing is due".to_owned()],
            looked_at: self.now(),
            look_at: self.now() + Duration::hours(6),
            published: Some(Publication {
                version: "0123456789abcdef0123456789abcdef".parse().unwrap(),
                key,
                rotation: RotationId(Uuid::from_u128(1)),
                at: self.now(),
            }),
            due_at: Some(self.now() + Duration::days(30)),
            failures: 0,
            overdue_told: None,
        })
    }
}

#[tokio::test]
async fn an_account_whose_vault_is_foreign_is_not_rotated_and_issued_for_as_ever() {
    let world = World::rotating().await;
    world.ada_reads_raw_and_rotates().await;
    assert_eq!(world.order(&json!({})).await.status, 202);
    let foreign = "UPDATE accounts SET rotation_policy = \
                   REPLACE(rotation_policy, 'kv-data.vault.example', 'kv-data.evil.example')";
    world.by_hand(foreign).await;
    let answer = world.order(&json!({})).await;
    assert_eq!(answer.refusal(), (409, "rotation-not-configured"));
    world.issue(&world.ada(), &read_file(LAKE)).await;
    world.stop().await;
}

#[tokio::test]
async fn each_operation_is_open_to_its_app_roles_and_to_nobody_else() {
    let world = World::rotating().await;
    let revoke = "/v1/admin/accounts/unknown/revoke-user-delegation-keys";
    let one = format!("{ROTATIONS}/{}", Uuid::nil());
    let empty = json!({});
    let unanswered = |token: Option<&str>| {
        let bare = |method: reqwest::Method, path: &str| {
            let request = world.http.request(method, format!("{}{path}", world.base));
            match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            }
        };
        let post = |path: &str| {
            bare(reqwest::Method::POST, path)
                .header("content-type", "application/json")
                .body(empty.to_string())
        };
        [
            post(ROTATIONS),
            bare(reqwest::Method::GET, ROTATIONS),
            bare(reqwest::Method::GET, &one),
            post(revoke),
        ]
    };
    let no = (403, "insufficient-scope");
    let operator = [
        (202, ""),
        (200, ""),
        (404, "unknown-rotation"),
        (404, "unknown-account"),
    ];
    let reader = [no, (200, ""), (404, "unknown-rotation"), no];
    let rows = [
        (person(TENANT, ADA, &[]), [no; 4]),
        (robot(&["SasBroker.Caller"]), [no; 4]),
        (with_roles(TENANT, &["SasBroker.Operator"]), operator),
        (robot(&["SasBroker.Operator"]), operator),
        (with_roles(TENANT, &["SasBroker.Auditor"]), reader),
        (robot(&["SasBroker.Auditor"]), reader),
        (with_roles(TENANT, &["SasBroker.Admin"]), reader),
        (robot(&["AzureEventGridSecureWebhookSubscriber"]), [no; 4]),
        (
            with_roles(OTHER_TENANT, &["SasBroker.Operator", "SasBroker.Admin"]),
            [no; 4],
        ),
    ];
    for (token, expected) in rows {
        let text = world.mint(&token);
        for (request, expected) in unanswered(Some(&text)).into_iter().zip(expected) {
            let answer = world.send(request).await;
            assert_eq!(
                answer.refusal(),
                expected,
                "{:?} {}",
                token.roles,
                answer.text
            );
        }
    }
    for request in unanswered(None) {
        assert_eq!(world.send(request).await.refusal(), (401, "missing-token"));
    }
    let auditor = with_roles(TENANT, &["SasBroker.Auditor"]);
    let answer = world
        .send(world.post(ROTATIONS, &world.mint(&auditor), &empty))
        .await;
    assert!(
        answer.text.contains("the app role SasBroker.Operator"),
        "{}",
        answer.text
    );
    let issuing = world
        .ask(&world.operator(), &crate::world::read_file(LAKE))
        .await;
    assert_eq!(issuing.refusal(), no, "an operator is not a caller");
    world.stop().await;
}

#[tokio::test]
async fn an_ordinary_request_is_recorded_and_can_be_read_where_location_says() {
    let world = World::rotating().await;
    let answer = world.order(&json!({ "reason": "before the audit" })).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.body["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("{ROTATIONS}/{id}"));
    assert_eq!(answer.body["trigger"], "operator");
    assert_eq!(answer.body["state"], "requested");
    assert_eq!(answer.body["requested_at"], text(world.now()));
    assert!(answer.body.get("key").is_none());
    let read = world
        .get(&format!("{ROTATIONS}/{id}"), &world.operator())
        .await;
    assert_eq!(read.body, answer.body);
    let page = world.get(ROTATIONS, &world.operator()).await;
    assert_eq!(
        page.body,
        json!({ "rotations": [answer.body] }),
        "not looked at yet"
    );
    let records = world.records_of("rotation_opened").await;
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(record["rotation"], json!(id));
    assert_eq!(record["actor"]["object_id"], json!(ADA));
    assert_eq!(record["client"], "127.0.0.1");
    assert_eq!(record["request_id"], answer.header("x-request-id"));
    assert_eq!(record["reason"], "before the audit");
    assert_eq!(record["account"], LAKE);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_told_apart() {
    let world = World::rotating().await;
    let operator = world.operator();
    let long = "x".repeat(501);
    let rows = [
        ("unknown1", json!({}), (404, "unknown-account")),
        (FLAT, json!({}), (409, "rotation-not-configured")),
        ("Lake1", json!({}), (400, "invalid-request")),
        (
            LAKE,
            json!({ "key": "key3", "reason": "x" }),
            (400, "invalid-request"),
        ),
        (LAKE, json!({ "key": "active" }), (400, "invalid-request")),
        (LAKE, json!({ "reason": "" }), (400, "invalid-request")),
        (LAKE, json!({ "reason": "a\nb" }), (400, "invalid-request")),
        (LAKE, json!({ "reason": long }), (400, "invalid-request")),
        (LAKE, json!({ "keys": "key1" }), (400, "invalid-request")),
        (
            LAKE,
            json!({ "key": "active", "reason": "x" }),
            (409, "nothing-published"),
        ),
        (
            LAKE,
            json!({ "key": "alternate", "reason": "x" }),
            (409, "nothing-published"),
        ),
    ];
    for (account, body, expected) in rows {
        let path = format!("/v1/admin/accounts/{account}/rotations");
        let answer = world.send(world.post(&path, &operator, &body)).await;
        assert_eq!(
            answer.refusal(),
            expected,
            "{account} {body} {}",
            answer.text
        );
    }
    let unknown = world
        .get("/v1/admin/accounts/unknown1/rotations", &operator)
        .await;
    assert_eq!(unknown.refusal(), (404, "unknown-account"));
    let none = world
        .get("/v1/admin/accounts/flat1/rotations", &operator)
        .await;
    assert_eq!(none.body, json!({ "rotations": [] }));
    for query in ["limit=0", "limit=201", "cursor=x", "page=2"] {
        let answer = world.get(&format!("{ROTATIONS}?{query}"), &operator).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"), "{query}");
    }
    let odd = world.get(&format!("{ROTATIONS}/1"), &operator).await;
    assert_eq!(odd.refusal(), (400, "invalid-request"));
    assert!(world.records_of("rotation_opened").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_break_glass_asked_for_again_does_not_kill_the_other_key_too() {
    let world = World::rotating().await;
    world.enact(vec![world.look(KeyName::Key1)]).await;
    let leaked = json!({ "key": "active", "reason": "INC-4711" });
    let asked = world.order(&leaked).await.body;
    assert_eq!(asked["key"], "key1");
    // It publishes the other key first, which is the active one from then on.
    let published = RotationStep {
        seq: 1,
        kind: StepKind::Publish,
        key: Some(KeyName::Key2),
        created_before: None,
        version: None,
        started_at: world.now(),
        ended_at: Some(world.now()),
        outcome: StepOutcome::Done,
        detail: None,
    };
    let rotation = asked["id"].as_str().unwrap().parse().unwrap();
    let step = RotationWrite::Intend {
        rotation,
        step: published,
    };
    let writes = vec![RotationWrite::Start { rotation }, step];
    world
        .enact([writes, vec![world.look(KeyName::Key2)]].concat())
        .await;
    assert_eq!(world.order(&leaked).await.body["id"], asked["id"]);
    assert_eq!(world.records_of("rotation_opened").await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_break_glass_names_its_key_by_what_was_published_last() {
    let world = World::rotating().await;
    world.enact(vec![world.look(KeyName::Key2)]).await;
    let leaked = |key: &str| json!({ "key": key, "reason": "INC-4711" });
    let active = world.order(&leaked("active")).await.body;
    assert_eq!(
        (&active["key"], &active["trigger"]),
        (&json!("key2"), &json!("break_glass"))
    );
    let alternate = world.order(&leaked("alternate")).await.body;
    assert_eq!(alternate["key"], "key1");
    // Settled when it was asked for: what is active may change before it runs.
    world.enact(vec![world.look(KeyName::Key1)]).await;
    let path = format!("{ROTATIONS}/{}", active["id"].as_str().unwrap());
    assert_eq!(
        world.get(&path, &world.operator()).await.body["key"],
        "key2"
    );
    // The same key again is the same rotation, whatever it is called by.
    assert_eq!(world.order(&leaked("key2")).await.body, active);
    assert_eq!(world.order(&leaked("active")).await.body, alternate);
    let ordinary = world.order(&json!({})).await;
    assert_eq!(
        ordinary.status, 202,
        "a break-glass is no ordinary rotation"
    );
    let records = world.records_of("rotation_opened").await;
    let keys: Vec<&Value> = records.iter().map(|record| &record["key"]).collect();
    assert_eq!(keys, [&json!("key2"), &json!("key1"), &Value::Null]);
    let status = &world.get(ROTATIONS, &world.operator()).await.body["status"];
    assert_eq!(status["published"]["key"], "key1");
    assert_eq!(status["look_at"], text(world.now()), "woken");
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_same_rotation() {
    let world = World::rotating().await;
    let body = json!({ "reason": "monthly" });
    let first = world.order_keyed("k1", &body).await;
    assert_eq!(first.status, 202, "{}", first.text);
    assert_eq!(world.order_keyed("k1", &body).await.body, first.body);
    let other = world.order_keyed("k1", &json!({})).await;
    assert_eq!(other.refusal(), (422, "idempotency-key-reused"));
    // Without a key, and under another one: it is open already.
    assert_eq!(world.order(&json!({})).await.body, first.body);
    assert_eq!(world.order_keyed("k2", &json!({})).await.body, first.body);
    assert_eq!(world.records_of("rotation_opened").await.len(), 1);

    world.enact(vec![world.end(&first.body["id"])]).await;
    for (key, body) in [("k1", &body), ("k2", &json!({}))] {
        let again = world.order_keyed(key, body).await.body;
        assert_eq!(
            again["id"], first.body["id"],
            "{key} stands for it, open or not"
        );
        assert_eq!(again["state"], "refused");
    }
    let next = world.order(&json!({})).await.body;
    assert_ne!(next["id"], first.body["id"]);
    world.clock.advance(Duration::hours(24) + Duration::SECOND);
    let day_later = world.order_keyed("k1", &body).await.body;
    assert_eq!(
        day_later["id"], next["id"],
        "the key is forgotten, and that one is open"
    );
    world.stop().await;
}

#[tokio::test]
async fn twenty_requests_at_once_open_one_rotation() {
    on_each_engine(async |database| {
        let world = World::on_with(database, allow_vault).await;
        world.rotate_lake().await;
        let replica = world.replica().await;
        let operator = world.operator();
        let ask = |number: usize| {
            let base = [&world.base, &replica.base][number % 2];
            let request = world
                .http
                .post(format!("{base}{ROTATIONS}"))
                .bearer_auth(&operator);
            let request = request
                .header("content-type", "application/json")
                .body("{}");
            // Half of them are repetitions of one request.
            let request = match number % 4 {
                0 | 1 => request.header("idempotency-key", "together"),
                _ => request,
            };
            world.send(request)
        };
        let answers = futures_util::future::join_all((0..20).map(ask)).await;
        let ids: BTreeSet<&str> = answers
            .iter()
            .map(|answer| answer.body["id"].as_str().unwrap_or(&answer.text))
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(world.records_of("rotation_opened").await.len(), 1);
        replica.stop().await;
        world.stop().await;
    })
    .await;
}

#[tokio::test]
async fn rotations_come_by_pages_newest_first_with_their_steps() {
    let world = World::rotating().await;
    let rotation = |number: u64| Rotation {
        id: RotationId(Uuid::from_u64_pair(number, 7)),
        account: LAKE.parse().unwrap(),
        trigger: Trigger::Schedule,
        key: Some(KeyName::Key1),
        reason: None,
        requested_by: "broker".to_owned(),
        requested_at: world.now(),
        state: RotationState::Requested,
        detail: None,
        ended_at: None,
        steps: vec![],
    };
    for number in 1..=7 {
        let rotation = rotation(number);
        let id = rotation.id;
        let step = RotationStep {
            seq: 1,
            kind: StepKind::Regenerate,
            key: Some(KeyName::Key1),
            created_before: None,
            version: None,
            started_at: world.now(),
            ended_at: Some(world.now()),
            outcome: StepOutcome::Refused,
            detail: Some("locked: ScopeLocked".to_owned()),
        };
        let end = world.end(&json!(id));
        let intend = RotationWrite::Intend { rotation: id, step };
        world
            .enact(vec![RotationWrite::Open(rotation), intend, end])
            .await;
    }
    let auditor = world.mint(&robot(&["SasBroker.Auditor"]));
    let (mut ids, mut next, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let page = world
            .get(&format!("{ROTATIONS}?limit=3{next}"), &auditor)
            .await
            .body;
        let rotations = page["rotations"].as_array().unwrap();
        sizes.push(rotations.len());
        for rotation in rotations {
            let step = &rotation["steps"][0];
            assert_eq!(step["kind"], "regenerate");
            assert_eq!(
                (&step["outcome"], &step["seq"]),
                (&json!("refused"), &json!(1))
            );
            assert_eq!(step["detail"], "locked: ScopeLocked");
            assert_eq!(step["ended_at"], text(world.now()));
            ids.push(rotation["id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(sizes, [3, 3, 1]);
    let expected = (1..=7).rev().map(|n| Uuid::from_u64_pair(n, 7).to_string());
    assert_eq!(ids, expected.collect::<Vec<_>>());
    let all = world.get(ROTATIONS, &auditor).await.body;
    assert_eq!(all["rotations"].as_array().unwrap().len(), 7);
    assert!(all.get("next").is_none());
    world.stop().await;
}
