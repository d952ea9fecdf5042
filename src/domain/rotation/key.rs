//! The two keys of a storage account, and the names of what belongs to them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::domain::ids::InvalidName;

/// Which of an account's two keys, by ARM's own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyName {
    /// `key1`.
    Key1,
    /// `key2`.
    Key2,
}

impl KeyName {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Key1, Self::Key2];

    /// ARM's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key1 => "key1",
            Self::Key2 => "key2",
        }
    }

    /// The other key of the account.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Key1 => Self::Key2,
            Self::Key2 => Self::Key1,
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let named = Self::BOTH.into_iter().find(|key| key.as_str() == text);
        named.ok_or(InvalidName::new("key name", "must be key1 or key2"))
    }
}

/// When ARM says that a key was made. It is only ever compared for equality: ARM's clock, the
/// vault's and ours never meet. Two texts of one instant are equal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CreationTime(String);

impl CreationTime {
    /// As ARM wrote it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As ARM wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn instant(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(&self.0, &Rfc3339).ok()
    }
}

impl PartialEq for CreationTime {
    fn eq(&self, other: &Self) -> bool {
        match (self.instant(), other.instant()) {
            (Some(one), Some(two)) => one == two,
            _ => self.0 == other.0,
        }
    }
}

impl Eq for CreationTime {}

/// The creation times of both keys. `None` is a state of its own: the key was never regenerated
/// since Azure keeps the time (azure-rest-api-specs, `keyCreationTime`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreationTimes {
    /// Of `key1`.
    pub key1: Option<CreationTime>,
    /// Of `key2`.
    pub key2: Option<CreationTime>,
}

impl CreationTimes {
    /// Of one key.
    #[must_use]
    pub const fn of(&self, key: KeyName) -> Option<&CreationTime> {
        match key {
            KeyName::Key1 => self.key1.as_ref(),
            KeyName::Key2 => self.key2.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_times_are_equal_as_instants_or_else_as_texts() {
        let time = CreationTime::new;
        assert_eq!(
            time("2026-11-23T10:00:00.1200000Z"),
            time("2026-11-23T10:00:00.12Z")
        );
        assert_eq!(
            time("2026-11-23T10:00:00Z"),
            time("2026-11-23T11:00:00+01:00")
        );
        assert_ne!(
            time("2026-11-23T10:00:00.12Z"),
            time("2026-11-23T10:00:00.13Z")
        );
        assert_eq!(time("soon"), time("soon"));
        assert_ne!(time("soon"), time("2026-11-23T10:00:00Z"));
    }
}
