//! The ARM id of a storage account: whose subscription throttles it, and which path its calls take.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{AccountName, InvalidName};

/// Longest accepted id, in characters; the real ones stay under 400.
pub const RESOURCE_ID_CHARS_MAX: usize = 1_024;

/// `/subscriptions/{guid}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}`.
/// ARM compares it without case, and so does this type; it keeps the spelling that it was given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId {
    text: Box<str>,
    subscription: Uuid,
    account: AccountName,
}

impl ResourceId {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The subscription, which ARM counts and throttles by.
    #[must_use]
    pub const fn subscription(&self) -> Uuid {
        self.subscription
    }

    /// The account's name, its last segment.
    #[must_use]
    pub const fn account(&self) -> &AccountName {
        &self.account
    }

    /// Whether `text` means the same resource.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text.eq_ignore_ascii_case(text)
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.text)
    }
}

impl Eq for ResourceId {}

impl FromStr for ResourceId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = InvalidName::new(
            "resource id",
            "must be /subscriptions/{guid}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}",
        );
        let plain = text.chars().count() <= RESOURCE_ID_CHARS_MAX
            && !text
                .chars()
                .any(|c| c.is_control() || matches!(c, '?' | '#' | '%' | '\\'));
        let segments: Vec<&str> = text.split('/').collect();
        let [
            "",
            subscriptions,
            subscription,
            groups,
            group,
            providers,
            namespace,
            kind,
            name,
        ] = segments[..]
        else {
            return Err(refused);
        };
        let fixed = [
            (subscriptions, "subscriptions"),
            (groups, "resourceGroups"),
            (providers, "providers"),
            (namespace, "Microsoft.Storage"),
            (kind, "storageAccounts"),
        ];
        let spelt = fixed
            .iter()
            .all(|(found, wanted)| found.eq_ignore_ascii_case(wanted));
        let whole = plain && spelt && !matches!(group, "" | "." | "..");
        let subscription = Uuid::try_parse(subscription).ok().filter(|_| whole);
        let account = name.to_ascii_lowercase().parse().ok();
        subscription
            .zip(account)
            .map(|(subscription, account)| Self {
                text: text.into(),
                subscription,
                account,
            })
            .ok_or(refused)
    }
}

impl TryFrom<String> for ResourceId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.text.into_string()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/60000000-0000-4000-8000-000000000001/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/acct1";

    #[test]
    fn only_a_storage_account_s_id_is_read_and_its_case_does_not_matter() {
        let id: ResourceId = ID.parse().unwrap();
        assert_eq!((id.account().as_str(), id.as_str()), ("acct1", ID));
        assert_eq!(id, ID.to_uppercase().parse().unwrap());
        for bad in [
            "",
            "/subscriptions/x",
            &ID.replace("60000000", "x"),
            &ID.replace("Storage/", "Compute/"),
            &ID.replace("data", ".."),
            &ID.replace("data", ""),
            &ID.replace("data", "a%2fb"),
            &format!("{ID}/blobServices"),
            &format!("{ID}?x=1"),
        ] {
            assert!(bad.parse::<ResourceId>().is_err(), "{bad}");
        }
    }
}
