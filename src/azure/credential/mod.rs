//! The broker's own identities: explicit kinds of `azure_identity` credentials, each behind
//! [`Steady`], which keeps serving a token that is still valid while a new one is fetched.
//!
//! Errors name Entra's `AADSTS` code and nothing else of what Entra said: the SDK loses the code when
//! it parses a real error text, so it is cut out of the message.

mod assertion;
mod one_audience;
mod steady;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{Secret, TokenCredential},
    error::ErrorKind,
};
use azure_identity::{
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use uuid::Uuid;

pub(super) use self::one_audience::OneAudience;
use self::{assertion::SignedAssertion, steady::Steady};
use super::http::sdk_options;
use crate::{
    domain::ids::{SigningIdentity, TenantId},
    ports::{Clock, Entropy},
    web::with_causes,
};

/// The configured credentials by the names that accounts refer to.
pub type Credentials = HashMap<SigningIdentity, Arc<dyn TokenCredential>>;

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
    /// Entra was not asked.
    #[error("the service asks for a token of another audience than its own")]
    ForeignAudience,
}

impl From<SignInFailed> for azure_core::Error {
    fn from(failed: SignInFailed) -> Self {
        let text = failed.to_string();
        Self::with_error(ErrorKind::Credential, failed, text)
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
