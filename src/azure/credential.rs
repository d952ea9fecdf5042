//! The broker's own identities: explicit kinds of `azure_identity` credentials, each behind
//! [`Steady`], which keeps serving a token that is still valid while a new one is fetched.
//!
//! Errors name Entra's `AADSTS` code and nothing else of what Entra said: the SDK loses the code when
//! it parses a real error text, so it is cut out of the message.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
    http::ClientMethodOptions,
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::warn;
use url::Url;
use uuid::Uuid;

use super::http::{sdk_options, with_causes};
use crate::{
    domain::ids::TenantId,
    ports::{Clock, Entropy},
};

/// Time for one token request, the SDK's own retries included.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// A token is served while it lives at least this long.
const LIFE_LEFT_MIN: time::Duration = time::Duration::seconds(30);
/// Life of a client assertion.
const ASSERTION_LIFE: time::Duration = time::Duration::minutes(5);

/// One identity, with what it needs to sign in.
pub enum CredentialSpec {
    /// The machine's managed identity.
    ManagedIdentity {
        /// Of a user-assigned identity.
        client_id: Option<Uuid>,
    },
    /// A federated token from a file.
    WorkloadIdentity {
        /// Directory.
        tenant_id: TenantId,
        /// Application.
        client_id: Uuid,
        /// The projected token; the SDK reads it again every 10 minutes.
        token_file: PathBuf,
    },
    /// An application's secret.
    ClientSecret {
        /// Directory.
        tenant_id: TenantId,
        /// Application.
        client_id: Uuid,
        /// The secret.
        secret: SecretString,
    },
    /// An application's certificate.
    Certificate {
        /// Directory.
        tenant_id: TenantId,
        /// Application.
        client_id: Uuid,
        /// PEM certificate.
        certificate: String,
        /// PEM private key.
        key: SecretString,
    },
    /// Whoever is signed in to `az` or `azd`.
    Developer,
}

/// What credentials need besides.
pub struct Surroundings<'a> {
    /// Entra's authority.
    pub authority: &'a Url,
    /// For requests to Entra.
    pub client: &'a Client,
    /// For requests to the machine's metadata service: never through a proxy.
    pub direct: &'a Client,
    /// Now.
    pub clock: &'a Arc<dyn Clock>,
    /// Ids of client assertions.
    pub entropy: &'a Arc<dyn Entropy>,
}

/// Why a credential cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The SDK refuses its parts.
    #[error("{0}")]
    Refused(String),
    /// Certificate or key are not what they should be.
    #[error("the certificate or its key is no usable PEM")]
    Certificate,
}

impl From<azure_core::Error> for CredentialError {
    fn from(error: azure_core::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Why no token could be had: Entra's code at most, nothing else of what it said. A type of its own,
/// because the SDK's layers put texts of theirs over whatever a credential says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignInFailed {
    /// Entra said no.
    #[error("Entra answered {0}")]
    Refused(String),
    /// No answer, or none of Entra's.
    #[error("Entra could not be asked for a token, or gave none")]
    Unavailable,
    /// Not in time.
    #[error("the token request timed out")]
    TimedOut,
}

impl From<SignInFailed> for azure_core::Error {
    fn from(failed: SignInFailed) -> Self {
        let text = failed.to_string();
        Self::with_error(ErrorKind::Credential, failed, text)
    }
}

/// Makes the credential. Nothing is sent yet.
///
/// # Errors
/// [`CredentialError`] if its parts are unusable.
pub fn credential(
    spec: CredentialSpec,
    around: &Surroundings<'_>,
) -> Result<Arc<dyn TokenCredential>, CredentialError> {
    let inner: Arc<dyn TokenCredential> = match spec {
        CredentialSpec::ManagedIdentity { client_id } => {
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_string())),
                client_options: sdk_options(around.direct),
            }))?
        }
        CredentialSpec::WorkloadIdentity {
            tenant_id,
            client_id,
            token_file,
        } => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
            credential_options: assertion_options(around),
            client_id: Some(client_id.to_string()),
            tenant_id: Some(tenant_id.to_string()),
            token_file_path: Some(token_file),
        }))?,
        CredentialSpec::ClientSecret {
            tenant_id,
            client_id,
            secret,
        } => ClientSecretCredential::new(
            &tenant_id.to_string(),
            client_id.to_string(),
            Secret::new(secret.expose_secret().to_owned()),
            Some(ClientSecretCredentialOptions {
                client_options: entra_options(around),
            }),
        )?,
        CredentialSpec::Certificate {
            tenant_id,
            client_id,
            certificate,
            key,
        } => {
            let assertion = SignedAssertion::new(tenant_id, client_id, &certificate, &key, around)?;
            ClientAssertionCredential::new(
                tenant_id.to_string(),
                client_id.to_string(),
                assertion,
                Some(assertion_options(around)),
            )?
        }
        CredentialSpec::Developer => DeveloperToolsCredential::new(None)?,
    };
    Ok(Arc::new(Steady::new(inner, Arc::clone(around.clock))))
}

fn entra_options(around: &Surroundings<'_>) -> azure_core::http::ClientOptions {
    let authority = around.authority.as_str().trim_end_matches('/').to_owned();
    let mut configuration = CustomConfiguration::default();
    configuration.authority_host = authority;
    let mut options = sdk_options(around.client);
    options.cloud = Some(Arc::new(CloudConfiguration::Custom(configuration)));
    options
}

fn assertion_options(around: &Surroundings<'_>) -> ClientAssertionCredentialOptions {
    ClientAssertionCredentialOptions {
        client_options: entra_options(around),
    }
}

/// A JWT signed with the application's certificate: what Entra takes in place of a secret. Made here
/// because the SDK's own certificate credential needs OpenSSL. Form: Entra's "certificate
/// credentials" page (PS256, `x5t#S256`).
struct SignedAssertion {
    client_id: Uuid,
    audience: String,
    header: Header,
    key: EncodingKey,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for SignedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedAssertion")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl SignedAssertion {
    fn new(
        tenant_id: TenantId,
        client_id: Uuid,
        certificate: &str,
        key: &SecretString,
        around: &Surroundings<'_>,
    ) -> Result<Self, CredentialError> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        use rustls::pki_types::{CertificateDer, pem::PemObject};

        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| CredentialError::Certificate)?;
        let thumbprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let mut header = Header::new(Algorithm::PS256);
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(thumbprint));
        let key = EncodingKey::from_rsa_pem(key.expose_secret().as_bytes())
            .map_err(|_| CredentialError::Certificate)?;
        let authority = around.authority.as_str().trim_end_matches('/');
        Ok(Self {
            client_id,
            audience: format!("{authority}/{tenant_id}/oauth2/v2.0/token"),
            header,
            key,
            clock: Arc::clone(around.clock),
            entropy: Arc::clone(around.entropy),
        })
    }
}

#[async_trait]
impl ClientAssertion for SignedAssertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now = self.clock.now();
        let claims = json!({
            "aud": self.audience,
            "iss": self.client_id,
            "sub": self.client_id,
            "jti": self.entropy.uuid_v7(now),
            "nbf": now.unix_timestamp(),
            "iat": now.unix_timestamp(),
            "exp": (now + ASSERTION_LIFE).unix_timestamp(),
        });
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| {
            azure_core::Error::with_message(ErrorKind::Credential, "the assertion cannot be signed")
        })
    }
}

/// Serves a valid token at once and fetches the next one behind it. Without this, the SDK stalls
/// every caller for the last five minutes of a token's life when Entra is slow (measured).
struct Steady {
    inner: Arc<dyn TokenCredential>,
    clock: Arc<dyn Clock>,
    held: Arc<RwLock<HashMap<String, Held>>>,
    /// Held while fetching in the foreground, so that a burst of first callers asks once.
    fetching: Mutex<()>,
}

#[derive(Clone)]
struct Held {
    token: AccessToken,
    /// From then on a background fetch is due: half of the life that it had when it came.
    renew_from: time::OffsetDateTime,
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steady")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Steady {
    fn new(inner: Arc<dyn TokenCredential>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            held: Arc::default(),
            fetching: Mutex::new(()),
        }
    }

    /// The held token if it lives long enough, and whether a renewal is due, which this claims: the
    /// next one is due a while later, whatever becomes of this one.
    fn serve(&self, scope: &str) -> Option<(AccessToken, bool)> {
        let now = self.clock.now();
        let mut all = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let held = all.get_mut(scope)?;
        if held.token.expires_on - now <= LIFE_LEFT_MIN {
            return None;
        }
        let due = now >= held.renew_from;
        if due {
            held.renew_from = now + time::Duration::minutes(1);
        }
        Some((held.token.clone(), due))
    }
}

/// Fetches a token for one scope and holds it.
async fn fetch(
    inner: &dyn TokenCredential,
    held: &RwLock<HashMap<String, Held>>,
    clock: &dyn Clock,
    scope: &str,
) -> azure_core::Result<AccessToken> {
    let token = tokio::time::timeout(TOKEN_TIMEOUT, inner.get_token(&[scope], None))
        .await
        .map_err(|_| SignInFailed::TimedOut)?
        .map_err(|error| SignInFailed::from(&error))?;
    let now = clock.now();
    let renew_from = now + (token.expires_on - now) / 2;
    let mut all = held.write().unwrap_or_else(PoisonError::into_inner);
    all.insert(
        scope.to_owned(),
        Held {
            token: token.clone(),
            renew_from,
        },
    );
    Ok(token)
}

#[async_trait]
impl TokenCredential for Steady {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let &[scope] = scopes else {
            return self.inner.get_token(scopes, options).await;
        };
        if let Some((token, due)) = self.serve(scope) {
            if due {
                let (inner, held) = (Arc::clone(&self.inner), Arc::clone(&self.held));
                let (clock, scope) = (Arc::clone(&self.clock), scope.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = fetch(inner.as_ref(), &held, clock.as_ref(), &scope).await {
                        warn!(%error, "token renewal failed; the old token is served on");
                    }
                });
            }
            return Ok(token);
        }
        let _fetching = self.fetching.lock().await;
        if let Some((token, _)) = self.serve(scope) {
            return Ok(token);
        }
        fetch(self.inner.as_ref(), &self.held, self.clock.as_ref(), scope).await
    }
}

impl From<&azure_core::Error> for SignInFailed {
    fn from(error: &azure_core::Error) -> Self {
        let text = with_causes(error);
        let Some(at) = text.find("AADSTS") else {
            return Self::Unavailable;
        };
        let code = &text[at..];
        let digits = code[6..].chars().take_while(char::is_ascii_digit).count();
        Self::Refused(code[..6 + digits].to_owned())
    }
}

#[cfg(test)]
mod tests;
