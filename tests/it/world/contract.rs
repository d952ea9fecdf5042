//! Holds every answer against the `OpenAPI` document and the table of problems: no member that is
//! not described, no described member missing, no status that is not told.

use std::{collections::BTreeMap, sync::LazyLock};

use sas_broker::http::{fallback::METHODS, openapi, problem::KINDS};
use serde_json::Value;
use uuid::Uuid;

use super::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&openapi::generate()).unwrap());

/// Statuses that any path may answer before an operation is reached.
const BEFORE_ANY_OPERATION: [u16; 3] = [404, 405, 414];

pub(super) fn check(method: &str, path: &str, answer: &Answer) {
    let place = format!("{method} {path} -> {}: {}", answer.status, answer.text);
    let id = answer.header("x-request-id");
    assert!(Uuid::try_parse(id).is_ok(), "x-request-id {id:?}: {place}");
    let operation = &DOCUMENT["paths"][template(path)][method.to_ascii_lowercase()];
    let described = &operation["responses"][answer.status.to_string()];
    if described.is_null() {
        assert!(
            BEFORE_ANY_OPERATION.contains(&answer.status),
            "status not told: {place}"
        );
    }
    if answer.status >= 400 && path != "/readyz" {
        problem(answer, &place);
    }
    let media_type = answer.header("content-type").split(';').next().unwrap();
    if let Some(content) = described["content"].as_object() {
        let described = content.get(media_type);
        let schema =
            &described.unwrap_or_else(|| panic!("{media_type} not told: {place}"))["schema"];
        matches(schema, &answer.body, "$").unwrap_or_else(|error| panic!("{error}: {place}"));
    }
}

/// The described path that this one is an instance of.
fn template(path: &str) -> &str {
    let fits = |template: &&str| {
        let (wanted, given) = (template.split('/'), path.split('/'));
        wanted.clone().count() == given.clone().count()
            && wanted.zip(given).all(|(w, g)| w == g || w.starts_with('{'))
    };
    let known = METHODS.iter().map(|(template, _)| *template);
    known.into_iter().find(fits).unwrap_or(path)
}

fn problem(answer: &Answer, place: &str) {
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{place}"
    );
    let kind = KINDS.iter().find(|kind| kind.code == answer.code());
    let kind = kind.unwrap_or_else(|| panic!("unknown code: {place}"));
    assert_eq!(kind.status.as_u16(), answer.status, "{place}");
    assert_eq!(answer.body["status"], answer.status, "{place}");
    assert_eq!(answer.body["type"], kind.r#type, "{place}");
    assert_eq!(answer.body["title"], kind.title, "{place}");
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!(!detail.is_empty(), "no detail: {place}");
    assert_eq!(
        answer.status == 503,
        answer.headers.contains_key("retry-after"),
        "{place}"
    );
    let challenged = answer.headers.contains_key("www-authenticate");
    let about_token = answer.status == 401 || answer.code() == "insufficient-scope";
    assert_eq!(about_token, challenged, "{place}");
}

/// Whether a value fits a schema, as far as members, types and required members go.
fn matches(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolved(schema);
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let fits = choices
                .iter()
                .any(|choice| matches(choice, value, at).is_ok());
            return fits
                .then_some(())
                .ok_or_else(|| format!("{at} fits no {choice}"));
        }
    }
    type_fits(schema, value, at)?;
    match value {
        Value::Object(members) => {
            let (mut properties, mut required) = (BTreeMap::new(), Vec::new());
            gather(schema, &mut properties, &mut required);
            if properties.is_empty() {
                // Described as an object and no closer.
                return Ok(());
            }
            for name in required {
                members
                    .get(name)
                    .ok_or_else(|| format!("{at} lacks {name}"))?;
            }
            for (name, member) in members {
                let schema = properties.get(name.as_str());
                let schema = schema.ok_or_else(|| format!("{at} has unknown {name}"))?;
                matches(schema, member, &format!("{at}.{name}"))?;
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| matches(&schema["items"], item, &format!("{at}[{i}]"))),
        _ => Ok(()),
    }
}

fn resolved(schema: &Value) -> &Value {
    match schema["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

fn gather<'a>(
    schema: &'a Value,
    properties: &mut BTreeMap<&'a str, &'a Value>,
    required: &mut Vec<&'a str>,
) {
    let schema = resolved(schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        gather(part, properties, required);
    }
    let own = schema["properties"].as_object().into_iter().flatten();
    properties.extend(own.map(|(name, schema)| (name.as_str(), schema)));
    let names = schema["required"].as_array().into_iter().flatten();
    required.extend(names.filter_map(Value::as_str));
}

fn type_fits(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fits = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    };
    let fine = match &schema["type"] {
        Value::String(name) => fits(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(fits),
        // `allOf` and the empty schema say nothing here.
        _ => true,
    };
    fine.then_some(())
        .ok_or_else(|| format!("{at} is no {}", schema["type"]))
}
