//! Who exists in the simulated tenants, and what each of them was given.
//!
//! Lookups over the specification, nothing that changes. What is made of the answers is in
//! `grants`.

use std::collections::BTreeSet;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::{Uuid, uuid};

use super::super::spec::{ApiSpec, ApplicationSpec, TenantSpec, TokenVersion, UserSpec};

/// Client id of Azure Storage itself, the same in every tenant.
const STORAGE_CLIENT_ID: Uuid = uuid!("e406a681-f3d4-42a8-90b6-c2b029497af1");
/// Application id URI of Azure Storage, without the trailing slash some clients add.
const STORAGE_URI: &str = "https://storage.azure.com";

/// All tenants.
pub(super) struct Directory {
    tenants: Vec<TenantSpec>,
}

/// An application that tokens can be asked for.
pub(super) struct Resource {
    /// Its client id: the audience of v2 tokens.
    pub(super) client_id: Uuid,
    /// The accepting side of its registration.
    pub(super) api: ApiSpec,
}

impl Directory {
    pub(super) fn new(tenants: Vec<TenantSpec>) -> Self {
        Self { tenants }
    }

    pub(super) fn tenant(&self, id: &str) -> Option<&TenantSpec> {
        let id = Uuid::try_parse(id).ok()?;
        self.tenants.iter().find(|tenant| tenant.id == id)
    }
}

/// The application with this client id.
pub(super) fn application<'a>(
    tenant: &'a TenantSpec,
    client_id: &str,
) -> Option<&'a ApplicationSpec> {
    let client_id = Uuid::try_parse(client_id).ok()?;
    tenant
        .applications
        .iter()
        .find(|application| application.client_id == client_id)
}

/// The user with this sign-in name and password; names are compared without case.
pub(super) fn user<'a>(tenant: &'a TenantSpec, name: &str, password: &str) -> Option<&'a UserSpec> {
    tenant
        .users
        .iter()
        .find(|user| user.user_name.eq_ignore_ascii_case(name))
        .filter(|user| secret_equals(&user.password, password))
}

/// Whether one of the application's secrets is `shown`.
pub(super) fn has_secret(application: &ApplicationSpec, shown: &str) -> bool {
    application
        .secrets
        .iter()
        .any(|secret| secret_equals(secret, shown))
}

/// The resource that answers to `identifier`: a client id, an application id URI, or one of Azure
/// Storage's names.
pub(super) fn resource(tenant: &TenantSpec, identifier: &str) -> Option<Resource> {
    if is_storage(identifier) {
        let api = ApiSpec {
            app_id_uri: STORAGE_URI.into(),
            accepted_token_version: TokenVersion::V1,
            scopes: vec!["user_impersonation".into()],
            ..ApiSpec::default()
        };
        return Some(Resource {
            client_id: STORAGE_CLIENT_ID,
            api,
        });
    }
    tenant.applications.iter().find_map(|application| {
        let api = application.api.as_ref()?;
        let named = identifier.trim_end_matches('/') == api.app_id_uri.trim_end_matches('/')
            || Uuid::try_parse(identifier) == Ok(application.client_id);
        named.then(|| Resource {
            client_id: application.client_id,
            api: api.clone(),
        })
    })
}

/// Whether this audience or resource identifier means Azure Storage.
pub(super) fn is_storage(identifier: &str) -> bool {
    identifier.trim_end_matches('/') == STORAGE_URI
        || Uuid::try_parse(identifier) == Ok(STORAGE_CLIENT_ID)
}

/// The app roles of a principal: its own and those of its groups, sorted, each once.
pub(super) fn app_roles(api: &ApiSpec, principal: Uuid, groups: &[Uuid]) -> Vec<String> {
    let roles: BTreeSet<&String> = api
        .app_role_assignments
        .iter()
        .filter(|given| given.principal == principal || groups.contains(&given.principal))
        .map(|given| &given.role)
        .collect();
    roles.into_iter().cloned().collect()
}

fn secret_equals(secret: &SecretString, shown: &str) -> bool {
    verify_slices_are_equal(secret.expose_secret().as_bytes(), shown.as_bytes()).is_ok()
}
