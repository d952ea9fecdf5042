//! User delegation keys from Blob storage: `POST {blob}/?restype=service&comp=userdelegationkey` by
//! the official client. Its parsed model would round the times, so the answer's own text is kept:
//! the service derives the key from it again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{ExponentialRetryOptions, RetryOptions, StatusCode},
};
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::KeyInfo};
use reqwest::Client;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    credential::{Credentials, SignInFailed},
    http::sdk_options,
    outside::sign_in_failure,
};
use crate::{
    domain::{
        cloud::{Cloud, Service},
        sas::{KeyElements, ServiceVersion, UserDelegationKey},
    },
    ports::{DelegationKeys, KeyFetchError, KeyRequest},
};

/// Time for one key, sign-in and retries included: well under the time limit of the requests that
/// wait for it, so that they can say what is wrong.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// Retries of one fetch: the request changes nothing, so it may repeat. The key ring backs off beyond.
const RETRIES_MAX: u32 = 2;

/// Blob storage, asked with the configured credentials.
pub struct BlobKeys {
    credentials: Credentials,
    client: Client,
    cloud: Cloud,
    version: ServiceVersion,
}

/// The answer, as the service writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    signed_oid: String,
    signed_tid: String,
    signed_start: String,
    signed_expiry: String,
    signed_service: String,
    signed_version: String,
    signed_delegated_user_tid: Option<String>,
    value: Zeroizing<String>,
}

impl BlobKeys {
    /// An adapter that asks with `x-ms-version: version`, which becomes the keys' `skv`.
    #[must_use]
    pub const fn new(
        credentials: Credentials,
        client: Client,
        cloud: Cloud,
        version: ServiceVersion,
    ) -> Self {
        Self {
            credentials,
            client,
            cloud,
            version,
        }
    }

    fn service(&self, request: &KeyRequest) -> Result<BlobServiceClient, KeyFetchError> {
        let account = &request.account;
        let misconfigured = |what: String| KeyFetchError::Misconfigured(what);
        // Our own bearer token goes there: the guard is asked again, whatever the database says.
        self.cloud
            .check(account.name.as_str(), Service::Blob, &account.blob_endpoint)
            .map_err(|error| misconfigured(error.to_string()))?;
        let identity = &account.signing_identity;
        let credential = self.credentials.get(identity).ok_or_else(|| {
            misconfigured(format!(
                "no credential is configured under the name {identity}"
            ))
        })?;
        let mut client_options = sdk_options(&self.client);
        client_options.retry = RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: RETRIES_MAX,
            ..ExponentialRetryOptions::default()
        });
        let options = BlobServiceClientOptions {
            client_options,
            version: self.version.to_string(),
        };
        // The client appends segments, so a slash at the end would double.
        let mut endpoint = account.blob_endpoint.clone();
        if let Ok(mut segments) = endpoint.path_segments_mut() {
            segments.pop_if_empty();
        }
        BlobServiceClient::new(endpoint, Some(Arc::clone(credential)), Some(options))
            .map_err(|error| misconfigured(error.to_string()))
    }

    async fn ask(&self, request: &KeyRequest) -> Result<UserDelegationKey, KeyFetchError> {
        let service = self.service(request)?;
        let unavailable = |what: &str| KeyFetchError::Unavailable(what.to_owned());
        let wanted = KeyInfo {
            start: Some(request.starts_at),
            expiry: Some(request.expires_at),
            delegated_user_tid: request.delegated_tenant.map(|tenant| tenant.to_string()),
        };
        let wanted = wanted
            .try_into()
            .map_err(|_| unavailable("the request has no XML form"))?;
        let response = service
            .get_user_delegation_key(wanted, None)
            .await
            .map_err(|error| classify(&error))?;
        let body: Zeroizing<Vec<u8>> = Zeroizing::new(response.into_body().as_ref().to_vec());
        let answer: Answer = azure_core::xml::from_xml(body.as_slice())
            .map_err(|_| unavailable("the answer is no UserDelegationKey"))?;
        let key = UserDelegationKey::new(&KeyElements {
            signed_oid: &answer.signed_oid,
            signed_tid: &answer.signed_tid,
            signed_start: &answer.signed_start,
            signed_expiry: &answer.signed_expiry,
            signed_service: &answer.signed_service,
            signed_version: &answer.signed_version,
            signed_delegated_user_tid: answer.signed_delegated_user_tid.as_deref(),
            value: &answer.value,
        })
        .map_err(|error| unavailable(&error.to_string()))?;
        if key.delegated_tenant_id() == request.delegated_tenant {
            Ok(key)
        } else {
            Err(unavailable(
                "the account does not delegate to users of another directory",
            ))
        }
    }
}

#[async_trait]
impl DelegationKeys for BlobKeys {
    async fn fetch(&self, request: &KeyRequest) -> Result<UserDelegationKey, KeyFetchError> {
        tokio::time::timeout(FETCH_TIMEOUT, self.ask(request))
            .await
            .unwrap_or_else(|_| Err(KeyFetchError::Unavailable("no answer in time".to_owned())))
    }
}

/// What went wrong, without any text of the answer.
fn classify(error: &azure_core::Error) -> KeyFetchError {
    if let Some(failed) = sign_in_failure(error) {
        return match failed {
            SignInFailed::Refused(_) | SignInFailed::ForeignAudience => {
                KeyFetchError::Denied(failed.to_string())
            }
            SignInFailed::Unavailable | SignInFailed::TimedOut => {
                KeyFetchError::Unavailable(failed.to_string())
            }
        };
    }
    match error.kind() {
        ErrorKind::HttpResponse {
            status, error_code, ..
        } => {
            let code = error_code.as_deref().unwrap_or("no error code");
            let said = format!("{} {code}", u16::from(*status));
            match status {
                StatusCode::TooManyRequests => KeyFetchError::Throttled { retry_after: None },
                StatusCode::Unauthorized | StatusCode::Forbidden => KeyFetchError::Denied(said),
                _ => KeyFetchError::Unavailable(said),
            }
        }
        _ => KeyFetchError::Unavailable("the blob endpoint could not be reached".to_owned()),
    }
}
