//! The proof that a key opens its account: Get Account Information, signed with it. It reads no data
//! and needs no container.
//!
//! Source: Microsoft, "Get Account Information" and "Common REST API error codes".

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{
    Client, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use url::Url;

use crate::{
    domain::{
        account::Account,
        cloud::{Cloud, Service},
        rotation::shared_key::authorization,
        sas::ServiceVersion,
    },
    ports::{AccountKey, Clock, KeyProof, OUTSIDE_CALL_TIMEOUT, Proof},
};

/// The accounts' Blob services.
pub struct SharedKeyProof {
    client: Client,
    cloud: Cloud,
    clock: Arc<dyn Clock>,
}

impl SharedKeyProof {
    /// A prover that asks with `client`, which must not follow redirects.
    #[must_use]
    pub const fn new(client: Client, cloud: Cloud, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            cloud,
            clock,
        }
    }

    async fn ask(&self, account: &Account, key: &AccountKey) -> Proof {
        let endpoint = &account.blob_endpoint;
        let name = account.name.as_str();
        if let Err(error) = self.cloud.check(name, Service::Blob, endpoint) {
            return Proof::Unreachable(error.to_string());
        }
        let url = information(endpoint);
        let date = azure_core::time::to_rfc7231(&self.clock.now());
        let version = ServiceVersion::DEFAULT.to_string();
        let headers = [("x-ms-date", date.as_str()), ("x-ms-version", &version)];
        let signed = authorization(&account.name, &key.value, &url, &headers);
        let Some(mut signed) = signed.and_then(|text| HeaderValue::from_str(&text).ok()) else {
            // What is no base64 opens nothing, wherever it comes from.
            return Proof::Rejected;
        };
        signed.set_sensitive(true);
        let mut request = self.client.get(url).header(AUTHORIZATION, signed);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(answer) => verdict(&answer),
            Err(error) if error.is_connect() => {
                Proof::Unreachable("the host could not be connected to".to_owned())
            }
            Err(_) => Proof::Unreachable("no answer".to_owned()),
        }
    }
}

#[async_trait]
impl KeyProof for SharedKeyProof {
    async fn prove(&self, account: &Account, key: &AccountKey) -> Proof {
        tokio::time::timeout(OUTSIDE_CALL_TIMEOUT, self.ask(account, key))
            .await
            .unwrap_or_else(|_| Proof::Unreachable("no answer in time".to_owned()))
    }
}

/// `{endpoint}/?restype=account&comp=properties`.
fn information(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push("");
    }
    url.set_query(Some("restype=account&comp=properties"));
    url
}

/// Told from the head: the body is not read.
fn verdict(answer: &Response) -> Proof {
    let status = answer.status().as_u16();
    let code = answer
        .headers()
        .get("x-ms-error-code")
        .and_then(|code| code.to_str().ok());
    match (status, code) {
        (200, _) => Proof::Accepted,
        (403, Some("AuthenticationFailed")) => Proof::Rejected,
        (403, Some("KeyBasedAuthenticationNotPermitted")) => Proof::Disallowed,
        (_, code) => {
            let code = code.and_then(super::outside::plain);
            let code = code.as_deref().unwrap_or("without a code");
            Proof::Unreachable(format!("{status} {code}"))
        }
    }
}
