//! `Idempotency-Key`: a retried request gets the token that it got the first time, as far as it may
//! still have it.
//!
//! What is kept for 24 hours is the recorded fact, never the token. A replay is decided again now; it
//! signs the recorded id and window, cut where the table or the key has become narrower, and is
//! recorded as `replayed`.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    domain::{
        audit::Issued,
        caller::Caller,
        ids::{IdempotencyKey, IssuanceId},
        request::AccessRequest,
        time_text,
        validity::Window,
    },
    ports::{ClaimKey, KeyClaim},
};

/// How long a key is kept.
pub const KEY_LIFE: Duration = Duration::hours(24);

/// A key with the hash of the request that carries it.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The key.
    pub key: IdempotencyKey,
    /// SHA-256 of the method, path and body.
    pub body_sha256: [u8; 32],
}

/// What is remembered of one item of a request: the issuance, or nothing where it was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Remembered {
    id: IssuanceId,
    #[serde(with = "time_text::serde_text")]
    starts_at: OffsetDateTime,
    #[serde(with = "time_text::serde_text")]
    expires_at: OffsetDateTime,
    bound: bool,
}

impl Remembered {
    fn of(issued: &Issued) -> Self {
        Self {
            id: issued.id,
            starts_at: issued.starts_at,
            expires_at: issued.expires_at,
            bound: issued.bound_to.is_some(),
        }
    }

    /// The recorded issuance.
    pub(super) const fn id(&self) -> IssuanceId {
        self.id
    }

    /// Its window, which no replay leaves.
    pub(super) const fn window(&self) -> Window {
        Window {
            starts_at: self.starts_at,
            expires_at: self.expires_at,
        }
    }

    /// The repeated request. A token that was bound stays so, even if nothing asks for it any more; it
    /// was bound to this very caller, whose key it is.
    pub(super) fn request(&self, request: &AccessRequest) -> AccessRequest {
        AccessRequest {
            bind_to_caller: request.bind_to_caller || self.bound,
            ..request.clone()
        }
    }
}

/// The fact of a claim, one entry an item.
pub(super) type Fact = Vec<Option<Remembered>>;

impl Idempotency {
    /// The key of this caller.
    pub(super) fn claim_key(&self, caller: &Caller) -> ClaimKey {
        ClaimKey {
            tenant_id: caller.tenant_id(),
            object_id: caller.object_id(),
            key: self.key.clone(),
        }
    }

    /// The claim that is committed together with these issuances.
    pub(super) fn claim<'a>(
        &self,
        caller: &Caller,
        items: impl Iterator<Item = Option<&'a Issued>>,
        now: OffsetDateTime,
    ) -> KeyClaim {
        let fact: Fact = items.map(|issued| issued.map(Remembered::of)).collect();
        KeyClaim {
            tenant_id: caller.tenant_id(),
            object_id: caller.object_id(),
            key: self.key.clone(),
            body_sha256: self.body_sha256,
            fact: serde_json::to_string(&fact).expect("a fact holds nothing that JSON cannot"),
            expires_at: time_text::to_micros(now + KEY_LIFE),
        }
    }
}
