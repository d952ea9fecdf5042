//! Service versions, and the one table of what each of them signs. Never values: those are taken
//! from the spec and the key in [`super::sign`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::{
    Date, format_description::BorrowedFormatItem, macros::date, macros::format_description,
};

use super::super::permission::{PermissionSet, SignedResource};

const FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// A version of the storage service's protocol, `sv`, such as `2025-11-05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceVersion(Date);

/// Why a text is not a service version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a service version must be a date such as 2025-11-05, and not before 2018-11-09")]
pub struct InvalidVersion;

impl ServiceVersion {
    /// The first that knows user delegation keys.
    pub const OLDEST: Self = V2018_11_09;

    /// The newest version whose layout was checked against the official SDKs.
    pub const NEWEST: Self = Self(date!(2026 - 10 - 06));

    /// The newest that every server we can test against accepts and that can still bind a token to
    /// its user.
    pub const DEFAULT: Self = Self(date!(2025 - 11 - 05));
}

impl FromStr for ServiceVersion {
    type Err = InvalidVersion;
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        // The length rules out a signed year, which the parser alone would accept.
        let date = (text.len() == 10)
            .then(|| Date::parse(text, FORMAT).ok())
            .flatten();
        date.map(Self)
            .filter(|&version| version >= Self::OLDEST)
            .ok_or(InvalidVersion)
    }
}

impl fmt::Display for ServiceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

impl TryFrom<String> for ServiceVersion {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<ServiceVersion> for String {
    fn from(version: ServiceVersion) -> Self {
        version.to_string()
    }
}

const V2018_11_09: ServiceVersion = ServiceVersion(date!(2018 - 11 - 09));
const V2019_10_10: ServiceVersion = ServiceVersion(date!(2019 - 10 - 10));
const V2019_12_12: ServiceVersion = ServiceVersion(date!(2019 - 12 - 12));
const V2020_02_10: ServiceVersion = ServiceVersion(date!(2020 - 02 - 10));
const V2020_08_04: ServiceVersion = ServiceVersion(date!(2020 - 08 - 04));
const V2020_12_06: ServiceVersion = ServiceVersion(date!(2020 - 12 - 06));
const V2021_04_10: ServiceVersion = ServiceVersion(date!(2021 - 04 - 10));
const V2025_07_05: ServiceVersion = ServiceVersion(date!(2025 - 07 - 05));
const V2026_04_06: ServiceVersion = ServiceVersion(date!(2026 - 04 - 06));

/// What stands on one line of a string-to-sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Permissions,
    Start,
    Expiry,
    CanonicalizedResource,
    KeyObjectId,
    KeyTenantId,
    KeyStart,
    KeyExpiry,
    KeyService,
    KeyVersion,
    AuthorizedObjectId,
    UnauthorizedObjectId,
    CorrelationId,
    KeyDelegatedTenantId,
    DelegatedUserObjectId,
    Ip,
    Protocol,
    Version,
    Resource,
    SnapshotOrVersionId,
    EncryptionScope,
    RequestHeaders,
    RequestQuery,
    CacheControl,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentType,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) field: Field,
    /// Its name in the token; empty for the two fields that are signed but not sent.
    pub(super) parameter: &'static str,
    /// The first service version that signs it. No version ever dropped or moved a line.
    pub(super) since: ServiceVersion,
}

const fn line(field: Field, parameter: &'static str, since: ServiceVersion) -> Line {
    Line {
        field,
        parameter,
        since,
    }
}

/// Every line, in the order in which it is signed. A layout is the rows up to its version, so the
/// five layouts (of 20, 23, 24, 26 and 28 lines) cannot drift apart.
///
/// Sources: Microsoft's "Create a user delegation SAS", section "Specify the signature", and the
/// `_shared_access_signature` modules of the official SDKs, of which one release for each layout
/// made the vectors in `tests/data/`.
#[rustfmt::skip]
pub(super) const LINES: [Line; 28] = [
    line(Field::Permissions,           "sp",      V2018_11_09),
    line(Field::Start,                 "st",      V2018_11_09),
    line(Field::Expiry,                "se",      V2018_11_09),
    line(Field::CanonicalizedResource, "",        V2018_11_09),
    line(Field::KeyObjectId,           "skoid",   V2018_11_09),
    line(Field::KeyTenantId,           "sktid",   V2018_11_09),
    line(Field::KeyStart,              "skt",     V2018_11_09),
    line(Field::KeyExpiry,             "ske",     V2018_11_09),
    line(Field::KeyService,            "sks",     V2018_11_09),
    line(Field::KeyVersion,            "skv",     V2018_11_09),
    line(Field::AuthorizedObjectId,    "saoid",   V2020_02_10),
    line(Field::UnauthorizedObjectId,  "suoid",   V2020_02_10),
    line(Field::CorrelationId,         "scid",    V2020_02_10),
    line(Field::KeyDelegatedTenantId,  "skdutid", V2025_07_05),
    line(Field::DelegatedUserObjectId, "sduoid",  V2025_07_05),
    line(Field::Ip,                    "sip",     V2018_11_09),
    line(Field::Protocol,              "spr",     V2018_11_09),
    line(Field::Version,               "sv",      V2018_11_09),
    line(Field::Resource,              "sr",      V2018_11_09),
    line(Field::SnapshotOrVersionId,   "",        V2018_11_09),
    line(Field::EncryptionScope,       "ses",     V2020_12_06),
    line(Field::RequestHeaders,        "srh",     V2026_04_06),
    line(Field::RequestQuery,          "srq",     V2026_04_06),
    line(Field::CacheControl,          "rscc",    V2018_11_09),
    line(Field::ContentDisposition,    "rscd",    V2018_11_09),
    line(Field::ContentEncoding,       "rsce",    V2018_11_09),
    line(Field::ContentLanguage,       "rscl",    V2018_11_09),
    line(Field::ContentType,           "rsct",    V2018_11_09),
];

/// The string-to-sign of one service version: some of [`LINES`], in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout(ServiceVersion);

impl Layout {
    pub(super) const fn of(version: ServiceVersion) -> Self {
        Self(version)
    }

    pub(super) fn holds(self, line: &Line) -> bool {
        line.since <= self.0
    }
}

/// The first version that knows a kind of resource. For `bv` the SDKs check the version that
/// brought it, two months before the one that the documentation names.
pub(super) const fn resource_since(resource: SignedResource) -> ServiceVersion {
    match resource {
        SignedResource::Blob | SignedResource::BlobSnapshot | SignedResource::Container => {
            V2018_11_09
        }
        SignedResource::BlobVersion => V2019_10_10,
        SignedResource::Directory => V2020_02_10,
    }
}

/// The letters that came after the first version, with the version that brought them.
#[rustfmt::skip]
const LETTERS_SINCE: [(PermissionSet, ServiceVersion); 5] = [
    (PermissionSet::of(b"x"),     V2019_10_10),
    (PermissionSet::of(b"t"),     V2019_12_12),
    (PermissionSet::of(b"meopy"), V2020_02_10),
    (PermissionSet::of(b"i"),     V2020_08_04),
    (PermissionSet::of(b"f"),     V2021_04_10),
];

/// The letters of `permissions` that `version` does not know, with the version that brought the
/// first of them.
pub(super) fn letters_too_new(
    permissions: PermissionSet,
    version: ServiceVersion,
) -> Option<(PermissionSet, ServiceVersion)> {
    LETTERS_SINCE
        .into_iter()
        .map(|(letters, since)| (letters.intersection(permissions), since))
        .find(|&(letters, since)| since > version && !letters.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_at(version: &str) -> usize {
        let layout = Layout::of(version.parse().unwrap());
        LINES.iter().filter(|line| layout.holds(line)).count()
    }

    #[test]
    fn each_layout_has_its_number_of_lines_from_its_version_until_the_next() {
        for (first, last, lines) in [
            ("2018-11-09", "2020-02-09", 20),
            ("2020-02-10", "2020-12-05", 23),
            ("2020-12-06", "2025-07-04", 24),
            ("2025-07-05", "2026-04-05", 26),
            ("2026-04-06", "2026-10-06", 28),
        ] {
            assert_eq!((lines_at(first), lines_at(last)), (lines, lines), "{first}");
        }
    }

    #[test]
    fn a_version_is_a_date_from_the_first_one_on() {
        for ok in ["2018-11-09", "2025-11-05", "2026-10-06"] {
            assert_eq!(ok.parse::<ServiceVersion>().unwrap().to_string(), ok);
        }
        for bad in [
            "",
            "2018-11-08",
            "2025-13-01",
            "2025-1-05",
            "+2025-11-5",
            "2025-11-05\n",
        ] {
            assert_eq!(
                bad.parse::<ServiceVersion>(),
                Err(InvalidVersion),
                "{bad:?}"
            );
        }
        assert_eq!(ServiceVersion::DEFAULT.to_string(), "2025-11-05");
    }

    #[test]
    fn letters_arrive_with_their_version() {
        let too_new = |letters: &[u8], version: &str| {
            letters_too_new(PermissionSet::of(letters), version.parse().unwrap())
                .map(|(letters, since)| format!("{letters} {since}"))
        };
        assert_eq!(too_new(b"racwdl", "2018-11-09"), None);
        assert_eq!(
            too_new(b"rx", "2018-11-09").as_deref(),
            Some("x 2019-10-10")
        );
        assert_eq!(
            too_new(b"rmp", "2019-12-12").as_deref(),
            Some("mp 2020-02-10")
        );
        assert_eq!(too_new(b"f", "2020-12-06").as_deref(), Some("f 2021-04-10"));
        assert_eq!(too_new(b"racwdxyltfmeopi", "2021-04-10"), None);
    }
}
