//! What a published version holds: the key alone, or a whole connection string.

use secrecy::{ExposeSecret, SecretString};

use super::SecretForm;
use crate::domain::{account::Account, cloud::Cloud};

/// The media type of a version, which Azure's own policies want to be set (policy
/// `75262d3e-ba4a-4f43-85f8-9f72c090e5e3`).
#[must_use]
pub const fn content_type(form: SecretForm) -> &'static str {
    match form {
        SecretForm::Key => "application/vnd.sas-broker.storage-key",
        SecretForm::ConnectionString => "application/vnd.sas-broker.connection-string",
    }
}

/// The value of a version that holds this key. A connection string names the cloud by its suffix
/// where the account's endpoint is the cloud's own, and else the endpoints themselves.
#[must_use]
pub fn secret_value(
    form: SecretForm,
    account: &Account,
    cloud: &Cloud,
    key: &SecretString,
) -> SecretString {
    let name = &account.name;
    let key = key.expose_secret();
    if form == SecretForm::Key {
        return key.to_owned().into();
    }
    let suffix = cloud.storage_suffix.as_deref().filter(|suffix| {
        let usual = format!("{name}.blob.{suffix}");
        account.blob_endpoint.host_str() == Some(&usual)
    });
    let place = match suffix {
        Some(suffix) => format!("EndpointSuffix={suffix}"),
        None => format!("BlobEndpoint={}", trimmed(account.blob_endpoint.as_str())),
    };
    format!("DefaultEndpointsProtocol=https;AccountName={name};AccountKey={key};{place}").into()
}

/// Clients append their own slash.
fn trimmed(endpoint: &str) -> &str {
    endpoint.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{cloud::CloudName, ids::TenantId};

    fn account(blob_endpoint: &str) -> Account {
        Account {
            name: "acct1".parse().unwrap(),
            resource_id: None,
            tenant_id: TenantId(uuid::Uuid::nil()),
            blob_endpoint: blob_endpoint.parse().unwrap(),
            dfs_endpoint: None,
            hierarchical_namespace: false,
            signing_identity: "default".parse().unwrap(),
            management_identity: None,
            rotation: None,
            correlation_id_supported: true,
            sas_period_seconds_max: None,
            issuance_enabled: true,
        }
    }

    #[test]
    fn a_connection_string_names_the_suffix_or_the_endpoint() {
        let cloud = CloudName::UsGovernment.well_known(vec![]).unwrap();
        let key: SecretString = "a2V5".into();
        let value = |form, endpoint| {
            let value = secret_value(form, &account(endpoint), &cloud, &key);
            value.expose_secret().to_owned()
        };
        let usual = "https://acct1.blob.core.usgovcloudapi.net/";
        assert_eq!(value(SecretForm::Key, usual), "a2V5");
        assert_eq!(
            value(SecretForm::ConnectionString, usual),
            "DefaultEndpointsProtocol=https;AccountName=acct1;AccountKey=a2V5;EndpointSuffix=core.usgovcloudapi.net"
        );
        assert_eq!(
            value(
                SecretForm::ConnectionString,
                "https://127.0.0.1:10000/acct1/"
            ),
            "DefaultEndpointsProtocol=https;AccountName=acct1;AccountKey=a2V5;BlobEndpoint=https://127.0.0.1:10000/acct1"
        );
    }
}
