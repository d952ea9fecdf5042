//! Rotation as a whole: the broker over HTTP, a process that rotates, and the simulated Azure with
//! ARM, a vault and a data plane that knows the live keys. What one account's life looks like; the
//! other `service_rotating_*` files are about requests, troubles, lost answers, time and signals.
//!
//! A tick is a process of its own, as if the broker was restarted every time: the SDK reckons a
//! token's end by the machine's clock, and the world's clock leaps by months.

use sas_broker::{
    azure::key_proof::SharedKeyProof,
    cli::compose::RotationProcess,
    domain::{account::Account, rotation::KeyName},
    ports::{AccountKey, Clock, KeyProof, Proof},
    simulator::{
        ArmRole, Endpoint, KeySlot, SecretVersion, VaultRole, VaultRoleAssignment, VaultSpec,
    },
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

use crate::world::{
    ADA, Answer, BROKER_PRINCIPAL, LAKE, START, TENANT, World, grant, outcome, read_file, text,
    user,
};

pub(crate) const KEY_VAULT: &str = "kv-data";
pub(crate) const SECRET: &str = "sa-lake1";
const ROTATIONS: &str = "/v1/admin/accounts/lake1/rotations";

/// What may happen to an account's keys, as a test counts it.
pub(crate) const MUTATIONS: [Endpoint; 4] = [
    Endpoint::ArmRegenerateKey,
    Endpoint::VaultSet,
    Endpoint::VaultUpdate,
    Endpoint::VaultDelete,
];

impl World {
    /// A world whose `lake1` is rotated every 30 days without jitter, unless `policy` says otherwise,
    /// by an identity that has the roles of the documentation. Ada may read `raw` there.
    pub(crate) async fn with_keys(policy: Value) -> Self {
        Self::with_vault(VaultSpec::default(), policy).await
    }

    /// The same, with a vault of another kind.
    pub(crate) async fn with_vault(vault: VaultSpec, policy: Value) -> Self {
        let world = Self::with_azure(|azure, config| {
            for role in [ArmRole::Reader, ArmRole::KeyOperator] {
                azure.assign_arm_role(LAKE, BROKER_PRINCIPAL, role).unwrap();
            }
            let officer = VaultRoleAssignment {
                principal: BROKER_PRINCIPAL,
                role: VaultRole::SecretsOfficer,
                secret: None,
            };
            let vault = azure.create_vault(VaultSpec {
                name: KEY_VAULT.to_owned(),
                tenant_id: TENANT,
                role_assignments: vec![officer],
                ..vault
            });
            let host = vault.unwrap().authority().to_owned();
            config.cloud.allowed_hosts.push(host);
        })
        .await;
        world.rotate_by(policy).await;
        world
    }

    /// Makes this the account's policy, over what it is in every test.
    pub(crate) async fn rotate_by(&self, policy: Value) {
        let mut accounts = self.accounts();
        accounts[0]["resource_id"] = json!(self.azure.resource_id(LAKE).unwrap());
        accounts[0]["rotation"] = json!({
            "vault": self.azure.vault_url(KEY_VAULT).unwrap(),
            "schedule": { "kind": "interval", "days": 30 },
            "jitter_minutes": 0,
        });
        for (field, value) in policy.as_object().unwrap() {
            accounts[0]["rotation"][field] = value.clone();
        }
        let grants = [grant(user(ADA), "reader", LAKE, "raw")];
        self.apply(json!({ "accounts": accounts, "grants": grants }))
            .await;
    }

    /// A process that rotates, until its tokens expire in the world: for less than an hour.
    pub(crate) async fn process(&self) -> RotationProcess {
        let process = RotationProcess::open(&self.config, self.ambient()).await;
        process.unwrap()
    }

    /// The next tick; what is published then opens the account.
    pub(crate) async fn tick(&self) {
        self.tick_anyhow().await;
        assert_ne!(self.published_opens().await, Some(false));
    }

    /// The next tick, whatever is left then.
    pub(crate) async fn tick_anyhow(&self) {
        let process = self.process().await;
        process.tick().await.unwrap();
        process.close().await;
    }

    /// A tick after this time.
    pub(crate) async fn tick_after(&self, time: Duration) {
        self.clock.advance(time);
        self.tick().await;
    }

    /// A minute passes, and this process ticks; what is published then opens the account.
    pub(crate) async fn minute(&self, process: &RotationProcess) {
        self.clock.advance(Duration::minutes(1));
        process.tick().await.unwrap();
        assert_ne!(self.published_opens().await, Some(false));
    }

    /// So many minutes of one process.
    pub(crate) async fn tick_minutes(&self, minutes: usize) {
        let process = self.process().await;
        for _ in 0..minutes {
            self.minute(&process).await;
        }
        process.close().await;
    }

    /// Asks for a rotation as an operator.
    pub(crate) async fn operate(&self, body: &Value) -> Answer {
        self.send(self.post(ROTATIONS, &self.operator(), body))
            .await
    }

    async fn rotation_page(&self) -> Value {
        self.get(ROTATIONS, &self.operator()).await.body
    }

    /// What the API tells of the last look.
    pub(crate) async fn status(&self) -> Value {
        self.rotation_page().await["status"].take()
    }

    pub(crate) async fn state(&self) -> String {
        self.status().await["state"].as_str().unwrap().to_owned()
    }

    /// Why the account is in its state.
    pub(crate) async fn reasons(&self) -> String {
        let status = self.status().await;
        let reasons = status["reasons"].as_array().unwrap().iter();
        let reasons: Vec<&str> = reasons.map(|reason| reason.as_str().unwrap()).collect();
        reasons.join("; ")
    }

    /// The API's stories, oldest first.
    pub(crate) async fn rotations(&self) -> Vec<Value> {
        let mut told = self.rotation_page().await;
        let mut rotations = match told["rotations"].take() {
            Value::Array(rotations) => rotations,
            other => panic!("{other}"),
        };
        rotations.reverse();
        rotations
    }

    /// The same, each in one line.
    pub(crate) async fn stories(&self) -> Vec<String> {
        self.rotations().await.iter().map(story).collect()
    }

    pub(crate) fn versions(&self) -> Vec<SecretVersion> {
        self.azure.secret_versions(KEY_VAULT, SECRET).unwrap()
    }

    /// The versions of the secret, oldest first, each by its key and switch.
    pub(crate) fn published(&self) -> Vec<String> {
        let brief = |version: &SecretVersion| {
            let key = version.tags.get("CredentialId");
            let key = key.map_or("foreign", String::as_str);
            format!("{key} {}", if version.enabled { "on" } else { "off" })
        };
        self.versions().iter().map(brief).collect()
    }

    /// The value of the newest version.
    pub(crate) fn newest_value(&self) -> String {
        let version = self.versions().pop().unwrap();
        version.value.expose_secret().to_owned()
    }

    /// A key's live value.
    pub(crate) fn live(&self, slot: KeySlot) -> String {
        let key = self.azure.account_key(LAKE, slot).unwrap();
        key.value.expose_secret().to_owned()
    }

    /// Whether the data plane takes this key; `None` if it takes none at all.
    pub(crate) async fn key_opens(&self, key: &str) -> Option<bool> {
        let account: Account = serde_json::from_value(self.accounts()[0].clone()).unwrap();
        let (cloud, clock) = (self.config.cloud.cloud(), Arc::clone(&self.clock));
        let prover = SharedKeyProof::new(self.http.clone(), cloud, clock as Arc<dyn Clock>);
        let key = AccountKey {
            name: KeyName::Key1,
            value: key.into(),
        };
        match prover.prove(&account, &key).await {
            Proof::Accepted => Some(true),
            Proof::Rejected => Some(false),
            Proof::Disallowed | Proof::Unreachable(_) => None,
        }
    }

    /// Whether what consumers read opens the account: a Shared Key call with it, or, where the data
    /// plane lets nobody in, that it is a live key. `None` without a secret.
    async fn published_opens(&self) -> Option<bool> {
        let newest = self.versions().pop()?;
        let value = newest.value.expose_secret();
        let live = [KeySlot::Key1, KeySlot::Key2].map(|slot| self.live(slot));
        let opens = self.key_opens(value).await;
        Some(newest.enabled && opens.unwrap_or_else(|| live.iter().any(|live| live == value)))
    }

    /// How often each endpoint that changes something was called.
    pub(crate) fn mutations(&self) -> [u64; 4] {
        MUTATIONS.map(|endpoint| self.azure.calls(endpoint))
    }

    /// How often ARM was asked about the account.
    pub(crate) fn looks(&self) -> u64 {
        self.azure.calls(Endpoint::ArmRead)
    }

    /// Reads a blob by a token of ours.
    async fn reads(&self, sas: &Value) -> (u16, String) {
        let url = sas["url"].as_str().unwrap();
        outcome(self.http.get(url).header("x-ms-version", "2025-11-05")).await
    }
}

/// A rotation in one line: why it began, how it ended, and its steps.
pub(crate) fn story(rotation: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let step = |step: &Value| {
        let key = step["key"]
            .as_str()
            .map_or(String::new(), |key| format!("{key} "));
        format!("{} {key}{}", word(&step["kind"]), word(&step["outcome"]))
    };
    let steps = rotation["steps"].as_array().unwrap().iter().map(step);
    let steps: Vec<String> = steps.collect();
    let (trigger, state) = (word(&rotation["trigger"]), word(&rotation["state"]));
    format!("{trigger} {state}: {}", steps.join(", "))
}

/// What an adoption looks like that went well.
pub(crate) const ADOPTED: &str = "adoption succeeded: prove key1 done, publish key1 done";
/// The first rotation after it.
pub(crate) const ROTATED: &str =
    "schedule succeeded: regenerate key2 done, prove key2 done, publish key2 done";

#[tokio::test]
async fn an_account_is_adopted_and_its_keys_take_turns_and_no_token_of_ours_minds() {
    let mut world = World::with_keys(json!({})).await;
    let [one, two] = [KeySlot::Key1, KeySlot::Key2].map(|slot| world.live(slot));
    world.tick().await;
    let adopted = world.status().await;
    assert_eq!(adopted["state"], "fresh");
    assert_eq!(adopted["due_at"], text(START + Duration::days(30)));
    assert_eq!(adopted["published"]["since"], text(START));
    assert_eq!(world.mutations(), [0, 1, 0, 0]);
    assert_eq!(world.newest_value(), one, "what consumers use today");
    let version = world.versions().remove(0);
    let expires = START + Duration::days(30) + Duration::hours(24);
    assert_eq!(version.expires, Some(expires.unix_timestamp()));
    let tag = |name: &str| version.tags[name].clone();
    assert_eq!(tag("CredentialId"), "key1");
    assert_eq!(
        tag("ProviderAddress"),
        world.azure.resource_id(LAKE).unwrap()
    );
    assert_eq!(tag("ValidityPeriodDays"), "30");
    assert_eq!(tag("KeyCreationTime"), "none");

    world
        .tick_after(Duration::days(30) - Duration::minutes(1))
        .await;
    assert_eq!(world.mutations(), [0, 1, 0, 0], "not due yet");
    world.restart().await;
    let sas = world.issue(&world.ada(), &read_file(LAKE)).await;
    world.tick_after(Duration::minutes(1)).await;
    let first_rotation = world.now();
    let second = world.live(KeySlot::Key2);
    assert_ne!(second, two, "regenerated");
    assert_eq!(world.newest_value(), second);
    assert_eq!(world.live(KeySlot::Key1), one, "the old one is left alone");
    assert_eq!(world.published(), ["key1 on", "key2 on"]);
    world.clock.advance(Duration::minutes(1));
    assert_eq!(world.reads(&sas).await, (200, String::new()));

    world.tick_after(Duration::hours(24)).await;
    assert_eq!(
        world.key_opens(&one).await,
        Some(true),
        "and beyond the overlap"
    );
    world
        .clock
        .advance(Duration::days(29) - Duration::minutes(2));
    world.restart().await;
    let sas = world.issue(&world.ada(), &read_file(LAKE)).await;
    world.tick_after(Duration::minutes(1)).await;
    assert_ne!(world.live(KeySlot::Key1), one);
    assert_eq!(world.newest_value(), world.live(KeySlot::Key1));
    assert_eq!(world.key_opens(&one).await, Some(false), "its time is over");
    assert_eq!(world.key_opens(&second).await, Some(true));
    assert_eq!(world.published(), ["key1 off", "key2 on", "key1 on"]);
    assert_eq!(world.mutations(), [2, 3, 1, 0]);
    let third = "schedule succeeded: regenerate key1 done, prove key1 done, publish key1 done, \
                 disable key1 done";
    assert_eq!(world.stories().await, [ADOPTED, ROTATED, third]);
    assert_eq!(
        world.reads(&sas).await,
        (200, String::new()),
        "both are dead"
    );
    check_story(&world, &world.rotations().await[1], first_rotation).await;
    world.stop().await;
}

/// The API and the journal tell the same of a rotation, with every step's time and version.
async fn check_story(world: &World, rotation: &Value, at: OffsetDateTime) {
    let id = rotation["id"].as_str().unwrap();
    let one = format!("{ROTATIONS}/{id}");
    let read = world.get(&one, &world.operator()).await;
    assert_eq!(read.body, *rotation);
    assert_eq!(rotation["requested_by"], "broker");
    assert_eq!(rotation["key"], "key2");
    assert_eq!(rotation["ended_at"], text(at));
    for (seq, step) in (1..).zip(rotation["steps"].as_array().unwrap()) {
        assert_eq!(step["seq"], json!(seq));
        assert_eq!(step["started_at"], text(at));
        assert_eq!(step["ended_at"], text(at));
    }
    assert_eq!(rotation["steps"][2]["version"], world.versions()[1].id);
    let mut records = world.records().await;
    records.retain(|record| record["rotation"] == id);
    let brief = |record: &Value| match record["kind"].as_str().unwrap() {
        "rotation_step" => {
            let word = |field: &str| record[field].as_str().unwrap().to_owned();
            format!("{} {} {}", word("act"), word("key"), word("outcome"))
        }
        kind => kind.to_owned(),
    };
    let told: Vec<String> = records.iter().map(brief).collect();
    let expected = [
        "rotation_opened",
        "regenerate key2 intended",
        "regenerate key2 done",
        "prove key2 done",
        "publish key2 intended",
        "publish key2 done",
        "rotation_ended",
    ];
    assert_eq!(told, expected, "each intent before its outcome");
}

#[tokio::test]
async fn the_policy_says_which_key_consumers_use_where_it_is_kept_and_in_which_form() {
    let world = World::with_keys(json!({
        "initial_key": "key2", "secret_name": "connection-of-lake1", "value": "connection_string",
    }))
    .await;
    let lives = world.live(KeySlot::Key2);
    world.tick().await;
    let versions = world
        .azure
        .secret_versions(KEY_VAULT, "connection-of-lake1");
    let version = versions.unwrap().remove(0);
    let endpoint = world.azure.blob_endpoint(LAKE);
    let expected = format!(
        "DefaultEndpointsProtocol=https;AccountName=lake1;AccountKey={lives};BlobEndpoint={endpoint}"
    );
    assert_eq!(version.value.expose_secret(), expected);
    assert_eq!(version.tags["CredentialId"], "key2");
    assert_eq!(world.status().await["published"]["key"], "key2");
    assert!(world.versions().is_empty(), "nothing under the usual name");
    world.tick_after(Duration::days(30)).await;
    let rotated = "schedule succeeded: regenerate key1 done, prove key1 done, publish key1 done";
    assert_eq!(world.stories().await[1], rotated);
    assert_eq!(world.live(KeySlot::Key2), lives);
    world.stop().await;
}
