//! Typed names: parsed once at the edge, trusted everywhere after. Nothing here assumes that a
//! text is well formed, and no type here can be built without its check.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not a valid name. The message names the kind of thing and the rule it broke, never
/// the text itself, which may be hostile or huge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    rule: &'static str,
}

impl InvalidName {
    pub(super) const fn new(kind: &'static str, rule: &'static str) -> Self {
        Self { kind, rule }
    }
}

/// Longest reason, in characters: a sentence and a ticket, not a story.
pub const REASON_CHARS_MAX: usize = 500;

/// Declares a checked text type: parsing is its only constructor.
macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                $check(&text)?;
                Ok(Self(text.into_boxed_str()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name! {
    /// A storage account's name: 3 to 24 lower-case letters and digits.
    AccountName, check_account
}

text_name! {
    /// A container (file system) name: 3 to 63 lower-case letters, digits and single hyphens, or
    /// one of the service's own `$root`, `$web` and `$logs`.
    ContainerName, check_container
}

text_name! {
    /// A blob's or directory's path inside its container: 1 to 1,024 characters in at most 254
    /// segments, no leading or trailing slash, no empty, `.` or `..` segment, no backslash and no
    /// control character. URL clients rewrite such names, and a newline could move one signed field
    /// into the next.
    BlobPath, check_path
}

text_name! {
    /// A role's name in the role table: 1 to 64 lower-case letters, digits, `-`, `_` and `.`.
    RoleName, check_slug
}

text_name! {
    /// The name under which the configuration knows one of the broker's own credentials; same
    /// alphabet as [`RoleName`].
    SigningIdentity, check_slug
}

text_name! {
    /// An Entra app role's value: 1 to 120 visible ASCII characters without spaces.
    AppRole, check_app_role
}

text_name! {
    /// The caller's `Idempotency-Key`: 1 to 128 visible ASCII characters.
    IdempotencyKey, check_idempotency_key
}

text_name! {
    /// A Key Vault secret's name: 1 to 127 letters, digits and hyphens. Azure compares it without
    /// case, so only lower case is accepted here.
    SecretName, check_secret_name
}

text_name! {
    /// A Key Vault secret version: 32 hexadecimal digits in lower case.
    SecretVersion, check_secret_version
}

text_name! {
    /// Why somebody asks for something, in their words: 1 to 500 characters, no control characters.
    /// It goes into the journal.
    Reason, check_reason
}

impl BlobPath {
    /// Number of segments, which a directory SAS carries as `sdd`.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.split('/').count()
    }

    /// Whether `self` is `other` or an ancestor of it, on segment boundaries: `a/b` contains
    /// `a/b` and `a/b/c` but never `a/bc`.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other
            .0
            .strip_prefix(&*self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Declares a typed GUID. The field is public: any GUID is a valid id.
macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                // Only the hyphenated form: a GUID with a second spelling is a second identity.
                if text.len() != 36 {
                    return Err(InvalidName::new(stringify!($name), "must be a hyphenated GUID"));
                }
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| InvalidName::new(stringify!($name), "must be a hyphenated GUID"))
            }
        }
    };
}

guid! {
    /// An Entra directory: claim `tid`, SAS field `sktid`.
    TenantId
}
guid! {
    /// A directory object (user, group or service principal): claim `oid`, SAS field `skoid`.
    ObjectId
}
guid! {
    /// One grant of the role table.
    GrantId
}
guid! {
    /// One issuance: a `UUIDv7`, signed as `scid` where the endpoint supports it.
    IssuanceId
}
guid! {
    /// One rotation's story: a `UUIDv7`, written into the tag `RotationId` of what it publishes.
    RotationId
}
guid! {
    /// One HTTP request, for the journal and the log.
    RequestId
}
guid! {
    /// One journal writer: a process, or one of its chains.
    WriterId
}

fn check_account(text: &str) -> Result<(), InvalidName> {
    let ok = (3..=24).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    ok.then_some(()).ok_or(InvalidName::new(
        "storage account",
        "must be 3 to 24 lower-case letters and digits",
    ))
}

fn check_container(text: &str) -> Result<(), InvalidName> {
    if matches!(text, "$root" | "$web" | "$logs") {
        return Ok(());
    }
    let ok = (3..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    ok.then_some(()).ok_or(InvalidName::new(
        "container",
        "must be 3 to 63 lower-case letters, digits and single hyphens, or $root, $web or $logs",
    ))
}

fn check_path(text: &str) -> Result<(), InvalidName> {
    const KIND: &str = "path";
    if text.is_empty() || text.chars().count() > 1024 {
        return Err(InvalidName::new(KIND, "must be 1 to 1,024 characters"));
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(InvalidName::new(
            KIND,
            "must not contain control characters or backslashes",
        ));
    }
    if text
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err(InvalidName::new(
            KIND,
            "must not start or end with a slash, nor contain empty, `.` or `..` segments",
        ));
    }
    if text.split('/').count() > 254 {
        return Err(InvalidName::new(KIND, "must have at most 254 segments"));
    }
    Ok(())
}

fn check_slug(text: &str) -> Result<(), InvalidName> {
    let ok = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    ok.then_some(()).ok_or(InvalidName::new(
        "name",
        "must be 1 to 64 lower-case letters, digits, hyphens, underscores and dots",
    ))
}

fn check_app_role(text: &str) -> Result<(), InvalidName> {
    let ok = (1..=120).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    ok.then_some(()).ok_or(InvalidName::new(
        "app role",
        "must be 1 to 120 visible ASCII characters",
    ))
}

fn check_reason(text: &str) -> Result<(), InvalidName> {
    let ok = (1..=REASON_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(char::is_control);
    ok.then_some(()).ok_or(InvalidName::new(
        "reason",
        "must be 1 to 500 characters, no control characters",
    ))
}

fn check_secret_name(text: &str) -> Result<(), InvalidName> {
    let ok = (1..=127).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ok.then_some(()).ok_or(InvalidName::new(
        "secret name",
        "must be 1 to 127 lower-case letters, digits and hyphens",
    ))
}

fn check_secret_version(text: &str) -> Result<(), InvalidName> {
    let ok = text.len() == 32
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    ok.then_some(()).ok_or(InvalidName::new(
        "secret version",
        "must be 32 lower-case hexadecimal digits",
    ))
}

fn check_idempotency_key(text: &str) -> Result<(), InvalidName> {
    let ok = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    ok.then_some(()).ok_or(InvalidName::new(
        "Idempotency-Key",
        "must be 1 to 128 visible ASCII characters",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_azure_rules() {
        let long = "a".repeat(24);
        for ok in ["abc", "acct1", long.as_str()] {
            assert!(ok.parse::<AccountName>().is_ok(), "{ok}");
        }
        for bad in ["", "ab", "Acct1", "acct-1", "acct1\n", &"a".repeat(25)] {
            assert!(bad.parse::<AccountName>().is_err(), "{bad:?}");
        }
        for ok in ["raw", "$web", "$root", "a-b-c", "0ab"] {
            assert!(ok.parse::<ContainerName>().is_ok(), "{ok}");
        }
        for bad in [
            "", "ab", "$other", "a--b", "-ab", "ab-", "RAW", "raw/x", "raw\n",
        ] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_refuse_what_clients_rewrite_or_what_could_move_a_signed_field() {
        for ok in ["a", "a/b.csv", "2026/11/ä ö%+&=?#.csv", "...", "a/.b"] {
            assert!(ok.parse::<BlobPath>().is_ok(), "{ok}");
        }
        let deep = ["a"; 255].join("/");
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a\\b", "a\nb", "a\u{85}b", &deep,
        ] {
            assert!(bad.parse::<BlobPath>().is_err(), "{bad:?}");
        }
        assert!(
            "é".repeat(1024).parse::<BlobPath>().is_ok(),
            "characters count, not bytes"
        );
        assert!("é".repeat(1025).parse::<BlobPath>().is_err());
    }

    #[test]
    fn a_prefix_matches_on_segment_boundaries_only() {
        let path = |text: &str| text.parse::<BlobPath>().unwrap();
        assert!(path("a/b").contains(&path("a/b")));
        assert!(path("a/b").contains(&path("a/b/c")));
        assert!(!path("a/b").contains(&path("a/bc")));
        assert!(!path("a/b").contains(&path("a")));
        assert_eq!(path("a/b/c").depth(), 3);
    }

    #[test]
    fn guids_have_one_spelling() {
        assert!(
            "11111111-1111-1111-1111-111111111111"
                .parse::<TenantId>()
                .is_ok()
        );
        for bad in [
            "11111111111111111111111111111111",
            "{11111111-1111-1111-1111-111111111111}",
            "",
        ] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }
}
