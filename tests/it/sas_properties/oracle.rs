//! Microsoft's own crate as a second oracle. It signs one service version, [`VERSION`], knows no
//! letter `f`, and puts a snapshot's time into the token, which no other official SDK does.

use azure_storage_common::models::UserDelegationKey;
use azure_storage_sas::{SasBuilder, SasIpRange, SasProtocol};
use sas_broker::domain::{
    permission::PermissionSet,
    sas::{EndUser, SasSpec, SasTarget},
};

/// The service version that it signs.
pub(super) const VERSION: &str = "2026-04-06";

/// What the other crate makes of the same spec. Its states share setters by name only, so that a
/// macro stands for what would be a generic function.
pub(super) fn token(spec: &SasSpec, key: &UserDelegationKey) -> String {
    macro_rules! permit {
        ($builder:ident, $($letter:literal => $method:ident),*) => {
            $(if spec.permissions.contains(PermissionSet::of($letter)) {
                $builder = $builder.$method();
            })*
        };
    }
    macro_rules! set {
        ($builder:ident, $($method:ident: $value:expr),*) => {
            $(if let Some(value) = &$value { $builder = $builder.$method(value.to_string()); })*
        };
    }
    macro_rules! finish {
        ($builder:ident) => {{
            permit!($builder, b"r" => read, b"a" => add, b"c" => create, b"w" => write,
                b"d" => delete, b"x" => delete_version, b"y" => permanent_delete, b"t" => tags,
                b"m" => move_blob, b"e" => execute, b"o" => ownership, b"p" => permissions,
                b"i" => set_immutability_policy);
            let headers = &spec.response_headers;
            set!($builder, encryption_scope: spec.encryption_scope,
                cache_control: headers.cache_control,
                content_disposition: headers.content_disposition,
                content_encoding: headers.content_encoding,
                content_language: headers.content_language,
                content_type: headers.content_type,
                correlation_id: spec.correlation_id);
            let (authorized, unauthorized) = match spec.end_user {
                Some(EndUser::Authorized(object_id)) => (Some(object_id), None),
                Some(EndUser::Unauthorized(object_id)) => (None, Some(object_id)),
                None => (None, None),
            };
            set!($builder, authorized_object_id: authorized,
                unauthorized_object_id: unauthorized);
            for pair in &spec.request_headers {
                $builder = $builder.signed_request_header(pair.name(), pair.value());
            }
            for pair in &spec.request_query {
                $builder = $builder.signed_request_query_parameter(pair.name(), pair.value());
            }
            $builder.build()
        }};
    }
    let common = common(spec, key);
    let container = spec.container.as_str();
    match &spec.target {
        SasTarget::Container => {
            let mut builder = common.container(container);
            permit!(builder, b"l" => list);
            finish!(builder)
        }
        SasTarget::Directory(path) => {
            let mut builder = common.directory(container, path.as_str());
            permit!(builder, b"l" => list);
            finish!(builder)
        }
        SasTarget::Blob(path) => {
            let mut builder = common.blob(container, path.as_str());
            finish!(builder)
        }
        SasTarget::BlobSnapshot { path, snapshot } => {
            let mut builder = common
                .blob(container, path.as_str())
                .snapshot(snapshot.as_str());
            finish!(builder)
        }
        SasTarget::BlobVersion { path, version_id } => {
            let mut builder = common
                .blob(container, path.as_str())
                .version(version_id.as_str());
            finish!(builder)
        }
    }
}

/// What it can be told before it knows the resource.
fn common<'a>(spec: &SasSpec, key: &'a UserDelegationKey) -> SasBuilder<'a> {
    let account = spec.account.as_str();
    let mut common = SasBuilder::new(account, key, spec.expiry)
        .unwrap()
        .protocol(SasProtocol::Https);
    if let Some(start) = spec.start {
        common = common.start(start);
    }
    if let Some(ip) = spec.ip {
        let (start, end) = (ip.first(), ip.last());
        let range = ip.to_string().contains('-');
        common = common.ip_range(if range {
            SasIpRange::InclusiveRange { start, end }
        } else {
            SasIpRange::Address(start)
        });
    }
    if let Some(object_id) = spec.delegated_user_object_id {
        common = common.delegated_user_object_id(object_id.to_string());
    }
    common
}
