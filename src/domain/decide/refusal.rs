//! Why a request is refused: one variant, one stable code, one sentence, one hint.

use std::fmt;

use super::weigh::Unmet;
use crate::domain::{
    audit::GrantRef,
    permission::{PermissionSet, SignedResource},
    validity::Bound,
};

/// A refusal, with what it is safe to tell the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Unknown account, unknown container or no grant: one answer for all three.
    NoGrant,
    /// Some letters are granted, others not.
    PermissionNotGranted {
        /// Asked but not granted.
        missing: PermissionSet,
        /// Asked and granted.
        granted: PermissionSet,
    },
    /// A deny bit.
    Denied {
        /// Which.
        grant: GrantRef,
        /// The asked letters that it takes.
        denied: PermissionSet,
    },
    /// A grant would do, but for a condition.
    ConditionUnmet {
        /// Which.
        unmet: Unmet,
    },
    /// The caller's grants lie below what was asked.
    ScopeExceedsGrant {
        /// What was asked.
        resource: SignedResource,
        /// Whether the account could sign a directory.
        hierarchical_namespace: bool,
    },
    /// A flat account has no directories to sign.
    DirectoryNeedsNamespace,
    /// The account is switched off.
    IssuanceDisabled,
    /// The broker's configuration does not issue these letters.
    PermissionDisabled {
        /// Which.
        disabled: PermissionSet,
    },
    /// What may be given would end too soon.
    WindowTooShort {
        /// Shortest lifetime, in seconds.
        minimum_seconds: u32,
        /// What ends it.
        bounds: Vec<Bound>,
    },
    /// Group grants matter here, and the token says nothing about groups.
    GroupsMissing,
    /// Group grants matter here, and the caller is in more groups than a token can carry.
    GroupsOverage,
}

/// Declares the codes once: variant, stable text.
macro_rules! codes {
    ($($variant:ident => $text:literal),* $(,)?) => {
        /// The stable code of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusalCode {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its text in problem documents and journal records.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

codes! {
    NoGrant => "no-grant",
    PermissionNotGranted => "permission-not-granted",
    Denied => "denied",
    IpRequired => "ip-required",
    IpNotAllowed => "ip-not-allowed",
    NetworkNotAllowed => "network-not-allowed",
    ScopeExceedsGrant => "scope-exceeds-grant",
    DirectoryNeedsNamespace => "directory-needs-namespace",
    IssuanceDisabled => "issuance-disabled",
    PermissionDisabled => "permission-disabled",
    WindowTooShort => "window-too-short",
    GroupsMissing => "groups-missing",
    GroupsOverage => "groups-overage",
}

impl Refusal {
    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::NoGrant => RefusalCode::NoGrant,
            Self::PermissionNotGranted { .. } => RefusalCode::PermissionNotGranted,
            Self::Denied { .. } => RefusalCode::Denied,
            Self::ConditionUnmet { unmet } => match unmet {
                Unmet::IpMissing => RefusalCode::IpRequired,
                Unmet::IpOutside => RefusalCode::IpNotAllowed,
                Unmet::CallerNetwork => RefusalCode::NetworkNotAllowed,
            },
            Self::ScopeExceedsGrant { .. } => RefusalCode::ScopeExceedsGrant,
            Self::DirectoryNeedsNamespace => RefusalCode::DirectoryNeedsNamespace,
            Self::IssuanceDisabled => RefusalCode::IssuanceDisabled,
            Self::PermissionDisabled { .. } => RefusalCode::PermissionDisabled,
            Self::WindowTooShort { .. } => RefusalCode::WindowTooShort,
            Self::GroupsMissing => RefusalCode::GroupsMissing,
            Self::GroupsOverage => RefusalCode::GroupsOverage,
        }
    }

    /// Grants that weighed in it, for the journal.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantRef> {
        match self {
            Self::Denied { grant, .. } => vec![*grant],
            _ => Vec::new(),
        }
    }

    /// What the caller can do about it, where it is safe to say.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoGrant => {
                Some("ask the account's owner for a grant, naming account and container")
            }
            Self::PermissionNotGranted { .. } => {
                Some("ask for the granted letters only; nothing is narrowed silently")
            }
            Self::ConditionUnmet {
                unmet: Unmet::IpMissing,
            } => Some("name the address that will use the token in `ip`; it is never inferred"),
            Self::ScopeExceedsGrant {
                hierarchical_namespace: true,
                ..
            } => Some("ask for `resource: directory` with a path under your grant's prefix"),
            Self::ScopeExceedsGrant {
                hierarchical_namespace: false,
                ..
            } => Some(
                "on a flat account a prefix cannot be signed: name blobs one by one or in a batch; \
                 listing needs a container of its own or an account with hierarchical namespace",
            ),
            Self::DirectoryNeedsNamespace => Some(
                "name blobs one by one or in a batch, or use a container per team or an account \
                 with hierarchical namespace",
            ),
            Self::GroupsMissing => {
                Some("let Entra put the groups claim into tokens, or use app roles")
            }
            Self::GroupsOverage => Some(
                "assign app roles, or configure Entra to send groups assigned to the application",
            ),
            Self::Denied { .. }
            | Self::ConditionUnmet { .. }
            | Self::IssuanceDisabled
            | Self::PermissionDisabled { .. }
            | Self::WindowTooShort { .. } => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGrant => f.write_str("no grant covers this request"),
            Self::PermissionNotGranted { missing, granted } if granted.is_empty() => {
                write!(f, "your grants here do not give {missing}")
            }
            Self::PermissionNotGranted { missing, granted } => {
                write!(f, "your grants here give {granted} but not {missing}")
            }
            Self::Denied { grant, denied } => write!(f, "deny {} takes {denied}", grant.id),
            Self::ConditionUnmet { unmet } => unmet.fmt(f),
            Self::ScopeExceedsGrant { .. } => {
                f.write_str("your grants cover only a part of what you ask for")
            }
            Self::DirectoryNeedsNamespace => f.write_str(
                "a directory cannot be signed on an account without hierarchical namespace",
            ),
            Self::IssuanceDisabled => f.write_str("issuing is switched off for this account"),
            Self::PermissionDisabled { disabled } => {
                write!(f, "this broker is not configured to issue {disabled}")
            }
            Self::WindowTooShort {
                minimum_seconds,
                bounds,
            } => {
                write!(f, "the token would live less than {minimum_seconds} s (")?;
                for (i, bound) in bounds.iter().enumerate() {
                    write!(f, "{}{bound}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Self::GroupsMissing => {
                f.write_str("group grants matter here, but your token does not name your groups")
            }
            Self::GroupsOverage => f.write_str(
                "group grants matter here, but you are in more groups than a token can carry",
            ),
        }
    }
}
