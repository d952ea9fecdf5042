//! The whole policy as a document: what `sas-broker apply` reads, from YAML or JSON.
//!
//! The document is complete: what it does not name is removed. A grant is recognised by its `id`, or
//! else by who, role, scope and effect together.

use serde::{Deserialize, Serialize};

use super::{
    account::Account,
    grant::{Conditions, Effect, Grant, Principal, Provenance, Role, Scope},
    ids::{GrantId, RoleName},
};

/// Most accounts, roles or grants in one document: what one transaction should change at once.
pub const ENTRIES_MAX: usize = 100_000;

/// Accounts, roles and grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Managed accounts.
    #[serde(default)]
    pub accounts: Vec<Account>,
    /// Declared roles; the built-in ones need no declaration.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Grants.
    #[serde(default)]
    pub grants: Vec<GrantEntry>,
}

/// One grant as a document writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantEntry {
    /// Its id; may be left out as long as no other grant has the same principal, role, scope and
    /// effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<GrantId>,
    /// Whom it speaks of.
    pub principal: Principal,
    /// The role it gives or takes.
    pub role: RoleName,
    /// Where.
    pub scope: Scope,
    /// Gives or takes.
    #[serde(default)]
    pub effect: Effect,
    /// Under which conditions.
    #[serde(default)]
    pub conditions: Conditions,
    /// Why.
    #[serde(default)]
    pub provenance: Provenance,
}

impl GrantEntry {
    /// Whether the entry, which names no id, means this grant.
    #[must_use]
    pub fn means(&self, grant: &Grant) -> bool {
        self.principal == grant.principal
            && self.role == grant.role
            && self.scope == grant.scope
            && self.effect == grant.effect
    }

    /// The grant with this id and version.
    #[must_use]
    pub fn into_grant(self, id: GrantId, version: i64) -> Grant {
        let Self {
            principal,
            role,
            scope,
            effect,
            conditions,
            provenance,
            ..
        } = self;
        Grant {
            id,
            version,
            principal,
            role,
            scope,
            effect,
            conditions,
            provenance,
        }
    }
}
