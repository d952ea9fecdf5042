//! The one place that builds HTTP clients: timeouts, no redirects, and the configured certificate
//! authority; and the one that reads answers up to a bound.

use std::{error::Error, io, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport},
};
use futures_util::StreamExt;
use reqwest::{Certificate, Client, Response, redirect};

/// Time for a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one whole exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that the SDK may collect, in bytes. The longest of use is a page of 25 versions of
/// a secret, each with 15 tags of 1,024 characters.
const SDK_ANSWER_BYTES_MAX: usize = 1024 * 1024;

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
    /// Never through a proxy: a managed identity's token must not pass one.
    Direct,
}

/// A client that trusts the system's certificate authorities and those of `ca_file`.
///
/// # Errors
/// If the file cannot be read, is no PEM or holds no certificate.
pub fn client(ca_file: Option<&Path>, route: Route) -> Result<Client, ClientError> {
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXCHANGE_TIMEOUT)
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

/// The Azure SDK's options on top of such a client. Answers are bounded: the SDK collects them whole.
#[must_use]
pub fn sdk_options(client: &Client) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(Bounded(client.clone())))),
        ..ClientOptions::default()
    }
}

/// A transport whose answers end with an error at [`SDK_ANSWER_BYTES_MAX`].
#[derive(Debug)]
struct Bounded(Client);

#[async_trait]
impl HttpClient for Bounded {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let answer = self.0.execute_request(request).await?;
        let (status, headers, body) = answer.deconstruct();
        let mut left = SDK_ANSWER_BYTES_MAX;
        let bounded = body.map(move |chunk| {
            let chunk = chunk?;
            left = left.checked_sub(chunk.len()).ok_or_else(|| {
                azure_core::Error::with_message(ErrorKind::DataConversion, "the answer is too long")
            })?;
            Ok(chunk)
        });
        Ok(AsyncRawResponse::new(status, headers, Box::pin(bounded)))
    }
}

/// Reads an answer's body, but not more than `bytes_max` of it. `Ok(None)` if it is longer.
///
/// # Errors
/// If the connection fails or the time is up.
pub(super) async fn read_bounded(
    mut response: Response,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// An error with its causes, on one line: the outermost text alone hides why TLS failed.
pub(super) fn with_causes(error: &(dyn Error + 'static)) -> String {
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
