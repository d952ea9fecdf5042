//! The simulated Entra ID: tenants, signing keys, discovery and the token endpoint.
//!
//! | file | holds |
//! |---|---|
//! | `directory` | who exists: tenants, users, applications, and what each was given |
//! | `grants` | the token endpoint's decision |
//! | `tokens` | the claims of a v1 and a v2 token |
//! | `keys` | the signing keys, the key set, forged signatures for tests |
//! | `bearer` | how the simulated services check a token |
//! | `errors` | AADSTS codes and their JSON |
//! | `endpoints` | HTTP |
//!
//! Never here: anything about storage accounts or vaults. Start reading at `endpoints`.

mod bearer;
mod directory;
mod endpoints;
mod errors;
mod grants;
mod keys;
mod tokens;

use std::sync::{Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use url::Url;

pub(super) use self::bearer::{Bearer, BearerRefusal};
pub(super) use self::directory::AzureService;
use self::directory::Directory;
pub(super) use self::endpoints::configure;
use self::keys::KeyRing;
pub use self::keys::TokenSignature;
pub use self::tokens::{Subject, TokenSpec};
use super::spec::{TenantSpec, TokenVersion};

/// The state of the simulated Entra.
pub(super) struct Entra {
    /// Base URL with a trailing slash, so that tenant paths can be appended.
    pub(super) authority: Url,
    directory: Directory,
    keys: Mutex<KeyRing>,
}

impl Entra {
    pub(super) fn new(authority: Url, tenants: Vec<TenantSpec>) -> Self {
        let keys = Mutex::new(KeyRing::new());
        Self {
            authority,
            directory: Directory::new(tenants),
            keys,
        }
    }

    /// The signing keys. A ring is whole after each of its methods, so poisoning is ignored.
    pub(super) fn keys(&self) -> MutexGuard<'_, KeyRing> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mints a token at `now`, without asking the directory whether its subject exists.
    pub(super) fn mint(&self, token: &TokenSpec, now: OffsetDateTime) -> String {
        let claims = token.claims(&self.authority, now);
        let with_x5t = token.version == TokenVersion::V1;
        self.keys()
            .sign(&claims, &token.header_overrides, with_x5t, &token.signature)
    }

    /// Checks a bearer token shown to one of Azure's services.
    pub(super) fn bearer(
        &self,
        token: &str,
        service: AzureService,
        now: OffsetDateTime,
    ) -> Result<Bearer, BearerRefusal> {
        bearer::verify(token, service, &self.keys(), &self.authority, now)
    }
}
