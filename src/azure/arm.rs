//! Azure Resource Manager: a storage account's keys and their creation times. No official client
//! crate for it is alive, so the calls are made here, on the SDK's own pipeline.
//!
//! Bodies and paths: azure-rest-api-specs, `Microsoft.Storage`, `storage.json`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::http::{
    Context, Method, Pipeline, PipelineSendOptions, PipelineStreamOptions, Request,
    policies::{Policy, auth::BearerTokenAuthorizationPolicy},
};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::{
    credential::Credentials,
    outside::{Effect, call, no_credential, read},
    sdk,
    throttle::{Kind, Pace, Paces, Throttle},
};
use crate::{
    domain::{
        account::Account,
        cloud::Cloud,
        ids::SigningIdentity,
        resource_id::ResourceId,
        rotation::{CreationTime, CreationTimes, KeyName, observation::AccountFacts},
    },
    ports::{AccountKey, Clock, OutsideError, StorageAccounts},
};

/// The `api-version` of every call, unless the configuration names another. All that is read here is
/// in it, and it is the oldest of the stable line in use, so that every cloud knows it.
pub const API_VERSION: &str = "2024-01-01";

/// What one subscription is asked for at most. Azure's limits for the storage provider are 800 reads
/// in 5 minutes and 1,200 writes an hour, `listKeys` among the writes; half of that is left to others.
const PACES: Paces = Paces {
    reads: Pace {
        burst: 100,
        every: Duration::from_millis(750),
    },
    writes: Pace {
        burst: 60,
        every: Duration::from_secs(6),
    },
};

/// Writes that scheduled rotations leave to what is urgent: a break-glass, a revocation.
const URGENT_WRITES: u32 = 10;

/// Nothing but 200 is documented; anything else, also a 202, is not known to have taken place.
const OK: &[u16] = &[200];

/// What the configuration may say otherwise.
#[derive(Debug, Clone, Default)]
pub struct ArmOptions {
    /// Goes before [`API_VERSION`].
    pub api_version: Option<String>,
    /// The audience of tokens, without `/.default`; the resource manager's own URL, if it is left
    /// out. In the well-known clouds they are the same.
    pub audience: Option<String>,
}

/// Azure Resource Manager, asked with the credential that manages the account.
pub struct ArmAccounts {
    /// Base URL and clients, where the cloud has a resource manager.
    arm: Option<(Url, HashMap<SigningIdentity, Pipelines>)>,
    api_version: String,
    throttle: Throttle<Uuid>,
}

/// One credential's pipelines. They share its bearer policy, which keeps one token.
struct Pipelines {
    reads: Pipeline,
    mutations: Pipeline,
}

#[derive(Deserialize)]
struct AccountAnswer {
    id: String,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    key_creation_time: Option<KeyCreationTime>,
    allow_shared_key_access: Option<bool>,
}

#[derive(Deserialize)]
struct KeyCreationTime {
    key1: Option<String>,
    key2: Option<String>,
}

#[derive(Deserialize)]
struct KeysAnswer {
    keys: Vec<KeyAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyAnswer {
    key_name: String,
    value: Option<SecretString>,
}

/// One call to be.
struct Asked<'a> {
    id: ResourceId,
    url: Url,
    pipelines: &'a Pipelines,
}

impl ArmAccounts {
    /// An adapter for the cloud's resource manager.
    #[must_use]
    pub fn new(
        credentials: &Credentials,
        client: &Client,
        cloud: &Cloud,
        options: ArmOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ArmOptions {
            api_version,
            audience,
        } = options;
        let arm = cloud.resource_manager.clone().map(|base| {
            let audience = audience.as_deref().unwrap_or(base.as_str());
            let scope = format!("{}/.default", audience.trim_end_matches('/'));
            let pipelines = |credential| {
                let bearer = BearerTokenAuthorizationPolicy::new(credential, [scope.as_str()]);
                let bearer: Arc<dyn Policy> = Arc::new(bearer);
                let pipeline = |options| {
                    let (name, version) = ("sas-broker", option_env!("CARGO_PKG_VERSION"));
                    let per_try = vec![Arc::clone(&bearer)];
                    Pipeline::new(Some(name), version, options, vec![], per_try, None)
                };
                Pipelines {
                    reads: pipeline(sdk::reads(client, &base)),
                    mutations: pipeline(sdk::mutations(client, &base)),
                }
            };
            let all = credentials
                .iter()
                .map(|(name, credential)| (name.clone(), pipelines(Arc::clone(credential))))
                .collect();
            (base, all)
        });
        Self {
            arm,
            api_version: api_version.unwrap_or_else(|| API_VERSION.to_owned()),
            throttle: Throttle::new(clock, PACES),
        }
    }

    /// Host and token's audience come from the configuration, the path from the account's entry.
    fn asked(&self, account: &Account, action: Option<&str>) -> Result<Asked<'_>, OutsideError> {
        let misconfigured = |text: &str| OutsideError::Misconfigured(text.to_owned());
        let (base, pipelines) = self
            .arm
            .as_ref()
            .ok_or_else(|| misconfigured("this cloud has no resource manager"))?;
        let id = account
            .storage_resource_id()
            .ok_or_else(|| misconfigured("resource_id is no storage account's"))?;
        let manager = account.manager();
        let pipelines = pipelines
            .get(manager)
            .ok_or_else(|| no_credential(manager))?;
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| misconfigured("the resource manager's URL has no path"))?
            .pop_if_empty()
            .extend(id.as_str().trim_start_matches('/').split('/'))
            .extend(action);
        url.query_pairs_mut()
            .append_pair("api-version", &self.api_version);
        Ok(Asked { id, url, pipelines })
    }

    /// Sends a mutation, once. Its answer's body is not read: the head alone says that it took
    /// place, and the body of `regenerateKey` holds both keys.
    async fn mutate(
        &self,
        account: &Account,
        action: &str,
        body: Option<serde_json::Value>,
    ) -> Result<(), OutsideError> {
        let Asked { id, url, pipelines } = self.asked(account, Some(action))?;
        let subscription = id.subscription();
        let send = async |context: Context<'static>| {
            let mut request = request(url, Method::Post);
            if let Some(body) = body {
                request.set_json(&body)?;
                request.insert_header("content-type", "application/json");
            }
            let mut options = PipelineStreamOptions::default();
            options.check_success.success_codes = OK;
            let sent = pipelines
                .mutations
                .stream(&context, &mut request, Some(options));
            sent.await.map(drop)
        };
        let what = (Kind::Write, Effect::Mutation);
        call(&self.throttle, &subscription, what, send).await
    }
}

fn request(url: Url, method: Method) -> Request {
    let mut request = Request::new(url, method);
    request.insert_header("accept", "application/json");
    request
}

fn unreadable(what: &str) -> OutsideError {
    OutsideError::Unavailable(what.to_owned())
}

async fn ask<T: serde::de::DeserializeOwned>(
    pipeline: &Pipeline,
    mut request: Request,
    context: Context<'static>,
) -> azure_core::Result<Option<T>> {
    let mut options = PipelineSendOptions::default();
    options.check_success.success_codes = OK;
    let answer = pipeline.send(&context, &mut request, Some(options)).await?;
    Ok(read(answer.into_body()))
}

#[async_trait]
impl StorageAccounts for ArmAccounts {
    async fn look(&self, account: &Account) -> Result<AccountFacts, OutsideError> {
        let Asked { id, url, pipelines } = self.asked(account, None)?;
        let what = (Kind::Read, Effect::None);
        let answer: Option<AccountAnswer> =
            call(&self.throttle, &id.subscription(), what, |context| {
                ask(&pipelines.reads, request(url, Method::Get), context)
            })
            .await?;
        let answer = answer.ok_or_else(|| unreadable("the answer is no storage account"))?;
        if !id.is(&answer.id) {
            return Err(unreadable("the answer is about another account"));
        }
        let Properties {
            key_creation_time,
            allow_shared_key_access,
        } = answer.properties;
        let created = key_creation_time.map_or_else(CreationTimes::default, |times| {
            let time = |text: Option<String>| text.as_deref().map(CreationTime::new);
            CreationTimes {
                key1: time(times.key1),
                key2: time(times.key2),
            }
        });
        Ok(AccountFacts {
            created,
            shared_key_allowed: allow_shared_key_access.unwrap_or(true),
        })
    }

    async fn key(&self, account: &Account, key: KeyName) -> Result<AccountKey, OutsideError> {
        // Without `$expand`: Kerberos keys are nothing to us.
        let Asked { id, url, pipelines } = self.asked(account, Some("listKeys"))?;
        // A POST, which Azure counts as a write, but it changes nothing.
        let what = (Kind::Write, Effect::None);
        let answer: Option<KeysAnswer> =
            call(&self.throttle, &id.subscription(), what, |context| {
                ask(&pipelines.reads, request(url, Method::Post), context)
            })
            .await?;
        let answer = answer.ok_or_else(|| unreadable("the answer is no list of keys"))?;
        // An empty value is no key: published, it would cut every consumer off.
        answer
            .keys
            .into_iter()
            .filter(|listed| listed.key_name.eq_ignore_ascii_case(key.as_str()))
            .find_map(|listed| listed.value)
            .filter(|value| !value.expose_secret().is_empty())
            .map(|value| AccountKey { name: key, value })
            .ok_or_else(|| unreadable("the list of keys holds no value for this key"))
    }

    async fn regenerate_key(&self, account: &Account, key: KeyName) -> Result<(), OutsideError> {
        let body = json!({ "keyName": key.as_str() });
        self.mutate(account, "regenerateKey", Some(body)).await
    }

    fn wait(&self, account: &Account) -> Option<Duration> {
        let subscription = account.storage_resource_id()?.subscription();
        self.throttle
            .wait(&subscription, Kind::Write, URGENT_WRITES)
    }

    async fn revoke_user_delegation_keys(&self, account: &Account) -> Result<(), OutsideError> {
        self.mutate(account, "revokeUserDelegationKeys", None).await
    }
}
