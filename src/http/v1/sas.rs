//! What a request for a token looks like, and its answer: shared by the endpoints that take one, a
//! thousand, or only explain.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::record::Recorded,
    domain::{
        permission::SignedResource,
        request::{AccessRequest, Target},
        sas::SIGNED_PROTOCOL,
        time_text::to_text,
    },
    http::problem::{Problem, code},
};

/// A request for a token.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SasRequest {
    /// Storage account.
    #[schema(example = "acct1", pattern = "^[a-z0-9]{3,24}$")]
    pub account: String,
    /// Container or file system.
    #[schema(example = "raw", min_length = 3, max_length = 63)]
    pub container: String,
    /// Blob or directory path inside the container; none for the whole container.
    #[schema(example = "2026/11/file.csv", max_length = 1024)]
    pub path: Option<String>,
    /// What the token opens; `blob` if there is a path, else `container`.
    pub resource: Option<ResourceKind>,
    /// Permission letters of `racwdxyltfmeopi`, in any order, each once.
    #[schema(example = "r", pattern = "^[racwdxyltfmeopi]{1,15}$")]
    pub permissions: String,
    /// Life of the token in seconds from now; shortened to what is allowed.
    #[schema(example = 900, minimum = 1)]
    pub lifetime_seconds: Option<u32>,
    /// The one IPv4 address, or inclusive range `a-b`, that may use the token.
    #[schema(example = "203.0.113.7")]
    pub ip: Option<String>,
    /// Bind the token to the caller: it then works only together with a bearer token of theirs.
    #[serde(default)]
    #[schema(default = false)]
    pub bind_to_caller: bool,
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// One blob.
    Blob,
    /// The whole container.
    Container,
    /// A directory and all below it; hierarchical namespace only.
    Directory,
}

impl From<ResourceKind> for SignedResource {
    fn from(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::Blob => Self::Blob,
            ResourceKind::Container => Self::Container,
            ResourceKind::Directory => Self::Directory,
        }
    }
}

impl SasRequest {
    /// Checks everything that can be checked without knowing the caller.
    ///
    /// # Errors
    /// The problem `invalid-request`, naming the member. `lifetime_seconds_min` is the broker's
    /// shortest lifetime.
    pub fn parse(self, lifetime_seconds_min: u32) -> Result<AccessRequest, Problem> {
        let invalid = |member: &str, error: &dyn std::fmt::Display| {
            Problem::new(code::INVALID_REQUEST, format!("{member}: {error}"))
        };
        let path = self.path.map(|path| path.parse()).transpose();
        let path = path.map_err(|error| invalid("path", &error))?;
        let ip = self.ip.map(|ip| ip.parse()).transpose();
        if let Some(seconds) = self.lifetime_seconds.filter(|s| *s < lifetime_seconds_min) {
            let detail = format!("must be at least {lifetime_seconds_min}, not {seconds}");
            return Err(invalid("lifetime_seconds", &detail));
        }
        AccessRequest {
            account: self
                .account
                .parse()
                .map_err(|error| invalid("account", &error))?,
            container: self
                .container
                .parse()
                .map_err(|error| invalid("container", &error))?,
            target: Target::new(self.resource.map(Into::into), path)
                .map_err(|error| invalid("resource", &error))?,
            permissions: self
                .permissions
                .parse()
                .map_err(|error| invalid("permissions", &error))?,
            lifetime_seconds: self.lifetime_seconds,
            ip: ip.map_err(|error| invalid("ip", &error))?,
            bind_to_caller: self.bind_to_caller,
        }
        .checked()
        .map_err(|error| invalid("permissions", &error))
    }
}

/// A token that was issued. Made from [`Recorded`] alone: what has no record cannot be answered.
#[derive(Serialize, ToSchema)]
pub struct SasAnswer {
    /// The issuance; signed as `scid` where the endpoint supports it.
    id: Uuid,
    /// The token: a query string without `?`. A secret.
    #[schema(example = "st=…&se=…&sp=r&spr=https&sv=2025-11-05&sr=b&…&sig=…")]
    token: String,
    /// The whole URL with the token; on the dfs host for a directory. A secret.
    url: String,
    /// Storage account.
    account: String,
    /// Container or file system.
    container: String,
    /// Blob or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// What the token opens.
    #[schema(value_type = ResourceKind)]
    resource: SignedResource,
    /// Letters, in the order in which they are signed.
    permissions: String,
    /// Always `https`.
    #[schema(example = "https")]
    protocol: &'static str,
    /// The address or range that may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    /// The user that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_to: Option<Uuid>,
    /// `st`, exactly as signed.
    #[schema(format = DateTime, example = "2026-11-23T09:45:00Z")]
    starts_at: String,
    /// `se`, exactly as signed.
    #[schema(format = DateTime, example = "2026-11-23T10:15:00Z")]
    expires_at: String,
    /// When to fetch the next token: two thirds of the way to the end.
    #[schema(format = DateTime, example = "2026-11-23T10:10:00Z")]
    refresh_after: String,
    /// What decided the end.
    #[schema(example = json!(["role reader: 3600 s"]))]
    bounded_by: Vec<String>,
}

impl From<&Recorded> for SasAnswer {
    fn from(recorded: &Recorded) -> Self {
        let issued = recorded.issued();
        Self {
            id: issued.id.0,
            token: recorded.expose_token().to_owned(),
            url: recorded.expose_url().to_owned(),
            account: issued.asked.account.to_string(),
            container: issued.asked.container.to_string(),
            path: issued.asked.path.as_ref().map(ToString::to_string),
            resource: issued.asked.resource,
            permissions: issued.asked.permissions.to_string(),
            protocol: SIGNED_PROTOCOL,
            ip: issued.ip.clone(),
            bound_to: issued.bound_to.map(|object_id| object_id.0),
            starts_at: to_text(recorded.window().starts_at),
            expires_at: to_text(recorded.window().expires_at),
            refresh_after: to_text(recorded.refresh_after()),
            bounded_by: issued.bounded_by.clone(),
        }
    }
}
