//! What a method and a path ask of a vault, and the role action it takes. Pure.

use actix_web::http::Method;

use super::super::fault::Endpoint;
use super::super::spec::VaultRole;

/// Every call that is simulated. A version of `None` is the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Set(String),
    Get(String, Option<String>),
    Versions(String),
    Secrets,
    Update(String, Option<String>),
    Delete(String),
    GetDeleted(String),
    DeletedSecrets,
    Recover(String),
    Purge(String),
}

/// The data actions of Key Vault's role definitions, as far as secrets need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    GetSecret,
    ReadMetadata,
    SetSecret,
    Update,
    Delete,
    Recover,
    Purge,
}

impl Action {
    /// The action's name in role definitions and refusals.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GetSecret => "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            Self::ReadMetadata => "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            Self::SetSecret => "Microsoft.KeyVault/vaults/secrets/setSecret/action",
            Self::Update => "Microsoft.KeyVault/vaults/secrets/update/action",
            Self::Delete => "Microsoft.KeyVault/vaults/secrets/delete",
            Self::Recover => "Microsoft.KeyVault/vaults/secrets/recover/action",
            Self::Purge => "Microsoft.KeyVault/vaults/secrets/purge/action",
        }
    }

    pub(super) fn is_held_by(self, role: VaultRole) -> bool {
        match role {
            VaultRole::SecretsOfficer => true,
            VaultRole::SecretsUser => matches!(self, Self::GetSecret | Self::ReadMetadata),
            VaultRole::Reader => self == Self::ReadMetadata,
        }
    }
}

impl Call {
    /// Reads a method and the decoded segments of a path. The official clients write a trailing
    /// slash for "no version"; it makes no segment.
    pub(super) fn of(method: &Method, segments: &[String]) -> Option<Self> {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (collection, rest) = segments.split_first()?;
        let deleted = match collection.to_ascii_lowercase().as_str() {
            "secrets" => false,
            "deletedsecrets" => true,
            _ => return None,
        };
        let name = |name: &&str| (*name).to_owned();
        match (method.as_str(), deleted, rest) {
            ("GET", false, []) => Some(Self::Secrets),
            ("GET", false, [secret]) => Some(Self::Get(name(secret), None)),
            ("GET", false, [secret, "versions"]) => Some(Self::Versions(name(secret))),
            ("GET", false, [secret, id]) => Some(Self::Get(name(secret), Some(name(id)))),
            ("PUT", false, [secret]) => Some(Self::Set(name(secret))),
            ("PATCH", false, [secret]) => Some(Self::Update(name(secret), None)),
            ("PATCH", false, [secret, id]) => Some(Self::Update(name(secret), Some(name(id)))),
            ("DELETE", false, [secret]) => Some(Self::Delete(name(secret))),
            ("GET", true, []) => Some(Self::DeletedSecrets),
            ("GET", true, [secret]) => Some(Self::GetDeleted(name(secret))),
            ("POST", true, [secret, "recover"]) => Some(Self::Recover(name(secret))),
            ("DELETE", true, [secret]) => Some(Self::Purge(name(secret))),
            _ => None,
        }
    }

    /// The secret it is about, if it is about one.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Set(name)
            | Self::Get(name, _)
            | Self::Versions(name)
            | Self::Update(name, _)
            | Self::Delete(name)
            | Self::GetDeleted(name)
            | Self::Recover(name)
            | Self::Purge(name) => Some(name),
            Self::Secrets | Self::DeletedSecrets => None,
        }
    }

    pub(super) fn action(&self) -> Action {
        match self {
            Self::Set(_) => Action::SetSecret,
            Self::Get(..) => Action::GetSecret,
            Self::Versions(_) | Self::Secrets | Self::GetDeleted(_) | Self::DeletedSecrets => {
                Action::ReadMetadata
            }
            Self::Update(..) => Action::Update,
            Self::Delete(_) => Action::Delete,
            Self::Recover(_) => Action::Recover,
            Self::Purge(_) => Action::Purge,
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self.action() {
            Action::SetSecret => Endpoint::VaultSet,
            Action::GetSecret => Endpoint::VaultGet,
            Action::ReadMetadata => Endpoint::VaultList,
            Action::Update => Endpoint::VaultUpdate,
            Action::Delete | Action::Recover | Action::Purge => Endpoint::VaultDelete,
        }
    }
}
