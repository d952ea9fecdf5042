//! Entra's discovery documents and key sets over HTTPS (OpenID Connect Discovery 1.0 §4, RFC 7517).
//! When they are fetched, and how long they count, is [`crate::app::issuer_keys`]'s business.

use async_trait::async_trait;
use reqwest::{Client, StatusCode, header::ACCEPT};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tracing::debug;
use url::Url;

use super::http::read_bounded;
use crate::{
    domain::{
        caller::{IssuerKeys, KeyMembers, SigningKey, TokenVersion},
        ids::TenantId,
    },
    ports::{KeySource, KeySourceError},
    web::with_causes,
};

/// Longest answer that is read, in bytes; Entra's key sets, certificates included, have about 20 KiB.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Most keys of a set; Entra publishes under ten.
const KEYS_MAX: usize = 100;

/// What Entra's key sets write where the directory's id belongs.
const TENANT_TEMPLATE: &str = "{tenantid}";

/// Reads keys from one cloud's Entra.
#[derive(Debug, Clone)]
pub struct EntraKeySource {
    authority: Url,
    http: Client,
}

/// The members of a discovery document that matter.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

/// A key set, its keys unread: one that we cannot read must not spoil the others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The members of a key that matter.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    public_key_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: String,
    e: String,
    /// Of Entra's v2 sets only: whose tokens the key may sign.
    issuer: Option<String>,
}

impl EntraKeySource {
    /// Keys from this authority, such as `https://login.microsoftonline.com`.
    #[must_use]
    pub const fn new(authority: Url, http: Client) -> Self {
        Self { authority, http }
    }

    /// The address of the directory's own discovery document: the shared ones (`common`) speak for
    /// every directory there is.
    fn discovery_url(&self, tenant_id: TenantId, version: TokenVersion) -> Url {
        let mut url = self.authority.clone();
        let tenant = tenant_id.to_string();
        let place = [".well-known", "openid-configuration"];
        url.path_segments_mut()
            .expect("an authority is an https URL")
            .pop_if_empty()
            .push(&tenant)
            .extend((version == TokenVersion::V2).then_some("v2.0"))
            .extend(place);
        url
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, KeySourceError> {
        if url.scheme() != "https" {
            return Err(KeySourceError::Malformed("an address is not https"));
        }
        let unreachable = |error: reqwest::Error| KeySourceError::Unreachable(with_causes(&error));
        let request = self.http.get(url).header(ACCEPT, "application/json");
        let response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(KeySourceError::Status(response.status().as_u16()));
        }
        let body = read_bounded(response, BODY_BYTES_MAX)
            .await
            .map_err(unreachable)?;
        let body = body.ok_or(KeySourceError::Malformed("it is longer than 256 KiB"))?;
        serde_json::from_slice(&body).map_err(|_| KeySourceError::Malformed("it cannot be read"))
    }
}

#[async_trait]
impl KeySource for EntraKeySource {
    async fn fetch(
        &self,
        tenant_id: TenantId,
        version: TokenVersion,
    ) -> Result<IssuerKeys, KeySourceError> {
        let discovery: Discovery = self.get(self.discovery_url(tenant_id, version)).await?;
        let set: KeySet = self.get(discovery.jwks_uri).await?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySourceError::Malformed("it holds more than 100 keys"));
        }
        let of_issuer = |jwk: &Jwk| {
            let named = jwk.issuer.as_ref().filter(|_| version == TokenVersion::V2);
            let tenant = tenant_id.to_string();
            named.is_none_or(|name| name.replace(TENANT_TEMPLATE, &tenant) == discovery.issuer)
        };
        let keys = set
            .keys
            .iter()
            .filter_map(|key| read(key, of_issuer))
            .collect();
        Ok(IssuerKeys::new(
            &discovery.issuer,
            tenant_id,
            version,
            keys,
        )?)
    }
}

/// A key that may verify tokens; others are skipped, as RFC 7517 §5 asks.
fn read(key: &Value, of_issuer: impl Fn(&Jwk) -> bool) -> Option<SigningKey> {
    let jwk: Jwk = Jwk::deserialize(key).ok()?;
    if !of_issuer(&jwk) {
        return None;
    }
    let members = KeyMembers {
        kty: &jwk.kty,
        kid: &jwk.kid,
        public_key_use: jwk.public_key_use.as_deref(),
        key_ops: jwk.key_ops.as_deref(),
        alg: jwk.alg.as_deref(),
        n: &jwk.n,
        e: &jwk.e,
    };
    SigningKey::new(&members)
        .inspect_err(|reason| debug!(kid = jwk.kid, %reason, "published key skipped"))
        .ok()
}
