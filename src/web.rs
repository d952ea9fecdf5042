//! The one place that builds HTTP clients: timeouts, no redirects, and the configured certificate
//! authority. What is sent with them belongs to the adapters.

use std::{error::Error, io, path::Path, time::Duration};

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
    /// It holds no certificate, so that nothing would be trusted by it.
    #[error("cloud.ca_file holds no certificate")]
    NoCertificate,
    /// It is no PEM, or the system has no usable TLS.
    #[error("no HTTP client: {0}")]
    Build(#[from] reqwest::Error),
}

/// Which way requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// As the environment's proxy variables say.
    Environment,
    /// Never through a proxy, and in clear text if the address says so: for this machine's own
    /// addresses, since a managed identity's token must not pass a proxy.
    Direct,
}

/// A client that trusts the system's certificate authorities and those of `ca_file`.
///
/// # Errors
/// If the file cannot be read, is no PEM or holds no certificate.
pub fn client(ca_file: Option<&Path>, route: Route) -> Result<Client, ClientError> {
    patient_client(ca_file, route, EXCHANGE_TIMEOUT)
}

/// The same for exchanges that may take longer.
///
/// # Errors
/// Those of [`client`].
pub fn patient_client(
    ca_file: Option<&Path>,
    route: Route,
    exchange: Duration,
) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(exchange)
        .redirect(redirect::Policy::none())
        // azure_core's features turn decompression on in every client of the process; a bound on
        // an answer's bytes would then not bound what they unfold to.
        .no_gzip()
        .no_deflate()
        .https_only(route == Route::Environment);
    if let Some(path) = ca_file {
        let bundle = Certificate::from_pem_bundle(&std::fs::read(path)?)?;
        if bundle.is_empty() {
            return Err(ClientError::NoCertificate);
        }
        builder = builder.tls_certs_merge(bundle);
    }
    if route == Route::Direct {
        builder = builder.no_proxy();
    }
    Ok(builder.build()?)
}

/// An error with its causes, on one line: the outermost text alone hides why TLS failed.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn with_ca_file(text: &str) -> Result<Client, ClientError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        client(Some(file.path()), Route::Environment)
    }

    #[test]
    fn a_ca_file_that_says_nothing_is_an_error_and_not_a_silent_default() {
        for route in [Route::Environment, Route::Direct] {
            assert!(client(None, route).is_ok());
        }
        for text in [
            "",
            "not PEM",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            assert!(with_ca_file(text).is_err(), "{text:?}");
        }
        let missing = client(Some(Path::new("/nowhere/ca.pem")), Route::Environment);
        assert!(matches!(missing, Err(ClientError::CaFile(_))));
    }
}
