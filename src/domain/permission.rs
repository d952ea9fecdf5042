//! Permission letters of a SAS: their canonical order, and which are legal for which resource.
//! Facts: Microsoft's "Create a user delegation SAS" (order `racwdxyltfmeopi`) and the tables of
//! the official SDKs, which agree on letters and legality.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Every letter, in the order in which a SAS must name them.
const LETTERS: &[u8; 15] = b"racwdxyltfmeopi";

/// What a SAS opens: the signed resource, `sr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedResource {
    /// One blob or file, `b`.
    Blob,
    /// One snapshot of a blob, `bs`.
    BlobSnapshot,
    /// One version of a blob, `bv`.
    BlobVersion,
    /// A whole container or file system, `c`.
    Container,
    /// A directory and all below it, `d`; hierarchical namespace only.
    Directory,
}

impl SignedResource {
    /// The value of `sr`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Blob => "b",
            Self::BlobSnapshot => "bs",
            Self::BlobVersion => "bv",
            Self::Container => "c",
            Self::Directory => "d",
        }
    }

    /// The letters that Azure accepts for this resource.
    #[must_use]
    pub const fn legal(self) -> PermissionSet {
        PermissionSet::of(match self {
            Self::Blob => b"racwdxytmeopi",
            Self::BlobSnapshot | Self::BlobVersion => b"rwdxyti",
            Self::Container => b"racwdxyltfmeopi",
            Self::Directory => b"racwdltmeopi",
        })
    }
}

/// A set of permission letters. Its text form is always in canonical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PermissionSet(u16);

impl PermissionSet {
    /// No letter at all.
    pub const EMPTY: Self = Self(0);

    /// Letters that change what other people's safety nets rest on: permanent delete, ownership,
    /// ACLs and immutability policies. Issued only if the configuration allows them.
    pub const PRIVILEGED: Self = Self::of(b"yopi");

    /// The set of these letters.
    ///
    /// # Panics
    /// On a byte that is no permission letter; meant for constants, where that stops the build.
    #[must_use]
    pub const fn of(letters: &[u8]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < letters.len() {
            let mut place = 0;
            while LETTERS[place] != letters[i] {
                place += 1;
            }
            bits |= 1 << place;
            i += 1;
        }
        Self(bits)
    }

    /// Whether there is no letter in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every letter of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Letters in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Letters in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Letters of `self` that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Its letters one at a time, in canonical order.
    pub fn letters(self) -> impl Iterator<Item = Self> {
        (0..LETTERS.len())
            .map(|place| Self(1 << place))
            .filter(move |&one| self.contains(one))
    }
}

/// Why a text is not a set of permission letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPermissions {
    /// Nothing was asked.
    #[error("permissions must name at least one letter of racwdxyltfmeopi")]
    Empty,
    /// A character is no permission letter.
    #[error("permissions may only hold the letters racwdxyltfmeopi")]
    UnknownLetter,
    /// A letter stands twice; the service would refuse the token.
    #[error("permissions must not repeat a letter")]
    Repeated,
}

impl FromStr for PermissionSet {
    type Err = InvalidPermissions;

    /// Letters in any order; repeats, unknown letters and the empty text are refused.
    fn from_str(text: &str) -> Result<Self, InvalidPermissions> {
        let mut bits = 0;
        for letter in text.bytes() {
            let place = LETTERS
                .iter()
                .position(|&known| known == letter)
                .ok_or(InvalidPermissions::UnknownLetter)?;
            if bits & (1 << place) != 0 {
                return Err(InvalidPermissions::Repeated);
            }
            bits |= 1 << place;
        }
        if bits == 0 {
            Err(InvalidPermissions::Empty)
        } else {
            Ok(Self(bits))
        }
    }
}

impl fmt::Display for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, &letter) in LETTERS.iter().enumerate() {
            if self.0 & (1 << place) != 0 {
                write!(f, "{}", char::from(letter))?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for PermissionSet {
    type Error = InvalidPermissions;
    fn try_from(text: String) -> Result<Self, InvalidPermissions> {
        text.parse()
    }
}

impl From<PermissionSet> for String {
    fn from(set: PermissionSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_order_is_read_and_the_canonical_order_is_written() {
        for (given, written) in [
            ("lr", "rl"),
            ("ldwcar", "racwdl"),
            ("ipoemftlyxdwcar", "racwdxyltfmeopi"),
        ] {
            assert_eq!(given.parse::<PermissionSet>().unwrap().to_string(), written);
        }
        assert_eq!(
            "rr".parse::<PermissionSet>(),
            Err(InvalidPermissions::Repeated)
        );
        assert_eq!(
            "rz".parse::<PermissionSet>(),
            Err(InvalidPermissions::UnknownLetter)
        );
        assert_eq!(
            "R".parse::<PermissionSet>(),
            Err(InvalidPermissions::UnknownLetter)
        );
        assert_eq!("".parse::<PermissionSet>(), Err(InvalidPermissions::Empty));
    }

    #[test]
    fn legality_follows_the_service() {
        assert_eq!(SignedResource::Blob.legal().to_string(), "racwdxytmeopi");
        assert!(
            !SignedResource::Blob
                .legal()
                .contains(PermissionSet::of(b"l"))
        );
        assert!(
            SignedResource::Directory
                .legal()
                .contains(PermissionSet::of(b"l"))
        );
        assert!(
            !SignedResource::Directory
                .legal()
                .contains(PermissionSet::of(b"x"))
        );
        assert_eq!(
            SignedResource::Container.legal().to_string(),
            "racwdxyltfmeopi"
        );
    }

    proptest! {
        #[test]
        fn shuffling_letters_never_changes_the_set(mut letters in proptest::sample::subsequence(LETTERS.to_vec(), 1..=15).prop_shuffle()) {
            let text = String::from_utf8(letters.clone()).unwrap();
            let set: PermissionSet = text.parse().unwrap();
            letters.sort_by_key(|l| LETTERS.iter().position(|k| k == l));
            prop_assert_eq!(set.to_string().into_bytes(), letters.clone());
            prop_assert_eq!(set.letters().count(), letters.len());
        }
    }
}
