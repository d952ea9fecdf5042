//! `cargo run --example simulator` serves the simulated Azure alone, so that clients in any
//! language can be tried on it: one tenant with one application, one storage account, one vault.
//!
//! The first line of its output is a JSON object that says where everything is and how to sign in.
//! The secrets in it open nothing outside of this process. With the argument `-` the first line of
//! its input is read before: a JSON object, see [`Wishes`]. Every further line of the input is a
//! command, see `command`, and is answered by one line. It serves until SIGTERM or SIGINT.

mod command;

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sas_broker::ports::{Clock as _, Entropy as _};
use sas_broker::simulator::{
    AccountSpec, ApiSpec, AppRoleAssignment, ApplicationSpec, ArmRole, ArmRoleAssignment,
    ManagementSpec, RoleAssignment, Running, Simulator, Spec, StorageRole, TenantSpec,
    TokenVersion, VaultRole, VaultRoleAssignment, VaultSpec,
};
use sas_broker::system::{SystemClock, SystemEntropy};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use uuid::Uuid;

use command::Command;

/// Commands read ahead of their being carried out.
const COMMANDS_WAITING_MAX: usize = 16;

/// What may differ from the defaults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wishes {
    account: String,
    container: String,
    vault: String,
    hierarchical_namespace: bool,
    /// How long the data plane does not know a regenerated key.
    key_propagation_seconds: u32,
    /// How long the deletion and the recovery of a secret stay under way.
    deletion_seconds: u32,
    recovery_seconds: u32,
    /// Set if the application is to get tokens for an API as well, such as the broker's.
    api: Option<Api>,
}

/// One more application, which only accepts tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Api {
    client_id: Uuid,
    app_id_uri: String,
    /// App roles that the client has there.
    roles: Vec<String>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            account: "acct1".into(),
            container: "raw".into(),
            vault: "kv-data".into(),
            hierarchical_namespace: false,
            key_propagation_seconds: 0,
            deletion_seconds: 0,
            recovery_seconds: 0,
            api: None,
        }
    }
}

/// The one application, which may do everything, and its tenant.
struct Client {
    tenant: Uuid,
    id: Uuid,
    object_id: Uuid,
    secret: String,
}

impl Client {
    fn new() -> Self {
        let mut secret = [0; 24];
        SystemEntropy.fill(&mut secret);
        Self {
            tenant: new_id(),
            id: new_id(),
            object_id: new_id(),
            secret: hex::encode(secret),
        }
    }
}

/// The simulated Azure, and what a command may reach of it.
struct Scene {
    azure: Running,
    wishes: Wishes,
    client: Client,
    /// How far its clock is ahead of the machine's.
    seconds_ahead: Arc<AtomicI64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If even that cannot be said, the exit code still says it.
            drop(writeln!(io::stderr(), "simulator: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut stops = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ];
    let wishes = match std::env::args().nth(1).as_deref() {
        None => Wishes::default(),
        Some("-") => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line)?;
            serde_json::from_str(&line)?
        }
        Some(_) => return Err("the only argument is -, for a first line of input".into()),
    };
    let scene = Scene::start(wishes).await?;
    let directory = TempDir::new()?;
    say(&scene.description(&directory)?)?;
    let mut commands = read_commands();
    loop {
        let [terminate, interrupt] = &mut stops;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(line) = commands.recv() => say(&scene.obey(&line))?,
        }
    }
    scene.azure.stop().await;
    Ok(())
}

/// Reads lines on a thread of their own: a read of standard input cannot be given up.
fn read_commands() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(COMMANDS_WAITING_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(line: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

impl Scene {
    async fn start(wishes: Wishes) -> Result<Self, Box<dyn Error>> {
        let client = Client::new();
        let seconds_ahead = Arc::new(AtomicI64::new(0));
        let ahead = Arc::clone(&seconds_ahead);
        let clock = move || now(&ahead);
        let azure = Simulator::start(spec(&wishes, &client), Arc::new(clock)).await?;
        azure.create_vault(VaultSpec {
            name: wishes.vault.clone(),
            tenant_id: client.tenant,
            deletion_takes: Duration::seconds(wishes.deletion_seconds.into()),
            recovery_takes: Duration::seconds(wishes.recovery_seconds.into()),
            role_assignments: vec![VaultRoleAssignment {
                principal: client.object_id,
                role: VaultRole::SecretsOfficer,
                secret: None,
            }],
            ..VaultSpec::default()
        })?;
        Ok(Self {
            azure,
            wishes,
            client,
            seconds_ahead,
        })
    }

    /// Where everything is. Writes the certificate authority into the directory.
    fn description(&self, directory: &TempDir) -> Result<Value, Box<dyn Error>> {
        let (azure, account) = (&self.azure, self.wishes.account.as_str());
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, azure.ca_pem())?;
        let management = ManagementSpec::default();
        Ok(json!({
            "authority": azure.authority(),
            "tenant": self.client.tenant,
            "client_id": self.client.id,
            "client_secret": self.client.secret,
            "object_id": self.client.object_id,
            "arm_url": azure.arm_url(),
            "subscription": management.subscription_id,
            "resource_group": management.resource_group,
            "resource_id": azure.resource_id(account)?,
            "account": account,
            "blob_endpoint": azure.blob_endpoint(account),
            "container": self.wishes.container,
            "vault_url": azure.vault_url(&self.wishes.vault)?,
            "ca_file": ca_file,
        }))
    }

    fn now(&self) -> OffsetDateTime {
        now(&self.seconds_ahead)
    }

    fn obey(&self, line: &str) -> Value {
        let done = serde_json::from_str::<Command>(line)
            .map_err(|error| error.to_string())
            .and_then(|command| command.carry_out(self));
        done.unwrap_or_else(|error| json!({ "error": error }))
    }
}

fn new_id() -> Uuid {
    SystemEntropy.uuid_v7(SystemClock.now())
}

fn now(seconds_ahead: &AtomicI64) -> OffsetDateTime {
    SystemClock.now() + Duration::seconds(seconds_ahead.load(Ordering::SeqCst))
}

fn spec(wishes: &Wishes, client: &Client) -> Spec {
    let application = ApplicationSpec {
        client_id: client.id,
        object_id: client.object_id,
        secrets: vec![client.secret.clone().into()],
        ..ApplicationSpec::default()
    };
    let principal = client.object_id;
    let account = AccountSpec {
        name: wishes.account.clone(),
        tenant_id: client.tenant,
        hierarchical_namespace: wishes.hierarchical_namespace,
        containers: vec![wishes.container.clone()],
        role_assignments: vec![RoleAssignment {
            principal,
            role: StorageRole::BlobDataContributor,
            container: None,
        }],
        management: ManagementSpec {
            key_propagation: Duration::seconds(wishes.key_propagation_seconds.into()),
            role_assignments: vec![ArmRoleAssignment {
                principal,
                role: ArmRole::Contributor,
            }],
            ..ManagementSpec::default()
        },
        ..AccountSpec::default()
    };
    let api = wishes.api.as_ref().map(|api| registration(api, principal));
    Spec {
        tenants: vec![TenantSpec {
            id: client.tenant,
            applications: [application].into_iter().chain(api).collect(),
            ..TenantSpec::default()
        }],
        accounts: vec![account],
    }
}

fn registration(api: &Api, client: Uuid) -> ApplicationSpec {
    let assigned = |role: &String| AppRoleAssignment {
        principal: client,
        role: role.clone(),
    };
    ApplicationSpec {
        client_id: api.client_id,
        object_id: new_id(),
        api: Some(ApiSpec {
            app_id_uri: api.app_id_uri.clone(),
            accepted_token_version: TokenVersion::V2,
            app_role_assignments: api.roles.iter().map(assigned).collect(),
            ..ApiSpec::default()
        }),
        ..ApplicationSpec::default()
    }
}
