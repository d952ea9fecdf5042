//! `Idempotency-Key`: a retried request gets what it got the first time, as far as it may still have
//! it.
//!
//! What is kept for 24 hours is a recorded fact, never a token. A replay of an issuance is decided
//! again now; it signs the recorded id and window, cut where the table or the key has become
//! narrower, and is recorded as `replayed`. A replay of a rotation's request finds the rotation.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
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
    ports::{ClaimKey, JournalStore, KeyClaim, StoreError},
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
    pub(super) fn of(issued: &Issued) -> Self {
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

/// The fact of an issuing request, one entry an item.
pub(super) type Issuances = Vec<Option<Remembered>>;

/// Why a key does not tell what it stands for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// It came with another request before.
    #[error("the idempotency key was used for another request")]
    Reused,
    /// The database does not answer, or holds what nobody wrote.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Idempotency {
    /// What the caller's key stands for, if it was used before: the fact that its claim was
    /// committed with.
    pub(super) async fn former<Fact: DeserializeOwned>(
        &self,
        caller: &Caller,
        claims: &dyn JournalStore,
        now: OffsetDateTime,
    ) -> Result<Option<Fact>, ClaimError> {
        let key = ClaimKey {
            tenant_id: caller.tenant_id(),
            object_id: caller.object_id(),
            key: self.key.clone(),
        };
        let Some(claim) = claims.claim(&key, time_text::to_micros(now)).await? else {
            return Ok(None);
        };
        // The hash covers method and path, so that facts of two kinds never meet.
        if claim.body_sha256 != self.body_sha256 {
            return Err(ClaimError::Reused);
        }
        let corrupt = |_| StoreError::Corrupt("the fact of an idempotency key".to_owned());
        Ok(Some(serde_json::from_str(&claim.fact).map_err(corrupt)?))
    }

    /// The caller's claim, to be committed together with what the fact tells of.
    ///
    /// # Panics
    /// If the fact is not plain JSON.
    pub(super) fn claim<Fact: Serialize>(
        &self,
        caller: &Caller,
        fact: &Fact,
        now: OffsetDateTime,
    ) -> KeyClaim {
        KeyClaim {
            tenant_id: caller.tenant_id(),
            object_id: caller.object_id(),
            key: self.key.clone(),
            body_sha256: self.body_sha256,
            fact: serde_json::to_string(fact).expect("a fact is plain JSON"),
            expires_at: time_text::to_micros(now + KEY_LIFE),
        }
    }
}
