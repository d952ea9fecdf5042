//! A credential for one audience. A service that says itself which token it wants must not get one
//! for another service.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};

use super::SignInFailed;

/// Gives tokens of one scope and refuses every other.
#[derive(Debug)]
pub(in crate::azure) struct OneAudience {
    inner: Arc<dyn TokenCredential>,
    scope: String,
}

impl OneAudience {
    pub(in crate::azure) const fn new(inner: Arc<dyn TokenCredential>, scope: String) -> Self {
        Self { inner, scope }
    }
}

#[async_trait]
impl TokenCredential for OneAudience {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if scopes != [self.scope.as_str()] {
            return Err(SignInFailed::ForeignAudience.into());
        }
        self.inner.get_token(scopes, options).await
    }
}
