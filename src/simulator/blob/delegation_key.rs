//! User delegation keys: who may have one, for which window, and which ones are still alive.
//!
//! A key's value is random, kept in memory only and wiped when it goes. The XML around it is in
//! `xml`, the token check that uses it in `sas::check`.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::random;
use super::errors::{BlobError, Code};
use super::sas::is_version;

/// Farthest that either end of a key's window may lie from now, and the longest window.
const WINDOW_LONGEST: Duration = Duration::days(7);

/// Keys one account remembers, expired ones not counted: far more than any broker caches, small
/// enough that a client in a loop cannot eat the machine's memory.
const KEYS_MOST: usize = 10_000;

/// The service version that introduced keys bound to users of another tenant.
const DELEGATED_TENANT_SINCE: &str = "2025-07-05";

/// Everything that identifies an issued key: what a SAS repeats of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId {
    pub(crate) object_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) start: OffsetDateTime,
    pub(crate) expiry: OffsetDateTime,
    /// `x-ms-version` of the request that made the key.
    pub(crate) version: String,
    pub(crate) delegated_tenant_id: Option<Uuid>,
}

/// The window and the binding a client asked for, read from the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyInfo {
    pub(crate) start: OffsetDateTime,
    pub(crate) expiry: OffsetDateTime,
    pub(crate) delegated_tenant_id: Option<Uuid>,
}

impl KeyInfo {
    /// The service's rules for a window and a version.
    pub(crate) fn check(&self, version: &str, now: OffsetDateTime) -> Result<(), BlobError> {
        if !is_version(version) {
            return Err(Code::InvalidHeaderValue.into());
        }
        if self.delegated_tenant_id.is_some() && version < DELEGATED_TENANT_SINCE {
            return Err(Code::InvalidXmlDocument.into());
        }
        let near = |time: OffsetDateTime| (time - now).abs() <= WINDOW_LONGEST;
        let sound = self.start < self.expiry
            && self.expiry > now
            && near(self.start)
            && near(self.expiry)
            && self.expiry - self.start <= WINDOW_LONGEST;
        if sound {
            Ok(())
        } else {
            Err(Code::InvalidXmlNodeValue.into())
        }
    }
}

/// The keys an account has issued and not revoked. No `Debug`: the values are secrets.
#[derive(Default)]
pub(crate) struct DelegationKeys {
    issued: BTreeMap<KeyId, Zeroizing<[u8; 32]>>,
}

impl DelegationKeys {
    /// Issues the key of this id; the same id gives the same value until the key is revoked.
    pub(crate) fn issue(&mut self, id: KeyId, now: OffsetDateTime) -> Result<&[u8; 32], BlobError> {
        self.issued.retain(|known, _| known.expiry > now);
        if self.issued.len() >= KEYS_MOST && !self.issued.contains_key(&id) {
            return Err(Code::ServerBusy.into());
        }
        Ok(self
            .issued
            .entry(id)
            .or_insert_with(|| Zeroizing::new(random::bytes())))
    }

    /// The value of a live key.
    pub(crate) fn value(&self, id: &KeyId) -> Option<&[u8; 32]> {
        self.issued.get(id).map(|value| &**value)
    }

    /// Revokes every key, and with them every token they signed.
    pub(crate) fn revoke_all(&mut self) {
        self.issued.clear();
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    #[test]
    fn a_key_window_lies_within_seven_days_of_now_and_is_no_longer_than_seven_days() {
        let (hour, day) = (Duration::hours(1), Duration::days(1));
        let cases = [
            ("a day", NOW, NOW + day, true),
            ("seven days", NOW, NOW + 7 * day, true),
            ("back-dated", NOW - hour, NOW + 7 * day - hour, true),
            (
                "over seven days ahead",
                NOW + hour,
                NOW + 7 * day + hour,
                false,
            ),
            ("longer than seven days", NOW - hour, NOW + 7 * day, false),
            ("start eight days ago", NOW - 8 * day, NOW - day, false),
            ("over already", NOW - 2 * hour, NOW - hour, false),
            ("reversed", NOW + hour, NOW, false),
            ("empty", NOW + hour, NOW + hour, false),
        ];
        for (name, start, expiry, accepted) in cases {
            let info = KeyInfo {
                start,
                expiry,
                delegated_tenant_id: None,
            };
            assert_eq!(info.check("2025-11-05", NOW).is_ok(), accepted, "{name}");
        }
    }

    #[test]
    fn the_version_must_know_what_is_asked() {
        let info = |delegated_tenant_id| KeyInfo {
            start: NOW,
            expiry: NOW + Duration::hours(1),
            delegated_tenant_id,
        };
        assert!(info(None).check("2018-11-09", NOW).is_ok());
        assert!(info(None).check("2017-11-09", NOW).is_err());
        assert!(info(None).check("newest", NOW).is_err());
        assert!(info(Some(Uuid::nil())).check("2025-07-05", NOW).is_ok());
        assert!(info(Some(Uuid::nil())).check("2025-05-05", NOW).is_err());
    }
}
