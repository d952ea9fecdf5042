//! A credential that does not stall: it keeps serving a token that is still valid while a new one is
//! fetched.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use tokio::sync::Mutex;
use tracing::warn;

use super::SignInFailed;
use crate::ports::Clock;

/// Time for one token request, the SDK's own retries included.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// A token is served while it lives at least this long.
const LIFE_LEFT_MIN: time::Duration = time::Duration::seconds(30);

/// Serves a valid token at once and fetches the next one behind it. Without this, the SDK stalls
/// every caller for the last five minutes of a token's life when Entra is slow (measured).
pub(super) struct Steady {
    inner: Arc<dyn TokenCredential>,
    clock: Arc<dyn Clock>,
    held: Arc<RwLock<HashMap<String, Held>>>,
    /// Held while fetching in the foreground, so that a burst of first callers asks once.
    fetching: Mutex<()>,
}

#[derive(Clone)]
struct Held {
    token: AccessToken,
    /// From then on a background fetch is due: half of the life that it had when it came.
    renew_from: time::OffsetDateTime,
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steady")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Steady {
    pub(super) fn new(inner: Arc<dyn TokenCredential>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            held: Arc::default(),
            fetching: Mutex::new(()),
        }
    }

    /// The held token if it lives long enough, and whether a renewal is due, which this claims: the
    /// next one is due a while later, whatever becomes of this one.
    fn serve(&self, scope: &str) -> Option<(AccessToken, bool)> {
        let now = self.clock.now();
        let mut all = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let held = all.get_mut(scope)?;
        if held.token.expires_on - now <= LIFE_LEFT_MIN {
            return None;
        }
        let due = now >= held.renew_from;
        if due {
            held.renew_from = now + time::Duration::minutes(1);
        }
        Some((held.token.clone(), due))
    }
}

/// Fetches a token for one scope and holds it.
async fn fetch(
    inner: &dyn TokenCredential,
    held: &RwLock<HashMap<String, Held>>,
    clock: &dyn Clock,
    scope: &str,
) -> azure_core::Result<AccessToken> {
    let token = tokio::time::timeout(TOKEN_TIMEOUT, inner.get_token(&[scope], None))
        .await
        .map_err(|_| SignInFailed::TimedOut)?
        .map_err(|error| SignInFailed::from(&error))?;
    let now = clock.now();
    let renew_from = now + (token.expires_on - now) / 2;
    let mut all = held.write().unwrap_or_else(PoisonError::into_inner);
    all.insert(
        scope.to_owned(),
        Held {
            token: token.clone(),
            renew_from,
        },
    );
    Ok(token)
}

#[async_trait]
impl TokenCredential for Steady {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let &[scope] = scopes else {
            return self.inner.get_token(scopes, options).await;
        };
        if let Some((token, due)) = self.serve(scope) {
            if due {
                let (inner, held) = (Arc::clone(&self.inner), Arc::clone(&self.held));
                let (clock, scope) = (Arc::clone(&self.clock), scope.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = fetch(inner.as_ref(), &held, clock.as_ref(), &scope).await {
                        warn!(%error, "token renewal failed; the old token is served on");
                    }
                });
            }
            return Ok(token);
        }
        let _fetching = self.fetching.lock().await;
        if let Some((token, _)) = self.serve(scope) {
            return Ok(token);
        }
        fetch(self.inner.as_ref(), &self.held, self.clock.as_ref(), scope).await
    }
}
