//! Signing in with a certificate.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use azure_core::{error::ErrorKind, http::ClientMethodOptions};
use azure_identity::ClientAssertion;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use super::{CredentialError, Surroundings};
use crate::{
    domain::ids::TenantId,
    ports::{Clock, Entropy},
};

/// Life of a client assertion.
const ASSERTION_LIFE: time::Duration = time::Duration::minutes(5);

/// A JWT signed with the application's certificate: what Entra takes in place of a secret. Made here
/// because the SDK's own certificate credential needs OpenSSL. Form: Entra's "certificate
/// credentials" page (PS256, `x5t#S256`).
pub(super) struct SignedAssertion {
    client_id: Uuid,
    audience: String,
    header: Header,
    key: EncodingKey,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for SignedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedAssertion")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl SignedAssertion {
    pub(super) fn new(
        tenant_id: TenantId,
        client_id: Uuid,
        certificate: &str,
        key: &SecretString,
        around: &Surroundings<'_>,
    ) -> Result<Self, CredentialError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| CredentialError::Certificate)?;
        let thumbprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let mut header = Header::new(Algorithm::PS256);
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(thumbprint));
        let key = EncodingKey::from_rsa_pem(key.expose_secret().as_bytes())
            .map_err(|_| CredentialError::Certificate)?;
        let authority = around.authority.as_str().trim_end_matches('/');
        Ok(Self {
            client_id,
            audience: format!("{authority}/{tenant_id}/oauth2/v2.0/token"),
            header,
            key,
            clock: Arc::clone(around.clock),
            entropy: Arc::clone(around.entropy),
        })
    }
}

#[async_trait]
impl ClientAssertion for SignedAssertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now = self.clock.now();
        let claims = json!({
            "aud": self.audience,
            "iss": self.client_id,
            "sub": self.client_id,
            "jti": self.entropy.uuid_v7(now),
            "nbf": now.unix_timestamp(),
            "iat": now.unix_timestamp(),
            "exp": (now + ASSERTION_LIFE).unix_timestamp(),
        });
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| {
            azure_core::Error::with_message(ErrorKind::Credential, "the assertion cannot be signed")
        })
    }
}
