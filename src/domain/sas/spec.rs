//! What a token says, before it is signed. Every text in it is checked when it is made; the
//! relations between the fields are checked by [`super::sign`]. Never a secret.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;

use super::{
    super::{
        ids::{AccountName, BlobPath, ContainerName, IssuanceId, ObjectId},
        permission::{PermissionSet, SignedResource},
    },
    ip::SignedIp,
};

/// Longest free text in a token, in characters: as long as a path may be, and well under what URLs
/// and headers may hold.
pub const FIELD_TEXT_CHARS_MAX: usize = 1024;

/// Most headers, and most query parameters, that one token can demand of a request. No storage
/// operation takes more, and each one makes the URL longer.
pub const SIGNED_PAIRS_MAX: usize = 64;

/// A free text that is safe to sign: 1 to [`FIELD_TEXT_CHARS_MAX`] characters, none of them a
/// control character. Signed fields are told apart by newlines alone, so that a newline inside one
/// would move text into the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldText(Box<str>);

/// Why a text cannot be signed. It never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Empty or too long.
    #[error("a signed text must be 1 to {FIELD_TEXT_CHARS_MAX} characters")]
    Length,
    /// Holds a control character.
    #[error("a signed text must not contain control characters")]
    Control,
    /// A name that could be read as two.
    #[error("a signed header's or query parameter's name must not contain colons or commas")]
    Separator,
}

impl FieldText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldText {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if text.is_empty() {
            return Err(InvalidText::Length);
        }
        check(text).map(|()| Self(text.into()))
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<(), InvalidText> {
    if text.chars().count() > FIELD_TEXT_CHARS_MAX {
        return Err(InvalidText::Length);
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidText::Control);
    }
    Ok(())
}

/// A header or query parameter that a request must carry with exactly this value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SignedPair {
    name: FieldText,
    value: Box<str>,
}

impl SignedPair {
    /// A pair. The value may be empty. The name holds no colon, which ends it in the
    /// string-to-sign, and no comma, which ends it in the token.
    ///
    /// # Errors
    /// [`InvalidText`].
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidText> {
        if name.contains([':', ',']) {
            return Err(InvalidText::Separator);
        }
        check(value)?;
        Ok(Self {
            name: name.parse()?,
            value: value.into(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The demanded value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// What a token opens inside its container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SasTarget {
    /// The whole container or file system.
    Container,
    /// One blob or file.
    Blob(BlobPath),
    /// One snapshot of a blob. Its time is signed but not part of the token: the client sends it.
    BlobSnapshot {
        /// The blob.
        path: BlobPath,
        /// When it was taken, as the service writes it (with seven digits of a second's fraction).
        snapshot: FieldText,
    },
    /// One version of a blob. Its id is signed but not part of the token: the client sends it.
    BlobVersion {
        /// The blob.
        path: BlobPath,
        /// The version's id, as the service writes it.
        version_id: FieldText,
    },
    /// A directory and all below it. Its depth, `sdd`, is that of the path and cannot differ. The
    /// root is [`SasTarget::Container`]: the SDKs disagree on the depth of a root directory.
    Directory(BlobPath),
}

impl SasTarget {
    /// Its kind.
    #[must_use]
    pub const fn resource(&self) -> SignedResource {
        match self {
            Self::Container => SignedResource::Container,
            Self::Blob(_) => SignedResource::Blob,
            Self::BlobSnapshot { .. } => SignedResource::BlobSnapshot,
            Self::BlobVersion { .. } => SignedResource::BlobVersion,
            Self::Directory(_) => SignedResource::Directory,
        }
    }

    /// Its path, if it is not the whole container.
    #[must_use]
    pub const fn path(&self) -> Option<&BlobPath> {
        match self {
            Self::Container => None,
            Self::Blob(path)
            | Self::BlobSnapshot { path, .. }
            | Self::BlobVersion { path, .. }
            | Self::Directory(path) => Some(path),
        }
    }

    pub(super) fn snapshot_or_version_id(&self) -> &str {
        match self {
            Self::BlobSnapshot { snapshot: text, .. }
            | Self::BlobVersion {
                version_id: text, ..
            } => text.as_str(),
            Self::Container | Self::Blob(_) | Self::Directory(_) => "",
        }
    }
}

/// The person for whom a token is made, on an account with a hierarchical namespace. One token
/// never says both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndUser {
    /// `saoid`: whoever makes the token has authorized them; the service checks no POSIX ACL.
    Authorized(ObjectId),
    /// `suoid`: the service checks the POSIX ACLs for them.
    Unauthorized(ObjectId),
}

/// Headers that the service puts into its answer instead of the stored ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ResponseHeaders {
    /// `rscc`: `Cache-Control`.
    pub cache_control: Option<FieldText>,
    /// `rscd`: `Content-Disposition`.
    pub content_disposition: Option<FieldText>,
    /// `rsce`: `Content-Encoding`.
    pub content_encoding: Option<FieldText>,
    /// `rscl`: `Content-Language`.
    pub content_language: Option<FieldText>,
    /// `rsct`: `Content-Type`.
    pub content_type: Option<FieldText>,
}

/// Everything that a user delegation SAS for blobs can say. The protocol is always `https`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SasSpec {
    /// Storage account.
    pub account: AccountName,
    /// Container or file system.
    pub container: ContainerName,
    /// What in it.
    pub target: SasTarget,
    /// `sp`.
    pub permissions: PermissionSet,
    /// `st`, whole seconds; absent means at once.
    pub start: Option<OffsetDateTime>,
    /// `se`, whole seconds.
    pub expiry: OffsetDateTime,
    /// `sip`.
    pub ip: Option<SignedIp>,
    /// `saoid` or `suoid`.
    pub end_user: Option<EndUser>,
    /// `scid`: joins the service's log to our journal.
    pub correlation_id: Option<IssuanceId>,
    /// `sduoid`: the one user who can use the token, together with a bearer token of theirs.
    pub delegated_user_object_id: Option<ObjectId>,
    /// `ses`: the encryption scope of what is written.
    pub encryption_scope: Option<FieldText>,
    /// `rscc`, `rscd`, `rsce`, `rscl` and `rsct`.
    pub response_headers: ResponseHeaders,
    /// `srh`: headers that a request must carry, in the order in which they are signed.
    pub request_headers: Vec<SignedPair>,
    /// `srq`: query parameters that a request must carry, in the order in which they are signed.
    pub request_query: Vec<SignedPair>,
}

impl SasSpec {
    /// The least that a token must say; everything else is absent and can be set.
    #[must_use]
    pub fn new(
        account: AccountName,
        container: ContainerName,
        target: SasTarget,
        permissions: PermissionSet,
        expiry: OffsetDateTime,
    ) -> Self {
        Self {
            account,
            container,
            target,
            permissions,
            start: None,
            expiry,
            ip: None,
            end_user: None,
            correlation_id: None,
            delegated_user_object_id: None,
            encryption_scope: None,
            response_headers: ResponseHeaders::default(),
            request_headers: Vec::new(),
            request_query: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_text_holds_nothing_that_ends_a_field() {
        let long = "é".repeat(FIELD_TEXT_CHARS_MAX);
        for ok in [
            "a",
            " ",
            "attachment; filename=\"100% é+&=.bin\"",
            long.as_str(),
        ] {
            assert_eq!(ok.parse::<FieldText>().unwrap().as_str(), ok);
        }
        for (bad, error) in [
            ("", InvalidText::Length),
            (&*format!("{long}x"), InvalidText::Length),
            ("a\nb", InvalidText::Control),
            ("a\r", InvalidText::Control),
            ("\0", InvalidText::Control),
            ("a\u{7f}", InvalidText::Control),
            ("a\u{85}", InvalidText::Control),
        ] {
            assert_eq!(bad.parse::<FieldText>(), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn a_signed_pair_can_be_read_in_one_way_only() {
        assert!(SignedPair::new("X-Custom", "a:b,c=d").is_ok());
        assert!(SignedPair::new("a b", "").is_ok());
        for (name, value, error) in [
            ("a:b", "c", InvalidText::Separator),
            ("a,b", "c", InvalidText::Separator),
            ("", "c", InvalidText::Length),
            ("a\n", "c", InvalidText::Control),
            ("a", "c\nb:d", InvalidText::Control),
        ] {
            assert_eq!(
                SignedPair::new(name, value),
                Err(error),
                "{name:?} {value:?}"
            );
        }
    }
}
