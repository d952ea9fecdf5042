//! Clouds and the endpoint guard: which hosts the broker may send its own bearer tokens to.
//!
//! An account's endpoints stand in the database, where an admin may write. The suffixes that they
//! must end in come from the configuration file only: otherwise an admin could point the broker's
//! own token anywhere. The guard is asked when an account is written and again when it is used.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The hosts of one Azure cloud. Facts: `az` CLI's cloud table and azure-identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloud {
    /// Entra's authority, such as `https://login.microsoftonline.com`.
    pub authority: Url,
    /// What a storage host must end in after `.blob.`, `.dfs.` or a DNS zone, such as
    /// `core.windows.net`; empty when only the allow-list counts.
    pub storage_suffix: Option<String>,
    /// Azure Resource Manager's base URL, such as `https://management.azure.com`; `None` where there
    /// is none, and then no keys are managed.
    pub resource_manager: Option<Url>,
    /// What a vault's host must end in after its name, such as `vault.azure.net`; empty when only
    /// the allow-list counts.
    pub vault_suffix: Option<String>,
    /// Hosts (`host` or `host:port`) that are trusted besides, from the configuration file.
    pub allowed_hosts: Vec<String>,
}

/// The clouds known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudName {
    /// Azure public.
    #[default]
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure China, operated by 21Vianet.
    China,
    /// Every host comes from the configuration file.
    Custom,
}

impl CloudName {
    /// The hosts of a well-known cloud, with this allow-list besides; `None` for `custom`.
    ///
    /// # Panics
    /// Never: the URLs are valid.
    #[must_use]
    pub fn well_known(self, allowed_hosts: Vec<String>) -> Option<Cloud> {
        let [authority, resource_manager, storage, vault] = match self {
            Self::Public => [
                "https://login.microsoftonline.com",
                "https://management.azure.com",
                "core.windows.net",
                "vault.azure.net",
            ],
            Self::UsGovernment => [
                "https://login.microsoftonline.us",
                "https://management.usgovcloudapi.net",
                "core.usgovcloudapi.net",
                "vault.usgovcloudapi.net",
            ],
            Self::China => [
                "https://login.chinacloudapi.cn",
                "https://management.chinacloudapi.cn",
                "core.chinacloudapi.cn",
                "vault.azure.cn",
            ],
            Self::Custom => return None,
        };
        let url = |text: &str| text.parse().expect("a well-known host makes a URL");
        Some(Cloud {
            authority: url(authority),
            storage_suffix: Some(storage.to_owned()),
            resource_manager: Some(url(resource_manager)),
            vault_suffix: Some(vault.to_owned()),
            allowed_hosts,
        })
    }
}

/// Which of an account's services an endpoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Blob storage.
    Blob,
    /// Data Lake Storage (hierarchical namespace).
    Dfs,
    /// Key Vault.
    Vault,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Dfs => "dfs",
            Self::Vault => "vault",
        })
    }
}

/// Why an endpoint is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForbiddenEndpoint {
    /// Tokens and bearers travel over TLS only.
    #[error("{0} endpoint must be an https URL without user, query or fragment")]
    NotHttps(Service),
    /// The host is neither in the cloud nor in the allow-list.
    #[error(
        "{0} endpoint's host is not of the configured cloud; \
         hosts outside of it must stand in cloud.allowed_hosts of the configuration file"
    )]
    ForeignHost(Service),
}

impl Cloud {
    /// Checks that `endpoint` is of this cloud or allowed by the configuration file.
    ///
    /// In the cloud means `{account}.{service}.{suffix}`, `{account}.{zone}.{service}.storage.azure.net`
    /// (Azure DNS zone endpoints) or a private-link form of these; the first label must be the
    /// account itself, so that one account's entry cannot name another's host.
    ///
    /// # Errors
    /// [`ForbiddenEndpoint`] names the rule that was broken.
    pub fn check(
        &self,
        account: &str,
        service: Service,
        endpoint: &Url,
    ) -> Result<(), ForbiddenEndpoint> {
        self.guard(service, endpoint, |host| {
            self.is_cloud_host(account, service, host)
        })
    }

    /// Checks that a vault's URL is `https://{name}.{vault suffix}` or allowed by the configuration
    /// file.
    ///
    /// # Errors
    /// [`ForbiddenEndpoint`] names the rule that was broken.
    pub fn check_vault(&self, endpoint: &Url) -> Result<(), ForbiddenEndpoint> {
        self.guard(Service::Vault, endpoint, |host| {
            let suffix = self.vault_suffix.as_ref();
            suffix
                .and_then(|suffix| host.strip_suffix(suffix)?.strip_suffix('.'))
                .is_some_and(|name| !name.is_empty() && !name.contains('.'))
        })
    }

    /// Whether the configuration file, and not the cloud, vouches for the host.
    #[must_use]
    pub fn is_allowed_host(&self, endpoint: &Url) -> bool {
        endpoint
            .host()
            .is_some_and(|host| self.is_allow_listed(&host, endpoint.port_or_known_default()))
    }

    fn guard(
        &self,
        service: Service,
        endpoint: &Url,
        is_cloud_host: impl Fn(&str) -> bool,
    ) -> Result<(), ForbiddenEndpoint> {
        let plain = endpoint.scheme() == "https"
            && endpoint.username().is_empty()
            && endpoint.password().is_none()
            && endpoint.query().is_none()
            && endpoint.fragment().is_none();
        let Some(host) = endpoint.host().filter(|_| plain) else {
            return Err(ForbiddenEndpoint::NotHttps(service));
        };
        if self.is_allow_listed(&host, endpoint.port_or_known_default()) {
            return Ok(());
        }
        let in_cloud = matches!(&host, Host::Domain(name) if is_cloud_host(name))
            && endpoint.port().is_none()
            && endpoint.path() == "/";
        in_cloud
            .then_some(())
            .ok_or(ForbiddenEndpoint::ForeignHost(service))
    }

    fn is_allow_listed(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let name = host.to_string();
        let with_port = port.map(|port| format!("{name}:{port}"));
        self.allowed_hosts
            .iter()
            .any(|allowed| *allowed == name || Some(allowed) == with_port.as_ref())
    }

    fn is_cloud_host(&self, account: &str, service: Service, host: &str) -> bool {
        let Some(suffix) = &self.storage_suffix else {
            return false;
        };
        let Some(rest) = host
            .strip_prefix(account)
            .and_then(|rest| rest.strip_prefix('.'))
        else {
            return false;
        };
        if rest == format!("{service}.{suffix}") {
            return true;
        }
        // DNS zone endpoints exist in the public cloud only: {account}.z{NN}.{service}.storage.azure.net
        suffix == "core.windows.net"
            && rest
                .strip_suffix(&format!(".{service}.storage.azure.net"))
                .and_then(|zone| zone.strip_prefix('z'))
                .is_some_and(|digits| {
                    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(allowed: &[&str]) -> Cloud {
        let allowed = allowed.iter().map(ToString::to_string).collect();
        CloudName::Public.well_known(allowed).unwrap()
    }

    #[test]
    fn a_vault_is_one_label_before_the_cloud_s_suffix() {
        let cloud = public(&["127.0.0.1:10001"]);
        for ok in ["https://kv1.vault.azure.net", "https://127.0.0.1:10001/"] {
            assert_eq!(cloud.check_vault(&ok.parse().unwrap()), Ok(()), "{ok}");
        }
        for bad in [
            "http://kv1.vault.azure.net",
            "https://vault.azure.net",
            "https://a.b.vault.azure.net",
            "https://kv1.vault.azure.net.evil.example",
            "https://kv1vault.azure.net",
            "https://kv1.vault.azure.net/secrets",
            "https://127.0.0.1:10000/",
        ] {
            assert!(cloud.check_vault(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_hosts_of_the_cloud_or_of_the_configuration_file_pass() {
        let cloud = public(&["127.0.0.1:10000", "blob.corp.example"]);
        for ok in [
            "https://acct1.blob.core.windows.net",
            "https://acct1.z12.blob.storage.azure.net/",
            "https://127.0.0.1:10000/acct1",
            "https://blob.corp.example/acct1",
        ] {
            assert_eq!(
                cloud.check("acct1", Service::Blob, &ok.parse().unwrap()),
                Ok(()),
                "{ok}"
            );
        }
        for bad in [
            "http://acct1.blob.core.windows.net",
            "https://acct2.blob.core.windows.net",
            "https://acct1.dfs.core.windows.net",
            "https://acct1.blob.core.windows.net.evil.example",
            "https://acct1.blob.core.windows.net:8443",
            "https://acct1.blob.core.windows.net/path",
            "https://user@acct1.blob.core.windows.net",
            "https://acct1.blob.core.windows.net/?x=1",
            "https://acct1.evil.blob.core.windows.net",
            "https://acct1.zevil.blob.storage.azure.net",
            "https://evil.example/acct1.blob.core.windows.net",
            "https://127.0.0.1:10001/acct1",
            "https://[::1]/",
        ] {
            assert!(
                cloud
                    .check("acct1", Service::Blob, &bad.parse().unwrap())
                    .is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_custom_cloud_trusts_its_allow_list_only() {
        let cloud = Cloud {
            storage_suffix: None,
            vault_suffix: None,
            ..public(&["127.0.0.1:10000"])
        };
        let azure = "https://acct1.blob.core.windows.net".parse().unwrap();
        assert!(cloud.check("acct1", Service::Blob, &azure).is_err());
        let local = "https://127.0.0.1:10000/acct1".parse().unwrap();
        assert!(cloud.check("acct1", Service::Blob, &local).is_ok());
    }
}
