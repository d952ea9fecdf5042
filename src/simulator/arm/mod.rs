//! The simulated Azure Resource Manager, as far as it manages storage accounts: reading them, their
//! keys, their delegation keys.
//!
//! | file | holds |
//! |---|---|
//! | `endpoints` | HTTP: which call this is, who makes it, in which order it is refused |
//! | `target` | the resource that a path names |
//! | `resource` | an account as a resource: roles, locks, switches, its JSON |
//! | `keys` | the two keys, their values and times, what the data plane knows of them |
//! | `errors` | ARM's codes and the JSON around them |
//!
//! The state of an account is kept in one place with its data, in `blob::Account`. Never here: the
//! creation and deletion of resources; management does that by the methods of `Running`.

mod endpoints;
mod errors;
mod keys;
mod resource;
mod target;

use std::sync::{Mutex, PoisonError};

use url::Url;

pub(super) use self::endpoints::configure;
pub use self::keys::LiveKey;
pub(super) use self::resource::Resource;

/// The versions of Microsoft.Storage that the simulated cloud knows, unless a test says otherwise.
const API_VERSIONS: [&str; 13] = [
    "2021-09-01",
    "2022-05-01",
    "2022-09-01",
    "2023-01-01",
    "2023-04-01",
    "2023-05-01",
    "2024-01-01",
    "2025-01-01",
    "2025-06-01",
    "2025-08-01",
    "2026-04-01",
    "2026-06-01",
    "2026-09-01",
];

/// The state of the simulated ARM that belongs to no account.
pub(super) struct Arm {
    /// Base URL with a trailing slash.
    pub(super) url: Url,
    api_versions: Mutex<Vec<String>>,
}

impl Arm {
    pub(super) fn new(url: Url) -> Self {
        let api_versions = API_VERSIONS.map(String::from);
        Self {
            url,
            api_versions: Mutex::new(api_versions.into()),
        }
    }

    /// Versions this cloud knows.
    fn api_versions(&self) -> Vec<String> {
        let versions = self.api_versions.lock();
        versions.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the cloud know these versions and no other.
    pub(super) fn set_api_versions(&self, versions: Vec<String>) {
        let mut known = self
            .api_versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *known = versions;
    }
}
