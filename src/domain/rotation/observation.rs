//! What one look at ARM and the vault shows. Nothing in it is a secret: keys and secret values are
//! not read to look.

use std::collections::BTreeMap;

use super::{CreationTime, CreationTimes, KeyName};
use crate::domain::{
    ids::{RotationId, SecretVersion},
    resource_id::ResourceId,
};

/// Everything that a plan is made from, apart from our own records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The account, as ARM describes it.
    pub account: Seen<AccountFacts>,
    /// The secret, as the vault describes it.
    pub secret: Seen<SecretFacts>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It was read.
    Read(T),
    /// It was refused for a reason that time alone does not heal: permission, lock, gone.
    Blocked(String),
    /// It could not be read just now: nothing is known, so nothing is done.
    Unread(String),
}

/// A storage account, as `GET` of its resource shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// `properties.keyCreationTime`.
    pub created: CreationTimes,
    /// `properties.allowSharedKeyAccess`; absent means true.
    pub shared_key_allowed: bool,
}

/// A secret, as the list of its versions shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFacts {
    /// There is none.
    Absent,
    /// It was deleted and can be recovered.
    Deleted,
    /// Its versions, in no order.
    Versions(Vec<VersionFacts>),
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFacts {
    /// Its id.
    pub version: SecretVersion,
    /// `attributes.created`, in Unix seconds of the vault's clock: for their order only.
    pub created: i64,
    /// `attributes.enabled`.
    pub enabled: bool,
    /// Whose it is, by its tags.
    pub origin: Origin,
}

/// Whose a version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A broker published it for this account.
    Ours(Published),
    /// Somebody follows the same convention for this account by other means: `CredentialId` and
    /// `ProviderAddress` fit, the broker's own tags are not there.
    Convention(KeyName),
    /// Anything else.
    Foreign,
}

/// What the tags of a published version say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `CredentialId`: the key that is its value.
    pub key: KeyName,
    /// `RotationId`: the rotation that published it.
    pub rotation: RotationId,
    /// `KeyCreationTime`: when ARM says that the key was made.
    pub created: Option<CreationTime>,
    /// `AlternateCreationTime`: the same of the other key, at the time of publication.
    pub alternate_created: Option<CreationTime>,
}

impl Published {
    /// What the tags of a publication now would say.
    #[must_use]
    pub fn now(key: KeyName, rotation: RotationId, created: &CreationTimes) -> Self {
        Self {
            key,
            rotation,
            created: created.of(key).cloned(),
            alternate_created: created.of(key.other()).cloned(),
        }
    }
}

/// Microsoft's tags of its dual-key convention.
pub const CREDENTIAL_ID: &str = "CredentialId";
/// The account's resource id.
pub const PROVIDER_ADDRESS: &str = "ProviderAddress";
/// For how many days the version is meant to be used.
pub const VALIDITY_PERIOD_DAYS: &str = "ValidityPeriodDays";
/// Ours: the rotation that published it.
pub const ROTATION_ID: &str = "RotationId";
/// Ours: when ARM says that the key was made.
pub const KEY_CREATION_TIME: &str = "KeyCreationTime";
/// Ours: when ARM says that the other key was made.
pub const ALTERNATE_CREATION_TIME: &str = "AlternateCreationTime";

/// A creation time that ARM does not give, as a tag.
const NEVER: &str = "none";

impl Published {
    /// The tags of this version.
    #[must_use]
    pub fn tags(&self, account: &ResourceId, validity_days: u32) -> BTreeMap<&'static str, String> {
        let time = |time: &Option<CreationTime>| {
            let text = time.as_ref().map_or(NEVER, CreationTime::as_str);
            text.to_owned()
        };
        BTreeMap::from([
            (CREDENTIAL_ID, self.key.to_string()),
            (PROVIDER_ADDRESS, account.to_string()),
            (VALIDITY_PERIOD_DAYS, validity_days.to_string()),
            (ROTATION_ID, self.rotation.to_string()),
            (KEY_CREATION_TIME, time(&self.created)),
            (ALTERNATE_CREATION_TIME, time(&self.alternate_created)),
        ])
    }
}

impl Origin {
    /// Reads a version's tags; `tag` gives the value of a tag by its name.
    #[must_use]
    pub fn of<'t>(account: &ResourceId, tag: impl Fn(&str) -> Option<&'t str>) -> Self {
        let key = tag(CREDENTIAL_ID).and_then(|text| text.parse().ok());
        let provider = tag(PROVIDER_ADDRESS);
        let (Some(key), true) = (key, provider.is_some_and(|text| account.is(text))) else {
            return Self::Foreign;
        };
        let time = |name| tag(name).map(|text| (text != NEVER).then(|| CreationTime::new(text)));
        let rotation = tag(ROTATION_ID).and_then(|text| text.parse().ok());
        match (
            rotation,
            time(KEY_CREATION_TIME),
            time(ALTERNATE_CREATION_TIME),
        ) {
            (Some(rotation), Some(created), Some(alternate_created)) => Self::Ours(Published {
                key,
                rotation,
                created,
                alternate_created,
            }),
            _ => Self::Convention(key),
        }
    }
}

/// Everything of ours that a plan is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnRecords {
    /// Rotations that are not over: the one that runs, then those of a break-glass, then the others,
    /// each by age. The first is the one at work.
    pub open: Vec<super::Rotation>,
    /// The newest regeneration or publication whose outcome is not known.
    pub in_flight: Option<super::InFlight>,
    /// The last regeneration of each key that certainly took place.
    pub regenerated: Vec<super::Regenerated>,
    /// The newest version of ours that we published or saw, and when that was by our clock.
    pub published: Option<super::Publication>,
    /// Looks and rotations in a row that came to nothing.
    pub failures: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "/subscriptions/60000000-0000-4000-8000-000000000001/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/acct1";

    #[test]
    fn tags_are_read_as_they_were_written() {
        let account: ResourceId = ACCOUNT.parse().unwrap();
        let created = CreationTimes {
            key1: Some(CreationTime::new("2026-11-23T10:00:00.1234567Z")),
            key2: None,
        };
        for key in KeyName::BOTH {
            let published = Published::now(key, RotationId(uuid::Uuid::from_u128(7)), &created);
            let tags = published.tags(&account, 60);
            let read = |skip: &str| {
                Origin::of(&account, |name| {
                    tags.get(name).filter(|_| name != skip).map(String::as_str)
                })
            };
            assert_eq!(read(""), Origin::Ours(published.clone()));
            assert_eq!(read(ROTATION_ID), Origin::Convention(key));
            assert_eq!(read(ALTERNATE_CREATION_TIME), Origin::Convention(key));
            assert_eq!(read(CREDENTIAL_ID), Origin::Foreign);
            assert_eq!(read(PROVIDER_ADDRESS), Origin::Foreign);
            let other = ACCOUNT.replace("acct1", "acct2").parse().unwrap();
            let other = Origin::of(&other, |name| tags.get(name).map(String::as_str));
            assert_eq!(other, Origin::Foreign);
        }
    }
}
