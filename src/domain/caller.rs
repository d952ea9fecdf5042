//! Who is calling: the verified content of an Entra access token.
//!
//! ```text
//! token text -> UntrustedOrigin (which key set to look at, nothing more)
//!            -> jws   the signature: RS256 by a published key, or nothing
//!            -> claims, verify   what the payload says, held against what we expect
//!            -> VerifiedToken { Caller, times, key }
//! ```
//!
//! Nothing here fetches keys or remembers tokens; that is [`crate::app::authenticate`].

mod claims;
#[cfg(test)]
pub(crate) mod forge;
mod jws;
mod key;
mod strict_json;
#[cfg(test)]
mod tests;
mod verify;

use time::OffsetDateTime;
use uuid::Uuid;

pub use self::{
    jws::{TOKEN_BYTES_MAX, verify_rs256},
    key::{Fingerprint, IssuerKeys, KeyMembers, SigningKey, TokenVersion, UnfitIssuer, UnfitKey},
    verify::{
        KeyRef, TenantPolicy, TokenPolicy, TokenRefused, TokenTimes, UntrustedOrigin,
        VerifiedToken, verify,
    },
};
use super::{
    grant::Principal,
    ids::{AppRole, ObjectId, TenantId},
};

/// What the token says about group membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// All of them.
    Known(Vec<ObjectId>),
    /// It does not say, so group grants cannot be weighed.
    Unknown(GroupsUnknown),
}

/// Why group membership is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupsUnknown {
    /// No `groups` claim, or the tenant is not configured to send one.
    Missing,
    /// More groups than fit: Entra sent `_claim_names` (or `hasgroups`) instead.
    Overage,
}

/// Whether a person or an application calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// A person through a client application: the token has `scp`.
    User,
    /// An application or managed identity on its own behalf.
    Application,
}

/// The verified content of an access token. [`verify()`] is its only constructor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub(super) tenant_id: TenantId,
    pub(super) object_id: ObjectId,
    pub(super) kind: CallerKind,
    pub(super) app_id: Option<Uuid>,
    pub(super) scopes: Vec<String>,
    pub(super) roles: Vec<AppRole>,
    pub(super) groups: Groups,
    pub(super) token_id: Option<String>,
    pub(super) issued_at: OffsetDateTime,
    pub(super) expires_at: OffsetDateTime,
}

impl Caller {
    /// Claim `tid`.
    #[must_use]
    pub const fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    /// Claim `oid`.
    #[must_use]
    pub const fn object_id(&self) -> ObjectId {
        self.object_id
    }

    /// Person or application.
    #[must_use]
    pub const fn kind(&self) -> CallerKind {
        self.kind
    }

    /// Claim `azp` (v2) or `appid` (v1).
    #[must_use]
    pub const fn app_id(&self) -> Option<Uuid> {
        self.app_id
    }

    /// Claim `scp`, split: delegated permissions, of user tokens only. Never merged with roles.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Claim `roles`: app roles.
    #[must_use]
    pub fn roles(&self) -> &[AppRole] {
        &self.roles
    }

    /// Group membership.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Claim `uti`.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// Claim `iat`.
    #[must_use]
    pub const fn issued_at(&self) -> OffsetDateTime {
        self.issued_at
    }

    /// Claim `exp`.
    #[must_use]
    pub const fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// Every principal of the role table that this caller is, as far as the token says.
    pub fn principals(&self) -> impl Iterator<Item = Principal> + '_ {
        let tenant_id = self.tenant_id;
        let object_id = self.object_id;
        let itself = match self.kind {
            CallerKind::User => Principal::User {
                tenant_id,
                object_id,
            },
            CallerKind::Application => Principal::ServicePrincipal {
                tenant_id,
                object_id,
            },
        };
        let groups = match &self.groups {
            Groups::Known(groups) => groups.as_slice(),
            Groups::Unknown(_) => &[],
        };
        let roles = &self.roles;
        std::iter::once(itself)
            .chain(groups.iter().map(move |&object_id| Principal::Group {
                tenant_id,
                object_id,
            }))
            .chain(roles.iter().map(move |role| Principal::AppRole {
                tenant_id,
                role: role.clone(),
            }))
    }
}
