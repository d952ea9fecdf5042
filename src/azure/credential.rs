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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use time::macros::datetime;

    use super::*;
    use crate::{domain::time_text, testing::FakeClock};

    #[derive(Debug)]
    struct Entra {
        clock: Arc<FakeClock>,
        calls: AtomicUsize,
        down: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl TokenCredential for Entra {
        async fn get_token(
            &self,
            _: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                let text = "AADSTS7000215: Invalid client secret hunter2 provided";
                return Err(azure_core::Error::with_message(ErrorKind::Credential, text));
            }
            let expires_on = self.clock.now() + time::Duration::hours(1);
            Ok(AccessToken::new(format!("token {call}"), expires_on))
        }
    }

    fn world() -> (Arc<FakeClock>, Arc<Entra>, Arc<Steady>) {
        let clock = Arc::new(FakeClock::at(datetime!(2026-11-23 10:00 UTC)));
        let entra = Arc::new(Entra {
            clock: Arc::clone(&clock),
            calls: AtomicUsize::new(0),
            down: false.into(),
        });
        let inner = Arc::clone(&entra) as Arc<dyn TokenCredential>;
        let steady = Arc::new(Steady::new(inner, Arc::clone(&clock) as Arc<dyn Clock>));
        (clock, entra, steady)
    }

    #[tokio::test]
    async fn a_burst_of_first_callers_asks_once() {
        let (_, entra, steady) = world();
        let calls = (0..50).map(|_| {
            let steady = Arc::clone(&steady);
            tokio::spawn(async move { steady.get_token(&["s"], None).await.unwrap() })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap().token.secret(), "token 0");
        }
        assert_eq!(entra.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_valid_token_is_served_while_entra_is_down_and_renewed_when_it_is_back() {
        let (clock, entra, steady) = world();
        steady.get_token(&["s"], None).await.unwrap();
        entra.down.store(true, Ordering::SeqCst);
        clock.advance(time::Duration::minutes(40));
        let served = steady.get_token(&["s"], None).await.unwrap();
        assert_eq!(served.token.secret(), "token 0");
        while entra.calls.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        entra.down.store(false, Ordering::SeqCst);
        clock.advance(time::Duration::minutes(2));
        steady.get_token(&["s"], None).await.unwrap();
        while entra.calls.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        let renewed = steady.get_token(&["s"], None).await.unwrap();
        assert_eq!(renewed.token.secret(), "token 2");
    }

    #[tokio::test]
    async fn errors_name_entras_code_and_nothing_else() {
        let (_, entra, steady) = world();
        entra.down.store(true, Ordering::SeqCst);
        let error = steady.get_token(&["s"], None).await.unwrap_err();
        assert_eq!(error.to_string(), "Entra answered AADSTS7000215");
    }

    #[tokio::test]
    async fn an_assertion_is_signed_with_the_certificates_key() {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        let pair = pair.unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["broker".to_owned()])
            .unwrap()
            .self_signed(&pair);
        let (clock, ..) = world();
        let clock = clock as Arc<dyn Clock>;
        let entropy = Arc::new(crate::system::SystemEntropy) as Arc<dyn Entropy>;
        let client = crate::azure::http::client(None, crate::azure::http::Route::Direct).unwrap();
        let authority = "https://login.microsoftonline.com".parse().unwrap();
        let around = Surroundings {
            authority: &authority,
            client: &client,
            direct: &client,
            clock: &clock,
            entropy: &entropy,
        };
        let id = Uuid::from_u128(7);
        let assertion = SignedAssertion::new(
            TenantId(id),
            id,
            &certificate.unwrap().pem(),
            &pair.serialize_pem().into(),
            &around,
        );
        let jwt = assertion.unwrap().secret(None).await.unwrap();
        let header = jsonwebtoken::decode_header(&jwt).unwrap();
        assert_eq!(header.alg, Algorithm::PS256);
        assert_eq!(header.x5t_s256.map(|thumbprint| thumbprint.len()), Some(43));
        let key = jsonwebtoken::DecodingKey::from_rsa_der(rcgen::PublicKeyData::der_bytes(&pair));
        let mut validation = jsonwebtoken::Validation::new(Algorithm::PS256);
        validation.validate_exp = false;
        validation.set_audience(&[format!("{authority}{id}/oauth2/v2.0/token")]);
        let claims: serde_json::Value = jsonwebtoken::decode(&jwt, &key, &validation)
            .unwrap()
            .claims;
        assert_eq!(claims["iss"], id.to_string());
        assert_eq!(
            time_text::from_micros(claims["exp"].as_i64().unwrap() * 1_000_000),
            Some(datetime!(2026-11-23 10:05 UTC))
        );
    }
}
