//! What an observation shows about the secret: which version consumers read, and what is wrong with
//! it. Our own records only break ties and tell since when a version has been there.

use time::OffsetDateTime;

use super::{
    CreationTimes, KeyName, Publication, Regenerated, State,
    observation::{Origin, OwnRecords, SecretFacts, VersionFacts},
};
use crate::domain::ids::SecretVersion;

/// The most urgent thing that an observation shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// There is no version of ours; this key is to be published.
    Unpublished { key: KeyName },
    /// The secret was deleted.
    Deleted,
    /// The newest version is somebody else's, and none is ours.
    Foreign,
    /// A version that is not ours, or not certainly ours, is the newest. The live value of this key
    /// is to be published over it.
    Covered { key: KeyName },
    /// The newest version is switched off; its key lives.
    SwitchedOff { version: SecretVersion },
    /// The newest version holds a value that its key has no more.
    Dead { key: KeyName },
    /// The newest version is sound, but the other key was regenerated since it was published.
    AlternateRegenerated { current: KeyName },
    /// The newest version is sound.
    Sound { current: KeyName },
}

impl Finding {
    /// The state that it means, apart from whether a rotation is due.
    pub(super) const fn state(&self) -> State {
        match self {
            Self::Unpublished { .. } => State::Unpublished,
            Self::Deleted | Self::Foreign => State::Blocked,
            Self::Covered { .. } | Self::SwitchedOff { .. } | Self::Dead { .. } => State::Drifted,
            Self::AlternateRegenerated { .. } => State::RegeneratedUnpublished,
            Self::Sound { .. } => State::Fresh,
        }
    }
}

/// A secret as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) finding: Finding,
    /// The newest version of ours, with the instant from which its overlap counts.
    pub(super) published: Option<Publication>,
    /// Superseded versions that are on although they hold a dead value, oldest first.
    pub(super) dead: Vec<(SecretVersion, KeyName)>,
}

/// Reads a secret against the keys' creation times.
pub(super) fn found(
    secret: &SecretFacts,
    created: &CreationTimes,
    own: &OwnRecords,
    initial_key: KeyName,
    now: OffsetDateTime,
) -> Found {
    // Of a secret that is gone, the key that consumers last read.
    let last_key = own.published.as_ref().map(|published| published.key);
    let key = last_key.unwrap_or(initial_key);
    let without_versions = |finding| Found {
        finding,
        published: own.published.clone(),
        dead: vec![],
    };
    let versions = match secret {
        SecretFacts::Absent => {
            return without_versions(Finding::Unpublished { key });
        }
        SecretFacts::Deleted => return without_versions(Finding::Deleted),
        SecretFacts::Versions(versions) => versions,
    };
    let mut versions: Vec<&VersionFacts> = versions.iter().collect();
    versions.sort_by_key(|version| rank(version, own));
    let Some((newest, older)) = versions.split_last() else {
        return without_versions(Finding::Unpublished { key });
    };
    let ours = versions.iter().rev().find_map(|version| ours(version));
    let finding = match (&newest.origin, ours) {
        (Origin::Foreign, None) => Finding::Foreign,
        (Origin::Foreign, Some(key)) => Finding::Covered { key },
        // Whoever follows the convention by other means has told consumers to use this key.
        (Origin::Convention(key), None) => Finding::Unpublished { key: *key },
        (Origin::Convention(key), Some(_)) => Finding::Covered { key: *key },
        (Origin::Ours(published), _) => {
            let dead = published.created.as_ref() != created.of(published.key);
            if is_ambiguous(newest, older, own) {
                Finding::Covered { key: published.key }
            } else if dead {
                Finding::Dead { key: published.key }
            } else if !newest.enabled {
                Finding::SwitchedOff {
                    version: newest.version.clone(),
                }
            } else if published.alternate_created.as_ref() != created.of(published.key.other()) {
                Finding::AlternateRegenerated {
                    current: published.key,
                }
            } else {
                Finding::Sound {
                    current: published.key,
                }
            }
        }
    };
    Found {
        published: publication(newest, own, now),
        dead: dead(older, created),
        finding,
    }
}

/// Oldest first. The vault's clock has whole seconds: of versions of one second, one that is not
/// ours counts as the newest, because ours is published over it again; then the one that we recorded
/// as our last.
fn rank<'v>(version: &'v VersionFacts, own: &OwnRecords) -> (i64, bool, bool, &'v SecretVersion) {
    let foreign = !matches!(version.origin, Origin::Ours(_));
    let recorded = own.published.as_ref().map(|published| &published.version);
    let last = recorded == Some(&version.version);
    (version.created, foreign, last, &version.version)
}

/// Whether another version of ours is of the same second and names the other key, and none of the two
/// is the one that we recorded as our last: consumers may be reading either.
fn is_ambiguous(newest: &VersionFacts, older: &[&VersionFacts], own: &OwnRecords) -> bool {
    let recorded = own.published.as_ref().map(|published| &published.version);
    let twin = |version: &&VersionFacts| {
        version.created == newest.created && ours(version) != ours(newest)
    };
    recorded != Some(&newest.version) && older.last().is_some_and(twin)
}

fn ours(version: &VersionFacts) -> Option<KeyName> {
    match &version.origin {
        Origin::Ours(published) => Some(published.key),
        Origin::Convention(_) | Origin::Foreign => None,
    }
}

/// The newest version, if it is ours: since when we know it. One that we never saw counts from now.
fn publication(
    newest: &VersionFacts,
    own: &OwnRecords,
    now: OffsetDateTime,
) -> Option<Publication> {
    let Origin::Ours(published) = &newest.origin else {
        return own.published.clone();
    };
    let known = own.published.as_ref();
    known
        .filter(|known| known.version == newest.version)
        // A clock that ran ahead and was set back must not put everything off.
        .map(|known| Publication {
            at: known.at.min(now),
            ..known.clone()
        })
        .or_else(|| {
            Some(Publication {
                version: newest.version.clone(),
                key: published.key,
                rotation: published.rotation,
                at: now,
            })
        })
}

/// Only versions whose own tags prove that their value is dead: switching off one that still works
/// would strand its readers.
fn dead(older: &[&VersionFacts], created: &CreationTimes) -> Vec<(SecretVersion, KeyName)> {
    let is_dead = |version: &&&VersionFacts| match &version.origin {
        Origin::Ours(published) => {
            version.enabled && published.created.as_ref() != created.of(published.key)
        }
        Origin::Convention(_) | Origin::Foreign => false,
    };
    let dead = older.iter().filter(is_dead);
    dead.filter_map(|version| Some((version.version.clone(), ours(version)?)))
        .collect()
}

/// The key whose regeneration we know of but ARM's answer does not show yet, if there is one: the
/// answer is older than the regeneration, and nothing may be concluded from it.
pub(super) fn outdated(created: &CreationTimes, regenerated: &[Regenerated]) -> Option<KeyName> {
    let before = |known: &&Regenerated| created.of(known.key) == known.created_before.as_ref();
    regenerated.iter().find(before).map(|known| known.key)
}
