//! Relations between keys that types cannot carry.

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use super::sections::{Config, Credential};
use crate::domain::{
    cloud::CloudName,
    permission::PermissionSet,
    sas::ServiceVersion,
    validity::{KEY_BACKDATE_SECONDS, KEY_LIFETIME_SECONDS_MAX, LIFETIME_SECONDS_CEILING},
};

/// Largest tolerance for token times, in seconds: what Microsoft's own validator allows.
const CLOCK_SKEW_SECONDS_MAX: u32 = 300;

/// Audiences of services whose tokens must never open the broker: whoever holds one for storage, ARM
/// or a vault would otherwise be a caller (confused deputy).
const FOREIGN_AUDIENCES: [&str; 6] = [
    "https://storage.azure.com",
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://vault.azure.net",
    "https://graph.microsoft.com",
    "00000003-0000-0000-c000-000000000000",
];

/// One key that makes no sense, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `server.listen`.
    pub key: String,
    /// What to do.
    pub fix: String,
}

/// Collects problems.
#[derive(Default)]
struct Report(Vec<Problem>);

impl Report {
    fn unless(&mut self, fine: bool, key: &str, fix: &str) {
        if !fine {
            self.0.push(Problem {
                key: key.to_owned(),
                fix: fix.to_owned(),
            });
        }
    }
}

impl Config {
    /// Everything wrong with it.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut report = Report::default();
        self.check_server(&mut report);
        self.check_cloud(&mut report);
        self.check_entra(&mut report);
        self.check_database(&mut report);
        self.check_issuing(&mut report);
        self.check_credentials(&mut report);
        self.check_signals(&mut report);
        report.unless(
            EnvFilter::try_new(&self.log.filter).is_ok(),
            "log.filter",
            "must be levels, alone or by module, such as info or sas_broker=debug,warn",
        );
        report.0
    }

    fn check_server(&self, report: &mut Report) {
        let server = &self.server;
        report.unless(
            server.tls_certificate.is_some() == server.tls_key.is_some(),
            "server.tls_key",
            "give tls_certificate and tls_key together, or neither",
        );
        let safe = server.listen.ip().is_loopback()
            || server.tls_certificate.is_some()
            || server.tls_terminated_by_proxy;
        report.unless(
            safe,
            "server.listen",
            "tokens would leave this machine in clear text: configure tls_certificate and tls_key, \
             or set tls_terminated_by_proxy = true if a proxy in front terminates TLS",
        );
        let seconds = 1..=300;
        report.unless(
            seconds.contains(&server.request_timeout_seconds),
            "server.request_timeout_seconds",
            "must be 1 to 300",
        );
        report.unless(
            seconds.contains(&server.shutdown_seconds),
            "server.shutdown_seconds",
            "must be 1 to 300",
        );
    }

    fn check_cloud(&self, report: &mut Report) {
        let cloud = &self.cloud;
        if cloud.name == CloudName::Custom {
            report.unless(
                cloud
                    .authority
                    .as_ref()
                    .is_some_and(|url| url.scheme() == "https"),
                "cloud.authority",
                "a custom cloud needs its Entra authority as an https URL",
            );
            report.unless(
                cloud.storage_suffix.is_some() || !cloud.allowed_hosts.is_empty(),
                "cloud.storage_suffix",
                "a custom cloud needs storage_suffix or allowed_hosts, or no account could be used",
            );
        } else {
            report.unless(
                cloud.authority.is_none()
                    && cloud.storage_suffix.is_none()
                    && cloud.resource_manager.is_none()
                    && cloud.resource_manager_audience.is_none()
                    && cloud.vault_suffix.is_none(),
                "cloud.name",
                "authority, storage_suffix, resource_manager, resource_manager_audience and vault_suffix \
                 belong to name = \"custom\"",
            );
        }
        report.unless(
            cloud
                .resource_manager
                .as_ref()
                .is_none_or(|url| url.scheme() == "https" && url.query().is_none()),
            "cloud.resource_manager",
            "must be an https URL, such as https://management.azure.com",
        );
        report.unless(
            cloud
                .resource_manager_audience
                .as_ref()
                .is_none_or(|text| !text.is_empty() && !text.contains(char::is_whitespace)),
            "cloud.resource_manager_audience",
            "write it without /.default, such as https://management.azure.com",
        );
        let suffix_ok = |suffix: &String| !suffix.is_empty() && !suffix.starts_with('.');
        report.unless(
            cloud.storage_suffix.as_ref().is_none_or(suffix_ok),
            "cloud.storage_suffix",
            "write it without a leading dot, such as core.windows.net",
        );
        report.unless(
            cloud.vault_suffix.as_ref().is_none_or(suffix_ok),
            "cloud.vault_suffix",
            "write it without a leading dot, such as vault.azure.net",
        );
        // `7.6`, `2025-08-01`, `2026-09-01-preview`: a typing error is told before the first call.
        let version_ok = |version: &String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            version.starts_with(|c: char| c.is_ascii_digit())
                && version.len() <= 32
                && version.chars().all(fits)
        };
        report.unless(
            cloud
                .resource_manager_api_version
                .as_ref()
                .is_none_or(version_ok),
            "cloud.resource_manager_api_version",
            "write an api-version of Microsoft.Storage, such as 2024-01-01",
        );
        report.unless(
            cloud.vault_api_version.as_ref().is_none_or(version_ok),
            "cloud.vault_api_version",
            "write an api-version of Key Vault's secrets, such as 7.6 or 2025-07-01",
        );
    }

    fn check_entra(&self, report: &mut Report) {
        let entra = &self.entra;
        report.unless(
            !entra.audiences.is_empty() && entra.audiences.iter().all(|a| !a.trim().is_empty()),
            "entra.audiences",
            "name the broker's own app registration: its client id, and its App ID URI for v1 tokens",
        );
        let foreign = |audience: &String| {
            let bare = audience.trim_end_matches('/').to_ascii_lowercase();
            FOREIGN_AUDIENCES.contains(&bare.as_str())
        };
        report.unless(
            !entra.audiences.iter().any(foreign),
            "entra.audiences",
            "must not hold the audience of storage, ARM, a vault or Graph: their tokens are not ours",
        );
        report.unless(
            !entra.tenants.is_empty(),
            "entra.tenants",
            "name at least one directory: [[entra.tenants]] id = \"…\"",
        );
        let mut ids: Vec<_> = entra.tenants.iter().map(|tenant| tenant.id).collect();
        ids.sort_unstable();
        ids.dedup();
        report.unless(
            ids.len() == entra.tenants.len(),
            "entra.tenants",
            "a tenant stands twice",
        );
        report.unless(
            entra.clock_skew_seconds <= CLOCK_SKEW_SECONDS_MAX,
            "entra.clock_skew_seconds",
            "must be at most 300",
        );
        report.unless(
            (300..=86_400).contains(&entra.token_age_seconds_max),
            "entra.token_age_seconds_max",
            "must be 300 to 86400",
        );
    }

    fn check_database(&self, report: &mut Report) {
        let url = self.database.url.expose_secret();
        let known = ["sqlite:", "postgres:", "postgresql:"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        report.unless(
            known,
            "database.url",
            "must begin with sqlite:// or postgres://",
        );
        report.unless(
            (2..=100).contains(&self.database.connections_max),
            "database.connections_max",
            "must be 2 to 100",
        );
    }

    fn check_issuing(&self, report: &mut Report) {
        let issuing = &self.issuing;
        report.unless(
            issuing.service_version <= ServiceVersion::NEWEST,
            "issuing.service_version",
            "must be at most 2026-10-06, the newest version whose layout is known",
        );
        report.unless(
            (1..=issuing.lifetime_seconds_default).contains(&issuing.lifetime_seconds_min),
            "issuing.lifetime_seconds_min",
            "must be at least 1 and not above lifetime_seconds_default",
        );
        report.unless(
            issuing.lifetime_seconds_default <= issuing.lifetime_seconds_max,
            "issuing.lifetime_seconds_default",
            "must not be above lifetime_seconds_max",
        );
        report.unless(
            issuing.lifetime_seconds_max <= LIFETIME_SECONDS_CEILING,
            "issuing.lifetime_seconds_max",
            "must be at most 43200",
        );
        let key_min = 2 * issuing.lifetime_seconds_max + KEY_BACKDATE_SECONDS;
        report.unless(
            (key_min..=KEY_LIFETIME_SECONDS_MAX).contains(&issuing.delegation_key_seconds),
            "issuing.delegation_key_seconds",
            "must be at least twice lifetime_seconds_max + 1200, and at most 601200 (7 days - 1 h)",
        );
        let letters = issuing.privileged_permissions.as_str();
        let known = letters.is_empty()
            || letters
                .parse()
                .is_ok_and(|set| PermissionSet::PRIVILEGED.contains(set));
        report.unless(
            known,
            "issuing.privileged_permissions",
            "may hold the letters y, o, p and i only",
        );
    }

    fn check_signals(&self, report: &mut Report) {
        let metrics = self.metrics.as_ref();
        report.unless(
            metrics
                .is_none_or(|metrics| metrics.listen.ip().is_loopback() || metrics.beyond_loopback),
            "metrics.listen",
            "anybody who reaches the address could read account names and states: keep it on \
             loopback, or set beyond_loopback = true if only Prometheus can reach it",
        );
        let Some(webhook) = &self.webhook else {
            return;
        };
        report.unless(
            webhook.secret_file.is_some() != webhook.secret_env.is_some(),
            "webhook.secret_file",
            "give exactly one of secret_file and secret_env",
        );
        report.unless(
            webhook.former_secret_file.is_none() || webhook.former_secret_env.is_none(),
            "webhook.former_secret_file",
            "give former_secret_file or former_secret_env or neither, but not both",
        );
    }

    fn check_credentials(&self, report: &mut Report) {
        report.unless(
            !self.credentials.is_empty(),
            "credentials",
            "name at least one: [credentials.default] kind = \"managed_identity\"",
        );
        for (name, credential) in &self.credentials {
            if let Credential::ClientSecret {
                secret_file,
                secret_env,
                ..
            } = credential
            {
                report.unless(
                    secret_file.is_some() != secret_env.is_some(),
                    &format!("credentials.{name}"),
                    "give exactly one of secret_file and secret_env",
                );
            }
        }
    }
}
