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
    domain::permit::role,
    ports::{Clock, Entropy},
    simulator::{
        AccountSpec, ApiSpec, AppRoleAssignment, ApplicationSpec, ArmRole, ArmRoleAssignment,
        ManagementSpec, RoleAssignment, Running, Simulator, Spec, StorageRole, TenantSpec,
        TokenVersion, UserSpec, VaultRole, VaultRoleAssignment, VaultSpec,
    },
    system::{SystemClock, SystemEntropy},
};

/// The simulated directory.
pub const TENANT: Uuid = uuid!("10000000-0000-4000-8000-000000000001");
/// Ada, the data scientist.
pub const ADA: Uuid = uuid!("20000000-0000-4000-8000-00000000000a");
/// Ada's sign-in name.
pub const ADA_NAME: &str = "ada@contoso.example";
const OLGA: Uuid = uuid!("20000000-0000-4000-8000-00000000000c");
/// The sign-in name of Olga, who operates the platform.
pub const OLGA_NAME: &str = "olga@contoso.example";
const API: Uuid = uuid!("30000000-0000-4000-8000-000000000001");
const NOTEBOOK: Uuid = uuid!("30000000-0000-4000-8000-000000000002");
const BROKER: Uuid = uuid!("30000000-0000-4000-8000-000000000003");
const BROKER_PRINCIPAL: Uuid = uuid!("40000000-0000-4000-8000-000000000003");
/// The one storage account.
pub const ACCOUNT: &str = "acct1";
/// The vault that its key is published in.
pub const VAULT: &str = "kv-demo";
/// The secret there.
pub const SECRET: &str = "sa-acct1";

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
    /// Starts it; `port` 0 takes any free one for the broker. With `rotating` the broker's own
    /// scheduler ticks; without it, whoever wants a tick makes one.
    ///
    /// # Errors
    /// If a loopback socket or the temporary directory cannot be had.
    pub async fn start(port: u16, rotating: bool) -> Result<Self, Failure> {
        let clock = Arc::new(ShiftedClock::default());
        let entropy = SystemEntropy;
        let random = || entropy.uuid_v7(clock.now()).to_string();
        let (password, secret) = (random(), random());
        let sim_clock = Arc::clone(&clock);
        let spec = spec(&password, &secret);
        let azure = Simulator::start(spec, Arc::new(move || sim_clock.now())).await?;
        azure.put_blob(ACCOUNT, "raw", "2026/11/file.csv", "day,value\n1,42\n")?;
        azure.put_blob(ACCOUNT, "private", "salaries.csv", "name,salary\n")?;
        azure.create_vault(vault())?;
        let directory = tempfile::tempdir()?;
        let mut config = configure(&directory, &azure, &secret, port)?;
        config.rotation.enabled = rotating;
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

    /// Ends the broker and starts it again. The simulated Entra lives by this world's clock, but the
    /// broker's Azure SDK keeps its own tokens by the machine's: after a leap in time it needs new ones.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&mut self) -> Result<(), Failure> {
        let next = Broker::start(&self.config, self.ambient()).await?;
        self.base = format!("http://{}", next.address());
        std::mem::replace(&mut self.broker, next).stop().await;
        Ok(())
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
                "resource_id": self.azure.resource_id(ACCOUNT).ok(),
                "rotation": {
                    "vault": self.azure.vault_url(VAULT).ok(),
                    "secret_name": SECRET,
                    "schedule": { "kind": "interval", "days": 30 },
                    "jitter_minutes": 0,
                },
            }],
            "grants": grants,
        })
    }

    /// Signs a person in and returns their access token for the broker.
    ///
    /// # Errors
    /// If the simulated Entra refuses.
    pub async fn sign_in(&self, name: &str) -> Result<String, Failure> {
        let url = format!("{}{TENANT}/oauth2/v2.0/token", self.azure.authority());
        let form = [
            ("grant_type", "password"),
            ("client_id", &NOTEBOOK.to_string()),
            ("username", name),
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
        self.post("/v1/sas", bearer, request).await
    }

    /// Posts to the broker; returns the status and the body.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn post(
        &self,
        path: &str,
        bearer: &str,
        body: &Value,
    ) -> Result<(u16, Value), Failure> {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .bearer_auth(bearer)
            .header("content-type", "application/json")
            .body(body.to_string());
        answer(request.send().await?).await
    }

    /// Gets something from the broker; returns the status and the body.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn get(&self, path: &str, bearer: &str) -> Result<(u16, Value), Failure> {
        let request = self.http.get(format!("{}{path}", self.base));
        answer(request.bearer_auth(bearer).send().await?).await
    }

    /// Stops everything and removes the directory.
    pub async fn stop(self) {
        self.broker.stop().await;
        self.azure.stop().await;
    }
}

async fn answer(response: reqwest::Response) -> Result<(u16, Value), Failure> {
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&response.bytes().await?)?))
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
        app_role_assignments: vec![AppRoleAssignment {
            principal: OLGA,
            role: role::OPERATOR.to_owned(),
        }],
        emits_groups: true,
        emits_idtyp: false,
    };
    let person = |object_id, name: &str| UserSpec {
        object_id,
        user_name: name.to_owned(),
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
    let manager = [
        ArmRole::Reader,
        ArmRole::KeyOperator,
        ArmRole::DelegationKeyRevoker,
    ];
    let manager = manager.map(|role| ArmRoleAssignment {
        principal: BROKER_PRINCIPAL,
        role,
    });
    Spec {
        tenants: vec![TenantSpec {
            id: TENANT,
            users: vec![person(ADA, ADA_NAME), person(OLGA, OLGA_NAME)],
            applications,
        }],
        accounts: vec![AccountSpec {
            name: ACCOUNT.to_owned(),
            tenant_id: TENANT,
            hierarchical_namespace: true,
            containers: vec!["raw".to_owned(), "private".to_owned()],
            role_assignments: vec![contributor],
            management: ManagementSpec {
                role_assignments: manager.into(),
                ..ManagementSpec::default()
            },
            ..AccountSpec::default()
        }],
    }
}

fn vault() -> VaultSpec {
    VaultSpec {
        name: VAULT.to_owned(),
        tenant_id: TENANT,
        role_assignments: vec![VaultRoleAssignment {
            principal: BROKER_PRINCIPAL,
            role: VaultRole::SecretsOfficer,
            secret: None,
        }],
        ..VaultSpec::default()
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
resource_manager = "{arm}"
resource_manager_audience = "https://management.azure.com"
allowed_hosts = ["{blob}", "{dfs}", "{vault}"]
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
        arm = azure.arm_url(),
        vault = host(azure.vault_url(VAULT)?),
        blob = host(azure.blob_endpoint(ACCOUNT)),
        dfs = host(azure.dfs_endpoint(ACCOUNT)),
        ca = file("ca.pem").display(),
        database = file("broker.db").display(),
        secret = file("secret").display(),
    );
    Ok(Config::from_toml(&text)?)
}
