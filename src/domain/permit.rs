//! May this caller use this operation at all? A use case demands a [`Permit`] of its operation, so a
//! handler without one has nothing to call.

use std::{marker::PhantomData, net::IpAddr, sync::Arc};

use self::OpenTo::{Callers, Roles};
use super::{
    audit::Actor,
    caller::{Caller, CallerKind},
    ids::{AppRole, RequestId, TenantId},
};

/// Entra app roles (claim `roles`) that open operations. The broker's app registration declares
/// them; whoever administers a directory assigns them there.
pub mod role {
    /// Changes the role table.
    pub const ADMIN: &str = "SasBroker.Admin";
    /// Rotates keys and revokes delegation keys.
    pub const OPERATOR: &str = "SasBroker.Operator";
    /// Reads everything, changes nothing.
    pub const AUDITOR: &str = "SasBroker.Auditor";
    /// Delivers events. The name is Event Grid's own: it refuses to sign in to an application that
    /// does not declare and assign this role
    /// (learn.microsoft.com/azure/event-grid/secure-webhook-delivery).
    pub const EVENT_GRID: &str = "AzureEventGridSecureWebhookSubscriber";
}

/// What a token must carry. For the callers' operations scopes and roles are never merged: a person's
/// token needs the scope, an application's own token needs the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRules {
    /// Delegated scope (`scp`) that lets a person call.
    pub user_scope: String,
    /// App role (`roles`) that lets an application call on its own behalf.
    pub application_role: AppRole,
    /// Directories in whose tokens the roles of [`role`] count. In every other directory somebody
    /// else assigns them.
    pub administering_tenants: Vec<TenantId>,
}

impl Default for AccessRules {
    fn default() -> Self {
        Self {
            user_scope: "Sas.Issue".to_owned(),
            application_role: "SasBroker.Caller".parse().expect("a valid app role"),
            administering_tenants: Vec::new(),
        }
    }
}

/// The request around an operation: who calls, from where.
#[derive(Debug, Clone)]
pub struct Context {
    /// The verified caller.
    pub caller: Arc<Caller>,
    /// The client's address after the trusted proxies.
    pub client: Option<IpAddr>,
    /// The request's id.
    pub request_id: RequestId,
}

impl Context {
    /// The caller as the journal names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Caller {
            tenant_id: self.caller.tenant_id(),
            object_id: self.caller.object_id(),
            app_id: self.caller.app_id(),
            token_id: self.caller.token_id().map(str::to_owned),
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Whom an operation is open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTo {
    /// Registered callers: people by the scope, applications by the role of [`AccessRules`].
    Callers,
    /// Whoever has one of these app roles, people and applications alike.
    Roles(&'static [&'static str]),
}

/// An operation that a permit can be for.
pub trait Operation: sealed::Sealed {
    /// Whom it is open to.
    const OPEN_TO: OpenTo;
}

/// Declares the operations, each once, with whom it is open to.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $open_to:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl Operation for $name {
            const OPEN_TO: OpenTo = $open_to;
        }
    )*};
}

operations! {
    /// Issue tokens.
    Issue: Callers;
    /// Explain a decision.
    Explain: Callers;
    /// List one's own access.
    ListAccess: Callers;
    /// Ask for a rotation.
    RequestRotation: Roles(&[role::OPERATOR]);
    /// Read rotations and what the last look at an account showed.
    ReadRotations: Roles(&[role::OPERATOR, role::AUDITOR, role::ADMIN]);
    /// Revoke every delegation key of an account.
    RevokeDelegationKeys: Roles(&[role::OPERATOR]);
    /// Deliver events of vaults.
    ReceiveEvents: Roles(&[role::EVENT_GRID]);
}

impl OpenTo {
    fn includes(self, caller: &Caller, rules: &AccessRules) -> bool {
        match (self, caller.kind()) {
            (Callers, CallerKind::User) => caller.scopes().contains(&rules.user_scope),
            (Callers, CallerKind::Application) => caller.roles().contains(&rules.application_role),
            (Roles(wanted), _) => {
                let held = |role: &AppRole| wanted.contains(&role.as_str());
                rules.administering_tenants.contains(&caller.tenant_id())
                    && caller.roles().iter().any(held)
            }
        }
    }

    /// What a caller who is not included lacks, in words.
    fn needed(self, caller: &Caller, rules: &AccessRules) -> String {
        match (self, caller.kind()) {
            (Callers, CallerKind::User) => format!("the delegated scope {}", rules.user_scope),
            (Callers, CallerKind::Application) => {
                format!("the app role {}", rules.application_role)
            }
            (Roles(wanted), _) if rules.administering_tenants.contains(&caller.tenant_id()) => {
                format!("the app role {}", wanted.join(" or "))
            }
            (Roles(wanted), _) => format!(
                "the app role {} of a directory that administers this broker",
                wanted.join(" or ")
            ),
        }
    }
}

/// Proof that the caller may use the operation `Op`.
#[derive(Debug, Clone)]
pub struct Permit<Op> {
    context: Context,
    operation: PhantomData<Op>,
}

/// The caller is known but may not use the operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the access token needs {needed}")]
pub struct NotPermitted {
    /// What is missing, in words; also the `scope` of an RFC 6750 challenge.
    pub needed: String,
}

impl<Op: Operation> Permit<Op> {
    /// Checks the caller's scope or role.
    ///
    /// # Errors
    /// [`NotPermitted`] says what is missing.
    pub fn check(context: Context, rules: &AccessRules) -> Result<Self, NotPermitted> {
        if Op::OPEN_TO.includes(&context.caller, rules) {
            return Ok(Self {
                context,
                operation: PhantomData,
            });
        }
        let needed = Op::OPEN_TO.needed(&context.caller, rules);
        Err(NotPermitted { needed })
    }

    /// The request around it.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{caller::Groups, ids::ObjectId};

    const HOME: TenantId = TenantId(Uuid::from_u128(1));
    const ELSEWHERE: TenantId = TenantId(Uuid::from_u128(2));

    fn may<Op: Operation>(tenant_id: TenantId, kind: CallerKind, names: &[&str]) -> bool {
        let issued_at = datetime!(2026-11-23 10:00 UTC);
        let caller = Caller {
            tenant_id,
            object_id: ObjectId(Uuid::from_u128(3)),
            kind,
            app_id: None,
            // A person's token always has some scope; a role's name in it must open nothing.
            scopes: names.iter().map(ToString::to_string).collect(),
            roles: names.iter().map(|name| name.parse().unwrap()).collect(),
            groups: Groups::Known(vec![]),
            token_id: None,
            issued_at,
            expires_at: issued_at + Duration::HOUR,
        };
        let context = Context {
            caller: Arc::new(caller),
            client: None,
            request_id: RequestId(Uuid::nil()),
        };
        let rules = AccessRules {
            administering_tenants: vec![HOME],
            ..AccessRules::default()
        };
        Permit::<Op>::check(context, &rules).is_ok()
    }

    #[test]
    fn an_app_role_opens_its_operations_to_people_and_applications_of_home_alone() {
        let rows = [
            (role::OPERATOR, [true, true, true, false]),
            (role::AUDITOR, [false, true, false, false]),
            (role::ADMIN, [false, true, false, false]),
            (role::EVENT_GRID, [false, false, false, true]),
            ("SasBroker.Caller", [false; 4]),
            ("Sas.Issue", [false; 4]),
        ];
        for (name, expected) in rows {
            for kind in [CallerKind::User, CallerKind::Application] {
                let all = |tenant| {
                    [
                        may::<RequestRotation>(tenant, kind, &[name]),
                        may::<ReadRotations>(tenant, kind, &[name]),
                        may::<RevokeDelegationKeys>(tenant, kind, &[name]),
                        may::<ReceiveEvents>(tenant, kind, &[name]),
                    ]
                };
                assert_eq!(all(HOME), expected, "{name} {kind:?}");
                assert_eq!(all(ELSEWHERE), [false; 4], "{name} {kind:?}");
            }
        }
    }

    #[test]
    fn an_operator_is_not_a_caller_and_a_scope_is_no_role() {
        for kind in [CallerKind::User, CallerKind::Application] {
            assert!(!may::<Issue>(HOME, kind, &[role::OPERATOR, role::ADMIN]));
        }
        assert!(may::<Issue>(ELSEWHERE, CallerKind::User, &["Sas.Issue"]));
        assert!(!may::<Issue>(HOME, CallerKind::Application, &["Sas.Issue"]));
        assert!(!may::<Issue>(HOME, CallerKind::User, &["SasBroker.Caller"]));
    }
}
