//! The string a user-delegation SAS signs, rebuilt by the service from the request.
//!
//! Written from the protocol reference and from nothing else. The broker's signer
//! (`domain::sas`) holds one table of layouts; this file deliberately holds plain steps instead.
//! Do not merge the two and do not share code between them: the simulator's word is worth
//! something only while a mistake in one is not also a mistake in the other.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::token::SasToken;

/// What the request itself, rather than the token, contributes to the string.
#[derive(Default)]
pub(crate) struct FromRequest<'a> {
    /// `/blob/{account}/{container}[/{path}]`, decoded; see [`resource`].
    pub(crate) resource: String,
    /// The snapshot time or version id in the URL, if the token is for one.
    pub(crate) snapshot: &'a str,
    /// Names and values of the headers in `srh`, in that order.
    pub(crate) headers: Vec<(String, String)>,
    /// Names and values of the query parameters in `srq`, in that order.
    pub(crate) query: Vec<(String, String)>,
}

/// The canonicalized resource. The scheme's first segment is `blob` on the dfs endpoint too.
pub(crate) fn resource(account: &str, container: &str, path: &str) -> String {
    let mut resource = format!("/blob/{account}/{container}");
    if !path.is_empty() {
        resource.push('/');
        resource.push_str(path);
    }
    resource
}

/// One field per line, absent fields as empty lines, no newline at the end. The token's own `sv`
/// says which lines there are.
pub(crate) fn string_to_sign(token: &SasToken, request: &FromRequest<'_>) -> String {
    let version = token.get("sv");
    let field = |name: &str| token.get(name).to_owned();
    let mut lines = vec![
        field("sp"),
        field("st"),
        field("se"),
        request.resource.clone(),
    ];
    lines.extend(["skoid", "sktid", "skt", "ske", "sks", "skv"].map(field));
    if version >= "2020-02-10" {
        lines.extend(["saoid", "suoid", "scid"].map(field));
    }
    if version >= "2025-07-05" {
        lines.extend(["skdutid", "sduoid"].map(field));
    }
    lines.extend(["sip", "spr", "sv", "sr"].map(field));
    lines.push(request.snapshot.to_owned());
    if version >= "2020-12-06" {
        lines.push(field("ses"));
    }
    if version >= "2026-04-06" {
        // Every header ends its line, every parameter begins one: the two blocks differ on purpose.
        let header = |(name, value): &(String, String)| format!("{name}:{value}\n");
        let parameter = |(name, value): &(String, String)| format!("\n{name}:{value}");
        lines.push(request.headers.iter().map(header).collect());
        lines.push(request.query.iter().map(parameter).collect());
    }
    lines.extend(["rscc", "rscd", "rsce", "rscl", "rsct"].map(field));
    lines.join("\n")
}

/// Whether `signature` (base64) is the HMAC-SHA256 of the string under the key, in constant time.
pub(crate) fn signature_matches(key: &[u8], string_to_sign: &str, signature: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    STANDARD
        .decode(signature)
        .is_ok_and(|shown| hmac::verify(&key, string_to_sign.as_bytes(), &shown).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use url::form_urlencoded;

    use super::super::letters::Letters;
    use super::*;

    /// Tokens made by the official SDKs; see `tests/data/README.md`.
    const VECTORS: &str = include_str!("../../../../tests/data/sas-vectors.jsonl");

    fn pairs(value: &Value) -> Vec<(String, String)> {
        serde_json::from_value::<Option<_>>(value.clone())
            .unwrap()
            .unwrap_or_default()
    }

    #[test]
    fn every_token_of_the_official_sdks_is_understood_and_its_signature_found_right() {
        let mut seen = 0;
        for line in VECTORS.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let input = &case["input"];
            let text = |name: &str| input[name].as_str().unwrap_or_default();
            let query: Vec<(String, String)> =
                form_urlencoded::parse(case["expected_query"].as_str().unwrap().as_bytes())
                    .into_owned()
                    .collect();
            let token = SasToken::from_query(&query).unwrap();
            let path = if text("sr") == "c" { "" } else { text("path") };
            let request = FromRequest {
                resource: resource(text("account"), text("container"), path),
                snapshot: text("snapshot_or_version"),
                headers: pairs(&input["request_headers"]),
                query: pairs(&input["request_query"]),
            };
            let id = &case["id"];
            assert_eq!(token.malformation(), None, "case {id}");
            let letters = Letters::parse(token.get("sp"), token.get("sr"), token.get("sv"));
            assert!(
                letters.is_some(),
                "case {id}: {} {} {}",
                token.get("sp"),
                token.get("sr"),
                token.get("sv")
            );
            let string = string_to_sign(&token, &request);
            assert_eq!(
                string,
                case["string_to_sign"].as_str().unwrap(),
                "case {id}"
            );
            let key = STANDARD
                .decode(input["udk"]["value"].as_str().unwrap())
                .unwrap();
            assert!(
                signature_matches(&key, &string, token.get("sig")),
                "case {id}"
            );
            seen += 1;
        }
        assert_eq!(seen, 491, "the vectors are complete");
    }
}
