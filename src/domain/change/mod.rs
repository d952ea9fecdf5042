//! What a document would change, as a value: planned purely, shown to a person, then applied as one.

mod describe;
mod plan;

pub use self::plan::{PlanError, Problem, plan};
use super::{
    account::Account,
    grant::{Grant, Role},
    ids::{AccountName, GrantId, RoleName},
};

/// Edits of the role table that belong together: all are made, or none. Made against the table at
/// version `based_on`; applied, it raises the version by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    /// The version that it was planned against.
    pub based_on: i64,
    /// Accounts to insert, or replace where the name exists.
    pub put_accounts: Vec<Account>,
    /// Accounts to remove.
    pub drop_accounts: Vec<AccountName>,
    /// Declared roles to insert, or replace where the name exists.
    pub put_roles: Vec<Role>,
    /// Declared roles to remove.
    pub drop_roles: Vec<RoleName>,
    /// Grants to insert, or replace where the id exists; each carries its new version.
    pub put_grants: Vec<Grant>,
    /// Grants to remove.
    pub drop_grants: Vec<GrantId>,
}

impl ChangeSet {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                based_on: self.based_on,
                ..Self::default()
            }
    }
}
