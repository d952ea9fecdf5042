//! The role table in memory: one immutable snapshot, replaced as a whole.
//!
//! A snapshot may be behind the database for a moment. That is safe for issuing, because the journal's
//! transaction compares versions before anything is released; it is asked to catch up by
//! [`PolicyCache::at_least`].

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tracing::{error, info};

use crate::{
    domain::{
        cloud::Cloud,
        snapshot::{PolicyTable, Snapshot},
    },
    ports::{PolicyStore, StoreError},
};

/// The current snapshot and the way to a newer one.
pub struct PolicyCache {
    store: Arc<dyn PolicyStore>,
    cloud: Cloud,
    current: ArcSwap<Snapshot>,
    /// Held while loading, so that a burst of stale requests loads once.
    loading: Mutex<()>,
}

impl PolicyCache {
    /// Loads the first snapshot.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn load(store: Arc<dyn PolicyStore>, cloud: Cloud) -> Result<Self, StoreError> {
        let cache = Self {
            store,
            cloud,
            current: ArcSwap::from_pointee(Snapshot::default()),
            loading: Mutex::new(()),
        };
        cache.reload().await?;
        Ok(cache)
    }

    /// The snapshot that is in memory; one atomic load.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A snapshot of at least this version.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn at_least(&self, version: i64) -> Result<Arc<Snapshot>, StoreError> {
        let _loading = self.loading.lock().await;
        if self.current.load().version() < version {
            self.reload().await?;
        }
        Ok(self.current())
    }

    /// Asks the database for its version and catches up with it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, StoreError> {
        let version = self.store.version().await?;
        if self.current.load().version() == version {
            return Ok(self.current());
        }
        self.at_least(version).await
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let mut table = self.store.load().await?;
        self.hold_to_the_guard(&mut table);
        info!(
            policy_version = table.version,
            accounts = table.accounts.len(),
            grants = table.grants.len(),
            "role table loaded"
        );
        self.current.store(Arc::new(Snapshot::new(table)));
        Ok(())
    }

    /// The database must not be able to point tokens, or the broker's own bearer, at a foreign host: an
    /// account that the configuration file's guard refuses does not exist for us. One whose rotation it
    /// refuses is not rotated, and issued for as ever.
    fn hold_to_the_guard(&self, table: &mut PolicyTable) {
        let cloud = &self.cloud;
        table.accounts.retain(|account| match account.guard(cloud) {
            Ok(()) => true,
            Err(reason) => {
                error!(account = %account.name, %reason, "account left out of the role table");
                false
            }
        });
        for account in &mut table.accounts {
            let guarded = account
                .rotation
                .as_ref()
                .map(|rotation| rotation.guard(account, cloud));
            if let Some(Err(reason)) = guarded {
                error!(account = %account.name, %reason, "the account is not rotated");
                account.rotation = None;
            }
        }
    }
}
