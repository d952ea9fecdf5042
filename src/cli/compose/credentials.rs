//! The broker's own credentials, as the configuration names them: its files are read here, and
//! nowhere else.

use reqwest::Client;
use secrecy::SecretString;

use super::Ambient;
use crate::{
    azure::credential::{CredentialSpec, Credentials, Surroundings, credential},
    cli::Failure,
    config::{Config, sections::Credential},
    web::{Route, client},
};

/// Every configured credential, by its name.
pub(super) fn credentials(
    config: &Config,
    ambient: &Ambient,
    web: &Client,
) -> Result<Credentials, Failure> {
    let cloud = config.cloud.cloud();
    let direct = client(config.cloud.ca_file.as_deref(), Route::Direct)?;
    let around = Surroundings {
        authority: &cloud.authority,
        client: web,
        direct: &direct,
        clock: &ambient.clock,
        entropy: &ambient.entropy,
    };
    let mut credentials = Credentials::new();
    for (name, section) in &config.credentials {
        let made = spec(section).and_then(|spec| Ok(credential(spec, &around)?));
        let made = made.map_err(|error| format!("credentials.{name}: {error}"))?;
        credentials.insert(name.clone(), made);
    }
    Ok(credentials)
}

/// The credential with the contents of the files that the configuration names.
fn spec(section: &Credential) -> Result<CredentialSpec, Failure> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(match section.clone() {
        Credential::ManagedIdentity { client_id } => CredentialSpec::ManagedIdentity { client_id },
        Credential::WorkloadIdentity {
            tenant_id,
            client_id,
            token_file,
        } => CredentialSpec::WorkloadIdentity {
            tenant_id,
            client_id,
            token_file,
        },
        Credential::ClientSecret {
            tenant_id,
            client_id,
            secret_file,
            secret_env,
        } => {
            let secret = match (&secret_file, &secret_env) {
                (Some(path), _) => read(path)?,
                (None, Some(name)) => {
                    std::env::var(name).map_err(|error| format!("{name}: {error}"))?
                }
                (None, None) => return Err("names no secret".into()),
            };
            let secret = SecretString::from(secret.trim_end().to_owned());
            CredentialSpec::ClientSecret {
                tenant_id,
                client_id,
                secret,
            }
        }
        Credential::Certificate {
            tenant_id,
            client_id,
            certificate_file,
            key_file,
        } => CredentialSpec::Certificate {
            tenant_id,
            client_id,
            certificate: read(&certificate_file)?,
            key: read(&key_file)?.into(),
        },
        Credential::Developer => CredentialSpec::Developer,
    })
}
