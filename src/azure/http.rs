//! The one place that builds HTTP clients: timeouts, no redirects, and the configured certificate
//! authority.

use std::{io, path::Path, sync::Arc, time::Duration};

use azure_core::http::{ClientOptions, Transport};
use reqwest::{Certificate, Client, redirect};

/// Time for a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one whole exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configured file of certificate authorities.
    #[error("cloud.ca_file: {0}")]
    CaFile(#[from] io::Error),
    /// It is no PEM, or the system has no usable TLS.
    #[error("no HTTP client: {0}")]
    Build(#[from] reqwest::Error),
}

/// Which way requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// As the environment's proxy variables say.
    Environment,
    /// Never through a proxy: a managed identity's token must not pass one.
    Direct,
}

/// A client that trusts the system's certificate authorities and those of `ca_file`.
///
/// # Errors
/// If the file cannot be read or is no PEM.
pub fn client(ca_file: Option<&Path>, route: Route) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXCHANGE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .https_only(route == Route::Environment);
    if let Some(path) = ca_file {
        let bundle = Certificate::from_pem_bundle(&std::fs::read(path)?)?;
        builder = builder.tls_certs_merge(bundle);
    }
    if route == Route::Direct {
        builder = builder.no_proxy();
    }
    Ok(builder.build()?)
}

/// The Azure SDK's options on top of such a client.
#[must_use]
pub fn sdk_options(client: &Client) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(client.clone()))),
        ..ClientOptions::default()
    }
}
