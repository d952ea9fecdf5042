//! Bodies: bounded. JSON ones of the right media type, without unknown members, with their hash for
//! idempotency; and raw ones.

use std::{future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    web::{Bytes, BytesMut},
};
use aws_lc_rs::digest;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::problem::{Problem, code};

/// A body of at most `MAX` bytes, parsed.
pub struct StrictJson<T, const MAX: usize> {
    /// What it says.
    pub value: T,
    /// SHA-256 of the method, path and body.
    pub sha256: [u8; 32],
}

impl<T: DeserializeOwned + 'static, const MAX: usize> FromRequest for StrictJson<T, MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            if !request
                .content_type()
                .eq_ignore_ascii_case("application/json")
            {
                let detail = "send Content-Type: application/json";
                return Err(Problem::new(code::UNSUPPORTED_MEDIA_TYPE, detail));
            }
            let body = read(payload, MAX).await?;
            let value = serde_json::from_slice(&body)
                .map_err(|error| Problem::new(code::INVALID_REQUEST, error.to_string()))?;
            Ok(Self {
                value,
                sha256: hash(&request, &body),
            })
        })
    }
}

/// A body of at most `MAX` bytes, as it came, for an endpoint that knows several media types.
pub struct RawBody<const MAX: usize> {
    /// Without its parameters, in lower case.
    pub media_type: String,
    /// The body.
    pub bytes: Bytes,
}

impl<const MAX: usize> FromRequest for RawBody<MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media_type = request.content_type().to_ascii_lowercase();
        let payload = payload.take();
        Box::pin(async move {
            let bytes = read(payload, MAX).await?;
            Ok(Self { media_type, bytes })
        })
    }
}

async fn read(mut payload: Payload, max: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|_| Problem::new(code::INVALID_REQUEST, "the body broke off while reading"))?;
        if body.len() + chunk.len() > max {
            let detail = format!("the body must be at most {max} bytes");
            return Err(Problem::new(code::BODY_TOO_LARGE, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn hash(request: &HttpRequest, body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [
        request.method().as_str().as_bytes(),
        request.path().as_bytes(),
        body,
    ] {
        context.update(part);
        context.update(b"\n");
    }
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}
