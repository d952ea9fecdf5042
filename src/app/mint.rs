//! From what may be signed to a signed token. A [`Minted`] token cannot leave the process: only
//! [`super::record`] can make it releasable, and only against the journal's receipt.

use std::sync::Arc;

use secrecy::SecretString;
use time::OffsetDateTime;

use super::key_ring::{KeyRing, KeyUnavailable};
use crate::domain::{
    audit::Issued,
    decide::Authorized,
    ids::IssuanceId,
    permission::SignedResource,
    request::Target,
    sas::{SasSpec, SasTarget, ServiceVersion, SignError, SignedSas, UserDelegationKey, sign},
    validity::{Bound, Expiry, Window},
};

/// A signed token that is not recorded yet.
#[derive(Debug)]
pub struct Minted {
    /// What the journal will say of it.
    pub(super) issued: Issued,
    pub(super) window: Window,
    pub(super) refresh_after: OffsetDateTime,
    pub(super) sas: SignedSas,
    pub(super) url: SecretString,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No usable delegation key, now; another time there may be one.
    #[error(transparent)]
    Key(#[from] KeyUnavailable),
    /// The delegation key ends before the shortest token would.
    #[error("the user delegation key ends too soon to sign with")]
    KeyEndsTooSoon,
    /// The configured service version cannot sign what is needed.
    #[error("{0}")]
    NotSignable(#[from] SignError),
}

/// Signs tokens with the broker's delegation keys.
pub struct Mint {
    keys: Arc<KeyRing>,
    version: ServiceVersion,
    lifetime_seconds_min: u32,
}

impl Mint {
    /// A mint that signs `version` and nothing that lives shorter than `lifetime_seconds_min`.
    #[must_use]
    pub const fn new(
        keys: Arc<KeyRing>,
        version: ServiceVersion,
        lifetime_seconds_min: u32,
    ) -> Self {
        Self {
            keys,
            version,
            lifetime_seconds_min,
        }
    }

    /// Signs one token, decided at `now`. With a `former` window (a replay) the result never reaches
    /// beyond it, on either side.
    ///
    /// # Errors
    /// [`MintError`]; nothing was signed.
    pub(super) async fn mint(
        &self,
        authorized: &Authorized,
        id: IssuanceId,
        former: Option<Window>,
        now: OffsetDateTime,
    ) -> Result<Minted, MintError> {
        let expiry = authorized.expiry().clone();
        let key = self
            .keys
            .key(
                authorized.account(),
                authorized.key_generation(),
                authorized.delegated_tenant(),
                expiry.at(),
            )
            .await?;
        let expiry = expiry.and(Bound::DelegationKey(key.expiry()));
        if expiry.lifetime_seconds() < i64::from(self.lifetime_seconds_min) {
            return Err(MintError::KeyEndsTooSoon);
        }
        let expiry = match former {
            Some(former) => expiry.and(Bound::Recorded(former.expires_at)),
            None => expiry,
        };
        let period = authorized.account().sas_period_seconds_max;
        let window = former.map_or_else(
            || Window::new(now, expiry.at(), key.start(), period),
            |former| former.again(expiry.at(), key.start(), period),
        );
        let spec = self.spec(authorized, id, window);
        let sas = sign(&spec, &key, self.version)?;
        let url = url(authorized, &sas);
        let issued = self.issued(authorized, id, window, &expiry, &key, &sas);
        Ok(Minted {
            issued,
            window,
            refresh_after: window.refresh_after(now),
            sas,
            url,
        })
    }

    fn spec(&self, authorized: &Authorized, id: IssuanceId, window: Window) -> SasSpec {
        let request = authorized.request();
        let target = match &request.target {
            Target::Container => SasTarget::Container,
            Target::Blob(path) => SasTarget::Blob(path.clone()),
            Target::Directory(path) => SasTarget::Directory(path.clone()),
        };
        let mut spec = SasSpec::new(
            request.account.clone(),
            request.container.clone(),
            target,
            request.permissions,
            window.expires_at,
        );
        spec.start = Some(window.starts_at);
        spec.ip = request.ip;
        spec.delegated_user_object_id = authorized.bound_to();
        spec.correlation_id = authorized.account().correlation_id_supported.then_some(id);
        spec
    }

    fn issued(
        &self,
        authorized: &Authorized,
        id: IssuanceId,
        window: Window,
        expiry: &Expiry,
        key: &UserDelegationKey,
        sas: &SignedSas,
    ) -> Issued {
        Issued {
            id,
            asked: authorized.request().asked(),
            starts_at: window.starts_at,
            expires_at: window.expires_at,
            ip: authorized.request().ip.map(|ip| ip.to_string()),
            bound_to: authorized.bound_to(),
            service_version: self.version.to_string(),
            signed_by: key.signed_object_id(),
            signature_sha256: sas.signature_sha256().to_owned(),
            bounded_by: expiry.bounds().iter().map(ToString::to_string).collect(),
            grants: authorized.grants().to_vec(),
            policy_version: authorized.policy_version(),
        }
    }
}

/// The whole URL with the token: on the dfs host for a directory, on the blob host otherwise.
fn url(authorized: &Authorized, sas: &SignedSas) -> SecretString {
    let account = authorized.account();
    let request = authorized.request();
    let endpoint = match (request.target.resource(), &account.dfs_endpoint) {
        (SignedResource::Directory, Some(dfs)) => dfs,
        _ => &account.blob_endpoint,
    };
    let mut url = endpoint.clone();
    url.path_segments_mut()
        .expect("a checked endpoint is an https URL")
        .pop_if_empty()
        .push(request.container.as_str())
        .extend(
            request
                .target
                .path()
                .into_iter()
                .flat_map(|path| path.as_str().split('/')),
        );
    format!("{url}?{}", sas.expose_token()).into()
}
