//! The only place that wires adapters together.

mod credentials;
mod signals;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    dev::{Server, ServerHandle},
    web::Data,
};
use reqwest::Client;
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use self::credentials::credentials;
pub use self::signals::Signals;
use super::Failure;
use crate::{
    app::{
        access::AccessList, authenticate::Authenticator, explain::Explainer, issue::Issuer,
        issuer_keys::KeyCacheSettings, key_ring::KeyRing, mint::Mint, policy::PolicyCache,
        read_rotations::RotationReader, receive_events::EventReceiver,
        request_rotation::RotationRequester, revoke_delegation_keys::KeyRevoker,
    },
    azure::{
        arm::{ArmAccounts, ArmOptions},
        credential::Credentials,
        delegation_key::BlobKeys,
        entra::EntraKeySource,
    },
    config::{
        Config,
        sections::{GroupsClaim, Log, LogFormat, Tenant},
    },
    domain::{
        audit::Actor,
        caller::{TenantPolicy, TokenPolicy},
    },
    http::{
        noise::Noise,
        openapi,
        server::{Listen, TlsFiles, serve},
        state::State,
    },
    journal::{Journal, Limits as JournalLimits, follower::Follower},
    ports::{Clock, Entropy, JournalReader, JournalStore, PolicyStore, Rotations, StorageAccounts},
    storage::{Store, StoreOptions},
    system::{SystemClock, SystemEntropy},
    telemetry,
    web::{Route, client},
};

/// How often the role table's version is asked for, so that new grants count without waiting for a
/// stale decision. Revocations do not depend on it.
const POLICY_REFRESH: Duration = Duration::from_secs(1);

/// How often the issuers' signing keys are looked after; they are fetched when they are due.
const KEYS_REFRESH: Duration = Duration::from_secs(60);

/// The surroundings that a test or the demo replaces.
#[derive(Debug, Clone)]
pub struct Ambient {
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Ambient {
    /// The machine's own.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// Starts logging as configured.
///
/// # Errors
/// If the filter does not parse.
pub fn start_log(log: &Log) -> Result<(), Failure> {
    let form = match log.format {
        LogFormat::Json => telemetry::Form::Json,
        LogFormat::Text => telemetry::Form::Text,
    };
    Ok(telemetry::start(form, &log.filter).map_err(|error| format!("log.filter: {error}"))?)
}

/// Opens the configured database and brings its tables up to date.
///
/// # Errors
/// If it does not answer, or is of a newer version.
pub async fn open_store(config: &Config) -> Result<Store, Failure> {
    let options = StoreOptions {
        readers_max: config.database.connections_max,
    };
    let store = Store::connect(config.database.url.expose_secret(), options).await?;
    store.migrate().await?;
    Ok(store)
}

/// Starts a journal writer with its default bounds.
#[must_use]
pub fn open_journal(store: Arc<Store>, ambient: &Ambient) -> Journal {
    let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
    Journal::open(store, clock, entropy, JournalLimits::default())
}

/// Who acts at this machine: `console:<uid>@<host>`.
#[must_use]
pub fn console_actor() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    Actor::Console {
        name: format!("console:{uid}@{host}"),
    }
}

/// A running broker.
pub struct Broker {
    server: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
    address: SocketAddr,
    journal: Arc<Journal>,
    follower: Follower,
    background: CancellationToken,
    /// What goes on although its request has ended, and must be recorded.
    tasks: TaskTracker,
    signals: Signals,
}

impl Broker {
    /// Starts it: database, role table, credentials, journal, listener, in this order.
    ///
    /// # Errors
    /// With what could not be started, naming the key of the configuration where one is at fault.
    pub async fn start(config: &Config, ambient: Ambient) -> Result<Self, Failure> {
        let store = Arc::new(open_store(config).await?);
        let journal = Arc::new(open_journal(Arc::clone(&store), &ambient));
        let background = CancellationToken::new();
        let tasks = TaskTracker::new();
        let state = state(config, &ambient, &store, &journal, &background, &tasks).await?;
        let records = Arc::clone(&store) as Arc<dyn Rotations>;
        let signals = Signals::start(config, &ambient, records, &state.issuer.policy)?;
        let (server, addresses) = serve(Data::new(state), &listen(config))
            .map_err(|error| format!("server.listen {}: {error}", config.server.listen))?;
        let address = *addresses.first().ok_or("the listener has no address")?;
        info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
        let follower = Follower::start(
            Arc::clone(&store) as Arc<dyn JournalReader>,
            Arc::clone(&store) as Arc<dyn JournalStore>,
            Arc::clone(&ambient.clock),
        );
        Ok(Self {
            server: server.handle(),
            serving: spawn_server(server),
            address,
            journal,
            follower,
            background,
            tasks,
            signals,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tells others about rotations.
    #[must_use]
    pub const fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Where the metrics are served, if they are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.signals.metrics_address()
    }

    /// Waits until the listener ends by itself, which it does only by a failure.
    pub async fn ended(&mut self) {
        let ended = (&mut self.serving).await;
        error!(?ended, "the listener has ended");
    }

    /// Lets in-flight requests finish, and what they have begun, then flushes the journal.
    pub async fn stop(self) {
        self.server.stop(true).await;
        self.tasks.close();
        self.tasks.wait().await;
        self.background.cancel();
        self.signals.stop().await;
        self.follower.stop().await;
        self.journal.close().await;
    }
}

fn spawn_server(server: Server) -> JoinHandle<io::Result<()>> {
    tokio::spawn(server)
}

fn listen(config: &Config) -> Listen {
    let server = &config.server;
    let files = server.tls_certificate.clone().zip(server.tls_key.clone());
    Listen {
        address: server.listen,
        tls: files.map(|(certificate, key)| TlsFiles { certificate, key }),
        request_timeout: Duration::from_secs(server.request_timeout_seconds),
        shutdown: Duration::from_secs(server.shutdown_seconds),
    }
}

async fn state(
    config: &Config,
    ambient: &Ambient,
    store: &Arc<Store>,
    journal: &Arc<Journal>,
    background: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<State, Failure> {
    let Ambient { clock, entropy } = ambient;
    let policy_store = Arc::clone(store) as Arc<dyn PolicyStore>;
    let cloud = config.cloud.cloud();
    let policy = Arc::new(PolicyCache::load(Arc::clone(&policy_store), cloud).await?);
    keep_fresh(Arc::clone(&policy), background.clone());
    let web = client(config.cloud.ca_file.as_deref(), Route::Environment)?;
    let credentials = credentials(config, ambient, &web)?;
    let keys = key_ring(config, ambient, &web, &credentials);
    let limits = config.issuing.limits();
    Ok(State {
        authenticator: authenticator(config, ambient, &web, background),
        access_rules: config.entra.access_rules(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        issuer: Issuer {
            policy: Arc::clone(&policy),
            mint: Mint::new(
                keys,
                config.issuing.service_version,
                limits.lifetime_seconds_min,
            ),
            journal: Arc::clone(journal),
            claims: Arc::clone(store) as Arc<dyn JournalStore>,
            limits,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        },
        explainer: Explainer::new(Arc::clone(&policy), Arc::clone(clock), limits),
        access_list: AccessList::new(Arc::clone(&policy), Arc::clone(clock)),
        rotation_requester: RotationRequester {
            policy: Arc::clone(&policy),
            rotations: Arc::clone(store) as Arc<dyn Rotations>,
            journal: Arc::clone(journal),
            claims: Arc::clone(store) as Arc<dyn JournalStore>,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        },
        rotation_reader: RotationReader::new(Arc::clone(&policy), Arc::clone(store) as _),
        key_revoker: KeyRevoker {
            policy: Arc::clone(&policy),
            arm: storage_accounts(config, ambient, &web, &credentials),
            journal: Arc::clone(journal),
            clock: Arc::clone(clock),
            tasks: tasks.clone(),
        },
        event_receiver: EventReceiver {
            policy,
            journal: Arc::clone(journal),
            clock: Arc::clone(clock),
        },
        journal: Arc::clone(journal),
        policy_store,
        clock: Arc::clone(clock),
        noise: Noise::default(),
        entropy: Arc::clone(entropy),
        openapi: openapi::generate().into(),
    })
}

fn authenticator(
    config: &Config,
    ambient: &Ambient,
    web: &Client,
    stop: &CancellationToken,
) -> Arc<Authenticator> {
    let entra = &config.entra;
    let tenant = |tenant: &Tenant| {
        let groups_claim = tenant.groups_claim == GroupsClaim::Configured;
        (tenant.id, TenantPolicy { groups_claim })
    };
    let policy = TokenPolicy {
        audiences: entra.audiences.clone(),
        clock_skew_seconds: entra.clock_skew_seconds,
        token_age_seconds_max: entra.token_age_seconds_max,
        tenants: entra.tenants.iter().map(tenant).collect(),
    };
    let authority = config.cloud.cloud().authority;
    let source = Arc::new(EntraKeySource::new(authority, web.clone()));
    let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
    let settings = KeyCacheSettings::default();
    let authenticator = Arc::new(Authenticator::new(policy, source, clock, entropy, settings));
    let refreshed = Arc::clone(&authenticator);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        let mut ticks = tokio::time::interval(KEYS_REFRESH);
        loop {
            ticks.tick().await;
            refreshed.keys().refresh_due();
        }
    }));
    authenticator
}

fn keep_fresh(policy: Arc<PolicyCache>, stop: CancellationToken) {
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let mut ticks = tokio::time::interval(POLICY_REFRESH);
        loop {
            ticks.tick().await;
            if let Err(error) = policy.fresh().await {
                warn!(%error, "the role table's version could not be read");
            }
        }
    }));
}

fn key_ring(
    config: &Config,
    ambient: &Ambient,
    web: &Client,
    credentials: &Credentials,
) -> Arc<KeyRing> {
    let keys = BlobKeys::new(
        credentials.clone(),
        web.clone(),
        config.cloud.cloud(),
        config.issuing.service_version,
    );
    let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
    KeyRing::new(
        Arc::new(keys),
        clock,
        entropy,
        config.issuing.delegation_key_seconds,
    )
}

/// Azure Resource Manager, as the accounts' managing identities see it.
fn storage_accounts(
    config: &Config,
    ambient: &Ambient,
    web: &Client,
    credentials: &Credentials,
) -> Arc<dyn StorageAccounts> {
    let section = &config.cloud;
    let options = ArmOptions {
        audience: section.resource_manager_audience.clone(),
        api_version: section.resource_manager_api_version.clone(),
    };
    let (cloud, clock) = (section.cloud(), Arc::clone(&ambient.clock));
    Arc::new(ArmAccounts::new(credentials, web, &cloud, options, clock))
}
