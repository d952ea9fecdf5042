//! The decision: what of a request the role table lets pass, and why.
//!
//! - An *allow* counts if its scope contains the whole request and its conditions hold. Allows join
//!   letter by letter: for each asked letter the most generous grant counts, the window is the
//!   minimum over the letters, and the bindings add up.
//! - A *deny* bites if its scope intersects the request, above or below it, and names any asked
//!   letter. A signature cannot carve a hole, so deny wins over everything.
//! - Nothing is narrowed behind the caller's back: a letter that is not granted refuses the request.
//!   Only a lifetime is shortened, and the answer says by which bound.
//!
//! One engine serves issuing, explaining and listing one's own access. [`mod@weigh`] looks at the grants,
//! this file draws the conclusion.

mod access;
#[cfg(test)]
mod model;
mod refusal;
#[cfg(test)]
mod tests;
mod weigh;

use std::{net::IpAddr, sync::Arc};

use time::OffsetDateTime;

use self::weigh::{Counted, Weighed, weigh};
pub use self::{
    access::{Access, access_of},
    refusal::{Refusal, RefusalCode},
    weigh::{Consideration, Outcome, Unmet},
};
use super::{
    account::Account,
    audit::GrantRef,
    caller::{Caller, Groups, GroupsUnknown},
    ids::{ObjectId, TenantId},
    permission::PermissionSet,
    request::AccessRequest,
    snapshot::Snapshot,
    validity::{Bound, Expiry, Limits},
};

/// What may be signed. [`decide`] is its only constructor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    request: AccessRequest,
    account: Arc<Account>,
    expiry: Expiry,
    bound_to: Option<ObjectId>,
    delegated_tenant: Option<TenantId>,
    grants: Vec<GrantRef>,
    policy_version: i64,
    key_generation: i64,
}

impl Authorized {
    /// What was asked, and is now allowed, letter for letter.
    #[must_use]
    pub const fn request(&self) -> &AccessRequest {
        &self.request
    }

    /// The account, as the role table has it.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The end of the token's life and why.
    #[must_use]
    pub const fn expiry(&self) -> &Expiry {
        &self.expiry
    }

    /// The user that the token must be bound to.
    #[must_use]
    pub const fn bound_to(&self) -> Option<ObjectId> {
        self.bound_to
    }

    /// The bound user's directory, where it is not the account's own: the delegation key must be
    /// asked for it.
    #[must_use]
    pub const fn delegated_tenant(&self) -> Option<TenantId> {
        self.delegated_tenant
    }

    /// Each grant that gave a letter.
    #[must_use]
    pub fn grants(&self) -> &[GrantRef] {
        &self.grants
    }

    /// The role table's version that was read.
    #[must_use]
    pub const fn policy_version(&self) -> i64 {
        self.policy_version
    }

    /// The generation of the account's delegation keys at that version: no older key may sign.
    #[must_use]
    pub const fn key_generation(&self) -> i64 {
        self.key_generation
    }
}

/// A verdict with everything that was weighed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What may be signed, or why nothing may.
    pub verdict: Result<Authorized, Refusal>,
    /// Every grant of the caller that touches the request, and what came of it.
    pub considered: Vec<Consideration>,
    /// The role table's version that was read.
    pub policy_version: i64,
}

/// Everything about the moment that a decision depends on besides the table.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The client's address as the broker sees it; unknown counts as inside no network.
    pub client: Option<IpAddr>,
    /// The broker's limits.
    pub limits: &'a Limits,
    /// Now.
    pub now: OffsetDateTime,
}

/// Decides one request. Pure: equal arguments give equal decisions.
#[must_use]
pub fn decide(
    caller: &Caller,
    request: &AccessRequest,
    snapshot: &Snapshot,
    moment: Moment<'_>,
) -> Decision {
    let weighed = weigh(caller, request, snapshot, moment);
    let verdict = conclude(caller, request, snapshot, moment, &weighed);
    Decision {
        verdict,
        considered: weighed.considered,
        policy_version: snapshot.version(),
    }
}

fn conclude(
    caller: &Caller,
    request: &AccessRequest,
    snapshot: &Snapshot,
    moment: Moment<'_>,
    weighed: &Weighed,
) -> Result<Authorized, Refusal> {
    let limits = moment.limits;
    let privileged = request.permissions.intersection(PermissionSet::PRIVILEGED);
    let disabled = privileged.difference(limits.privileged_permissions);
    if !disabled.is_empty() {
        return Err(Refusal::PermissionDisabled { disabled });
    }
    // An unknown account and a missing grant look the same from outside.
    let Some(account) = snapshot.account(&request.account) else {
        return Err(Refusal::NoGrant);
    };
    let missing = request.permissions.difference(weighed.given());
    if !missing.is_empty() {
        return Err(explain_missing(caller, request, account, weighed, missing));
    }
    if let Some((grant, denied)) = weighed.denied {
        return Err(Refusal::Denied { grant, denied });
    }
    if let (true, Groups::Unknown(why)) = (weighed.unknown_group_denies, caller.groups()) {
        return Err(groups_unknown(*why));
    }
    if matches!(request.target, super::request::Target::Directory(_))
        && !account.hierarchical_namespace
    {
        return Err(Refusal::DirectoryNeedsNamespace);
    }
    if !account.issuance_enabled {
        return Err(Refusal::IssuanceDisabled);
    }
    authorize(caller, request, account, snapshot, moment, weighed)
}

/// The letters are all given: adds up windows and bindings of the grants that count.
fn authorize(
    caller: &Caller,
    request: &AccessRequest,
    account: &Arc<Account>,
    snapshot: &Snapshot,
    moment: Moment<'_>,
    weighed: &Weighed,
) -> Result<Authorized, Refusal> {
    let counted: Vec<&Counted> = request
        .permissions
        .letters()
        .filter_map(|letter| weighed.most_generous(letter))
        .collect();
    let own = request.lifetime_seconds.map_or(
        Bound::Default(moment.limits.lifetime_seconds_default),
        Bound::Requested,
    );
    let mut expiry =
        Expiry::new(moment.now, own).and(Bound::Broker(moment.limits.lifetime_seconds_max));
    if let Some(seconds) = account.sas_period_seconds_max {
        expiry = expiry.and(Bound::AccountPolicy(seconds));
    }
    if let Some((id, begins)) = weighed.next_deny {
        expiry = expiry.and(Bound::DenyBegins(id, begins));
    }
    for grant in &counted {
        expiry = expiry.earlier(grant.expiry.clone());
    }
    if expiry.lifetime_seconds() < i64::from(moment.limits.lifetime_seconds_min) {
        return Err(Refusal::WindowTooShort {
            minimum_seconds: moment.limits.lifetime_seconds_min,
            bounds: expiry.bounds().to_vec(),
        });
    }
    let bind = request.bind_to_caller || counted.iter().any(|grant| grant.bind_to_caller);
    let foreign = caller.tenant_id() != account.tenant_id;
    let mut grants: Vec<GrantRef> = counted.iter().map(|grant| grant.grant).collect();
    grants.sort_unstable();
    grants.dedup();
    Ok(Authorized {
        request: request.clone(),
        account: Arc::clone(account),
        expiry,
        bound_to: bind.then(|| caller.object_id()),
        delegated_tenant: (bind && foreign).then(|| caller.tenant_id()),
        grants,
        policy_version: snapshot.version(),
        key_generation: snapshot.key_generation(&account.name),
    })
}

/// Why letters are missing, from the most helpful reason that is safe to give to the plain "no".
fn explain_missing(
    caller: &Caller,
    request: &AccessRequest,
    account: &Account,
    weighed: &Weighed,
    missing: PermissionSet,
) -> Refusal {
    if let Groups::Unknown(why) = caller.groups()
        && weighed.unknown_group_letters.contains(missing)
    {
        return groups_unknown(*why);
    }
    if let Some(unmet) = weighed.unmet_for(missing) {
        return Refusal::ConditionUnmet { unmet };
    }
    if !weighed.given().is_empty() {
        return Refusal::PermissionNotGranted {
            missing,
            granted: weighed.given(),
        };
    }
    if weighed.grant_below {
        return Refusal::ScopeExceedsGrant {
            resource: request.target.resource(),
            hierarchical_namespace: account.hierarchical_namespace,
        };
    }
    if weighed.covered {
        return Refusal::PermissionNotGranted {
            missing,
            granted: weighed.given(),
        };
    }
    Refusal::NoGrant
}

const fn groups_unknown(why: GroupsUnknown) -> Refusal {
    match why {
        GroupsUnknown::Missing => Refusal::GroupsMissing,
        GroupsUnknown::Overage => Refusal::GroupsOverage,
    }
}
