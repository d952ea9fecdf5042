//! The whole service in one process: a simulated Azure, a broker over real HTTP, one frozen clock
//! that both share, a database of its own. Every answer that a test gets was held against the
//! `OpenAPI` document and the form of errors on the way.
//!
//! Who is there: Ada (in the group of analysts), Ben (in none), Eve (in more groups than a token can
//! carry), a robot that calls for itself, and a person of a second directory. Two accounts: `lake1`
//! with hierarchical namespace, `flat1` without. Nobody has a grant before [`World::apply`].

mod answer;
mod contract;
pub(crate) mod logs;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use reqwest::{Certificate, Client, RequestBuilder};
use sas_broker::{
    app::verify_journal::verify_journal,
    cli::{
        Failure,
        apply::{apply, parse, plan},
        compose::{Ambient, Broker},
    },
    config::Config,
    domain::audit::verify::Report,
    ports::{Clock, JournalReader},
    simulator::{
        AccountSpec, ApiSpec, ApplicationSpec, RoleAssignment, Running, Simulator, Spec,
        StorageRole, Subject, TenantSpec, TokenSpec, TokenVersion, UserSpec,
    },
    storage::{Store, StoreOptions},
    system::SystemEntropy,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};
use uuid::{Uuid, uuid};

pub(crate) use self::answer::{Answer, outcome, query_of};
use crate::storage_database::Database;

pub(crate) const TENANT: Uuid = uuid!("10000000-0000-4000-8000-000000000001");
/// Allowed as well, but its tokens carry no groups.
pub(crate) const OTHER_TENANT: Uuid = uuid!("10000000-0000-4000-8000-000000000002");
pub(crate) const ADA: Uuid = uuid!("20000000-0000-4000-8000-00000000000a");
pub(crate) const BEN: Uuid = uuid!("20000000-0000-4000-8000-00000000000b");
pub(crate) const EVE: Uuid = uuid!("20000000-0000-4000-8000-00000000000e");
pub(crate) const GUEST: Uuid = uuid!("20000000-0000-4000-8000-00000000000f");
pub(crate) const ROBOT: Uuid = uuid!("20000000-0000-4000-8000-000000000100");
pub(crate) const ANALYSTS: Uuid = uuid!("50000000-0000-4000-8000-000000000001");
pub(crate) const API: Uuid = uuid!("30000000-0000-4000-8000-000000000001");
pub(crate) const API_URI: &str = "api://sas-broker";
pub(crate) const NOTEBOOK: Uuid = uuid!("30000000-0000-4000-8000-000000000002");
const BROKER: Uuid = uuid!("30000000-0000-4000-8000-000000000003");
pub(crate) const BROKER_PRINCIPAL: Uuid = uuid!("40000000-0000-4000-8000-000000000003");

/// The broker's own client secret and a person's password: canaries, looked for in every place that
/// outlives a request.
pub(crate) const CLIENT_SECRET: &str = "canary-client-secret-7f3a";
pub(crate) const ADA_PASSWORD: &str = "canary-ada-password-91c2";

/// With hierarchical namespace.
pub(crate) const LAKE: &str = "lake1";
/// Without.
pub(crate) const FLAT: &str = "flat1";

/// Far from today, so that nothing can lean on the machine's own clock; not a whole second, so that
/// rounding shows.
pub(crate) const START: OffsetDateTime = datetime!(2031-03-04 12:00:00.75 UTC);

/// A clock that stands until it is set forward.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<OffsetDateTime>);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// Everything, running.
pub(crate) struct World {
    pub clock: Arc<TestClock>,
    pub azure: Running,
    pub config: Config,
    pub base: String,
    pub http: Client,
    pub dir: TempDir,
    broker: Broker,
    database_url: String,
    own_database: Option<Database>,
}

impl World {
    /// On a SQLite file of its own.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with a changed configuration.
    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::with_azure(|_, config| configure(config)).await
    }

    /// The same, with more in its Azure before the broker starts.
    pub(crate) async fn with_azure(configure: impl FnOnce(&Running, &mut Config)) -> Self {
        let database = Database::sqlite().await;
        let mut world = Self::launch(database.url.clone(), configure).await.unwrap();
        world.own_database = Some(database);
        world
    }

    /// On a database that the test was given.
    pub(crate) async fn on(database: &Database) -> Self {
        Self::on_with(database, |_| {}).await
    }

    /// The same, with a changed configuration.
    pub(crate) async fn on_with(database: &Database, configure: impl FnOnce(&mut Config)) -> Self {
        Self::launch(database.url.clone(), |_, config| configure(config))
            .await
            .unwrap()
    }

    async fn launch(
        url: String,
        configure: impl FnOnce(&Running, &mut Config),
    ) -> Result<Self, Failure> {
        logs::install();
        let clock = Arc::new(TestClock(Mutex::new(START)));
        let sim_clock = Arc::clone(&clock);
        let azure = Simulator::start(spec(), Arc::new(move || sim_clock.now())).await?;
        for account in [LAKE, FLAT] {
            azure.put_blob(account, "raw", "2026/11/file.csv", "day,value\n1,42\n")?;
            azure.put_blob(account, "raw", "2026/12/file.csv", "day,value\n2,43\n")?;
            azure.put_blob(account, "private", "salaries.csv", "name,salary\n")?;
        }
        let dir = TempDir::new()?;
        let mut config = Config::from_toml(&config_text(&dir, &azure, &url)?)?;
        configure(&azure, &mut config);
        let broker = Broker::start(&config, ambient(&clock)).await?;
        Ok(Self {
            base: base(&broker, &config),
            http: client(azure.ca_pem()),
            clock,
            azure,
            config,
            dir,
            broker,
            database_url: url,
            own_database: None,
        })
    }

    /// The clock and randomness that everything here runs on.
    pub(crate) fn ambient(&self) -> Ambient {
        ambient(&self.clock)
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// An instant from now, as the API writes it.
    pub(crate) fn text_in(&self, by: Duration) -> String {
        text(self.now() + by)
    }

    /// The SQLite file, with what SQLite keeps beside it.
    pub(crate) fn database_files(&self) -> Vec<PathBuf> {
        let path = self.database_url.strip_prefix("sqlite:").unwrap();
        ["", "-wal", "-shm"]
            .map(|suffix| format!("{path}{suffix}").into())
            .into()
    }

    /// Another process's connections to the same database.
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.database_url, StoreOptions::default())
            .await
            .unwrap()
    }

    /// Runs statements as somebody with sqlite3 would.
    pub(crate) async fn by_hand(&self, sql: &str) {
        self.own_database
            .as_ref()
            .unwrap()
            .by_hand(sql)
            .await
            .unwrap();
    }

    /// Makes the role table what the document says, as `sas-broker apply` in another process does;
    /// returns its new version. The accounts are always the two of this world.
    pub(crate) async fn apply(&self, document: Value) -> i64 {
        self.try_apply(document).await.unwrap()
    }

    pub(crate) async fn try_apply(&self, mut document: Value) -> Result<i64, Failure> {
        if document.get("accounts").is_none() {
            document["accounts"] = self.accounts();
        }
        let document = parse(&document.to_string())?;
        let ambient = self.ambient();
        let plan = plan(&self.config, &ambient, document).await?;
        apply(&self.config, &ambient, plan).await
    }

    /// The world's accounts, as a policy document writes them.
    pub(crate) fn accounts(&self) -> Value {
        let account = |name: &str| {
            json!({
                "name": name,
                "tenant_id": TENANT,
                "blob_endpoint": self.azure.blob_endpoint(name),
                "dfs_endpoint": self.azure.dfs_endpoint(name),
                "hierarchical_namespace": name == LAKE,
                "signing_identity": "default",
            })
        };
        json!([account(LAKE), account(FLAT)])
    }

    /// Grants only, with the built-in roles.
    pub(crate) async fn grant(&self, grants: Value) -> i64 {
        self.apply(json!({ "grants": grants })).await
    }

    /// Ada may read `raw` on both accounts.
    pub(crate) async fn ada_reads_raw(&self) -> i64 {
        let on = |account| grant(user(ADA), "reader", account, "raw");
        self.grant(json!([on(LAKE), on(FLAT)])).await
    }

    /// A bearer token as this specification says.
    pub(crate) fn mint(&self, token: &TokenSpec) -> String {
        self.azure.mint(token)
    }

    /// Ada's token: v2, the scope, her group.
    pub(crate) fn ada(&self) -> String {
        self.mint(&person(TENANT, ADA, &[ANALYSTS]))
    }

    /// Ben's token: v2, the scope, in a group that has no grant anywhere.
    pub(crate) fn ben(&self) -> String {
        self.mint(&person(TENANT, BEN, &[Uuid::nil()]))
    }

    /// A token of Ada's for storage itself, to go with a token that is bound to her.
    pub(crate) fn storage_bearer(&self, who: Uuid) -> String {
        self.mint(&TokenSpec::user(TENANT, who, "https://storage.azure.com"))
    }

    pub(crate) fn post(&self, path: &str, bearer: &str, body: &Value) -> RequestBuilder {
        self.post_text(path, bearer, body.to_string())
    }

    pub(crate) fn post_text(
        &self,
        path: &str,
        bearer: &str,
        body: impl Into<String>,
    ) -> RequestBuilder {
        self.http
            .post(format!("{}{path}", self.base))
            .bearer_auth(bearer)
            .header("content-type", "application/json")
            .body(body.into())
    }

    /// Sends a request to the broker and checks the answer's form.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        answer::send(&self.http, request).await
    }

    /// `POST /v1/sas`.
    pub(crate) async fn ask(&self, bearer: &str, body: &Value) -> Answer {
        self.send(self.post("/v1/sas", bearer, body)).await
    }

    /// `POST /v1/sas` under an idempotency key.
    pub(crate) async fn ask_keyed(&self, bearer: &str, key: &str, body: &Value) -> Answer {
        let request = self.post("/v1/sas", bearer, body);
        self.send(request.header("idempotency-key", key)).await
    }

    /// A token that must be given.
    pub(crate) async fn issue(&self, bearer: &str, body: &Value) -> Value {
        let answer = self.ask(bearer, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    pub(crate) async fn get(&self, path: &str, bearer: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.base));
        self.send(request.bearer_auth(bearer)).await
    }

    /// The journal's records, chain by chain, in order.
    pub(crate) async fn records(&self) -> Vec<Value> {
        let rows = self.store().await.rows(None, 100_000).await.unwrap();
        let record = |row: &sas_broker::domain::audit::Row| serde_json::from_slice(&row.body);
        rows.iter().map(|row| record(row).unwrap()).collect()
    }

    /// Records of one kind.
    pub(crate) async fn records_of(&self, kind: &str) -> Vec<Value> {
        let mut records = self.records().await;
        records.retain(|record| record["kind"] == kind);
        records
    }

    /// How many records of each kind there are.
    pub(crate) async fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for record in self.records().await {
            *kinds
                .entry(record["kind"].as_str().unwrap().to_owned())
                .or_insert(0) += 1;
        }
        kinds
    }

    pub(crate) async fn verify(&self) -> Report {
        verify_journal(&self.store().await).await.unwrap()
    }

    /// Ends the broker and starts it again: a new process on the same database.
    pub(crate) async fn restart(&mut self) {
        let next = Broker::start(&self.config, self.ambient()).await.unwrap();
        self.base = base(&next, &self.config);
        std::mem::replace(&mut self.broker, next).stop().await;
    }

    /// Ends the broker gracefully; Azure and the database stay.
    pub(crate) async fn stop_broker(self) -> Remains {
        self.broker.stop().await;
        Remains {
            database_url: self.database_url,
            azure: self.azure,
            _dir: self.dir,
            _database: self.own_database,
        }
    }

    /// Stops everything after a last look at the journal.
    pub(crate) async fn stop(self) {
        let report = self.verify().await;
        assert_eq!(report.findings_total, 0, "{:?}", report.findings);
        self.broker.stop().await;
        self.azure.stop().await;
    }

    /// One more replica on the same database and clock.
    pub(crate) async fn replica(&self) -> Replica {
        let broker = Broker::start(&self.config, self.ambient()).await.unwrap();
        Replica {
            base: base(&broker, &self.config),
            broker,
        }
    }
}

/// What is left when the broker has stopped.
pub(crate) struct Remains {
    database_url: String,
    azure: Running,
    _dir: TempDir,
    _database: Option<Database>,
}

impl Remains {
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.database_url, StoreOptions::default())
            .await
            .unwrap()
    }

    pub(crate) async fn stop(self) {
        self.azure.stop().await;
    }
}

/// A second broker of the same world.
pub(crate) struct Replica {
    pub base: String,
    broker: Broker,
}

impl Replica {
    pub(crate) async fn stop(self) {
        self.broker.stop().await;
    }
}

/// RFC 3339 in UTC with whole seconds.
pub(crate) fn text(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

/// A person's v2 token with the scope that issuing needs.
pub(crate) fn person(tenant: Uuid, who: Uuid, groups: &[Uuid]) -> TokenSpec {
    let mut token = TokenSpec::user(tenant, who, API.to_string());
    if let Subject::User { scopes, .. } = &mut token.subject {
        *scopes = vec!["Sas.Issue".to_owned()];
    }
    token.client_id = NOTEBOOK;
    token.groups = Some(groups.to_vec());
    token
}

/// An application's own v2 token with these app roles.
pub(crate) fn robot(roles: &[&str]) -> TokenSpec {
    let mut token = TokenSpec::application(TENANT, ROBOT, API.to_string());
    token.client_id = ROBOT;
    token.roles = roles.iter().map(ToString::to_string).collect();
    token
}

pub(crate) fn user(who: Uuid) -> Value {
    json!({ "kind": "user", "tenant_id": TENANT, "object_id": who })
}

pub(crate) fn group(who: Uuid) -> Value {
    json!({ "kind": "group", "tenant_id": TENANT, "object_id": who })
}

/// A grant on a container, or below a prefix of it: `raw` or `raw/a/b`.
pub(crate) fn grant(principal: Value, role: &str, account: &str, place: &str) -> Value {
    let mut scope = json!({ "account": account });
    match place.split_once('/') {
        Some((container, prefix)) => {
            scope["container"] = json!(container);
            scope["prefix"] = json!(prefix);
        }
        None => scope["container"] = json!(place),
    }
    json!({ "principal": principal, "role": role, "scope": scope })
}

/// The same grant under conditions.
pub(crate) fn when(mut grant: Value, conditions: Value) -> Value {
    grant["conditions"] = conditions;
    grant
}

/// The same grant as a deny.
pub(crate) fn deny(mut grant: Value) -> Value {
    grant["effect"] = json!("deny");
    grant
}

/// Asks to read one file of `raw`.
pub(crate) fn read_file(account: &str) -> Value {
    json!({ "account": account, "container": "raw", "path": "2026/11/file.csv", "permissions": "r" })
}

fn ambient(clock: &Arc<TestClock>) -> Ambient {
    Ambient {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        entropy: Arc::new(SystemEntropy),
    }
}

fn base(broker: &Broker, config: &Config) -> String {
    let scheme = config.server.tls_key.as_ref().map_or("http", |_| "https");
    format!("{scheme}://{}", broker.address())
}

pub(crate) fn client(ca_pem: &str) -> Client {
    Client::builder()
        .tls_certs_only([Certificate::from_pem(ca_pem.as_bytes()).unwrap()])
        .timeout(std::time::Duration::from_secs(40))
        .no_proxy()
        .build()
        .unwrap()
}

fn spec() -> Spec {
    let person = |object_id, name: &str, groups: Vec<Uuid>| UserSpec {
        object_id,
        user_name: format!("{name}@contoso.example"),
        password: ADA_PASSWORD.into(),
        groups,
    };
    let application = |client_id: Uuid, object_id: Uuid| ApplicationSpec {
        client_id,
        object_id,
        ..ApplicationSpec::default()
    };
    let api = ApiSpec {
        app_id_uri: API_URI.to_owned(),
        accepted_token_version: TokenVersion::V2,
        scopes: vec!["Sas.Issue".to_owned()],
        emits_groups: true,
        ..ApiSpec::default()
    };
    let tenant = TenantSpec {
        id: TENANT,
        users: vec![
            person(ADA, "ada", vec![ANALYSTS]),
            person(EVE, "eve", (0..201).map(Uuid::from_u128).collect()),
        ],
        applications: vec![
            ApplicationSpec {
                api: Some(api),
                ..application(API, API)
            },
            application(NOTEBOOK, NOTEBOOK),
            ApplicationSpec {
                secrets: vec![CLIENT_SECRET.into()],
                ..application(BROKER, BROKER_PRINCIPAL)
            },
        ],
    };
    let other = TenantSpec {
        id: OTHER_TENANT,
        ..TenantSpec::default()
    };
    Spec {
        tenants: vec![tenant, other],
        accounts: vec![account(LAKE), account(FLAT)],
    }
}

fn account(name: &str) -> AccountSpec {
    let contributor = RoleAssignment {
        principal: BROKER_PRINCIPAL,
        role: StorageRole::BlobDataContributor,
        container: None,
    };
    AccountSpec {
        name: name.to_owned(),
        tenant_id: TENANT,
        hierarchical_namespace: name == LAKE,
        allow_cross_tenant_delegation_sas: true,
        containers: vec!["raw".to_owned(), "private".to_owned()],
        role_assignments: vec![contributor],
        ..AccountSpec::default()
    }
}

fn config_text(dir: &TempDir, azure: &Running, database: &str) -> Result<String, Failure> {
    let file = |name: &str| dir.path().join(name);
    fs::write(file("ca.pem"), azure.ca_pem())?;
    fs::write(file("secret"), CLIENT_SECRET)?;
    let hosts = [LAKE, FLAT]
        .map(|account| [azure.blob_endpoint(account), azure.dfs_endpoint(account)])
        .concat();
    let hosts: Vec<&str> = hosts.iter().map(url::Url::authority).collect();
    Ok(format!(
        r#"
[server]
listen = "127.0.0.1:0"
[cloud]
name = "custom"
authority = "{authority}"
resource_manager = "{arm}"
resource_manager_audience = "https://management.azure.com"
allowed_hosts = {hosts:?}
ca_file = "{ca}"
[entra]
audiences = ["{API}", "{API_URI}"]
[[entra.tenants]]
id = "{TENANT}"
groups_claim = "configured"
administers = true
[[entra.tenants]]
id = "{OTHER_TENANT}"
[database]
url = "{database}"
[rotation]
enabled = false
[credentials.default]
kind = "client_secret"
tenant_id = "{TENANT}"
client_id = "{BROKER}"
secret_file = "{secret}"
"#,
        authority = azure.authority(),
        arm = azure.arm_url(),
        ca = file("ca.pem").display(),
        secret = file("secret").display(),
    ))
}
