//! What may I reach: the caller's own grants, a page at a time.

use std::sync::Arc;

use super::policy::PolicyCache;
use crate::{
    domain::{
        caller::Groups,
        decide::{Access, access_of},
        grant::Scope,
        ids::GrantId,
        permit::{ListAccess, Permit},
    },
    ports::{Clock, StoreError},
};

/// Most grants on one page.
pub const PAGE_MAX: usize = 500;
/// Grants on a page that names no size.
pub const PAGE_DEFAULT: usize = 100;

/// Where a page ends: grants are ordered by scope and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The last grant's scope.
    pub scope: Scope,
    /// The last grant's id.
    pub id: GrantId,
}

/// One page of the caller's grants.
#[derive(Debug)]
pub struct AccessPage {
    /// The grants, in order.
    pub grants: Vec<Access>,
    /// Where the next page begins after; `None` on the last page.
    pub next: Option<Place>,
    /// Whether grants of groups are among them: false if the token does not name the groups.
    pub groups_known: bool,
}

/// Lists the caller's own access.
pub struct AccessList {
    policy: Arc<PolicyCache>,
    clock: Arc<dyn Clock>,
}

impl AccessList {
    /// A list over the same table that issuing has.
    #[must_use]
    pub const fn new(policy: Arc<PolicyCache>, clock: Arc<dyn Clock>) -> Self {
        Self { policy, clock }
    }

    /// At most `limit` ([`PAGE_MAX`] at most) grants after a place.
    ///
    /// # Errors
    /// If the role table cannot be read.
    pub async fn page(
        &self,
        permit: &Permit<ListAccess>,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<AccessPage, StoreError> {
        let caller = &permit.context().caller;
        let snapshot = self.policy.fresh().await?;
        let all = access_of(caller, &snapshot, self.clock.now());
        let place = |access: &Access| Place {
            scope: access.grant.scope.clone(),
            id: access.grant.id,
        };
        let rest = all
            .into_iter()
            .filter(|access| after.is_none_or(|after| place(access) > *after));
        let mut grants: Vec<Access> = rest.take(limit.min(PAGE_MAX) + 1).collect();
        let more = grants.len() > limit.min(PAGE_MAX);
        grants.truncate(limit.min(PAGE_MAX));
        let next = grants.last().filter(|_| more).map(place);
        let groups_known = matches!(caller.groups(), Groups::Known(_));
        Ok(AccessPage {
            grants,
            next,
            groups_known,
        })
    }
}
