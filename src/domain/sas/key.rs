//! The user delegation key: what the service gave, and the only thing that can sign. Never how it
//! is fetched, kept or renewed.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{
    super::ids::{ObjectId, TenantId},
    spec::FieldText,
};

/// The elements of the service's answer to "Get User Delegation Key", by their names there. It
/// borrows, and has no `Debug`: `value` is the secret.
#[derive(Clone, Copy)]
pub struct KeyElements<'a> {
    /// `SignedOid`: who asked for the key, a GUID.
    pub signed_oid: &'a str,
    /// `SignedTid`: that principal's directory, a GUID.
    pub signed_tid: &'a str,
    /// `SignedStart`, RFC 3339.
    pub signed_start: &'a str,
    /// `SignedExpiry`, RFC 3339.
    pub signed_expiry: &'a str,
    /// `SignedService`: `b`.
    pub signed_service: &'a str,
    /// `SignedVersion`: the service version of the request for the key.
    pub signed_version: &'a str,
    /// `SignedDelegatedUserTid`: the directory of the users that tokens may be bound to, a GUID.
    pub signed_delegated_user_tid: Option<&'a str>,
    /// `Value`, in base64.
    pub value: &'a str,
}

/// Why the service's answer is not a key. It never quotes the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// An element breaks its rule.
    #[error("the user delegation key's {0} is malformed")]
    Element(&'static str),
    /// It ends before it begins.
    #[error("the user delegation key expires before it starts")]
    Window,
}

/// A user delegation key, ready to sign. Its texts are kept as the service wrote them: they are
/// copied into every token, and the service derives the key from them again.
pub struct UserDelegationKey {
    pub(super) signed_oid: Box<str>,
    pub(super) signed_tid: Box<str>,
    pub(super) signed_start: Box<str>,
    pub(super) signed_expiry: Box<str>,
    pub(super) signed_service: FieldText,
    pub(super) signed_version: FieldText,
    pub(super) signed_delegated_user_tid: Option<Box<str>>,
    signed_object_id: ObjectId,
    start: OffsetDateTime,
    expiry: OffsetDateTime,
    delegated_tenant_id: Option<TenantId>,
    /// Boxed, so that moving the key leaves no copy of its state behind; aws-lc clears it on drop.
    hmac: Box<hmac::Key>,
}

impl UserDelegationKey {
    /// Checks the elements and decodes the value, once.
    ///
    /// # Errors
    /// [`InvalidKey`] names the element.
    pub fn new(elements: &KeyElements<'_>) -> Result<Self, InvalidKey> {
        let start = instant("SignedStart", elements.signed_start)?;
        let expiry = instant("SignedExpiry", elements.signed_expiry)?;
        if expiry <= start {
            return Err(InvalidKey::Window);
        }
        let signed_object_id = elements
            .signed_oid
            .parse()
            .map_err(|_| InvalidKey::Element("SignedOid"))?;
        tenant("SignedTid", elements.signed_tid)?;
        let delegated_tenant_id = elements
            .signed_delegated_user_tid
            .map(|text| tenant("SignedDelegatedUserTid", text))
            .transpose()?;
        Ok(Self {
            signed_oid: elements.signed_oid.into(),
            signed_tid: elements.signed_tid.into(),
            signed_start: elements.signed_start.into(),
            signed_expiry: elements.signed_expiry.into(),
            signed_service: text("SignedService", elements.signed_service)?,
            signed_version: text("SignedVersion", elements.signed_version)?,
            signed_delegated_user_tid: elements.signed_delegated_user_tid.map(Into::into),
            signed_object_id,
            start,
            expiry,
            delegated_tenant_id,
            hmac: hmac_key(elements.value)?,
        })
    }

    /// Whose rights every token made with it has: the broker's own identity.
    #[must_use]
    pub const fn signed_object_id(&self) -> ObjectId {
        self.signed_object_id
    }

    /// The instant from which on it can be used.
    #[must_use]
    pub const fn start(&self) -> OffsetDateTime {
        self.start
    }

    /// The instant at which it and every token made with it end.
    #[must_use]
    pub const fn expiry(&self) -> OffsetDateTime {
        self.expiry
    }

    /// The directory that it can bind users of, if it was asked for one.
    #[must_use]
    pub const fn delegated_tenant_id(&self) -> Option<TenantId> {
        self.delegated_tenant_id
    }

    /// HMAC-SHA256 of `string_to_sign`, in base64.
    pub(super) fn signature(&self, string_to_sign: &str) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(hmac::sign(&self.hmac, string_to_sign.as_bytes())))
    }
}

impl fmt::Debug for UserDelegationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserDelegationKey")
            .field("signed_oid", &self.signed_oid)
            .field("signed_tid", &self.signed_tid)
            .field("signed_start", &self.signed_start)
            .field("signed_expiry", &self.signed_expiry)
            .finish_non_exhaustive()
    }
}

/// The service writes whole seconds, but its text is signed as it stands, so any RFC 3339 will do.
fn instant(element: &'static str, text: &str) -> Result<OffsetDateTime, InvalidKey> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidKey::Element(element))
}

fn tenant(element: &'static str, text: &str) -> Result<TenantId, InvalidKey> {
    text.parse().map_err(|_| InvalidKey::Element(element))
}

fn text(element: &'static str, text: &str) -> Result<FieldText, InvalidKey> {
    text.parse().map_err(|_| InvalidKey::Element(element))
}

fn hmac_key(value: &str) -> Result<Box<hmac::Key>, InvalidKey> {
    let bytes = STANDARD
        .decode(value)
        .map(Zeroizing::new)
        .unwrap_or_default();
    if bytes.is_empty() {
        return Err(InvalidKey::Element("Value"));
    }
    Ok(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const GUID: &str = "11111111-1111-1111-1111-111111111111";
    /// 32 bytes of the letter `k`.
    const VALUE: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

    const ELEMENTS: KeyElements<'static> = KeyElements {
        signed_oid: GUID,
        signed_tid: GUID,
        signed_start: "2026-11-23T10:00:00Z",
        signed_expiry: "2026-11-24T10:00:00Z",
        signed_service: "b",
        signed_version: "2025-11-05",
        signed_delegated_user_tid: None,
        value: VALUE,
    };

    #[test]
    fn the_window_is_what_the_service_said() {
        let key = UserDelegationKey::new(&ELEMENTS).unwrap();
        assert_eq!(key.start(), datetime!(2026-11-23 10:00 UTC));
        assert_eq!(key.expiry(), datetime!(2026-11-24 10:00 UTC));
        assert_eq!(key.delegated_tenant_id(), None);
    }

    #[test]
    fn a_malformed_element_is_named() {
        for (elements, name) in [
            (
                KeyElements {
                    signed_oid: "me",
                    ..ELEMENTS
                },
                "SignedOid",
            ),
            (
                KeyElements {
                    signed_tid: "",
                    ..ELEMENTS
                },
                "SignedTid",
            ),
            (
                KeyElements {
                    signed_start: "2026-11-23",
                    ..ELEMENTS
                },
                "SignedStart",
            ),
            (
                KeyElements {
                    signed_expiry: "2026-11-24T10:00:00Z\n",
                    ..ELEMENTS
                },
                "SignedExpiry",
            ),
            (
                KeyElements {
                    signed_service: "b\nb",
                    ..ELEMENTS
                },
                "SignedService",
            ),
            (
                KeyElements {
                    signed_version: "",
                    ..ELEMENTS
                },
                "SignedVersion",
            ),
            (
                KeyElements {
                    signed_delegated_user_tid: Some("x"),
                    ..ELEMENTS
                },
                "SignedDelegatedUserTid",
            ),
            (
                KeyElements {
                    value: "not base64!",
                    ..ELEMENTS
                },
                "Value",
            ),
            (
                KeyElements {
                    value: "",
                    ..ELEMENTS
                },
                "Value",
            ),
        ] {
            let error = UserDelegationKey::new(&elements).unwrap_err();
            assert_eq!(error, InvalidKey::Element(name));
        }
        let backwards = KeyElements {
            signed_expiry: ELEMENTS.signed_start,
            ..ELEMENTS
        };
        assert_eq!(
            UserDelegationKey::new(&backwards).unwrap_err(),
            InvalidKey::Window
        );
    }

    #[test]
    fn debug_shows_whose_key_it_is_but_not_the_key() {
        let shown = format!("{:?}", UserDelegationKey::new(&ELEMENTS).unwrap());
        assert!(shown.contains(GUID));
        assert!(!shown.contains("a2tr") && !shown.contains("kkkk") && !shown.contains("107, 107"));
    }
}
