//! Looks at every grant that could matter and says what each one comes to.

use std::{cmp::Reverse, fmt, net::IpAddr};

use ipnet::IpNet;
use time::OffsetDateTime;

use super::Moment;
use crate::domain::{
    audit::GrantRef,
    caller::{Caller, Groups},
    grant::{Conditions, Effect, Grant, Role},
    ids::{GrantId, RoleName},
    permission::PermissionSet,
    request::AccessRequest,
    snapshot::Snapshot,
    validity::{Bound, Expiry},
};

/// A condition that a grant sets and the request does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unmet {
    /// The token must be bound to an address, and none was asked for.
    IpMissing,
    /// The asked address lies outside of what the grant allows.
    IpOutside,
    /// The client itself is in none of the grant's networks.
    CallerNetwork,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IpMissing => "your grant needs the request to name an `ip`",
            Self::IpOutside => "the asked `ip` lies outside of the networks that your grant allows",
            Self::CallerNetwork => "your grant does not hold from this client's network",
        })
    }
}

/// What came of one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It gives these asked letters.
    Gives(PermissionSet),
    /// Its role has none of the asked letters.
    OtherLetters,
    /// It takes these asked letters.
    Denies(PermissionSet),
    /// Its scope lies below the request.
    ScopeBelow,
    /// It does not count yet.
    NotYet,
    /// It counts no more.
    Expired,
    /// It would count but for a condition.
    Unmet(Unmet),
}

/// One grant of the caller that touches the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consideration {
    /// The grant.
    pub grant: GrantRef,
    /// Its role.
    pub role: RoleName,
    /// Gives or takes.
    pub effect: Effect,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Consideration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Allow => "grant",
            Effect::Deny => "deny",
        };
        write!(f, "{effect} {} ({}): ", self.grant.id, self.role)?;
        match &self.outcome {
            Outcome::Gives(letters) => write!(f, "gives {letters}"),
            Outcome::OtherLetters => f.write_str("has none of the asked letters"),
            Outcome::Denies(letters) => write!(f, "takes {letters}"),
            Outcome::ScopeBelow => f.write_str("covers only a part of the request"),
            Outcome::NotYet => f.write_str("does not count yet"),
            Outcome::Expired => f.write_str("has expired"),
            Outcome::Unmet(unmet) => unmet.fmt(f),
        }
    }
}

/// An allow that counts.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) grant: GrantRef,
    pub(super) letters: PermissionSet,
    pub(super) expiry: Expiry,
    pub(super) bind_to_caller: bool,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    pub(super) considered: Vec<Consideration>,
    counted: Vec<Counted>,
    unmet: Vec<(Unmet, PermissionSet)>,
    /// An allow contains the request, whatever its letters.
    pub(super) covered: bool,
    /// An allow lies below the request.
    pub(super) grant_below: bool,
    pub(super) denied: Option<(GrantRef, PermissionSet)>,
    /// The earliest deny that will bite later.
    pub(super) next_deny: Option<(GrantId, OffsetDateTime)>,
    /// What the caller would have if it were in every group of its tenant.
    pub(super) unknown_group_letters: PermissionSet,
    /// Some group deny would bite if the caller were in that group.
    pub(super) unknown_group_denies: bool,
}

impl Weighed {
    /// Asked letters that some counted grant gives.
    pub(super) fn given(&self) -> PermissionSet {
        self.counted
            .iter()
            .fold(PermissionSet::EMPTY, |all, one| all.union(one.letters))
    }

    /// The counted grant that gives this letter the longest; on a tie the one that binds least, then
    /// the oldest, so that equal tables give equal answers.
    pub(super) fn most_generous(&self, letter: PermissionSet) -> Option<&Counted> {
        let gives = |one: &&Counted| one.letters.contains(letter);
        self.counted.iter().filter(gives).max_by_key(|one| {
            (
                one.expiry.at(),
                Reverse(one.bind_to_caller),
                Reverse(one.grant),
            )
        })
    }

    /// The unmet condition that stands between the caller and the missing letters, if meeting
    /// conditions would give them all.
    pub(super) fn unmet_for(&self, missing: PermissionSet) -> Option<Unmet> {
        let within_reach = self
            .unmet
            .iter()
            .fold(PermissionSet::EMPTY, |all, (_, l)| all.union(*l));
        if !within_reach.contains(missing) {
            return None;
        }
        let relevant = self
            .unmet
            .iter()
            .filter(|(_, l)| !l.intersection(missing).is_empty());
        relevant.map(|(unmet, _)| *unmet).min()
    }
}

pub(super) fn weigh(
    caller: &Caller,
    request: &AccessRequest,
    snapshot: &Snapshot,
    moment: Moment<'_>,
) -> Weighed {
    let mut weighed = Weighed::default();
    let place = (request.account.clone(), request.container.clone());
    let scales = Scales { request, moment };
    for principal in caller.principals() {
        for grant in snapshot.grants_at(&principal, &place) {
            if let Some(role) = snapshot.role(&grant.role) {
                scales.weigh_one(grant, role, &mut weighed);
            }
        }
    }
    if matches!(caller.groups(), Groups::Unknown(_)) {
        for grant in snapshot.group_grants_at(&place) {
            if grant.principal.tenant_id() == caller.tenant_id()
                && let Some(role) = snapshot.role(&grant.role)
            {
                scales.weigh_unknown(grant, role, &mut weighed);
            }
        }
    }
    weighed
}

struct Scales<'a> {
    request: &'a AccessRequest,
    moment: Moment<'a>,
}

impl Scales<'_> {
    fn weigh_one(&self, grant: &Grant, role: &Role, weighed: &mut Weighed) {
        let outcome = match grant.effect {
            Effect::Allow => self.weigh_allow(grant, role, weighed),
            Effect::Deny => self.weigh_deny(grant, role, weighed),
        };
        if let Some(outcome) = outcome {
            weighed.considered.push(Consideration {
                grant: reference(grant),
                role: grant.role.clone(),
                effect: grant.effect,
                outcome,
            });
        }
    }

    fn weigh_allow(&self, grant: &Grant, role: &Role, weighed: &mut Weighed) -> Option<Outcome> {
        let prefix = grant.scope.prefix.as_ref();
        let within = self.request.target.is_within(prefix);
        if !within && !self.request.target.is_above(prefix) {
            return None;
        }
        if let Some(outcome) = self.out_of_time(&grant.conditions) {
            return Some(outcome);
        }
        if !within {
            weighed.grant_below = true;
            return Some(Outcome::ScopeBelow);
        }
        weighed.covered = true;
        let letters = role.permissions.intersection(self.request.permissions);
        if letters.is_empty() {
            return Some(Outcome::OtherLetters);
        }
        if let Some(unmet) = self.unmet(grant, role) {
            weighed.unmet.push((unmet, letters));
            return Some(Outcome::Unmet(unmet));
        }
        weighed.counted.push(Counted {
            grant: reference(grant),
            letters,
            expiry: self.expiry(grant, role),
            bind_to_caller: role.bind_to_caller,
        });
        Some(Outcome::Gives(letters))
    }

    fn weigh_deny(&self, grant: &Grant, role: &Role, weighed: &mut Weighed) -> Option<Outcome> {
        if !self.intersects(grant) || !self.deny_holds_here(&grant.conditions) {
            return None;
        }
        let letters = role.permissions.intersection(self.request.permissions);
        if letters.is_empty() {
            return Some(Outcome::OtherLetters);
        }
        match self.out_of_time(&grant.conditions) {
            Some(Outcome::NotYet) => {
                let begins = grant.conditions.not_before.map(|begins| (begins, grant.id));
                let next = weighed.next_deny.map(|(id, begins)| (begins, id));
                weighed.next_deny = begins
                    .into_iter()
                    .chain(next)
                    .min()
                    .map(|(begins, id)| (id, begins));
                Some(Outcome::NotYet)
            }
            Some(outcome) => Some(outcome),
            None => {
                let found = (reference(grant), letters);
                let first = weighed.denied.filter(|first| first.0 <= found.0);
                weighed.denied = Some(first.unwrap_or(found));
                Some(Outcome::Denies(letters))
            }
        }
    }

    /// A grant of a group that the caller may or may not be in. A deny counts even if it begins
    /// later: no token may outlive its beginning, and for whom it begins is not known.
    fn weigh_unknown(&self, grant: &Grant, role: &Role, weighed: &mut Weighed) {
        let letters = role.permissions.intersection(self.request.permissions);
        let out_of_time = self.out_of_time(&grant.conditions);
        match grant.effect {
            Effect::Allow => {
                if self.request.target.is_within(grant.scope.prefix.as_ref())
                    && out_of_time.is_none()
                {
                    weighed.unknown_group_letters = weighed.unknown_group_letters.union(letters);
                }
            }
            Effect::Deny => {
                weighed.unknown_group_denies |= self.intersects(grant)
                    && !letters.is_empty()
                    && out_of_time != Some(Outcome::Expired)
                    && self.deny_holds_here(&grant.conditions);
            }
        }
    }

    fn intersects(&self, grant: &Grant) -> bool {
        let prefix = grant.scope.prefix.as_ref();
        self.request.target.is_within(prefix) || self.request.target.is_above(prefix)
    }

    fn out_of_time(&self, conditions: &Conditions) -> Option<Outcome> {
        if conditions
            .not_before
            .is_some_and(|from| self.moment.now < from)
        {
            return Some(Outcome::NotYet);
        }
        if conditions
            .expires
            .is_some_and(|until| self.moment.now >= until)
        {
            return Some(Outcome::Expired);
        }
        None
    }

    fn caller_network_holds(&self, conditions: &Conditions) -> bool {
        conditions.caller_networks.is_empty()
            || self
                .moment
                .client
                .is_some_and(|client| holds(&conditions.caller_networks, client))
    }

    /// A client whose address is unknown could be anywhere, so a deny for some networks bites.
    fn deny_holds_here(&self, conditions: &Conditions) -> bool {
        self.moment.client.is_none() || self.caller_network_holds(conditions)
    }

    fn unmet(&self, grant: &Grant, role: &Role) -> Option<Unmet> {
        let conditions = &grant.conditions;
        if !self.caller_network_holds(conditions) {
            return Some(Unmet::CallerNetwork);
        }
        match &self.request.ip {
            None if role.require_ip || !conditions.sip_within.is_empty() => Some(Unmet::IpMissing),
            Some(ip) if !conditions.sip_within.is_empty() => {
                (!ip.is_within(&conditions.sip_within)).then_some(Unmet::IpOutside)
            }
            _ => None,
        }
    }

    fn expiry(&self, grant: &Grant, role: &Role) -> Expiry {
        let limits = self.moment.limits;
        let mut expiry = Expiry::new(self.moment.now, Bound::Broker(limits.lifetime_seconds_max));
        if let Some(seconds) = role.lifetime_seconds_max {
            expiry = expiry.and(Bound::Role(role.name.clone(), seconds));
        }
        if let Some(seconds) = grant.conditions.lifetime_seconds_max {
            expiry = expiry.and(Bound::Grant(grant.id, seconds));
        }
        if let Some(at) = grant.conditions.expires {
            expiry = expiry.and(Bound::GrantExpires(grant.id, at));
        }
        expiry
    }
}

fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    networks
        .iter()
        .any(|network| network.contains(&address.to_canonical()))
}

const fn reference(grant: &Grant) -> GrantRef {
    GrantRef {
        id: grant.id,
        version: grant.version,
    }
}
