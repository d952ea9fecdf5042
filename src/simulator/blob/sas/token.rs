//! A user-delegation SAS as it arrives: named fields out of a query string.
//!
//! Reads and checks the *shape* only. What the service signs is in `string_to_sign`; whether the
//! token is good for a request is in `check`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// Every query parameter that belongs to a SAS.
const FIELDS: [&str; 31] = [
    "sv", "sr", "sp", "st", "se", "sip", "spr", "ses", "saoid", "suoid", "scid", "sduoid", "skoid",
    "sktid", "skt", "ske", "sks", "skv", "skdutid", "sdd", "srh", "srq", "rscc", "rscd", "rsce",
    "rscl", "rsct", "sig", "si", "ss", "srt",
];

/// Fields that no user-delegation SAS can do without.
const REQUIRED: [&str; 11] = [
    "sv", "sr", "sp", "se", "skoid", "sktid", "skt", "ske", "sks", "skv", "sig",
];

/// The first service version with user delegation.
const OLDEST_VERSION: &str = "2018-11-09";

/// Fields that came later, with the version that first signs them. A field that the token's own
/// version does not sign could be changed by anybody, so it makes the token malformed.
const INTRODUCED: [(&str, &str); 9] = [
    ("sdd", "2020-02-10"),
    ("saoid", "2020-02-10"),
    ("suoid", "2020-02-10"),
    ("scid", "2020-02-10"),
    ("ses", "2020-12-06"),
    ("sduoid", "2025-07-05"),
    ("skdutid", "2025-07-05"),
    ("srh", "2026-04-06"),
    ("srq", "2026-04-06"),
];

/// The fields of one token, decoded; absent ones read as the empty text.
pub(crate) struct SasToken {
    fields: BTreeMap<&'static str, String>,
}

impl SasToken {
    /// Picks the SAS fields out of a decoded query. `None` if there is no `sig`: not a SAS.
    /// The first of two equal names counts here; `is_well_formed` refuses such a request.
    pub(crate) fn from_query(query: &[(String, String)]) -> Option<Self> {
        let mut fields = BTreeMap::new();
        for field in FIELDS {
            if let Some((_, value)) = query.iter().find(|(name, _)| name == field) {
                fields.insert(field, value.clone());
            }
        }
        fields.contains_key("sig").then_some(Self { fields })
    }

    /// The value of a field, or the empty text.
    pub(crate) fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    /// The names in `srh` or `srq`.
    pub(crate) fn names(&self, field: &str) -> Vec<&str> {
        self.get(field)
            .split(',')
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// The first thing wrong with the token's own fields, as the service words it.
    pub(crate) fn malformation(&self) -> Option<String> {
        if let Some(missing) = REQUIRED.iter().find(|field| self.get(field).is_empty()) {
            return Some(format!("{missing} is mandatory. Cannot be empty"));
        }
        if !self.get("si").is_empty() {
            return Some("si is not allowed in a user delegation SAS".into());
        }
        let version = self.get("sv");
        if !is_version(version) || !is_version(self.get("skv")) {
            return Some("sv is not in correct format".into());
        }
        if let Some((field, _)) = INTRODUCED
            .iter()
            .find(|(field, since)| !self.get(field).is_empty() && version < *since)
        {
            return Some(format!("{field} is not supported in version {version}"));
        }
        self.resource_malformation(version)
    }

    fn resource_malformation(&self, version: &str) -> Option<String> {
        let since = match self.get("sr") {
            "b" | "c" | "bs" => OLDEST_VERSION,
            "bv" => "2019-10-10",
            "d" => "2020-02-10",
            _ => return Some("sr is invalid".into()),
        };
        if version < since {
            return Some("sr is not supported in this version".into());
        }
        if (self.get("sr") == "d") != self.directory_depth().is_some() {
            return Some("sdd must be given exactly when sr is d".into());
        }
        if self.get("sks") != "b" {
            return Some("sks is invalid".into());
        }
        if !matches!(self.get("spr"), "" | "https" | "https,http") {
            return Some("spr is invalid".into());
        }
        if !self.get("sip").is_empty() && self.addresses().is_none() {
            return Some("sip is invalid".into());
        }
        if !self.get("saoid").is_empty() && !self.get("suoid").is_empty() {
            return Some("saoid and suoid exclude each other".into());
        }
        None
    }

    /// `sdd`: the number of path segments of the directory, at least one.
    pub(crate) fn directory_depth(&self) -> Option<usize> {
        self.get("sdd").parse().ok().filter(|depth| *depth > 0)
    }

    /// `sip` as an inclusive range; a single address is a range of one.
    pub(crate) fn addresses(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let sip = self.get("sip");
        let (first, last) = sip.split_once('-').unwrap_or((sip, sip));
        Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
    }

    /// A time field; `None` if it is absent or malformed.
    pub(crate) fn time(&self, field: &str) -> Option<OffsetDateTime> {
        parse_time(self.get(field))
    }
}

/// Whether the text has the form of a service version with user delegation.
pub(crate) fn is_version(text: &str) -> bool {
    let form = format_description!("[year]-[month]-[day]");
    text >= OLDEST_VERSION && Date::parse(text, form).is_ok()
}

/// UTC times as the service reads them: a date, minutes, or whole seconds with `Z`.
pub(crate) fn parse_time(text: &str) -> Option<OffsetDateTime> {
    let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]Z");
    let day = format_description!("[year]-[month]-[day]");
    PrimitiveDateTime::parse(text, seconds)
        .or_else(|_| PrimitiveDateTime::parse(text, minutes))
        .or_else(|_| Date::parse(text, day).map(|date| date.midnight()))
        .ok()
        .map(PrimitiveDateTime::assume_utc)
}
