//! The simulated Azure: Entra, ARM, Blob storage and Key Vault on loopback, in memory, keeping real
//! state.
//!
//! Ships in the release binary: `sas-broker demo` and `sas-broker dev` run against it, and so do
//! the integration tests. Nothing here calls the broker's own code. In particular the check of
//! user-delegation SAS (`blob::sas`) and of Shared Key (`blob::shared_key`) is written from the
//! protocol reference, independent of `domain::sas` on purpose; see `blob/sas/mod.rs` before
//! merging anything. What proves it is `tests/thirdparty/test_simulator.py`: Microsoft's own
//! clients.
//!
//! ```text
//! Spec -> Simulator::start -> Running ── management: mint, put_blob, keys, secrets, roles, faults
//!                                └─ servers ─┬─ entra   https  discovery, JWKS, token
//!                                            ├─ arm     https  accounts, keys, revocation
//!                                            ├─ storage https  blob, dfs · http blob
//!                                            └─ vault   https  one for each create_vault
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `spec` | what the world contains at the start, and what a vault is made of |
//! | `entra/` | tenants, tokens, signing keys |
//! | `arm/` | accounts as resources: their keys, roles, locks |
//! | `blob/` | delegation keys, data, the check of tokens and of Shared Key |
//! | `vault/` | secrets and their versions |
//! | `world` | the shared state of all of them |
//! | `manage` | the hand that reaches into accounts and vaults |
//! | `fault` | outages on demand, call counters |
//! | `rest` | what ARM and the vaults have in common |
//! | `serve`, `tls`, `random` | sockets, certificates, random bytes |
//!
//! Time comes from the [`SimClock`] given at the start, so that the broker and its Azure can share
//! one settable clock.

mod arm;
mod blob;
mod entra;
mod fault;
mod manage;
mod random;
mod rest;
mod serve;
mod spec;
mod tls;
mod vault;
mod world;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use actix_web::web::Bytes;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use self::arm::Arm;
pub use self::arm::LiveKey;
use self::blob::{Content, Properties, Storage};
use self::entra::Entra;
pub use self::entra::{Subject, TokenSignature, TokenSpec};
pub use self::fault::{Effect, Endpoint, Fault, Seen};
pub use self::manage::ManageError;
use self::serve::{Servers, Socket, StorageSockets};
pub use self::spec::{
    AccountSpec, ApiSpec, AppRoleAssignment, ApplicationSpec, ArmRole, ArmRoleAssignment, KeySlot,
    Lock, ManagementSpec, NewSecret, RoleAssignment, Spec, StorageRole, TenantSpec, TokenVersion,
    UserSpec, VaultRole, VaultRoleAssignment, VaultSpec,
};
pub use self::tls::TlsError;
pub use self::vault::SecretVersion;
use self::world::World;

/// Where the simulated world takes its time from.
pub type SimClock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// Starts simulated worlds.
pub struct Simulator;

/// Why a simulator, or a further vault of it, did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A loopback socket could not be bound or served.
    #[error("a loopback socket could not be served")]
    Socket(#[from] std::io::Error),
    /// The throw-away certificate could not be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is a vault of this name already.
    #[error("the simulator has a vault {0:?} already")]
    VaultExists(String),
}

impl Simulator {
    /// Binds free loopback ports and serves the world until [`Running::stop`]. Must be called
    /// inside a tokio (or actix) runtime.
    pub async fn start(spec: Spec, clock: SimClock) -> Result<Running, StartError> {
        let identity = tls::make_identity()?;
        let authority = Socket::bind("https")?;
        let arm_socket = Socket::bind("https")?;
        let storage_sockets = StorageSockets {
            blob: Socket::bind("https")?,
            plain_blob: Socket::bind("http")?,
            dfs: Socket::bind("https")?,
        };
        let [blob, plain, dfs] = [
            &storage_sockets.blob,
            &storage_sockets.plain_blob,
            &storage_sockets.dfs,
        ]
        .map(|socket| socket.url.clone());
        let entra = Entra::new(authority.url.clone(), spec.tenants);
        let storage = Storage::new([blob, plain, dfs], spec.accounts, world::now(&clock));
        let arm = Arm::new(arm_socket.url.clone());
        let world = Arc::new(World::new(clock, entra, storage, arm));
        let tls = identity.server;
        let servers = Servers::start(&world, tls, authority, arm_socket, storage_sockets)?;
        Ok(Running {
            world,
            servers,
            ca_pem: identity.ca_pem,
        })
    }
}

/// A simulated world being served, and the hand that reaches into it.
pub struct Running {
    world: Arc<World>,
    servers: Servers,
    ca_pem: String,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("authority", &self.authority().as_str())
            .finish_non_exhaustive()
    }
}

impl Running {
    /// The Entra authority, with a trailing slash: `https://127.0.0.1:PORT/`.
    pub fn authority(&self) -> Url {
        self.world.entra.authority.clone()
    }

    /// An account's blob endpoint over HTTPS, without a trailing slash:
    /// `https://127.0.0.1:PORT/{account}`.
    pub fn blob_endpoint(&self, account: &str) -> Url {
        of_account(&self.world.storage.blob, account)
    }

    /// The same data over plain HTTP, to show refusals of `spr=https`.
    pub fn plain_blob_endpoint(&self, account: &str) -> Url {
        of_account(&self.world.storage.plain_blob, account)
    }

    /// An account's data lake endpoint over HTTPS, on a port of its own.
    pub fn dfs_endpoint(&self, account: &str) -> Url {
        of_account(&self.world.storage.dfs, account)
    }

    /// The certificate authority that every HTTPS endpoint's certificate is signed by, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Mints an access token without asking whether its subject exists.
    pub fn mint(&self, token: &TokenSpec) -> String {
        self.world.mint(token)
    }

    /// Signs a JOSE header and a payload as they stand, by the newest key: for tokens that no
    /// JSON writer makes.
    pub fn sign_raw(&self, header: &str, payload: &str) -> String {
        self.world.entra.keys().sign_raw(header, payload)
    }

    /// Ids of the published signing keys, oldest first; the last one signs.
    pub fn signing_key_ids(&self) -> Vec<String> {
        self.world.entra.keys().key_ids()
    }

    /// Publishes a fresh key that signs from now on; older ones stay published. Returns its `kid`.
    pub fn roll_signing_key(&self) -> String {
        self.world.entra.keys().roll()
    }

    /// Takes a signing key out of the published set. The last one stays. Returns whether a key
    /// was removed.
    pub fn remove_signing_key(&self, kid: &str) -> bool {
        self.world.entra.keys().remove(kid)
    }

    /// Makes a container, unless it exists.
    pub fn create_container(&self, account: &str, container: &str) -> Result<(), ManageError> {
        let now = self.world.now();
        self.with_account(account, |account| {
            account.create_container(container.into(), now);
        })
    }

    /// Stores a blob, overwriting any of that name.
    pub fn put_blob(
        &self,
        account: &str,
        container: &str,
        path: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<(), ManageError> {
        let now = self.world.now();
        let bytes = Bytes::from(bytes.into());
        self.with_account(account, |account| {
            let entry = account.entry(Content::File(bytes), Properties::default(), now);
            account.store(container, path, entry, now)
        })?
        .map_err(|_| ManageError::UnknownContainer(container.into()))
    }

    /// The bytes of a stored blob.
    pub fn blob(&self, account: &str, container: &str, path: &str) -> Option<Vec<u8>> {
        let accounts = self.world.storage.accounts();
        let entry = accounts
            .get(account)?
            .containers
            .get(container)?
            .entries
            .get(path)?;
        Some(entry.bytes().to_vec())
    }

    /// Revokes every user delegation key of the account, at once (Azure takes its time).
    pub fn revoke_delegation_keys(&self, account: &str) -> Result<(), ManageError> {
        self.with_account(account, |account| account.delegation_keys.revoke_all())
    }

    /// Gives a principal a role on an account or a container, effective at once.
    pub fn assign_role(&self, account: &str, role: RoleAssignment) -> Result<(), ManageError> {
        self.with_account(account, |account| account.role_assignments.push(role))
    }

    /// Takes every role of a principal on the account and its containers, effective at once.
    pub fn remove_roles(&self, account: &str, principal: Uuid) -> Result<(), ManageError> {
        self.with_account(account, |account| {
            account
                .role_assignments
                .retain(|given| given.principal != principal);
        })
    }

    /// Makes an endpoint fail from now on, or work again with `None`, which also lifts what
    /// [`Self::fail_calls`] has planned.
    pub fn set_fault(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.world.faults.set(endpoint, fault);
    }

    /// Makes certain calls of an endpoint fail, counted from now: `0..1` is the next one, `2..4`
    /// are the third and the fourth. Of several plans for one call the oldest counts.
    pub fn fail_calls(&self, endpoint: Endpoint, calls: Range<u32>, fault: Fault) {
        self.world.faults.plan(endpoint, calls, fault);
    }

    /// Calls an endpoint has received since the start, failed ones included.
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.world.faults.calls(endpoint)
    }

    /// Stops serving; requests under way are cut off.
    pub async fn stop(self) {
        self.servers.stop().await;
    }
}

fn of_account(base: &Url, account: &str) -> Url {
    base.join(account)
        .expect("an account name is a legal path segment")
}
