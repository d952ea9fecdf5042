//! May this caller use this operation at all? A use case demands a [`Permit`] of its operation, so a
//! handler without one has nothing to call.

use std::{marker::PhantomData, net::IpAddr, sync::Arc};

use super::{
    audit::Actor,
    caller::{Caller, CallerKind},
    ids::{AppRole, RequestId},
};

/// What a token must carry to use the caller's operations. Scopes and roles are never merged: a
/// person's token needs the scope, an application's own token needs the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRules {
    /// Delegated scope (`scp`) that lets a person call.
    pub user_scope: String,
    /// App role (`roles`) that lets an application call on its own behalf.
    pub application_role: AppRole,
}

impl Default for AccessRules {
    fn default() -> Self {
        Self {
            user_scope: "Sas.Issue".to_owned(),
            application_role: "SasBroker.Caller".parse().expect("a valid app role"),
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

/// An operation that a permit can be for.
pub trait Operation: sealed::Sealed {
    /// Whether the caller may use it.
    fn is_open_to(caller: &Caller, rules: &AccessRules) -> bool;
}

/// Declares the operations that every registered caller may use.
macro_rules! caller_operations {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl Operation for $name {
            fn is_open_to(caller: &Caller, rules: &AccessRules) -> bool {
                is_registered_caller(caller, rules)
            }
        }
    )*};
}

caller_operations! {
    /// Issue tokens.
    Issue,
    /// Explain a decision.
    Explain,
    /// List one's own access.
    ListAccess,
}

fn is_registered_caller(caller: &Caller, rules: &AccessRules) -> bool {
    match caller.kind() {
        CallerKind::User => caller.scopes().contains(&rules.user_scope),
        CallerKind::Application => caller.roles().contains(&rules.application_role),
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
        if Op::is_open_to(&context.caller, rules) {
            return Ok(Self {
                context,
                operation: PhantomData,
            });
        }
        let needed = match context.caller.kind() {
            CallerKind::User => format!("the delegated scope {}", rules.user_scope),
            CallerKind::Application => format!("the app role {}", rules.application_role),
        };
        Err(NotPermitted { needed })
    }

    /// The request around it.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }
}
