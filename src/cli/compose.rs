//! The only place that wires adapters together.

mod credentials;
mod parts;
mod rotation;
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

use self::parts::Parts;
pub use self::{rotation::RotationProcess, signals::Signals};
use super::Failure;
use crate::{
    app::{
        access::AccessList, authenticate::Authenticator, explain::Explainer, issue::Issuer,
        issuer_keys::KeyCacheSettings, key_ring::KeyRing, mint::Mint, policy::PolicyCache,
        read_rotations::RotationReader, receive_events::EventReceiver,
        revoke_delegation_keys::KeyRevoker,
    },
    azure::{credential::Credentials, delegation_key::BlobKeys, entra::EntraKeySource},
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
    ports::{Clock, Entropy, JournalReader, JournalStore, PolicyStore},
    scheduler::Ticker,
    storage::{Store, StoreOptions},
    system::{SystemClock, SystemEntropy},
    telemetry,
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
    /// Rotates keys, if this process may.
    ticker: Option<Ticker>,
    /// How long a rotation under way may take at the end.
    patience: Duration,
}

impl Broker {
    /// Starts it: database, role table, credentials, journal, listener, in this order.
    ///
    /// # Errors
    /// With what could not be started, naming the key of the configuration where one is at fault.
    pub async fn start(config: &Config, ambient: Ambient) -> Result<Self, Failure> {
        let parts = Parts::open(config, ambient).await?;
        let background = CancellationToken::new();
        let tasks = TaskTracker::new();
        let state = state(config, &parts, &background, &tasks);
        let signals = Signals::start(config, &parts)?;
        let ticker = if config.rotation.enabled {
            let (metrics, delivery) = (Arc::clone(&signals.metrics), Arc::clone(&signals.delivery));
            let scheduler = rotation::scheduler(config, &parts, metrics, delivery);
            Some(Ticker::start(scheduler).await?)
        } else {
            None
        };
        let (server, addresses) = serve(Data::new(state), &listen(config))
            .map_err(|error| format!("server.listen {}: {error}", config.server.listen))?;
        let address = *addresses.first().ok_or("the listener has no address")?;
        info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
        let follower = Follower::start(
            Arc::clone(&parts.store) as Arc<dyn JournalReader>,
            Arc::clone(&parts.store) as Arc<dyn JournalStore>,
            Arc::clone(&parts.ambient.clock),
        );
        Ok(Self {
            server: server.handle(),
            serving: spawn_server(server),
            address,
            journal: parts.journal,
            follower,
            background,
            tasks,
            signals,
            ticker,
            patience: Duration::from_secs(config.server.shutdown_seconds),
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
        if let Some(ticker) = self.ticker {
            ticker.stop(self.patience).await;
        }
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

fn state(
    config: &Config,
    parts: &Parts,
    background: &CancellationToken,
    tasks: &TaskTracker,
) -> State {
    let Parts {
        ambient,
        store,
        journal,
        policy,
        web,
        credentials,
        arm,
        ..
    } = parts;
    let Ambient { clock, entropy } = ambient;
    keep_fresh(Arc::clone(policy), background.clone());
    let keys = key_ring(config, ambient, web, credentials);
    let limits = config.issuing.limits();
    State {
        authenticator: authenticator(config, ambient, web, background),
        access_rules: config.entra.access_rules(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        issuer: Issuer {
            policy: Arc::clone(policy),
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
        explainer: Explainer::new(Arc::clone(policy), Arc::clone(clock), limits),
        access_list: AccessList::new(Arc::clone(policy), Arc::clone(clock)),
        rotation_requester: rotation::requester(parts),
        rotation_reader: RotationReader::new(Arc::clone(policy), Arc::clone(store) as _),
        key_revoker: KeyRevoker {
            policy: Arc::clone(policy),
            arm: Arc::clone(arm),
            journal: Arc::clone(journal),
            clock: Arc::clone(clock),
            tasks: tasks.clone(),
        },
        event_receiver: EventReceiver {
            policy: Arc::clone(policy),
            journal: Arc::clone(journal),
            clock: Arc::clone(clock),
        },
        journal: Arc::clone(journal),
        policy_store: Arc::clone(store) as Arc<dyn PolicyStore>,
        clock: Arc::clone(clock),
        noise: Noise::default(),
        entropy: Arc::clone(entropy),
        openapi: openapi::generate().into(),
    }
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
