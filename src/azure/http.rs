//! What the adapters do with an HTTP client, which [`crate::web`] has built: hand it to Azure's SDK,
//! and read answers up to a bound.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport},
};
use futures_util::StreamExt;
use reqwest::{Client, Response};

/// Longest answer that the SDK may collect, in bytes. The longest of use is a page of 25 versions of
/// a secret, each with 15 tags of 1,024 characters.
const SDK_ANSWER_BYTES_MAX: usize = 1024 * 1024;

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
