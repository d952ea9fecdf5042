//! Genuine and forged tokens against `verify`, as tables.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use time::Duration;

use super::{
    forge::{
        CALLER, CLIENT, FIRST, NOW, OTHER_TENANT, SECOND, TENANT, claims, claims_with, issuer,
        keys, policy, unsigned,
    },
    *,
};

fn check(token: &str) -> Result<VerifiedToken, TokenRefused> {
    verify(
        token,
        &keys(TENANT, TokenVersion::V2, &[&FIRST]),
        &policy(),
        NOW,
    )
}

fn check_claims(claims: &Map<String, Value>) -> Result<Caller, TokenRefused> {
    check(&FIRST.sign(claims)).map(|verified| verified.caller)
}

#[test]
fn a_users_token_says_who_calls() {
    let verified = check(&FIRST.sign(&claims())).unwrap();
    let caller = verified.caller;
    assert_eq!(caller.tenant_id(), TENANT);
    assert_eq!(caller.object_id(), ObjectId(CALLER));
    assert_eq!(caller.kind(), CallerKind::User);
    assert_eq!(caller.app_id(), Some(CLIENT));
    assert_eq!(caller.scopes(), ["Sas.Issue", "openid"]);
    assert_eq!(caller.roles(), []);
    assert_eq!(caller.groups(), &Groups::Unknown(GroupsUnknown::Missing));
    assert_eq!(caller.token_id(), Some("aB3_-x"));
    assert_eq!(caller.expires_at(), NOW + Duration::hours(1));
    assert_eq!(&*verified.key.kid, "first");
    assert_eq!(verified.key.fingerprint, FIRST.published().fingerprint());
}

#[test]
fn a_v1_token_has_the_other_issuer_and_names_its_client_as_appid() {
    let mut v1 = claims_with("ver", "1.0");
    v1.insert("iss".into(), issuer(TENANT, TokenVersion::V1).into());
    v1.insert("appid".into(), json!(CLIENT));
    v1.remove("azp");
    let token = FIRST.sign(&v1);
    let v1_keys = keys(TENANT, TokenVersion::V1, &[&FIRST]);
    assert_eq!(
        verify(&token, &v1_keys, &policy(), NOW)
            .unwrap()
            .caller
            .app_id(),
        Some(CLIENT)
    );
    assert_eq!(check(&token), Err(TokenRefused::Issuer));
    v1.insert("ver".into(), "2.0".into());
    let confused = FIRST.sign(&v1);
    assert_eq!(
        verify(&confused, &v1_keys, &policy(), NOW),
        Err(TokenRefused::Version)
    );
}

#[test]
fn people_applications_and_id_tokens_are_told_apart() {
    use CallerKind::{Application, User};
    // idtyp, scp, client application
    let rows = [
        (None, true, true, Ok(User)),
        (None, true, false, Ok(User)),
        (None, false, true, Ok(Application)),
        (None, false, false, Err(TokenRefused::NotAnAccessToken)),
        (Some("app"), false, true, Ok(Application)),
        (Some("app"), true, true, Err(TokenRefused::Claim("idtyp"))),
        (Some("user"), true, true, Ok(User)),
        (Some("user"), false, true, Ok(User)),
        (
            Some("device"),
            false,
            true,
            Err(TokenRefused::Claim("idtyp")),
        ),
    ];
    for (idtyp, with_scp, with_client, expected) in rows {
        let mut claims = claims_with("idtyp", idtyp.map_or(Value::Null, Value::from));
        claims.insert("roles".into(), json!(["SasBroker.Caller"]));
        if !with_scp {
            claims.remove("scp");
        }
        if !with_client {
            claims.remove("azp");
        }
        let kind = check_claims(&claims).map(|caller| caller.kind());
        assert_eq!(
            kind, expected,
            "{idtyp:?} scp={with_scp} client={with_client}"
        );
    }
}

#[test]
fn groups_are_known_only_if_the_token_names_all_of_them() {
    let group = ObjectId(CALLER);
    let unknown = |why| Groups::Unknown(why);
    let rows = [
        (json!({}), unknown(GroupsUnknown::Missing)),
        (json!({ "groups": [] }), Groups::Known(vec![])),
        (json!({ "groups": [group] }), Groups::Known(vec![group])),
        (
            json!({ "_claim_names": { "groups": "src1" } }),
            unknown(GroupsUnknown::Overage),
        ),
        (
            json!({ "hasgroups": true }),
            unknown(GroupsUnknown::Overage),
        ),
        (
            json!({ "hasgroups": "true" }),
            unknown(GroupsUnknown::Overage),
        ),
        (
            json!({ "groups": [group], "hasgroups": true }),
            unknown(GroupsUnknown::Overage),
        ),
        (
            json!({ "_claim_names": { "other": "src1" } }),
            unknown(GroupsUnknown::Missing),
        ),
    ];
    for (more, expected) in rows {
        let mut claims = claims();
        claims.extend(more.as_object().unwrap().clone());
        assert_eq!(check_claims(&claims).unwrap().groups(), &expected, "{more}");
        let mut unconfigured = policy();
        unconfigured.tenants.insert(
            TENANT,
            TenantPolicy {
                groups_claim: false,
            },
        );
        let keys = keys(TENANT, TokenVersion::V2, &[&FIRST]);
        let caller = verify(&FIRST.sign(&claims), &keys, &unconfigured, NOW)
            .unwrap()
            .caller;
        assert_eq!(caller.groups(), &unknown(GroupsUnknown::Missing), "{more}");
    }
}

#[test]
fn every_claim_that_is_not_as_it_must_be_is_refused() {
    use TokenRefused::{Audience, Claim, Issuer, Missing, Tenant, Version};
    let many_groups: Vec<ObjectId> = vec![ObjectId(CALLER); 201];
    let rows = [
        ("iss", json!(issuer(OTHER_TENANT, TokenVersion::V2)), Issuer),
        ("iss", json!(issuer(TENANT, TokenVersion::V2) + "/"), Issuer),
        (
            "iss",
            json!("https://login.microsoftonline.com/common/v2.0"),
            Issuer,
        ),
        ("iss", Value::Null, Missing("iss")),
        ("tid", json!(OTHER_TENANT), Tenant),
        ("tid", json!("common"), Claim("tid")),
        ("tid", json!(TENANT.0.simple().to_string()), Claim("tid")),
        ("tid", Value::Null, Missing("tid")),
        ("ver", json!("1.0"), Version),
        ("ver", json!("3.0"), Version),
        ("ver", json!(2.0), Claim("ver")),
        ("ver", Value::Null, Missing("ver")),
        ("aud", json!("https://storage.azure.com"), Audience),
        ("aud", json!("api://sas-broker/"), Audience),
        ("aud", json!(""), Audience),
        ("aud", json!(["api://other"]), Audience),
        ("aud", json!([]), Audience),
        ("aud", json!(["api://sas-broker", 1]), Claim("aud")),
        ("aud", json!({ "api://sas-broker": 1 }), Claim("aud")),
        ("aud", json!(vec!["api://sas-broker"; 17]), Claim("aud")),
        ("aud", Value::Null, Missing("aud")),
        ("oid", Value::Null, Missing("oid")),
        ("oid", json!("me"), Claim("oid")),
        ("oid", json!([CALLER]), Claim("oid")),
        ("exp", Value::Null, Missing("exp")),
        ("exp", json!("1999999999"), Claim("exp")),
        ("exp", json!(1_999_999_999.5), Claim("exp")),
        ("exp", json!(i64::MAX), Claim("exp")),
        ("exp", json!(u64::MAX), Claim("exp")),
        ("iat", Value::Null, Missing("iat")),
        ("nbf", json!("soon"), Claim("nbf")),
        ("azp", json!("client"), Claim("azp")),
        ("scp", json!(["Sas.Issue"]), Claim("scp")),
        ("scp", json!("a ".repeat(257)), Claim("scp")),
        ("scp", json!("a".repeat(5_000)), Claim("scp")),
        ("roles", json!("SasBroker.Caller"), Claim("roles")),
        ("roles", json!(["with space"]), Claim("roles")),
        ("roles", json!(vec!["r"; 257]), Claim("roles")),
        ("groups", json!(["not a guid"]), Claim("groups")),
        ("groups", json!(many_groups), Claim("groups")),
        ("uti", json!("line\nbreak"), Claim("uti")),
        ("uti", json!("u".repeat(129)), Claim("uti")),
        ("idtyp", json!(1), Claim("idtyp")),
    ];
    for (name, value, expected) in rows {
        let shown = value.to_string();
        let refused = check_claims(&claims_with(name, value)).unwrap_err();
        assert_eq!(refused, expected, "{name} = {shown:.60}");
    }
    let listed = claims_with("aud", json!(["api://other", "api://sas-broker"]));
    assert!(
        check_claims(&listed).is_ok(),
        "a list that holds our audience"
    );
    let mut none_accepted = policy();
    none_accepted.tenants.clear();
    let keys = keys(TENANT, TokenVersion::V2, &[&FIRST]);
    let refused = verify(&FIRST.sign(&claims()), &keys, &none_accepted, NOW).unwrap_err();
    assert_eq!(refused, Tenant);
}

#[test]
fn times_are_checked_by_our_clock_with_the_skew_at_its_edges() {
    use TokenRefused::{Expired, NotYetValid, TooOld};
    let at = |seconds: i64| json!((NOW + Duration::seconds(seconds)).unix_timestamp());
    let rows = [
        ("exp", at(-119), Ok(())),
        ("exp", at(-120), Err(Expired)),
        ("exp", json!(0), Err(Expired)),
        ("nbf", at(120), Ok(())),
        ("nbf", at(121), Err(NotYetValid)),
        ("nbf", Value::Null, Ok(())),
        ("iat", at(120), Ok(())),
        ("iat", at(121), Err(NotYetValid)),
        ("iat", at(-7_320), Ok(())),
        ("iat", at(-7_321), Err(TooOld)),
        ("iat", json!(-1), Err(TooOld)),
    ];
    for (name, value, expected) in rows {
        let shown = value.to_string();
        let outcome = check_claims(&claims_with(name, value)).map(|_| ());
        assert_eq!(outcome, expected, "{name} = {shown}");
    }
}

#[test]
fn headers_are_refused_before_any_claim_is_read() {
    let genuine = FIRST.sign(&claims());
    let payload = Value::from(claims()).to_string();
    let raw = |header: &str| FIRST.sign_raw(header, &payload);
    let (head, tail) = genuine.split_once('.').unwrap();
    let bent = {
        let mut other = claims();
        other.insert("oid".into(), json!(CLIENT));
        let other = FIRST.sign(&other);
        let payload = other.split('.').nth(1).unwrap().to_owned();
        format!("{head}.{payload}.{}", tail.split_once('.').unwrap().1)
    };
    let rows = [
        ("alg none", unsigned(&claims()), TokenRefused::Algorithm),
        (
            "HS256",
            FIRST.sign_with_public_key(&claims()),
            TokenRefused::Algorithm,
        ),
        (
            "PS256",
            raw(r#"{"alg":"PS256","kid":"first"}"#),
            TokenRefused::Algorithm,
        ),
        (
            "lower case",
            raw(r#"{"alg":"rs256","kid":"first"}"#),
            TokenRefused::Algorithm,
        ),
        ("no alg", raw(r#"{"kid":"first"}"#), TokenRefused::Algorithm),
        (
            "list",
            raw(r#"{"alg":["RS256"],"kid":"first"}"#),
            TokenRefused::Algorithm,
        ),
        ("no kid", raw(r#"{"alg":"RS256"}"#), TokenRefused::NoKeyId),
        (
            "empty kid",
            raw(r#"{"alg":"RS256","kid":""}"#),
            TokenRefused::NoKeyId,
        ),
        (
            "kid is a number",
            raw(r#"{"alg":"RS256","kid":1}"#),
            TokenRefused::NoKeyId,
        ),
        (
            "unknown kid",
            SECOND.sign(&claims()),
            TokenRefused::UnknownKey,
        ),
        (
            "crit",
            raw(r#"{"alg":"RS256","kid":"first","crit":["x"]}"#),
            TokenRefused::CriticalHeader,
        ),
        (
            "crit null",
            raw(r#"{"alg":"RS256","kid":"first","crit":null}"#),
            TokenRefused::CriticalHeader,
        ),
        (
            "alg twice",
            raw(r#"{"alg":"none","alg":"RS256","kid":"first"}"#),
            TokenRefused::DuplicateMember,
        ),
        (
            "typ twice",
            raw(r#"{"alg":"RS256","kid":"first","typ":"a","typ":"b"}"#),
            TokenRefused::DuplicateMember,
        ),
        (
            "foreign signature",
            SECOND.sign_raw(r#"{"alg":"RS256","kid":"first"}"#, &payload),
            TokenRefused::Signature,
        ),
        ("bent payload", bent, TokenRefused::Signature),
        (
            "no signature",
            format!("{head}.{}.", tail.split_once('.').unwrap().0),
            TokenRefused::Signature,
        ),
        ("padding", format!("{genuine}=="), TokenRefused::Signature),
        ("two parts", head.to_owned() + ".x", TokenRefused::Malformed),
        (
            "four parts",
            format!("{genuine}.x"),
            TokenRefused::Malformed,
        ),
        ("empty", String::new(), TokenRefused::Malformed),
        ("dots", "..".into(), TokenRefused::Malformed),
        (
            "huge",
            "a".repeat(TOKEN_BYTES_MAX + 1),
            TokenRefused::TooLong,
        ),
    ];
    for (what, token, expected) in rows {
        assert_eq!(check(&token), Err(expected), "{what}");
    }
}

#[test]
fn keys_that_the_token_brings_along_are_ignored() {
    let jwk = json!({ "kty": "RSA", "kid": "first", "n": "AQAB", "e": "AQAB" });
    let more = json!({
        "jku": "https://127.0.0.1:1/jwks", "x5u": "https://127.0.0.1:1/x5u", "jwk": jwk, "x5c": ["MII"],
    });
    assert!(check(&FIRST.sign_with_header(&claims(), &more)).is_ok());
    let forged = SECOND.sign_with_header(&claims(), &more);
    assert_eq!(check(&forged), Err(TokenRefused::UnknownKey));
}

#[test]
fn payloads_that_two_readers_could_read_differently_are_refused() {
    let header = r#"{"alg":"RS256","kid":"first"}"#;
    let payload = Value::from(claims()).to_string();
    let body = payload.strip_prefix('{').unwrap();
    for twice in [
        format!(r#"{{"oid":"{CLIENT}",{body}"#),
        format!(r#"{{"\u006fid":"{CLIENT}",{body}"#),
        format!(r#"{{"x":{{"a":1,"a":2}},{body}"#),
    ] {
        let token = FIRST.sign_raw(header, &twice);
        assert_eq!(check(&token), Err(TokenRefused::DuplicateMember), "{twice}");
    }
    for payload in ["", "[]", "null", "{", "\u{feff}{}"] {
        let token = FIRST.sign_raw(header, payload);
        assert_eq!(check(&token), Err(TokenRefused::Malformed), "{payload:?}");
    }
}

#[test]
fn the_peek_reads_where_a_token_says_that_it_comes_from() {
    let origin = UntrustedOrigin {
        tenant_id: OTHER_TENANT,
        version: TokenVersion::V2,
    };
    let claimed = claims_with("tid", json!(OTHER_TENANT));
    assert_eq!(UntrustedOrigin::peek(&unsigned(&claimed)), Ok(origin));
    let without = |name| unsigned(&claims_with(name, Value::Null));
    assert_eq!(
        UntrustedOrigin::peek(&without("tid")),
        Err(TokenRefused::Missing("tid"))
    );
    assert_eq!(
        UntrustedOrigin::peek(&without("ver")),
        Err(TokenRefused::Missing("ver"))
    );
    let strange = unsigned(&claims_with("ver", "3.0"));
    assert_eq!(UntrustedOrigin::peek(&strange), Err(TokenRefused::Version));
    assert_eq!(UntrustedOrigin::peek("a.b.c"), Err(TokenRefused::Malformed));
}

#[test]
fn an_issuer_is_its_directorys_or_nothing() {
    let build = |issuer: &str, version| {
        IssuerKeys::new(issuer, TENANT, version, vec![FIRST.published()]).map(|_| ())
    };
    for (version, issuer) in [
        (
            TokenVersion::V1,
            format!("https://sts.windows.net/{TENANT}/"),
        ),
        (
            TokenVersion::V1,
            format!("https://sts.chinacloudapi.cn/{TENANT}/"),
        ),
        (
            TokenVersion::V2,
            format!("https://login.microsoftonline.us/{TENANT}/v2.0"),
        ),
        (
            TokenVersion::V2,
            format!("https://127.0.0.1:8443/{TENANT}/v2.0"),
        ),
    ] {
        assert_eq!(build(&issuer, version), Ok(()), "{issuer}");
    }
    for (version, issuer) in [
        (
            TokenVersion::V2,
            format!("http://login.microsoftonline.com/{TENANT}/v2.0"),
        ),
        (
            TokenVersion::V2,
            format!("https://login.microsoftonline.com/{OTHER_TENANT}/v2.0"),
        ),
        (
            TokenVersion::V2,
            format!("https://login.microsoftonline.com/{TENANT}/v2.0/"),
        ),
        (
            TokenVersion::V2,
            format!("https://sts.windows.net/{TENANT}/"),
        ),
        (
            TokenVersion::V1,
            format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        ),
        (
            TokenVersion::V2,
            "https://login.microsoftonline.com/{tenantid}/v2.0".into(),
        ),
        (TokenVersion::V2, "issuer".into()),
    ] {
        assert_eq!(
            build(&issuer, version),
            Err(UnfitIssuer::Issuer),
            "{issuer}"
        );
    }
}

#[test]
fn a_kid_that_stands_for_two_keys_stands_for_neither() {
    let (first, other) = (FIRST.published(), SECOND.published_as("first"));
    let build = |keys| {
        let issuer = issuer(TENANT, TokenVersion::V2);
        IssuerKeys::new(&issuer, TENANT, TokenVersion::V2, keys).map(|keys| keys.keys().len())
    };
    assert_eq!(
        build(vec![first.clone(), first.clone()]),
        Ok(1),
        "the same key, told twice"
    );
    assert_eq!(
        build(vec![first.clone(), other.clone()]),
        Err(UnfitIssuer::NoKeys)
    );
    assert_eq!(build(vec![first, SECOND.published(), other]), Ok(1));
    assert_eq!(build(vec![]), Err(UnfitIssuer::NoKeys));
}

#[test]
fn no_reason_holds_a_character_that_a_quoted_header_value_cannot() {
    for refused in [
        TokenRefused::TooLong,
        TokenRefused::Missing("oid"),
        TokenRefused::Claim("aud"),
    ] {
        let text = refused.to_string();
        assert!(
            text.chars()
                .all(|c| c == ' ' || c.is_ascii_graphic() && c != '"' && c != '\\')
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_verifier_panic_or_accept(text in ".{0,200}") {
        prop_assert!(check(&text).is_err());
        prop_assert!(UntrustedOrigin::peek(&text).is_err());
    }

    #[test]
    fn no_single_changed_byte_is_accepted(at in 0usize..900, with in "[A-Za-z0-9_.-]") {
        let genuine = FIRST.sign(&claims());
        let at = at % genuine.len();
        let mut bent = genuine.clone();
        bent.replace_range(at..=at, &with);
        prop_assert_eq!(check(&bent).is_ok(), bent == genuine);
    }
}
