//! What a caller asks for, with everything checked that can be checked without knowing the caller.

use super::{
    audit::Asked,
    ids::{AccountName, BlobPath, ContainerName},
    permission::{PermissionSet, SignedResource},
    sas::SignedIp,
};

/// What the token shall open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The whole container.
    Container,
    /// One blob.
    Blob(BlobPath),
    /// A directory and all below it.
    Directory(BlobPath),
}

impl Target {
    /// The target of a request that names a path, a resource, or both; without a resource, a path
    /// means a blob and no path means the container.
    ///
    /// # Errors
    /// If path and resource do not go together.
    pub fn new(
        resource: Option<SignedResource>,
        path: Option<BlobPath>,
    ) -> Result<Self, InvalidRequest> {
        match (resource, path) {
            (None | Some(SignedResource::Container), None) => Ok(Self::Container),
            (None | Some(SignedResource::Blob), Some(path)) => Ok(Self::Blob(path)),
            (Some(SignedResource::Directory), Some(path)) => Ok(Self::Directory(path)),
            (Some(SignedResource::Blob | SignedResource::Directory), None) => {
                Err(InvalidRequest::PathMissing)
            }
            (Some(SignedResource::Container), Some(_)) => Err(InvalidRequest::PathOfContainer),
            (Some(SignedResource::BlobSnapshot | SignedResource::BlobVersion), _) => {
                Err(InvalidRequest::ResourceNotOffered)
            }
        }
    }

    /// The signed resource.
    #[must_use]
    pub const fn resource(&self) -> SignedResource {
        match self {
            Self::Container => SignedResource::Container,
            Self::Blob(_) => SignedResource::Blob,
            Self::Directory(_) => SignedResource::Directory,
        }
    }

    /// The path, if there is one.
    #[must_use]
    pub const fn path(&self) -> Option<&BlobPath> {
        match self {
            Self::Container => None,
            Self::Blob(path) | Self::Directory(path) => Some(path),
        }
    }

    /// Whether a scope with this prefix covers the whole target.
    #[must_use]
    pub fn is_within(&self, prefix: Option<&BlobPath>) -> bool {
        match (prefix, self.path()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(prefix), Some(path)) => prefix.contains(path),
        }
    }

    /// Whether the target reaches beyond the prefix, above it.
    #[must_use]
    pub fn is_above(&self, prefix: Option<&BlobPath>) -> bool {
        match (prefix, self) {
            (None, _) | (_, Self::Blob(_)) => false,
            (Some(_), Self::Container) => true,
            (Some(prefix), Self::Directory(path)) => path.contains(prefix) && path != prefix,
        }
    }
}

/// One request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRequest {
    /// Storage account.
    pub account: AccountName,
    /// Container.
    pub container: ContainerName,
    /// What in it.
    pub target: Target,
    /// Letters, legal for the target.
    pub permissions: PermissionSet,
    /// Asked lifetime in seconds, from now to the expiry; `None` takes the default.
    pub lifetime_seconds: Option<u32>,
    /// Client address or range that the token shall be bound to.
    pub ip: Option<SignedIp>,
    /// Whether the token shall be bound to the caller's own identity.
    pub bind_to_caller: bool,
}

/// Why a request makes no sense, whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Blob and directory need a path.
    #[error("a blob or directory needs a path")]
    PathMissing,
    /// A container has none.
    #[error("a container takes no path; leave out the path, or ask for a blob or directory")]
    PathOfContainer,
    /// Snapshots and versions are signed by no endpoint.
    #[error("resource must be blob, container or directory")]
    ResourceNotOffered,
    /// The service would refuse the token.
    #[error("permissions {illegal} do not exist for this resource, which knows {legal}")]
    IllegalPermissions {
        /// Letters that do not exist there.
        illegal: PermissionSet,
        /// Letters that do.
        legal: PermissionSet,
    },
}

impl AccessRequest {
    /// Checks the letters against the target.
    ///
    /// # Errors
    /// [`InvalidRequest::IllegalPermissions`].
    pub fn checked(self) -> Result<Self, InvalidRequest> {
        let legal = self.target.resource().legal();
        let illegal = self.permissions.difference(legal);
        if illegal.is_empty() {
            Ok(self)
        } else {
            Err(InvalidRequest::IllegalPermissions { illegal, legal })
        }
    }

    /// The request as the journal names it.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            account: self.account.clone(),
            container: self.container.clone(),
            path: self.target.path().cloned(),
            resource: self.target.resource(),
            permissions: self.permissions,
        }
    }
}
