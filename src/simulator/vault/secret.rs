//! One secret: its versions in the order of their making, and its way through deletion, recovery
//! and purge.

use std::collections::BTreeMap;

use secrecy::SecretString;
use time::{Duration, OffsetDateTime};

use super::super::random;
use super::super::spec::NewSecret;
use super::content::Changes;
use super::errors::VaultError;

/// Versions one secret may have. Azure names no bound; this one keeps a client in a loop from
/// eating the machine's memory.
const VERSIONS_MOST: usize = 10_000;

/// One version, as management shows it.
#[derive(Clone, Debug)]
pub struct SecretVersion {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The value.
    pub value: SecretString,
    /// `contentType`.
    pub content_type: Option<String>,
    /// `attributes.enabled`.
    pub enabled: bool,
    /// `attributes.nbf`, in Unix seconds.
    pub not_before: Option<i64>,
    /// `attributes.exp`, in Unix seconds.
    pub expires: Option<i64>,
    /// `attributes.created`, in Unix seconds.
    pub created: i64,
    /// `attributes.updated`, in Unix seconds.
    pub updated: i64,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// Where a secret is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Active,
    /// Deleted; under way until `done`.
    Deleted {
        at: OffsetDateTime,
        done: OffsetDateTime,
    },
    /// Recovered; under way until `done`, active from then on.
    Recovering {
        done: OffsetDateTime,
    },
}

/// One secret. No `Debug`, though its values would not show: nothing needs it.
pub(crate) struct Secret {
    /// As its first writer spelt it.
    pub(super) name: String,
    /// Oldest first: this order, not a time in whole seconds, says which one is the newest.
    versions: Vec<SecretVersion>,
    stage: Stage,
}

impl Secret {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            versions: Vec::new(),
            stage: Stage::Active,
        }
    }

    /// Adds a version, which is the newest from now on.
    pub(super) fn add(&mut self, new: NewSecret, now: OffsetDateTime) -> Result<(), VaultError> {
        match self.stage {
            Stage::Deleted { done, .. } if now < done => {
                return Err(VaultError::BeingDeleted(self.name.clone()));
            }
            Stage::Deleted { .. } => {
                return Err(VaultError::DeletedButRecoverable(self.name.clone()));
            }
            Stage::Recovering { done } if now < done => {
                return Err(VaultError::BeingRecovered(self.name.clone()));
            }
            Stage::Recovering { .. } | Stage::Active => {}
        }
        if self.versions.len() >= VERSIONS_MOST {
            return Err(VaultError::Full);
        }
        let seconds = now.unix_timestamp();
        self.versions.push(SecretVersion {
            id: random::guid().simple().to_string(),
            value: new.value,
            content_type: new.content_type,
            enabled: new.enabled,
            not_before: new.not_before,
            expires: new.expires,
            created: seconds,
            updated: seconds,
            tags: new.tags,
        });
        Ok(())
    }

    pub(super) fn is_active(&self, now: OffsetDateTime) -> bool {
        match self.stage {
            Stage::Active => true,
            Stage::Recovering { done } => now >= done,
            Stage::Deleted { .. } => false,
        }
    }

    pub(super) fn is_deleted(&self, now: OffsetDateTime) -> bool {
        matches!(self.stage, Stage::Deleted { done, .. } if now >= done)
    }

    /// When it was deleted, if it is.
    pub(super) fn deleted_at(&self) -> Option<OffsetDateTime> {
        match self.stage {
            Stage::Deleted { at, .. } => Some(at),
            Stage::Active | Stage::Recovering { .. } => None,
        }
    }

    pub(super) fn delete(&mut self, now: OffsetDateTime, takes: Duration) {
        let done = now + takes;
        self.stage = Stage::Deleted { at: now, done };
    }

    pub(super) fn recover(&mut self, now: OffsetDateTime, takes: Duration) {
        self.stage = Stage::Recovering { done: now + takes };
    }

    /// The newest version.
    pub(crate) fn newest(&self) -> &SecretVersion {
        let newest = self.versions.last();
        newest.expect("a secret is made together with its first version")
    }

    /// Every version, oldest first.
    pub(crate) fn versions(&self) -> &[SecretVersion] {
        &self.versions
    }

    /// The version of this id, or the newest for `None`.
    pub(super) fn version(&self, id: Option<&str>) -> Result<&SecretVersion, VaultError> {
        let Some(id) = id else {
            return Ok(self.newest());
        };
        let mut versions = self.versions.iter();
        let found = versions.find(|version| version.id.eq_ignore_ascii_case(id));
        found.ok_or_else(|| VaultError::SecretNotFound(format!("{}/{id}", self.name)))
    }

    /// Switches a version on or off.
    pub(crate) fn set_enabled(
        &mut self,
        id: &str,
        enabled: bool,
        now: OffsetDateTime,
    ) -> Result<(), VaultError> {
        let changes = Changes {
            enabled: Some(enabled),
            ..Changes::default()
        };
        self.update(Some(id), changes, now)
    }

    /// Changes a version in place; what is `None` stays as it is.
    pub(super) fn update(
        &mut self,
        id: Option<&str>,
        changes: Changes,
        now: OffsetDateTime,
    ) -> Result<(), VaultError> {
        let id = self.version(id)?.id.clone();
        let mut versions = self.versions.iter_mut();
        let version = versions.find(|version| version.id == id);
        let version = version.expect("the version was found a line above");
        if let Some(content_type) = changes.content_type {
            version.content_type = Some(content_type);
        }
        if let Some(tags) = changes.tags {
            version.tags = tags;
        }
        version.enabled = changes.enabled.unwrap_or(version.enabled);
        version.not_before = changes.not_before.or(version.not_before);
        version.expires = changes.expires.or(version.expires);
        version.updated = now.unix_timestamp();
        Ok(())
    }
}
