//! Every key, its type, its default. What a key means is told to people in [`super::EXAMPLE`].

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, value::StringDeserializer},
};
use url::Url;
use uuid::Uuid;

use crate::domain::{
    cloud::{Cloud, CloudName},
    ids::{AppRole, SigningIdentity, TenantId},
    permission::PermissionSet,
    permit::AccessRules,
    sas::ServiceVersion,
    validity::{LIFETIME_SECONDS_DEFAULT, LIFETIME_SECONDS_MAX, LIFETIME_SECONDS_MIN, Limits},
    webhook::{EventSource, WebhookUrl},
};

/// One of a few words. The `config` crate's own reading of an enum does not say which there are.
fn word<'de, T, D>(source: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let text: StringDeserializer<D::Error> = String::deserialize(source)?.into_deserializer();
    T::deserialize(text)
}

/// All sections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The listener.
    #[serde(default)]
    pub server: Server,
    /// Which Azure.
    #[serde(default)]
    pub cloud: CloudSection,
    /// Who may call.
    pub entra: Entra,
    /// Where the role table and the journal live.
    #[serde(default)]
    pub database: Database,
    /// Limits on what is issued.
    #[serde(default)]
    pub issuing: Issuing,
    /// The broker's own identities, by the name that accounts refer to.
    pub credentials: BTreeMap<SigningIdentity, Credential>,
    /// Whether this process rotates keys.
    #[serde(default)]
    pub rotation: Rotation,
    /// Prometheus metrics; none if it is left out.
    pub metrics: Option<Metrics>,
    /// Who is told about rotations; nobody if it is left out.
    pub webhook: Option<Webhook>,
    /// The log.
    #[serde(default)]
    pub log: Log,
}

/// Whether this process rotates keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// Whether it may hold the lease. Of all that may, one does.
    pub enabled: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// The listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// PEM certificate chain; together with `tls_key`.
    pub tls_certificate: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// A proxy in front terminates TLS, so plain HTTP may leave the loopback.
    pub tls_terminated_by_proxy: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a request may take, in seconds.
    pub request_timeout_seconds: u64,
    /// How long in-flight requests may take after a stop signal, in seconds.
    pub shutdown_seconds: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls_certificate: None,
            tls_key: None,
            tls_terminated_by_proxy: false,
            trusted_proxies: Vec::new(),
            request_timeout_seconds: 30,
            shutdown_seconds: 30,
        }
    }
}

/// Which Azure.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudSection {
    /// A cloud by name, or `custom`.
    #[serde(deserialize_with = "word")]
    pub name: CloudName,
    /// Entra's authority, of a custom cloud.
    pub authority: Option<Url>,
    /// Storage suffix, of a custom cloud.
    pub storage_suffix: Option<String>,
    /// Azure Resource Manager, of a custom cloud.
    pub resource_manager: Option<Url>,
    /// Audience of tokens for it, of a custom cloud; its URL, if it is left out.
    pub resource_manager_audience: Option<String>,
    /// Key Vault suffix, of a custom cloud.
    pub vault_suffix: Option<String>,
    /// `api-version` of calls to Azure Resource Manager; a built-in one, if it is left out.
    pub resource_manager_api_version: Option<String>,
    /// `api-version` of calls to Key Vault; a built-in one, if it is left out.
    pub vault_api_version: Option<String>,
    /// Storage and Key Vault hosts that are trusted besides the cloud's own.
    pub allowed_hosts: Vec<String>,
    /// PEM file of certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl CloudSection {
    /// The cloud's hosts.
    ///
    /// # Panics
    /// If the section was not checked: a custom cloud must name its authority.
    #[must_use]
    pub fn cloud(&self) -> Cloud {
        let custom = || Cloud {
            authority: self
                .authority
                .clone()
                .expect("a checked custom cloud names its authority"),
            storage_suffix: self.storage_suffix.clone(),
            resource_manager: self.resource_manager.clone(),
            vault_suffix: self.vault_suffix.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
        };
        let well_known = self.name.well_known(self.allowed_hosts.clone());
        well_known.unwrap_or_else(custom)
    }
}

/// Who may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entra {
    /// Accepted `aud` values: the broker's own registration.
    pub audiences: Vec<String>,
    /// Directories whose tokens count.
    pub tenants: Vec<Tenant>,
    /// Scope that a person's token needs.
    #[serde(default = "default_user_scope")]
    pub user_scope: String,
    /// App role that an application's token needs.
    #[serde(default = "default_application_role")]
    pub application_role: AppRole,
    /// Tolerance for `exp` and `nbf`, in seconds.
    #[serde(default = "default_clock_skew_seconds")]
    pub clock_skew_seconds: u32,
    /// Oldest accepted token, in seconds since `iat`.
    #[serde(default = "default_token_age_seconds_max")]
    pub token_age_seconds_max: u32,
}

fn default_user_scope() -> String {
    AccessRules::default().user_scope
}

fn default_application_role() -> AppRole {
    AccessRules::default().application_role
}

const fn default_clock_skew_seconds() -> u32 {
    120
}

const fn default_token_age_seconds_max() -> u32 {
    7_200
}

impl Entra {
    /// What a token must carry.
    #[must_use]
    pub fn access_rules(&self) -> AccessRules {
        let only = self.tenants.len() == 1;
        let administers = |tenant: &&Tenant| tenant.administers.unwrap_or(only);
        let administering = self.tenants.iter().filter(administers);
        AccessRules {
            user_scope: self.user_scope.clone(),
            application_role: self.application_role.clone(),
            administering_tenants: administering.map(|tenant| tenant.id).collect(),
        }
    }
}

/// One directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Whether its tokens carry the groups claim.
    #[serde(default, deserialize_with = "word")]
    pub groups_claim: GroupsClaim,
    /// Whether the app roles of operators count in its tokens: whoever administers the directory
    /// assigns them. If it is left out, only where it is the only one.
    pub administers: Option<bool>,
}

/// Whether tokens of a tenant name the caller's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupsClaim {
    /// Group grants cannot be weighed.
    #[default]
    Absent,
    /// The app registration sends it.
    Configured,
}

/// Where the role table and the journal live.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite://FILE` or `postgres://…`; a secret, as it may hold a password.
    pub url: SecretString,
    /// Most connections for reading; one for writing comes on top.
    pub connections_max: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: "sqlite://sas-broker.db".into(),
            connections_max: 8,
        }
    }
}

/// Limits on what is issued.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Issuing {
    /// `sv` of every token.
    pub service_version: ServiceVersion,
    /// Lifetime of a token that names none, in seconds.
    pub lifetime_seconds_default: u32,
    /// Shortest lifetime, in seconds.
    pub lifetime_seconds_min: u32,
    /// Longest lifetime, in seconds.
    pub lifetime_seconds_max: u32,
    /// Letters of `yopi` that may be issued; usually none.
    pub privileged_permissions: String,
    /// Life of a delegation key, in seconds from its back-dated start.
    pub delegation_key_seconds: u32,
}

impl Default for Issuing {
    fn default() -> Self {
        Self {
            service_version: ServiceVersion::DEFAULT,
            lifetime_seconds_default: LIFETIME_SECONDS_DEFAULT,
            lifetime_seconds_min: LIFETIME_SECONDS_MIN,
            lifetime_seconds_max: LIFETIME_SECONDS_MAX,
            privileged_permissions: String::new(),
            delegation_key_seconds: 86_400,
        }
    }
}

impl Issuing {
    /// The limits of a decision. Letters that are not [`PermissionSet::PRIVILEGED`] do not count.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let letters = self
            .privileged_permissions
            .parse()
            .unwrap_or(PermissionSet::EMPTY);
        Limits {
            lifetime_seconds_default: self.lifetime_seconds_default,
            lifetime_seconds_min: self.lifetime_seconds_min,
            lifetime_seconds_max: self.lifetime_seconds_max,
            privileged_permissions: letters.intersection(PermissionSet::PRIVILEGED),
        }
    }
}

/// One of the broker's own identities. The kind is explicit: nothing is guessed or tried in turn.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// The machine's managed identity.
    ManagedIdentity {
        /// Of a user-assigned identity.
        #[serde(default)]
        client_id: Option<Uuid>,
    },
    /// A federated token from a file (AKS).
    WorkloadIdentity {
        /// Directory.
        tenant_id: TenantId,
        /// Application.
        client_id: Uuid,
        /// The projected token.
        token_file: PathBuf,
    },
    /// An application's secret.
    ClientSecret {
        /// Directory.
        tenant_id: TenantId,
        /// Application.
        client_id: Uuid,
        /// File that holds the secret.
        #[serde(default)]
        secret_file: Option<PathBuf>,
        /// Environment variable that holds the secret.
        #[serde(default)]
        secret_env: Option<String>,
    },
    /// An application's certificate.
    Certificate {
        /// Directory.
        tenant_id: TenantId,
        /// Application.
        client_id: Uuid,
        /// PEM certificate.
        certificate_file: PathBuf,
        /// PEM private key.
        key_file: PathBuf,
    },
    /// Whoever is signed in to `az` or `azd` on this machine.
    Developer,
}

/// Prometheus metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address and port of their own listener.
    pub listen: SocketAddr,
    /// Only Prometheus can reach the address, so it may be another than loopback.
    #[serde(default)]
    pub beyond_loopback: bool,
}

/// The webhook that is told about rotations.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where events are sent.
    pub url: WebhookUrl,
    /// File that holds the secret that signs them.
    pub secret_file: Option<PathBuf>,
    /// Environment variable that holds it.
    pub secret_env: Option<String>,
    /// While the secret is being replaced: file that holds the former one, which signs as well.
    pub former_secret_file: Option<PathBuf>,
    /// Environment variable that holds it.
    pub former_secret_env: Option<String>,
    /// The events' `source`.
    #[serde(default)]
    pub source: EventSource,
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For machines or for people.
    #[serde(deserialize_with = "word")]
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `sas_broker=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            filter: "info".to_owned(),
        }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}
