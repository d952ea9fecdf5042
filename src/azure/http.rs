//! What the adapters do with an HTTP client, which [`crate::web`] has built: hand it to Azure's SDK,
//! and read answers up to a bound.

use std::sync::Arc;

use azure_core::http::{ClientOptions, Transport};
use reqwest::{Client, Response};

/// The Azure SDK's options on top of such a client.
#[must_use]
pub fn sdk_options(client: &Client) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(client.clone()))),
        ..ClientOptions::default()
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
