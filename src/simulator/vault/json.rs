//! The documents of a vault's answers. Absent things are left out, as Key Vault does; a list never
//! shows a value.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use time::Duration;

use super::Vault;
use super::secret::{Secret, SecretVersion};

/// Whole days below which a vault says that its retention was customized.
const DAYS_NOT_CUSTOMIZED: u8 = 90;

/// A version, without its value.
pub(super) fn properties(vault: &Vault, secret: &Secret, version: &SecretVersion) -> Value {
    let id = format!("{}secrets/{}/{}", vault.url, secret.name, version.id);
    with_id(vault, version, id)
}

/// A secret in the list of secrets: its newest version, but the id of the secret.
pub(super) fn listed(vault: &Vault, secret: &Secret) -> Value {
    let id = format!("{}secrets/{}", vault.url, secret.name);
    with_id(vault, secret.newest(), id)
}

/// A version with its value.
pub(super) fn with_value(vault: &Vault, secret: &Secret, version: &SecretVersion) -> Value {
    let mut document = properties(vault, secret, version);
    document["value"] = json!(version.value.expose_secret());
    document
}

/// A deleted secret. In a list its id names no version.
pub(super) fn deleted(vault: &Vault, secret: &Secret, in_list: bool) -> Value {
    let mut document = match in_list {
        true => listed(vault, secret),
        false => properties(vault, secret, secret.newest()),
    };
    if let Some(at) = secret.deleted_at() {
        let days = Duration::days(vault.spec.recoverable_days.into());
        document["recoveryId"] = json!(format!("{}deletedsecrets/{}", vault.url, secret.name));
        document["deletedDate"] = json!(at.unix_timestamp());
        document["scheduledPurgeDate"] = json!((at + days).unix_timestamp());
    }
    document
}

fn with_id(vault: &Vault, version: &SecretVersion, id: String) -> Value {
    let spec = &vault.spec;
    let customized = match spec.recoverable_days < DAYS_NOT_CUSTOMIZED {
        true => "Customized",
        false => "",
    };
    let purgeable = if spec.purge_protection {
        ""
    } else {
        "+Purgeable"
    };
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": format!("{customized}Recoverable{purgeable}"),
        "recoverableDays": spec.recoverable_days,
    });
    let mut set = |name: &str, seconds: Option<i64>| {
        if let Some(seconds) = seconds {
            attributes[name] = json!(seconds);
        }
    };
    set("nbf", version.not_before);
    set("exp", version.expires);
    let mut document = json!({ "id": id, "attributes": attributes });
    if let Some(content_type) = &version.content_type {
        document["contentType"] = json!(content_type);
    }
    if !version.tags.is_empty() {
        document["tags"] = json!(version.tags);
    }
    document
}
