//! Key Vault, by the official client: one secret for each account. Values go in and never come out:
//! nothing here reads one, and the answer to a publication is wiped once its id is known.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    Bytes,
    credentials::TokenCredential,
    http::{
        ClientMethodOptions, ClientOptions, Context, RequestContent, StatusCode,
        pager::PagerOptions,
    },
};
use azure_security_keyvault_secrets::{
    SecretClient, SecretClientOptions,
    models::{
        SecretAttributes, SecretClientGetDeletedSecretOptions,
        SecretClientListSecretPropertiesVersionsOptions, SecretClientRecoverDeletedSecretOptions,
        SecretClientSetSecretOptions, SecretClientUpdateSecretPropertiesOptions, SecretProperties,
        SetSecretParameters, UpdateSecretPropertiesParameters,
    },
};
use futures_util::TryStreamExt;
use quick_cache::sync::Cache;
use reqwest::Client;
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::Url;
use zeroize::{Zeroize, Zeroizing};

use super::{
    credential::{Credentials, OneAudience},
    outside::{Effect, call, credential, read},
    sdk,
    throttle::{Kind, Pace, Paces, Throttle},
};
use crate::{
    domain::{
        account::Account,
        cloud::Cloud,
        ids::{SecretName, SecretVersion, SigningIdentity},
        resource_id::ResourceId,
        rotation::observation::{Origin, SecretFacts, VersionFacts},
    },
    ports::{Clock, NewVersion, OutsideError, Vault},
};

/// The `api-version` of every call, unless the configuration names another: the one that the
/// official client is made for.
pub const API_VERSION: &str = "2025-07-01";

/// Most versions of a secret that are looked at: a vault can back up no secret of more than 500. The
/// list has no order, so that of a longer one the newest version might be missed.
const VERSIONS_MAX: usize = 1_000;
/// Versions on one page: the most that Key Vault gives.
const PAGE: i32 = 25;
/// Most pages, for a vault that answers with empty ones.
const PAGES_MAX: usize = 100;
/// Most clients that are kept, one for each vault and credential; the others are made again.
const CLIENTS_MAX: usize = 1_000;

/// What one vault is asked for at most. Key Vault's limits are 4,000 calls and, for new versions,
/// some 300 in 10 seconds, for everybody together.
const PACES: Paces = Paces {
    reads: Pace {
        burst: 100,
        every: Duration::from_millis(20),
    },
    writes: Pace {
        burst: 50,
        every: Duration::from_millis(100),
    },
};

/// Key Vault, asked with the credential that manages the account.
pub struct KeyVault {
    credentials: Credentials,
    client: Client,
    cloud: Cloud,
    api_version: String,
    clients: Cache<(Url, SigningIdentity), Arc<Clients>>,
    throttle: Throttle<Url>,
}

/// One vault with one credential.
struct Clients {
    reads: SecretClient,
    mutations: SecretClient,
}

/// One call to be.
struct Asked {
    clients: Arc<Clients>,
    vault: Url,
    secret: SecretName,
    account: ResourceId,
}

/// What a list of versions showed.
enum Listed {
    Versions(Vec<SecretProperties>),
    TooMany,
    Deleted,
    Absent,
}

/// The answer to a publication, without its value.
#[derive(Deserialize)]
struct Made {
    id: String,
}

impl KeyVault {
    /// An adapter for the cloud's vaults; `api_version` goes before [`API_VERSION`].
    #[must_use]
    pub fn new(
        credentials: Credentials,
        client: Client,
        cloud: Cloud,
        api_version: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            credentials,
            client,
            cloud,
            api_version: api_version.unwrap_or_else(|| API_VERSION.to_owned()),
            clients: Cache::new(CLIENTS_MAX),
            throttle: Throttle::new(clock, PACES),
        }
    }

    fn asked(&self, account: &Account) -> Result<Asked, OutsideError> {
        let misconfigured = |text: String| OutsideError::Misconfigured(text);
        let policy = account
            .rotation
            .as_ref()
            .ok_or_else(|| misconfigured("the account has no rotation policy".to_owned()))?;
        // Our own bearer token goes there: the guard is asked again, whatever the database says.
        self.cloud
            .check_vault(&policy.vault)
            .map_err(|error| misconfigured(error.to_string()))?;
        let resource = account
            .storage_resource_id()
            .ok_or_else(|| misconfigured("resource_id is no storage account's".to_owned()))?;
        let manager = account.manager();
        let credential = credential(&self.credentials, manager)?;
        let made = || self.connect(&policy.vault, credential).map(Arc::new);
        let name = (policy.vault.clone(), manager.clone());
        Ok(Asked {
            clients: self.clients.get_or_insert_with(&name, made)?,
            vault: policy.vault.clone(),
            secret: policy.secret_name(&account.name),
            account: resource,
        })
    }

    fn connect(
        &self,
        vault: &Url,
        credential: &Arc<dyn TokenCredential>,
    ) -> Result<Clients, OutsideError> {
        // A vault says itself which audience it wants a token for. It is the cloud's own, if that is
        // known; and it must fit the host, unless the configuration file vouches for that.
        let mut credential = Arc::clone(credential);
        if let Some(suffix) = &self.cloud.vault_suffix {
            let scope = format!("https://{suffix}/.default");
            credential = Arc::new(OneAudience::new(credential, scope));
        }
        let client = |client_options: ClientOptions| {
            let options = SecretClientOptions {
                api_version: self.api_version.clone(),
                client_options,
                verify_challenge_resource: Some(!self.cloud.is_allowed_host(vault)),
            };
            SecretClient::new(vault.as_str(), Arc::clone(&credential), Some(options))
                .map_err(|_| OutsideError::Misconfigured("the vault's URL is no use".to_owned()))
        };
        Ok(Clients {
            reads: client(sdk::reads(&self.client, vault))?,
            mutations: client(sdk::mutations(&self.client, vault))?,
        })
    }
}

const fn options(context: Context<'_>) -> ClientMethodOptions<'_> {
    ClientMethodOptions { context }
}

/// Lists the versions. Key Vault answers for a secret that is not there with an empty list, and
/// others with 404; in both cases it may be a deleted one.
async fn list(
    client: &SecretClient,
    secret: &SecretName,
    context: Context<'static>,
) -> azure_core::Result<Listed> {
    let wanted = SecretClientListSecretPropertiesVersionsOptions {
        maxresults: Some(PAGE),
        method_options: PagerOptions {
            context: context.clone(),
            continuation: None,
        },
    };
    let mut pages = client
        .list_secret_properties_versions(secret.as_str(), Some(wanted))?
        .into_pages();
    let mut versions = Vec::new();
    for _ in 0..PAGES_MAX {
        match pages.try_next().await {
            Ok(Some(page)) => versions.extend(page.into_model()?.value),
            Ok(None) if !versions.is_empty() => return Ok(Listed::Versions(versions)),
            Ok(None) => return deleted(client, secret, context).await,
            Err(error) if error.http_status() == Some(StatusCode::NotFound) => {
                return deleted(client, secret, context).await;
            }
            Err(error) => return Err(error),
        }
        if versions.len() > VERSIONS_MAX {
            break;
        }
    }
    Ok(Listed::TooMany)
}

/// Whether the secret is deleted or was never there. Who may not know takes it for absent: the vault
/// refuses to publish over a deleted one, and says why.
async fn deleted(
    client: &SecretClient,
    secret: &SecretName,
    context: Context<'static>,
) -> azure_core::Result<Listed> {
    let options = SecretClientGetDeletedSecretOptions {
        method_options: options(context),
    };
    match client
        .get_deleted_secret(secret.as_str(), Some(options))
        .await
    {
        Ok(_) => Ok(Listed::Deleted),
        Err(error) => match error.http_status() {
            Some(StatusCode::NotFound | StatusCode::Forbidden) => Ok(Listed::Absent),
            _ => Err(error),
        },
    }
}

/// One version as the planner sees it; `None` if it cannot be placed among the others.
fn facts(account: &ResourceId, found: &SecretProperties) -> Option<VersionFacts> {
    let attributes = found.attributes.as_ref()?;
    let tag = |name: &str| found.tags.as_ref()?.get(name).map(String::as_str);
    Some(VersionFacts {
        version: version(found.id.as_deref()?)?,
        created: attributes.created?.unix_timestamp(),
        enabled: attributes.enabled.unwrap_or(true),
        origin: Origin::of(account, tag),
    })
}

/// The version that ends a secret's id, `https://{vault}/secrets/{name}/{version}`.
fn version(id: &str) -> Option<SecretVersion> {
    let (_, last) = id.rsplit_once('/')?;
    last.to_ascii_lowercase().parse().ok()
}

/// The body of a publication, in memory that is wiped when the last reader lets go of it.
fn body(version: &NewVersion) -> azure_core::Result<RequestContent<SetSecretParameters>> {
    let tags: HashMap<String, String> = version
        .tags
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let value = version.value.expose_secret();
    // Room for all of it, since a buffer that grows leaves copies behind.
    let text = tags.iter().map(|(name, value)| name.len() + value.len());
    let room = 1024 + 2 * (value.len() + text.sum::<usize>());
    let mut parameters = SetSecretParameters {
        content_type: Some(version.content_type.to_owned()),
        secret_attributes: Some(SecretAttributes {
            enabled: Some(true),
            expires: Some(version.expires),
            ..SecretAttributes::default()
        }),
        tags: Some(tags),
        value: Some(value.to_owned()),
    };
    let mut json = Zeroizing::new(Vec::with_capacity(room));
    let written = serde_json::to_writer(&mut *json, &parameters);
    parameters.value.zeroize();
    written?;
    Ok(Bytes::from_owner(json).into())
}

#[async_trait]
impl Vault for KeyVault {
    async fn look(&self, account: &Account) -> Result<SecretFacts, OutsideError> {
        let asked = self.asked(account)?;
        let what = (Kind::Read, Effect::None);
        let listed = call(&self.throttle, &asked.vault, what, |context| {
            list(&asked.clients.reads, &asked.secret, context)
        });
        let versions = match listed.await? {
            Listed::Absent => return Ok(SecretFacts::Absent),
            Listed::Deleted => return Ok(SecretFacts::Deleted),
            Listed::TooMany => {
                return Err(OutsideError::Misconfigured(format!(
                    "the secret has more than {VERSIONS_MAX} versions, or too many pages of them: \
                     give the account another secret_name"
                )));
            }
            Listed::Versions(versions) => versions,
        };
        versions
            .iter()
            .map(|found| facts(&asked.account, found))
            .collect::<Option<_>>()
            .map(SecretFacts::Versions)
            .ok_or_else(|| {
                let text = "a version without a readable id or creation time";
                OutsideError::Unavailable(text.to_owned())
            })
    }

    async fn publish(
        &self,
        account: &Account,
        new: NewVersion,
    ) -> Result<SecretVersion, OutsideError> {
        let Asked {
            clients,
            vault,
            secret,
            ..
        } = self.asked(account)?;
        let what = (Kind::Write, Effect::Mutation);
        let send = async |context| {
            let options = SecretClientSetSecretOptions {
                method_options: options(context),
            };
            let sent = clients
                .mutations
                .set_secret(secret.as_str(), body(&new)?, Some(options));
            Ok(read(sent.await?.into_body()))
        };
        let made: Option<Made> = call(&self.throttle, &vault, what, send).await?;
        made.and_then(|made| version(&made.id)).ok_or_else(|| {
            OutsideError::Unclear("the answer does not name the new version".to_owned())
        })
    }

    async fn set_enabled(
        &self,
        account: &Account,
        version: &SecretVersion,
        enabled: bool,
    ) -> Result<(), OutsideError> {
        let asked = self.asked(account)?;
        let what = (Kind::Write, Effect::Mutation);
        let send = async |context| {
            // What the body leaves out stays as it is: tags, content type, expiry.
            let parameters = UpdateSecretPropertiesParameters {
                secret_attributes: Some(SecretAttributes {
                    enabled: Some(enabled),
                    ..SecretAttributes::default()
                }),
                ..UpdateSecretPropertiesParameters::default()
            };
            let options = SecretClientUpdateSecretPropertiesOptions {
                method_options: options(context),
                secret_version: Some(version.to_string()),
            };
            let client = &asked.clients.mutations;
            let name = asked.secret.as_str();
            let sent = client.update_secret_properties(name, parameters.try_into()?, Some(options));
            sent.await.map(drop)
        };
        call(&self.throttle, &asked.vault, what, send).await
    }

    async fn recover(&self, account: &Account) -> Result<(), OutsideError> {
        let asked = self.asked(account)?;
        let what = (Kind::Write, Effect::Mutation);
        let send = async |context| {
            let options = SecretClientRecoverDeletedSecretOptions {
                method_options: options(context),
            };
            let client = &asked.clients.mutations;
            let sent = client.recover_deleted_secret(asked.secret.as_str(), Some(options));
            sent.await.map(drop)
        };
        match call(&self.throttle, &asked.vault, what, send).await {
            // It is not deleted any more, or its recovery has begun: the next look tells which.
            Err(OutsideError::Gone(_)) => Ok(()),
            Err(OutsideError::Busy(said)) if said.contains("ObjectIsBeingRecovered") => Ok(()),
            done => done,
        }
    }
}
