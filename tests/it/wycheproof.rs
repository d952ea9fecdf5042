//! The RS256 verifier against Project Wycheproof's vectors: sound RS256 tokens are accepted,
//! everything else is refused, other algorithms' sound tokens included.

use sas_broker::domain::caller::{KeyMembers, SigningKey, TokenRefused, verify_rs256};
use serde::Deserialize;
use serde_json::Value;

const SIGNATURES: &str = include_str!("../data/wycheproof/json_web_signature_test.json");
const KEYS: &str = include_str!("../data/wycheproof/json_web_key_test.json");

/// A 2,048 bit modulus of the weak ROCA family. Nothing but a search for that family's fingerprint
/// tells it from a sound one, and an issuer that publishes such a key is beyond our help.
const ROCA_CASE: u64 = 7;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "testGroups")]
    groups: Vec<Group>,
    #[serde(rename = "numberOfTests")]
    cases: usize,
}

#[derive(Deserialize)]
struct Group {
    /// A key, a key set, or nothing where the key is symmetric.
    public: Option<Value>,
    private: Option<Value>,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "tcId")]
    id: u64,
    comment: String,
    /// Text, or an object for the JSON serialisation, which is no compact token.
    jws: Value,
    result: String,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(rename = "use")]
    public_key_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

/// The keys of a group that may verify, as the broker reads a key set.
fn usable(group: &Group) -> Vec<SigningKey> {
    let Some(published) = group.public.as_ref().or(group.private.as_ref()) else {
        return Vec::new();
    };
    let one = vec![published.clone()];
    let keys = published
        .get("keys")
        .and_then(Value::as_array)
        .unwrap_or(&one);
    let read = |key: &Value| {
        let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
        SigningKey::new(&KeyMembers {
            kty: &jwk.kty,
            kid: &jwk.kid,
            public_key_use: jwk.public_key_use.as_deref(),
            key_ops: jwk.key_ops.as_deref(),
            alg: jwk.alg.as_deref(),
            n: &jwk.n,
            e: &jwk.e,
        })
        .ok()
    };
    keys.iter().filter_map(read).collect()
}

fn is_sound_rs256(group: &Group, case: &Case) -> bool {
    let key = |key: &Value| key["alg"] == "RS256";
    let rs256 = group.public.as_ref().is_some_and(|public| {
        let keys = public.get("keys").and_then(Value::as_array);
        keys.map_or_else(|| key(public), |keys| keys.iter().all(key))
    });
    case.result == "valid" && rs256
}

/// Verifies every case; returns how many were accepted, and the ids of those that went wrong.
fn run(text: &str) -> (usize, Vec<u64>) {
    let file: File = serde_json::from_str(text).unwrap();
    let total: usize = file.groups.iter().map(|group| group.tests.len()).sum();
    assert_eq!(total, file.cases, "the file is whole");
    let (mut accepted, mut wrong) = (0, Vec::new());
    for group in &file.groups {
        let keys = usable(group);
        for case in &group.tests {
            let token = case
                .jws
                .as_str()
                .map_or_else(|| case.jws.to_string(), str::to_owned);
            let outcome = verify_rs256(&token, &keys);
            accepted += usize::from(outcome.is_ok());
            if outcome.is_ok() != is_sound_rs256(group, case) {
                eprintln!("case {}: {} is {}", case.id, case.comment, case.result);
                wrong.push(case.id);
            }
        }
    }
    eprintln!(
        "{accepted} accepted, {} refused, of {total}",
        total - accepted
    );
    (accepted, wrong)
}

#[test]
fn of_the_signature_vectors_exactly_the_sound_rs256_ones_are_accepted() {
    assert_eq!(run(SIGNATURES), (8, vec![]));
}

#[test]
fn of_the_key_vectors_exactly_the_sound_rs256_one_is_accepted_but_for_a_weak_modulus() {
    assert_eq!(run(KEYS), (2, vec![ROCA_CASE]));
}

#[test]
fn without_its_key_even_a_sound_token_is_refused() {
    let file: File = serde_json::from_str(SIGNATURES).unwrap();
    let sound = |group: &Group| group.tests.iter().any(|case| is_sound_rs256(group, case));
    let group = file.groups.iter().find(|group| sound(group)).unwrap();
    let case = group
        .tests
        .iter()
        .find(|case| is_sound_rs256(group, case))
        .unwrap();
    let outcome = verify_rs256(case.jws.as_str().unwrap(), &[]).map(|_| ());
    assert_eq!(outcome, Err(TokenRefused::UnknownKey));
}
