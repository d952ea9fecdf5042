//! The `Idempotency-Key` header.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::problem::{Problem, code};
use crate::{app::idempotency::Idempotency, domain::ids::IdempotencyKey};

/// The key, if the client sent one.
pub struct IdempotencyHeader(Option<IdempotencyKey>);

impl IdempotencyHeader {
    /// The key together with the hash of the request that carries it.
    #[must_use]
    pub fn with(self, body_sha256: [u8; 32]) -> Option<Idempotency> {
        self.0.map(|key| Idempotency { key, body_sha256 })
    }
}

impl FromRequest for IdempotencyHeader {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut headers = request.headers().get_all("idempotency-key");
        let key = match (headers.next(), headers.next()) {
            (None, _) => Ok(None),
            (Some(header), None) => header
                .to_str()
                .map_err(|_| "Idempotency-Key: must be visible ASCII".to_owned())
                .and_then(|text| text.parse().map(Some).map_err(|e| format!("{e}"))),
            (Some(_), Some(_)) => Err("send one Idempotency-Key only".to_owned()),
        };
        ready(
            key.map(Self)
                .map_err(|detail| Problem::new(code::INVALID_REQUEST, detail)),
        )
    }
}
