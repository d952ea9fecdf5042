//! The bodies of set and update, and the bounds of what they may hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::spec::NewSecret;
use super::errors::VaultError;

/// Longest value, in bytes. Source: Key Vault, "About secrets".
const VALUE_BYTES_MAX: usize = 25 * 1024;
/// Longest content type, in characters. Source: as above.
const CONTENT_TYPE_CHARS_MAX: usize = 255;
/// Most tags. Source: Key Vault, "Keys, secrets and certificates overview".
const TAGS_MOST: usize = 15;
/// Longest name and longest value of a tag, in characters. Source: as above.
const TAG_CHARS_MAX: usize = 512;
/// Longest name of a secret, in characters. Source: as above.
const NAME_CHARS_MAX: usize = 127;

/// What an update changes; `None` leaves it as it is.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) content_type: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) not_before: Option<i64>,
    pub(super) expires: Option<i64>,
    pub(super) tags: Option<BTreeMap<String, String>>,
}

/// Whether a secret may be called this.
pub(super) fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(legal)
}

/// Reads the body of a set.
pub(super) fn new_secret(body: &Map<String, Value>) -> Result<NewSecret, VaultError> {
    let value = body.get("value").and_then(Value::as_str);
    let value = value.ok_or(VaultError::BadParameter("Property value is missing."))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(VaultError::BadParameter("The secret value is too long."));
    }
    let changes = changes(body)?;
    Ok(NewSecret {
        value: value.into(),
        content_type: changes.content_type,
        enabled: changes.enabled.unwrap_or(true),
        not_before: changes.not_before,
        expires: changes.expires,
        tags: changes.tags.unwrap_or_default(),
    })
}

/// Reads the body of an update.
pub(super) fn changes(body: &Map<String, Value>) -> Result<Changes, VaultError> {
    let attributes = body.get("attributes").and_then(Value::as_object);
    let attribute = |name: &str| attributes.and_then(|all| present(all, name));
    let seconds = |name: &str| match attribute(name) {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(VaultError::BadParameter("A time is not in Unix seconds.")),
        },
    };
    let (not_before, expires) = (seconds("nbf")?, seconds("exp")?);
    if not_before.zip(expires).is_some_and(|(from, to)| from >= to) {
        return Err(VaultError::BadParameter("exp must be after nbf."));
    }
    let content_type = present(body, "contentType").and_then(Value::as_str);
    if content_type.is_some_and(|text| text.chars().count() > CONTENT_TYPE_CHARS_MAX) {
        return Err(VaultError::BadParameter("The content type is too long."));
    }
    Ok(Changes {
        content_type: content_type.map(String::from),
        enabled: attribute("enabled").and_then(Value::as_bool),
        not_before,
        expires,
        tags: tags(body)?,
    })
}

fn tags(body: &Map<String, Value>) -> Result<Option<BTreeMap<String, String>>, VaultError> {
    let Some(all) = present(body, "tags").and_then(Value::as_object) else {
        return Ok(None);
    };
    let fits = |text: &str| text.chars().count() <= TAG_CHARS_MAX;
    let mut tags = BTreeMap::new();
    for (name, value) in all {
        let value = value.as_str().filter(|value| fits(value) && fits(name));
        let value = value.ok_or(VaultError::BadParameter("A tag is too long."))?;
        tags.insert(name.clone(), value.to_owned());
    }
    if tags.len() > TAGS_MOST {
        return Err(VaultError::BadParameter("There are too many tags."));
    }
    Ok(Some(tags))
}

/// A member that is there and not null.
fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value) -> Result<NewSecret, VaultError> {
        new_secret(body.as_object().unwrap())
    }

    #[test]
    fn the_bounds_of_a_secret_are_key_vaults() {
        let tags = |count: usize, length: usize| -> Value {
            let tags = (0..count).map(|n| (format!("t{n}"), json!("v".repeat(length))));
            tags.collect::<Map<_, _>>().into()
        };
        let good = [
            json!({ "value": "" }),
            json!({ "value": "v".repeat(25 * 1024) }),
            json!({ "value": "v", "contentType": "c".repeat(255), "tags": tags(15, 512) }),
            json!({ "value": "v", "attributes": { "nbf": 1, "exp": 2 }, "tags": null }),
        ];
        for body in good {
            assert!(check(body).is_ok());
        }
        let bad = [
            json!({}),
            json!({ "value": "v".repeat(25 * 1024 + 1) }),
            json!({ "value": "v", "contentType": "c".repeat(256) }),
            json!({ "value": "v", "tags": tags(16, 1) }),
            json!({ "value": "v", "tags": tags(1, 513) }),
            json!({ "value": "v", "attributes": { "nbf": 2, "exp": 2 } }),
            json!({ "value": "v", "attributes": { "exp": "2031-01-01" } }),
        ];
        for body in bad {
            assert!(matches!(check(body), Err(VaultError::BadParameter(_))));
        }
    }

    #[test]
    fn names_are_letters_digits_and_dashes() {
        assert!(["a", "sa-acct1", &"n".repeat(127)].into_iter().all(is_name));
        assert!(
            !["", "a_b", "a.b", "ä", &"n".repeat(128)]
                .into_iter()
                .any(is_name)
        );
    }
}
