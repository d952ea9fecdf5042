//! The one text form of an instant that Azure signs and this API speaks: RFC 3339, UTC, whole
//! seconds, `Z` (`2026-11-23T10:00:00Z`).

use time::{
    OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description,
};

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// The instant as text, truncated to whole seconds.
///
/// # Panics
/// Only outside the years 0 to 9999, which no validated input can reach.
#[must_use]
pub fn to_text(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC)
        .format(FORMAT)
        .expect("a four-digit year always formats")
}

/// Reads the same form back; anything else is `None`.
#[must_use]
pub fn from_text(text: &str) -> Option<OffsetDateTime> {
    time::PrimitiveDateTime::parse(text, FORMAT)
        .ok()
        .map(time::PrimitiveDateTime::assume_utc)
}

/// Drops the fraction of a second: what is signed has whole seconds.
#[must_use]
pub fn whole_seconds(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0)
        .expect("zero is a valid nanosecond")
}

/// Unix microseconds, the stored form of every instant.
#[must_use]
pub fn to_micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).expect("a four-digit year fits in 63 bits")
}

/// The instant of stored Unix microseconds; `None` outside the years that can be written.
#[must_use]
pub fn from_micros(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}

/// `#[serde(with = "time_text::serde_text")]` for fields in this form.
pub mod serde_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use time::OffsetDateTime;

    /// Writes the text form.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at: &OffsetDateTime, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::to_text(*at))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// If the text has another form.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(d)?;
        super::from_text(&text)
            .ok_or_else(|| D::Error::custom("expected a UTC time such as 2026-11-23T10:00:00Z"))
    }

    /// The same for optional fields.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer, de::Error};
        use time::OffsetDateTime;

        /// Writes the text form, or null.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(
            at: &Option<OffsetDateTime>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, s),
                None => s.serialize_none(),
            }
        }

        /// Reads the text form, or null.
        ///
        /// # Errors
        /// If the text has another form.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            d: D,
        ) -> Result<Option<OffsetDateTime>, D::Error> {
            Option::<String>::deserialize(d)?
                .map(|text| {
                    super::super::from_text(&text).ok_or_else(|| {
                        D::Error::custom("expected a UTC time such as 2026-11-23T10:00:00Z")
                    })
                })
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_whole_seconds_and_read_back() {
        let at = datetime!(2026-11-23 11:00:00.9 +1);
        assert_eq!(to_text(at), "2026-11-23T10:00:00Z");
        assert_eq!(
            from_text("2026-11-23T10:00:00Z"),
            Some(datetime!(2026-11-23 10:00 UTC))
        );
        for bad in [
            "2026-11-23",
            "2026-11-23T10:00:00+00:00",
            "2026-11-23T10:00:00.5Z",
            "x",
        ] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
        assert_eq!(from_micros(to_micros(at)), Some(at));
    }
}
