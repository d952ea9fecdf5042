//! The role table's nouns: who ([`Principal`]) may do what ([`Role`]) where ([`Scope`]), and under
//! which [`Conditions`].

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    ids::{AccountName, AppRole, BlobPath, ContainerName, GrantId, ObjectId, RoleName, TenantId},
    permission::PermissionSet,
    time_text,
};

/// A named set of permissions and the bounds that come with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// Letters that a grant of this role gives (or, in a deny, takes).
    pub permissions: PermissionSet,
    /// Longest lifetime of a token, in seconds; `None` leaves it to the broker's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds_max: Option<u32>,
    /// Tokens must be bound to the caller (`sduoid`).
    #[serde(default)]
    pub bind_to_caller: bool,
    /// Tokens must name a client address (`sip`).
    #[serde(default)]
    pub require_ip: bool,
}

/// Who a grant speaks of. Always with its tenant: an object id means nothing without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Principal {
    /// A person, by claim `oid`.
    User {
        /// Their directory.
        tenant_id: TenantId,
        /// Their object id.
        object_id: ObjectId,
    },
    /// An application or managed identity, by claim `oid` of its own token.
    ServicePrincipal {
        /// Its directory.
        tenant_id: TenantId,
        /// The service principal's object id (not the application id).
        object_id: ObjectId,
    },
    /// A group, by claim `groups`.
    Group {
        /// Its directory.
        tenant_id: TenantId,
        /// Its object id.
        object_id: ObjectId,
    },
    /// Everybody who has an app role of the broker's own registration, by claim `roles`.
    AppRole {
        /// The directory whose tokens count.
        tenant_id: TenantId,
        /// The role's value.
        role: AppRole,
    },
}

impl Principal {
    /// The directory that it belongs to.
    #[must_use]
    pub const fn tenant_id(&self) -> TenantId {
        match self {
            Self::User { tenant_id, .. }
            | Self::ServicePrincipal { tenant_id, .. }
            | Self::Group { tenant_id, .. }
            | Self::AppRole { tenant_id, .. } => *tenant_id,
        }
    }
}

/// Where a grant holds: a container, or what lies under a prefix of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Storage account.
    pub account: AccountName,
    /// Container or file system.
    pub container: ContainerName,
    /// Path prefix on segment boundaries; `None` is the whole container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<BlobPath>,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User {
                tenant_id,
                object_id,
            } => write!(f, "user {object_id}@{tenant_id}"),
            Self::ServicePrincipal {
                tenant_id,
                object_id,
            } => {
                write!(f, "service principal {object_id}@{tenant_id}")
            }
            Self::Group {
                tenant_id,
                object_id,
            } => write!(f, "group {object_id}@{tenant_id}"),
            Self::AppRole { tenant_id, role } => write!(f, "app role {role}@{tenant_id}"),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.container)?;
        self.prefix
            .as_ref()
            .map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

/// Whether a grant gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Gives the role's letters.
    #[default]
    Allow,
    /// Takes them, whatever else allows them.
    Deny,
}

/// Under which conditions a grant counts. An absent condition always holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// It counts from this instant on.
    #[serde(
        default,
        with = "time_text::serde_text::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_before: Option<OffsetDateTime>,
    /// It counts until right before this instant, and no token outlives it.
    #[serde(
        default,
        with = "time_text::serde_text::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<OffsetDateTime>,
    /// Networks that must hold the client's address as the broker sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caller_networks: Vec<IpNet>,
    /// Networks that must hold the *requested* `ip`; then a request must name one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sip_within: Vec<IpNet>,
    /// Its own lifetime ceiling, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds_max: Option<u32>,
}

/// Why a grant exists; of no weight in any decision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The change ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The reason in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One row of the role table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Raised by every edit; journal records and `ETag`s name it.
    pub version: i64,
    /// Whom it speaks of.
    pub principal: Principal,
    /// The role it gives or takes.
    pub role: RoleName,
    /// Where.
    pub scope: Scope,
    /// Gives or takes.
    pub effect: Effect,
    /// Under which conditions.
    pub conditions: Conditions,
    /// Why.
    pub provenance: Provenance,
}

/// Most networks in one condition: what a person can review.
pub const NETWORKS_MAX: usize = 64;

/// Longest ticket or reason, in characters.
pub const PROVENANCE_CHARS_MAX: usize = 500;

/// Why a grant or role is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// Empty interval.
    #[error("not_before must be earlier than expires")]
    EmptyInterval,
    /// A ceiling below the shortest token would allow nothing.
    #[error("lifetime_seconds_max must be 60 to 43,200 seconds")]
    Lifetime,
    /// `sip` is IPv4 only.
    #[error("sip_within may only hold IPv4 networks")]
    SipNetwork,
    /// Too many networks.
    #[error("at most 64 networks in one condition")]
    TooManyNetworks,
    /// These conditions bound what is given; a deny gives nothing.
    #[error("a deny takes no lifetime_seconds_max and no sip_within")]
    DenyWithAllowance,
    /// Bounds of free text.
    #[error("ticket and reason must be at most 500 characters without control characters")]
    FreeText,
}

fn lifetime_ok(seconds: Option<u32>) -> bool {
    seconds.is_none_or(|seconds| (60..=43_200).contains(&seconds))
}

impl Role {
    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// [`InvalidGrant`] names the rule.
    pub fn check(&self) -> Result<(), InvalidGrant> {
        lifetime_ok(self.lifetime_seconds_max)
            .then_some(())
            .ok_or(InvalidGrant::Lifetime)
    }
}

impl Grant {
    /// Checks what the types alone cannot: relations between conditions, bounds of lists and text.
    ///
    /// # Errors
    /// [`InvalidGrant`] names the rule.
    pub fn check(&self) -> Result<(), InvalidGrant> {
        let conditions = &self.conditions;
        if let (Some(from), Some(until)) = (conditions.not_before, conditions.expires)
            && from >= until
        {
            return Err(InvalidGrant::EmptyInterval);
        }
        if !lifetime_ok(conditions.lifetime_seconds_max) {
            return Err(InvalidGrant::Lifetime);
        }
        if conditions
            .sip_within
            .iter()
            .any(|net| matches!(net, IpNet::V6(_)))
        {
            return Err(InvalidGrant::SipNetwork);
        }
        if conditions
            .caller_networks
            .len()
            .max(conditions.sip_within.len())
            > NETWORKS_MAX
        {
            return Err(InvalidGrant::TooManyNetworks);
        }
        let allowance =
            conditions.lifetime_seconds_max.is_some() || !conditions.sip_within.is_empty();
        if self.effect == Effect::Deny && allowance {
            return Err(InvalidGrant::DenyWithAllowance);
        }
        let free_text_ok = |text: &String| {
            text.chars().count() <= PROVENANCE_CHARS_MAX && !text.chars().any(char::is_control)
        };
        let texts = [&self.provenance.ticket, &self.provenance.reason];
        texts
            .into_iter()
            .flatten()
            .all(free_text_ok)
            .then_some(())
            .ok_or(InvalidGrant::FreeText)
    }
}
