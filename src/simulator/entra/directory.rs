//! Who exists in the simulated tenants, and what each of them was given.
//!
//! Lookups over the specification, nothing that changes. What is made of the answers is in
//! `grants`.

use std::collections::BTreeSet;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::{Uuid, uuid};

use super::super::spec::{ApiSpec, ApplicationSpec, TenantSpec, TokenVersion, UserSpec};

/// A service of Azure itself that tokens can be asked for, the same in every tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AzureService {
    /// The data plane of storage.
    Storage,
    /// Azure Resource Manager.
    Arm,
    /// The data plane of Key Vault.
    Vault,
}

impl AzureService {
    const ALL: [Self; 3] = [Self::Storage, Self::Arm, Self::Vault];

    /// The client id of its registration.
    fn client_id(self) -> Uuid {
        match self {
            Self::Storage => uuid!("e406a681-f3d4-42a8-90b6-c2b029497af1"),
            Self::Arm => uuid!("797f4846-ba00-4fd7-ba43-dac1f8f63013"),
            Self::Vault => uuid!("cfa8b339-82a2-471a-a3c9-0fc0be7a4093"),
        }
    }

    /// Its application id URIs, without the trailing slash some clients add.
    fn uris(self) -> &'static [&'static str] {
        match self {
            Self::Storage => &["https://storage.azure.com"],
            Self::Arm => &[
                "https://management.azure.com",
                "https://management.core.windows.net",
            ],
            Self::Vault => &["https://vault.azure.net"],
        }
    }

    /// Whether this audience or resource identifier means the service.
    pub(super) fn is(self, identifier: &str) -> bool {
        self.uris().contains(&identifier.trim_end_matches('/'))
            || Uuid::try_parse(identifier) == Ok(self.client_id())
    }
}

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

/// The resource that answers to `identifier`: a client id, an application id URI, or one of the
/// names of Azure's own services.
pub(super) fn resource(tenant: &TenantSpec, identifier: &str) -> Option<Resource> {
    let mut services = AzureService::ALL.into_iter();
    if let Some(service) = services.find(|service| service.is(identifier)) {
        let api = ApiSpec {
            app_id_uri: service.uris()[0].into(),
            accepted_token_version: TokenVersion::V1,
            scopes: vec!["user_impersonation".into()],
            ..ApiSpec::default()
        };
        return Some(Resource {
            client_id: service.client_id(),
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
