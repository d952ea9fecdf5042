//! The letters of `sp`: their one legal order, which resource each is for, and since when.
//!
//! From the permission tables of the protocol reference. A set of letters is also how the rights
//! of a principal are expressed, so that "SAS and role" is one intersection.

use super::super::super::spec::StorageRole;

/// A set of permission letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letters(u16);

/// One row per letter, in the order `sp` must be written: the letter, the service version that
/// introduced it, and the signed resources it may appear on.
const ROWS: [(char, &str, &[&str]); 15] = [
    ('r', "2018-11-09", &["c", "d", "b", "bs", "bv"]),
    ('a', "2018-11-09", &["c", "d", "b"]),
    ('c', "2018-11-09", &["c", "d", "b"]),
    ('w', "2018-11-09", &["c", "d", "b", "bs", "bv"]),
    ('d', "2018-11-09", &["c", "d", "b", "bs", "bv"]),
    ('x', "2019-10-10", &["c", "b", "bs", "bv"]),
    ('y', "2020-02-10", &["c", "b", "bs", "bv"]),
    ('l', "2018-11-09", &["c", "d"]),
    ('t', "2019-12-12", &["c", "d", "b", "bs", "bv"]),
    ('f', "2021-04-10", &["c"]),
    ('m', "2020-02-10", &["c", "d", "b"]),
    ('e', "2020-02-10", &["c", "d", "b"]),
    ('o', "2020-02-10", &["c", "d", "b"]),
    ('p', "2020-02-10", &["c", "d", "b"]),
    ('i', "2020-08-04", &["c", "d", "b", "bs", "bv"]),
];

impl Letters {
    /// No letter at all.
    pub(crate) const NONE: Self = Self(0);

    /// Every letter there is: what an account key may do.
    pub(crate) const ALL: Self = Self((1 << ROWS.len()) - 1);

    /// The set of these letters, in any order. Letters that do not exist are not in the set.
    pub(crate) fn of(letters: &str) -> Self {
        let bit = |letter| {
            ROWS.iter()
                .position(|row| row.0 == letter)
                .map_or(0, |at| 1 << at)
        };
        Self(letters.chars().map(bit).fold(0, |all, bit| all | bit))
    }

    /// Reads `sp`: at least one letter, in canonical order, none twice, each legal for this
    /// `sr` and `sv`. Anything else is `None`: the service calls such a token malformed.
    pub(crate) fn parse(sp: &str, sr: &str, sv: &str) -> Option<Self> {
        let mut next_row = 0;
        for letter in sp.chars() {
            let at = next_row + ROWS[next_row..].iter().position(|row| row.0 == letter)?;
            let (_, since, resources) = ROWS[at];
            if sv < since || !resources.contains(&sr) {
                return None;
            }
            next_row = at + 1;
        }
        (!sp.is_empty()).then(|| Self::of(sp))
    }

    /// What a role allows on data.
    pub(crate) fn of_role(role: StorageRole) -> Self {
        match role {
            StorageRole::BlobDelegator => Self::NONE,
            StorageRole::BlobDataReader => Self::of("rle"),
            StorageRole::BlobDataContributor => Self::of("racwdxyltfmei"),
            StorageRole::BlobDataOwner => Self::of("racwdxyltfmeopi"),
        }
    }

    /// Letters in either set.
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Letters in both sets.
    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether any of `letters` is in the set.
    pub(crate) fn has_any(self, letters: &str) -> bool {
        self.intersection(Self::of(letters)) != Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sp_must_be_ordered_unrepeated_and_legal_for_resource_and_version() {
        let cases = [
            ("r", "b", "2025-11-05", true),
            ("racwdl", "c", "2025-11-05", true),
            ("racwdxyltfmeopi", "c", "2025-11-05", true),
            ("racwdltmeopi", "d", "2025-11-05", true),
            ("", "b", "2025-11-05", false),
            ("lr", "c", "2025-11-05", false),
            ("rr", "b", "2025-11-05", false),
            ("wr", "b", "2025-11-05", false),
            ("rl", "b", "2025-11-05", false),
            ("rf", "b", "2025-11-05", false),
            ("rx", "d", "2025-11-05", false),
            ("rz", "c", "2025-11-05", false),
            ("rt", "c", "2019-10-10", false),
            ("rc", "bs", "2025-11-05", false),
        ];
        for (sp, sr, sv, legal) in cases {
            assert_eq!(
                Letters::parse(sp, sr, sv).is_some(),
                legal,
                "sp={sp} sr={sr} sv={sv}"
            );
        }
    }

    #[test]
    fn a_role_cuts_a_token_down_to_what_the_principal_itself_may_do() {
        let token = Letters::of("rwd");
        let reader = Letters::of_role(StorageRole::BlobDataReader);
        assert!(token.intersection(reader).has_any("r"));
        assert!(!token.intersection(reader).has_any("wd"));
        assert!(Letters::of_role(StorageRole::BlobDelegator) == Letters::NONE);
    }
}
