//! What the API and the rotation of keys share: database, journal, role table, credentials.

use std::sync::Arc;

use reqwest::Client;

use super::{Ambient, credentials::credentials, open_journal, open_store};
use crate::{
    app::policy::PolicyCache,
    azure::{
        arm::{ArmAccounts, ArmOptions},
        credential::Credentials,
    },
    cli::Failure,
    config::Config,
    journal::Journal,
    ports::{OUTSIDE_CALL_TIMEOUT, PolicyStore, StorageAccounts},
    storage::Store,
    web::{Route, client, patient_client},
};

pub(super) struct Parts {
    pub(super) ambient: Ambient,
    pub(super) store: Arc<Store>,
    pub(super) journal: Arc<Journal>,
    pub(super) policy: Arc<PolicyCache>,
    pub(super) web: Client,
    /// For ARM and Key Vault: a change of keys may take longer than a request's share, and is bounded
    /// by the call's own limit.
    pub(super) management: Client,
    pub(super) credentials: Credentials,
    /// One for the whole process: it counts calls by subscription.
    pub(super) arm: Arc<dyn StorageAccounts>,
}

impl Parts {
    pub(super) async fn open(config: &Config, ambient: Ambient) -> Result<Self, Failure> {
        let store = Arc::new(open_store(config).await?);
        let journal = Arc::new(open_journal(Arc::clone(&store), &ambient));
        let policy_store = Arc::clone(&store) as Arc<dyn PolicyStore>;
        let policy = PolicyCache::load(policy_store, config.cloud.cloud()).await?;
        let ca_file = config.cloud.ca_file.as_deref();
        let web = client(ca_file, Route::Environment)?;
        let management = patient_client(ca_file, Route::Environment, OUTSIDE_CALL_TIMEOUT)?;
        let credentials = credentials(config, &ambient, &web)?;
        let arm = storage_accounts(config, &ambient, &management, &credentials);
        Ok(Self {
            ambient,
            store,
            journal,
            policy: Arc::new(policy),
            web,
            management,
            credentials,
            arm,
        })
    }
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
