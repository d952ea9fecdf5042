//! A naive model of the decision, for the property test: it looks at every grant of the table and
//! knows nothing of indexes, reasons or order. Read it beside DESIGN's "How grants decide".

use time::{Duration, OffsetDateTime};

use super::Moment;
use crate::domain::{
    caller::{Caller, Groups},
    grant::{Effect, Grant, Principal, Role},
    permission::PermissionSet,
    request::{AccessRequest, Target},
    snapshot::{PolicyTable, built_in_roles},
};

/// `Some(se)` if the request is allowed, to the second; `None` if it is refused.
pub(super) fn allowed(
    caller: &Caller,
    request: &AccessRequest,
    table: &PolicyTable,
    moment: Moment<'_>,
) -> Option<OffsetDateTime> {
    let account = table
        .accounts
        .iter()
        .find(|account| account.name == request.account)?;
    let privileged = request.permissions.intersection(PermissionSet::PRIVILEGED);
    if !moment.limits.privileged_permissions.contains(privileged) || !account.issuance_enabled {
        return None;
    }
    if matches!(request.target, Target::Directory(_)) && !account.hierarchical_namespace {
        return None;
    }
    let roles: Vec<Role> = built_in_roles()
        .into_iter()
        .chain(table.roles.clone())
        .collect();
    let role_of = |grant: &Grant| roles.iter().find(|role| role.name == grant.role);

    let mut ends: Vec<OffsetDateTime> = Vec::new();
    for grant in table
        .grants
        .iter()
        .filter(|grant| grant.effect == Effect::Deny)
    {
        let Some(role) = role_of(grant) else { continue };
        let touches = same_place(grant, request) && paths_meet(grant, request);
        let takes = !role
            .permissions
            .intersection(request.permissions)
            .is_empty();
        let over = grant
            .conditions
            .expires
            .is_some_and(|until| moment.now >= until);
        if !touches || !takes || over || !deny_network(grant, moment) {
            continue;
        }
        let later = grant
            .conditions
            .not_before
            .filter(|from| moment.now < *from);
        match (may_be(caller, &grant.principal), later) {
            (Membership::Yes, Some(begins)) => ends.push(begins),
            (Membership::Yes, None) | (Membership::Unknown, _) => return None,
            (Membership::No, _) => {}
        }
    }
    for letter in request.permissions.letters() {
        let best = table
            .grants
            .iter()
            .filter(|grant| grant.effect == Effect::Allow && same_place(grant, request))
            .filter(|grant| may_be(caller, &grant.principal) == Membership::Yes)
            .filter(|grant| request.target.is_within(grant.scope.prefix.as_ref()))
            .filter_map(|grant| Some((grant, role_of(grant)?)))
            .filter(|(_, role)| role.permissions.contains(letter))
            .filter(|(grant, role)| holds(grant, role, request, moment))
            .map(|(grant, role)| {
                let seconds = [
                    role.lifetime_seconds_max,
                    grant.conditions.lifetime_seconds_max,
                ];
                let by_time = seconds
                    .into_iter()
                    .flatten()
                    .map(|s| moment.now + seconds_of(s));
                let ceiling = moment.now + seconds_of(moment.limits.lifetime_seconds_max);
                by_time
                    .chain(grant.conditions.expires)
                    .fold(ceiling, std::cmp::min)
            })
            .max()?;
        ends.push(best);
    }
    let asked = request
        .lifetime_seconds
        .unwrap_or(moment.limits.lifetime_seconds_default);
    ends.push(moment.now + seconds_of(asked));
    ends.extend(
        account
            .sas_period_seconds_max
            .map(|s| moment.now + seconds_of(s)),
    );
    let end = ends.into_iter().min()?;
    let lives = (end - moment.now).whole_seconds();
    (lives >= i64::from(moment.limits.lifetime_seconds_min)).then_some(end)
}

#[derive(PartialEq)]
enum Membership {
    Yes,
    No,
    Unknown,
}

fn may_be(caller: &Caller, principal: &Principal) -> Membership {
    if caller.principals().any(|own| own == *principal) {
        return Membership::Yes;
    }
    let group_of_tenant =
        matches!(principal, Principal::Group { .. }) && principal.tenant_id() == caller.tenant_id();
    match caller.groups() {
        Groups::Unknown(_) if group_of_tenant => Membership::Unknown,
        _ => Membership::No,
    }
}

fn holds(grant: &Grant, role: &Role, request: &AccessRequest, moment: Moment<'_>) -> bool {
    let c = &grant.conditions;
    let in_time = c.not_before.is_none_or(|from| from <= moment.now)
        && c.expires.is_none_or(|until| moment.now < until);
    let network = c.caller_networks.is_empty()
        || c.caller_networks
            .iter()
            .any(|n| moment.client.is_some_and(|ip| n.contains(&ip)));
    let ip = match request.ip {
        Some(ip) => c.sip_within.is_empty() || ip.is_within(&c.sip_within),
        None => !role.require_ip && c.sip_within.is_empty(),
    };
    in_time && network && ip
}

fn deny_network(grant: &Grant, moment: Moment<'_>) -> bool {
    let networks = &grant.conditions.caller_networks;
    match moment.client {
        Some(client) => networks.is_empty() || networks.iter().any(|n| n.contains(&client)),
        None => true,
    }
}

fn same_place(grant: &Grant, request: &AccessRequest) -> bool {
    grant.scope.account == request.account && grant.scope.container == request.container
}

fn paths_meet(grant: &Grant, request: &AccessRequest) -> bool {
    let prefix: Vec<&str> = grant
        .scope
        .prefix
        .iter()
        .flat_map(|prefix| prefix.as_str().split('/'))
        .collect();
    let path: Vec<&str> = request
        .target
        .path()
        .into_iter()
        .flat_map(|path| path.as_str().split('/'))
        .collect();
    match request.target {
        Target::Blob(_) => path.starts_with(&prefix),
        _ => path.starts_with(&prefix) || prefix.starts_with(&path),
    }
}

fn seconds_of(seconds: u32) -> Duration {
    Duration::seconds(i64::from(seconds))
}
