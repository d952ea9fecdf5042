//! JSON objects whose members are unique, at every depth. A repeated member means two things to two
//! readers, so a token that has one is refused as a whole. Never what the members mean.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, error::Category};

/// Why bytes are not such an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotStrict {
    /// Not JSON, or not an object, or nested deeper than `serde_json` reads (128 levels).
    Malformed,
    /// A member stands twice.
    Duplicate,
}

/// Reads one object.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotStrict> {
    match serde_json::from_slice(bytes) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        Ok(_) => Err(NotStrict::Malformed),
        // The visitor takes every kind of value, so it complains of nothing but repeated members.
        Err(error) if error.classify() == Category::Data => Err(NotStrict::Duplicate),
        Err(_) => Err(NotStrict::Malformed),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(Value::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(
            Number::from_f64(value).map_or(Value::Null, Value::Number),
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Strict(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Strict(Value::Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_members_are_refused_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":null}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(NotStrict::Duplicate), "{text}");
        }
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(4_000), "]".repeat(4_000));
        for text in ["", "[]", "1", "{", r#"{"a":1}x"#, r#"{"a":1e999}"#, &deep] {
            assert_eq!(object(text.as_bytes()), Err(NotStrict::Malformed), "{text}");
        }
    }

    #[test]
    fn everything_else_is_read_as_it_stands() {
        let text = r#"{"n":null,"b":true,"i":-1,"u":18446744073709551615,"f":1.5,"s":"\u00e4","l":[1,"x"],"o":{}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(object(text.as_bytes()).map(Value::Object), Ok(expected));
    }
}
