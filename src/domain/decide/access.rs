//! What a caller may reach: its grants, as the role table has them.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::domain::{
    caller::Caller,
    grant::{Grant, Role},
    snapshot::Snapshot,
};

/// One grant that holds for a caller now or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The grant.
    pub grant: Arc<Grant>,
    /// Its role.
    pub role: Arc<Role>,
}

/// Every grant of the caller, allow and deny, that has not expired, ordered by scope and id. Grants
/// of groups that the token does not name are missing: [`Caller::groups`] tells whether it names any.
#[must_use]
pub fn access_of(caller: &Caller, snapshot: &Snapshot, now: OffsetDateTime) -> Vec<Access> {
    let mut found: Vec<Access> = caller
        .principals()
        .flat_map(|principal| snapshot.grants_of(&principal).cloned().collect::<Vec<_>>())
        .filter(|grant| grant.conditions.expires.is_none_or(|until| now < until))
        .filter_map(|grant| {
            let role = Arc::clone(snapshot.role(&grant.role)?);
            Some(Access { grant, role })
        })
        .collect();
    found.sort_by(|a, b| (&a.grant.scope, a.grant.id).cmp(&(&b.grant.scope, b.grant.id)));
    found.dedup_by_key(|access| access.grant.id);
    found
}
