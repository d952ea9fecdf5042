//! What an account's entry says about the rotation of its keys, and the rules that it must keep.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use url::Url;

use super::{
    KeyName,
    schedule::{InvalidSchedule, MaintenanceWindow, Schedule, jitter},
};
use crate::domain::{
    account::Account,
    cloud::{Cloud, ForbiddenEndpoint},
    ids::{AccountName, SecretName},
};

/// Shortest overlap, in hours: consumers must have a chance to read the secret again.
pub const OVERLAP_HOURS_MIN: u32 = 1;
/// Longest overlap, in hours: a quarter of a year.
pub const OVERLAP_HOURS_MAX: u32 = 90 * 24;
/// Default overlap, in hours: a nightly job meets the new version at least once.
const OVERLAP_HOURS_DEFAULT: u32 = 24;
/// Longest jitter, in minutes.
pub const JITTER_MINUTES_MAX: u32 = 24 * 60;
/// Default jitter, in minutes: accounts with one schedule do not meet at ARM in the same minute.
const JITTER_MINUTES_DEFAULT: u32 = 60;

/// How the keys of one account are rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationPolicy {
    /// The vault that keeps the key: `https://NAME.vault.azure.net`.
    pub vault: Url,
    /// The secret there; `sa-{account}` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<SecretName>,
    /// When a rotation is due.
    pub schedule: Schedule,
    /// How long the superseded key stays as it is after a publication.
    #[serde(default = "overlap_hours_default")]
    pub overlap_hours: u32,
    /// A due time is put off by up to this long, by a hash of account and due time.
    #[serde(default = "jitter_minutes_default")]
    pub jitter_minutes: u32,
    /// Outside of it no scheduled rotation starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<MaintenanceWindow>,
    /// The key that consumers use today, which is published first and not touched.
    #[serde(default = "initial_key_default")]
    pub initial_key: KeyName,
    /// What the secret's value is.
    #[serde(default)]
    pub value: SecretForm,
    /// What proves a new key.
    #[serde(default)]
    pub proof: ProofPolicy,
    /// What to do about a secret that was deleted and can be recovered.
    #[serde(default)]
    pub deleted_secret: DeletedSecret,
    /// Rotate although the account refuses Shared Key, where a key opens nothing.
    #[serde(default)]
    pub rotate_disallowed_keys: bool,
}

const fn overlap_hours_default() -> u32 {
    OVERLAP_HOURS_DEFAULT
}

const fn jitter_minutes_default() -> u32 {
    JITTER_MINUTES_DEFAULT
}

const fn initial_key_default() -> KeyName {
    KeyName::Key1
}

/// What the secret's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretForm {
    /// The key alone, base64.
    #[default]
    Key,
    /// A whole connection string.
    ConnectionString,
}

/// What proves a new key before it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofPolicy {
    /// A Shared Key call that the account's Blob service accepts.
    #[default]
    Required,
    /// The same; but where the network does not let the broker through, that ARM lists the key.
    ListkeysIfUnreachable,
}

/// What to do about a secret that was deleted and can be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedSecret {
    /// Somebody meant it: stop and say so.
    #[default]
    Refuse,
    /// Recover it and go on.
    Recover,
}

/// Why a rotation policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRotation {
    /// Key Vault and ARM are asked for this very resource.
    #[error("rotation needs resource_id, the ARM id of this very storage account")]
    ResourceId,
    /// The broker's own bearer token goes there.
    #[error(transparent)]
    Vault(#[from] ForbiddenEndpoint),
    /// Out of bounds.
    #[error("rotation.overlap_hours must be from {OVERLAP_HOURS_MIN} to {OVERLAP_HOURS_MAX}")]
    Overlap,
    /// Out of bounds.
    #[error("rotation.jitter_minutes must be at most {JITTER_MINUTES_MAX}")]
    Jitter,
    /// It never fires, too often, or does not parse.
    #[error("rotation.schedule: {0}")]
    Schedule(#[source] InvalidSchedule),
    /// It never opens, or nowhere.
    #[error("rotation.window: {0}")]
    Window(#[source] InvalidSchedule),
}

impl RotationPolicy {
    /// The secret's name.
    ///
    /// # Panics
    /// Never: every account name makes a valid secret name.
    #[must_use]
    pub fn secret_name(&self, account: &AccountName) -> SecretName {
        self.secret_name.clone().unwrap_or_else(|| {
            format!("sa-{account}")
                .parse()
                .expect("letters and digits after sa- make a secret name")
        })
    }

    /// How long a superseded key is left alone after the publication that superseded it.
    #[must_use]
    pub fn overlap(&self) -> Duration {
        Duration::hours(i64::from(self.overlap_hours))
    }

    /// Checks, whenever an entry is read, where it would send the broker's own token and keys.
    ///
    /// # Errors
    /// [`InvalidRotation`] names the field and the rule.
    pub fn guard(&self, account: &Account, cloud: &Cloud) -> Result<(), InvalidRotation> {
        if account.storage_resource_id().is_none() {
            return Err(InvalidRotation::ResourceId);
        }
        Ok(cloud.check_vault(&self.vault)?)
    }

    /// Checks, when an entry is written, what [`RotationPolicy::guard`] does, and besides the bounds,
    /// the window and the schedule, whose firings of years are looked at.
    ///
    /// # Errors
    /// [`InvalidRotation`] names the field and the rule.
    pub fn check(&self, account: &Account, cloud: &Cloud) -> Result<(), InvalidRotation> {
        self.guard(account, cloud)?;
        if !(OVERLAP_HOURS_MIN..=OVERLAP_HOURS_MAX).contains(&self.overlap_hours) {
            return Err(InvalidRotation::Overlap);
        }
        if self.jitter_minutes > JITTER_MINUTES_MAX {
            return Err(InvalidRotation::Jitter);
        }
        let window = self
            .window
            .as_ref()
            .map_or(Ok(()), MaintenanceWindow::check);
        window.map_err(InvalidRotation::Window)?;
        let schedule = self.schedule.check(self.overlap());
        schedule.map_err(InvalidRotation::Schedule)
    }

    /// When a scheduled rotation after a publication may start at the earliest: due, put off by the
    /// jitter, and then by the window. `None` for a schedule that fires no more.
    #[must_use]
    pub fn due_at(
        &self,
        account: &AccountName,
        published_at: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        let due = self.schedule.due_after(published_at, self.overlap())?;
        Some(self.opens(due + jitter(account, due, self.jitter_minutes)))
    }

    /// The instant itself, or when the window opens next.
    #[must_use]
    pub fn opens(&self, at: OffsetDateTime) -> OffsetDateTime {
        self.window.as_ref().map_or(at, |window| window.opens(at))
    }
}

impl fmt::Display for SecretForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::ConnectionString => "connection string",
        })
    }
}
