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
    /// Entra's authority and the storage suffix of a well-known cloud; `None` for `custom`.
    #[must_use]
    pub const fn well_known(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Public => Some(("https://login.microsoftonline.com", "core.windows.net")),
            Self::UsGovernment => {
                Some(("https://login.microsoftonline.us", "core.usgovcloudapi.net"))
            }
            Self::China => Some(("https://login.chinacloudapi.cn", "core.chinacloudapi.cn")),
            Self::Custom => None,
        }
    }
}

/// Which of an account's services an endpoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Blob storage.
    Blob,
    /// Data Lake Storage (hierarchical namespace).
    Dfs,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Dfs => "dfs",
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
        let in_cloud = matches!(&host, Host::Domain(name) if self.is_cloud_host(account, service, name))
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
        Cloud {
            authority: "https://login.microsoftonline.com".parse().unwrap(),
            storage_suffix: Some("core.windows.net".into()),
            allowed_hosts: allowed.iter().map(ToString::to_string).collect(),
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
            ..public(&["127.0.0.1:10000"])
        };
        let azure = "https://acct1.blob.core.windows.net".parse().unwrap();
        assert!(cloud.check("acct1", Service::Blob, &azure).is_err());
        let local = "https://127.0.0.1:10000/acct1".parse().unwrap();
        assert!(cloud.check("acct1", Service::Blob, &local).is_ok());
    }
}
