//! Who calls: from a bearer token to a [`Caller`], with the memory of tokens that were verified
//! before. What a token must fulfil is decided by [`crate::domain::caller`]; where keys come from
//! is [`super::issuer_keys`]'s business.

use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::{
    DefaultHashBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::issuer_keys::{CachedIssuer, KeyCache, KeyCacheSettings, KeysUnavailable};
use crate::{
    domain::caller::{
        Caller, KeyRef, TOKEN_BYTES_MAX, TokenPolicy, TokenRefused, TokenTimes, UntrustedOrigin,
        verify,
    },
    ports::{Clock, Entropy, KeySource},
};

/// Most remembered tokens: one for every caller of a large organisation.
pub const REMEMBERED_TOKENS_MAX: usize = 100_000;

/// Most memory of remembered tokens, in bytes, as [`Remembered::weight`] counts it.
const REMEMBERED_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What a remembered token weighs at least, so that the bound on bytes is one on entries as well.
const WEIGHT_MIN: u64 = REMEMBERED_BYTES_MAX / REMEMBERED_TOKENS_MAX as u64;

/// Bytes of an entry besides the texts of its claims.
const ENTRY_BYTES: u64 = 512;

/// Why nobody is known to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token does not hold.
    #[error(transparent)]
    Refused(#[from] TokenRefused),
    /// Nobody can tell now whether it does.
    #[error(transparent)]
    KeysUnavailable(#[from] KeysUnavailable),
}

/// SHA-256 of a whole token. Of the signature alone it would let a forged payload in.
type TokenDigest = [u8; 32];

/// A token that was verified before.
#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    times: TokenTimes,
    key: KeyRef,
    issuer: Arc<CachedIssuer>,
    token_bytes: usize,
}

impl Remembered {
    /// Bytes in memory, from above: no claim takes more room than its text in the token.
    fn weight(&self) -> u64 {
        (self.token_bytes as u64 + ENTRY_BYTES).max(WEIGHT_MIN)
    }
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<TokenDigest, Arc<Remembered>> for ByWeight {
    fn weight(&self, _: &TokenDigest, token: &Arc<Remembered>) -> u64 {
        token.weight()
    }
}

/// Tells who calls.
pub struct Authenticator {
    policy: TokenPolicy,
    keys: KeyCache,
    clock: Arc<dyn Clock>,
    remembered: Cache<TokenDigest, Arc<Remembered>, ByWeight>,
}

impl Authenticator {
    /// An authenticator for the directories of `policy`. Nothing is fetched before first use.
    #[must_use]
    pub fn new(
        policy: TokenPolicy,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: KeyCacheSettings,
    ) -> Self {
        let tenants = policy.tenants.keys().copied();
        let keys = KeyCache::new(tenants, source, Arc::clone(&clock), entropy, settings);
        let remembered = Cache::with(
            REMEMBERED_TOKENS_MAX,
            REMEMBERED_BYTES_MAX,
            ByWeight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Self {
            policy,
            keys,
            clock,
            remembered,
        }
    }

    /// The keys, to refresh them now and then.
    #[must_use]
    pub const fn keys(&self) -> &KeyCache {
        &self.keys
    }

    /// Verifies a bearer token, or remembers that it was verified and checks that it still holds:
    /// its times by our clock, and that its issuer still publishes the key that signed it.
    ///
    /// # Errors
    /// [`AuthError`]. A refusal is never remembered.
    pub async fn authenticate(&self, bearer: &str) -> Result<Arc<Caller>, AuthError> {
        if bearer.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::TooLong.into());
        }
        let digest = digest::digest(&digest::SHA256, bearer.as_bytes());
        let digest: TokenDigest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(known) = self.remembered.get(&digest) {
            if self.still_holds(&known).await? {
                return Ok(Arc::clone(&known.caller));
            }
            self.remembered.remove(&digest);
        }
        let verified = self.verify(bearer).await?;
        let caller = Arc::clone(&verified.caller);
        self.remembered.insert(digest, Arc::new(verified));
        Ok(caller)
    }

    /// Whether a remembered token still counts; an entry that does not is verified from the start.
    async fn still_holds(&self, known: &Remembered) -> Result<bool, KeysUnavailable> {
        let keys = known.issuer.keys().await?;
        let published = keys.holds(&known.key.kid, known.key.fingerprint);
        Ok(published && known.times.check(&self.policy, self.clock.now()).is_ok())
    }

    async fn verify(&self, bearer: &str) -> Result<Remembered, AuthError> {
        let claimed = UntrustedOrigin::peek(bearer)?;
        let issuer = self.keys.issuer(claimed).ok_or(TokenRefused::Tenant)?;
        let keys = issuer.keys().await?;
        let outcome = match verify(bearer, &keys, &self.policy, self.clock.now()) {
            Err(TokenRefused::UnknownKey) => {
                let keys = issuer.keys_after_search().await?;
                verify(bearer, &keys, &self.policy, self.clock.now())
            }
            outcome => outcome,
        };
        let verified = outcome?;
        Ok(Remembered {
            caller: Arc::new(verified.caller),
            times: verified.times,
            key: verified.key,
            issuer: Arc::clone(issuer),
            token_bytes: bearer.len(),
        })
    }
}

#[cfg(test)]
mod tests;
