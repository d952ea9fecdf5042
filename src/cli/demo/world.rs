//! The world of `demo` and `dev`: a simulated Azure, a broker that is configured for it, and a person
//! to play with, all on loopback and all thrown away at the end.

use std::{
    fmt, fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, uuid};

use crate::{
    cli::{
        Failure,
        compose::{Ambient, Broker},
    },
    config::Config,
    ports::{Clock, Entropy},
    simulator::{
        AccountSpec, ApiSpec, ApplicationSpec, RoleAssignment, Running, Simulator, Spec,
        StorageRole, TenantSpec, TokenVersion, UserSpec,
    },
    system::{SystemClock, SystemEntropy},
};

/// The simulated directory.
pub const TENANT: Uuid = uuid!("10000000-0000-4000-8000-000000000001");
/// Ada, the data scientist.
pub const ADA: Uuid = uuid!("20000000-0000-4000-8000-00000000000a");
const ADA_NAME: &str = "ada@contoso.example";
const API: Uuid = uuid!("30000000-0000-4000-8000-000000000001");
const NOTEBOOK: Uuid = uuid!("30000000-0000-4000-8000-000000000002");
const BROKER: Uuid = uuid!("30000000-0000-4000-8000-000000000003");
const BROKER_PRINCIPAL: Uuid = uuid!("40000000-0000-4000-8000-000000000003");
/// The one storage account.
pub const ACCOUNT: &str = "acct1";

/// A clock that runs with the machine's and can be set forward.
#[derive(Debug, Default)]
pub struct ShiftedClock(Mutex<Duration>);

impl ShiftedClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything, running.
pub struct World {
    /// The clock that broker and simulator share.
    pub clock: Arc<ShiftedClock>,
    /// The simulated Azure.
    pub azure: Running,
    /// The broker's configuration.
    pub config: Config,
    /// Where the broker listens.
    pub base: String,
    /// An HTTP client that trusts the simulator.
    pub http: Client,
    broker: Broker,
    password: String,
    directory: tempfile::TempDir,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl World {
    /// Starts it; `port` 0 takes any free one for the broker.
    ///
    /// # Errors
    /// If a loopback socket or the temporary directory cannot be had.
    pub async fn start(port: u16) -> Result<Self, Failure> {
        let clock = Arc::new(ShiftedClock::default());
        let entropy = SystemEntropy;
        let random = || entropy.uuid_v7(clock.now()).to_string();
        let (password, secret) = (random(), random());
        let sim_clock = Arc::clone(&clock);
        let spec = spec(&password, &secret);
        let azure = Simulator::start(spec, Arc::new(move || sim_clock.now())).await?;
        azure.put_blob(ACCOUNT, "raw", "2026/11/file.csv", "day,value\n1,42\n")?;
        azure.put_blob(ACCOUNT, "private", "salaries.csv", "name,salary\n")?;
        let directory = tempfile::tempdir()?;
        let config = configure(&directory, &azure, &secret, port)?;
        let ambient = Ambient {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(SystemEntropy),
        };
        let broker = Broker::start(&config, ambient).await?;
        let base = format!("http://{}", broker.address());
        let ca = Certificate::from_pem(azure.ca_pem().as_bytes())?;
        let http = Client::builder()
            .tls_certs_only([ca])
            .timeout(std::time::Duration::from_secs(10))
            .no_proxy()
            .build()?;
        Ok(Self {
            clock,
            azure,
            config,
            base,
            http,
            broker,
            password,
            directory,
        })
    }

    /// The clock and randomness that the broker runs on.
    #[must_use]
    pub fn ambient(&self) -> Ambient {
        Ambient {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// Where the certificate authority of the simulated Azure lies as a PEM file.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The database file.
    #[must_use]
    pub fn database_file(&self) -> PathBuf {
        self.directory.path().join("broker.db")
    }

    /// A policy document with Ada's grants, or without any.
    #[must_use]
    pub fn policy(&self, with_grants: bool) -> Value {
        let grants = if with_grants {
            json!([{
                "principal": { "kind": "user", "tenant_id": TENANT, "object_id": ADA },
                "role": "reader",
                "scope": { "account": ACCOUNT, "container": "raw" },
                "provenance": { "ticket": "DEMO-1", "reason": "reads the daily files" },
            }])
        } else {
            json!([])
        };
        json!({
            "accounts": [{
                "name": ACCOUNT,
                "tenant_id": TENANT,
                "blob_endpoint": self.azure.blob_endpoint(ACCOUNT),
                "dfs_endpoint": self.azure.dfs_endpoint(ACCOUNT),
                "hierarchical_namespace": true,
                "signing_identity": "default",
            }],
            "grants": grants,
        })
    }

    /// Signs Ada in and returns her access token for the broker.
    ///
    /// # Errors
    /// If the simulated Entra refuses.
    pub async fn sign_in(&self) -> Result<String, Failure> {
        let url = format!("{}{TENANT}/oauth2/v2.0/token", self.azure.authority());
        let form = [
            ("grant_type", "password"),
            ("client_id", &NOTEBOOK.to_string()),
            ("username", ADA_NAME),
            ("password", &self.password),
            ("scope", "api://sas-broker/.default"),
        ];
        let body = form_encoded(&form);
        let request = self
            .http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
        let token = answer["access_token"]
            .as_str()
            .ok_or("the simulated Entra gave no token")?;
        Ok(token.to_owned())
    }

    /// Asks the broker for a token; returns the status and the body.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn ask(&self, bearer: &str, request: &Value) -> Result<(u16, Value), Failure> {
        let response = self
            .http
            .post(format!("{}/v1/sas", self.base))
            .bearer_auth(bearer)
            .header("content-type", "application/json")
            .body(request.to_string())
            .send()
            .await?;
        let status = response.status().as_u16();
        Ok((status, serde_json::from_slice(&response.bytes().await?)?))
    }

    /// Stops everything and removes the directory.
    pub async fn stop(self) {
        self.broker.stop().await;
        self.azure.stop().await;
    }
}

fn form_encoded(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn spec(password: &str, secret: &str) -> Spec {
    let api = ApiSpec {
        app_id_uri: "api://sas-broker".to_owned(),
        accepted_token_version: TokenVersion::V2,
        scopes: vec!["Sas.Issue".to_owned()],
        app_role_assignments: vec![],
        emits_groups: true,
        emits_idtyp: false,
    };
    let ada = UserSpec {
        object_id: ADA,
        user_name: ADA_NAME.to_owned(),
        password: password.into(),
        groups: vec![],
    };
    let application = |client_id: Uuid, object_id: Uuid| ApplicationSpec {
        client_id,
        object_id,
        ..ApplicationSpec::default()
    };
    let applications = vec![
        ApplicationSpec {
            api: Some(api),
            ..application(API, API)
        },
        application(NOTEBOOK, NOTEBOOK),
        ApplicationSpec {
            secrets: vec![secret.into()],
            ..application(BROKER, BROKER_PRINCIPAL)
        },
    ];
    let contributor = RoleAssignment {
        principal: BROKER_PRINCIPAL,
        role: StorageRole::BlobDataContributor,
        container: None,
    };
    Spec {
        tenants: vec![TenantSpec {
            id: TENANT,
            users: vec![ada],
            applications,
        }],
        accounts: vec![AccountSpec {
            name: ACCOUNT.to_owned(),
            tenant_id: TENANT,
            hierarchical_namespace: true,
            containers: vec!["raw".to_owned(), "private".to_owned()],
            role_assignments: vec![contributor],
            ..AccountSpec::default()
        }],
    }
}

fn configure(
    directory: &tempfile::TempDir,
    azure: &Running,
    secret: &str,
    port: u16,
) -> Result<Config, Failure> {
    let file = |name: &str| directory.path().join(name);
    fs::write(file("ca.pem"), azure.ca_pem())?;
    // The secret of a simulated identity that lives as long as this process.
    let mut options = fs::OpenOptions::new();
    let mut secret_file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file("secret"))?;
    secret_file.write_all(secret.as_bytes())?;
    let host = |url: url::Url| url.authority().to_owned();
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:{port}"

[cloud]
name = "custom"
authority = "{authority}"
allowed_hosts = ["{blob}", "{dfs}"]
ca_file = "{ca}"

[entra]
audiences = ["{API}"]

[[entra.tenants]]
id = "{TENANT}"
groups_claim = "configured"

[database]
url = "sqlite://{database}"

[credentials.default]
kind = "client_secret"
tenant_id = "{TENANT}"
client_id = "{BROKER}"
secret_file = "{secret}"
"#,
        authority = azure.authority(),
        blob = host(azure.blob_endpoint(ACCOUNT)),
        dfs = host(azure.dfs_endpoint(ACCOUNT)),
        ca = file("ca.pem").display(),
        database = file("broker.db").display(),
        secret = file("secret").display(),
    );
    Ok(Config::from_toml(&text)?)
}
