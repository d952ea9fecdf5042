//! The check as a table: one good token, and what each change to it, to the request or to the
//! clock is refused with. That the string the tokens are signed with is right is proven by the
//! official SDKs' vectors in `string_to_sign`.

mod case;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, uuid};

use self::case::{Case, issued_key};
use super::super::super::entra::Bearer;
use super::super::delegation_key::{DelegationKeys, KeyId};
use super::super::errors::Code;

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
const BROKER: Uuid = uuid!("11111111-1111-1111-1111-111111111111");
const TENANT: Uuid = uuid!("22222222-2222-2222-2222-222222222222");
const USER: Uuid = uuid!("33333333-3333-3333-3333-333333333333");
const OTHER: Uuid = uuid!("44444444-4444-4444-4444-444444444444");

fn bearer(tenant_id: Uuid, object_id: Uuid) -> Option<Bearer> {
    Some(Bearer {
        tenant_id,
        object_id,
    })
}

#[test]
fn good_tokens_of_every_kind_are_accepted() {
    let bound = |case: Case| Case {
        bearer: bearer(TENANT, USER),
        ..case
    };
    let user = USER.to_string();
    let cases = [
        ("plain", Case::good()),
        ("no start", Case::good().with("st", "")),
        ("oldest version", Case::good().with("sv", "2018-11-09")),
        ("container", Case::good().with("sr", "c").with("sp", "rl")),
        ("directory", Case::directory("a/b/file.csv", "2")),
        ("the directory itself", Case::directory("a/b", "2")),
        (
            "listing a directory",
            Case {
                listed: "a/b",
                ..Case::directory("", "2")
            },
        ),
        ("address", Case::good().with("sip", "203.0.113.7")),
        (
            "address range",
            Case::good().with("sip", "203.0.113.0-203.0.113.9"),
        ),
        (
            "both protocols",
            Case {
                https: false,
                ..Case::good().with("spr", "https,http")
            },
        ),
        (
            "any protocol",
            Case {
                https: false,
                ..Case::good().with("spr", "")
            },
        ),
        (
            "correlation id",
            Case::good().with("scid", &OTHER.to_string()),
        ),
        ("encryption scope", Case::good().with("ses", "scope1")),
        (
            "authorized agent",
            Case::good().with("saoid", &OTHER.to_string()),
        ),
        (
            "unauthorized agent",
            Case::good().with("suoid", &OTHER.to_string()),
        ),
        ("bound to a user", bound(Case::good().with("sduoid", &user))),
        (
            "overrides",
            Case::good()
                .with("rscd", "attachment; filename=x")
                .with("rsct", "a/b"),
        ),
    ];
    for (name, case) in cases {
        assert_eq!(case.outcome(), None, "{name}");
    }
}

#[test]
fn malformed_tokens_fail_authentication() {
    let cases = [
        ("no expiry", Case::good().with("se", "")),
        ("no permissions", Case::good().with("sp", "")),
        ("no key start", Case::good().with("skt", "")),
        (
            "letters out of order",
            Case::good().with("sr", "c").with("sp", "lr"),
        ),
        ("repeated letter", Case::good().with("sp", "rr")),
        ("list on a blob", Case::good().with("sp", "rl")),
        ("unknown letter", Case::good().with("sp", "rz")),
        ("unknown resource", Case::good().with("sr", "q")),
        ("stored policy", Case::good().with("si", "policy1")),
        ("service f", Case::good().with("sks", "f")),
        ("http only", Case::good().with("spr", "http")),
        ("cidr", Case::good().with("sip", "203.0.113.0/24")),
        (
            "reversed range",
            Case::good().with("sip", "203.0.113.9-203.0.113.1"),
        ),
        ("version too old", Case::good().with("sv", "2018-03-28")),
        ("no version", Case::good().with("sv", "latest")),
        ("depth on a blob", Case::good().with("sdd", "2")),
        ("directory without depth", Case::good().with("sr", "d")),
        ("depth zero", Case::directory("a/b/file.csv", "0")),
        (
            "two agents",
            Case::good().with("saoid", "x").with("suoid", "y"),
        ),
        (
            "field before its time",
            Case::good().with("sv", "2020-12-06").with("sduoid", "x"),
        ),
        ("headers before their time", Case::good().with("srh", "x-a")),
        ("not a time", Case::good().with("se", "tomorrow")),
        ("not a guid", Case::good().with("skoid", "me")),
    ];
    for (name, case) in cases {
        let (code, detail) = case.outcome().expect(name);
        assert_eq!(code, Code::AuthenticationFailed, "{name}");
        assert!(
            !detail.contains("did not match"),
            "{name} was found by its shape: {detail}"
        );
    }
}

#[test]
fn every_window_ends_to_the_second() {
    let at = |now| {
        Case {
            now,
            ..Case::good()
        }
        .outcome()
        .is_none()
    };
    assert!(!at(datetime!(2026-11-23 11:44:59 UTC)), "before the start");
    assert!(at(datetime!(2026-11-23 11:45:00 UTC)), "at the start");
    assert!(at(datetime!(2026-11-23 12:59:59 UTC)), "one second left");
    assert!(!at(datetime!(2026-11-23 13:00:00 UTC)), "at the expiry");

    let no_start = |now| {
        Case {
            now,
            ..Case::good().with("st", "")
        }
        .outcome()
    };
    let (_, detail) = no_start(datetime!(2026-11-23 10:59:59 UTC)).unwrap();
    assert!(detail.contains("key time frame"), "{detail}");

    let outlives_key = Case::good().with("se", "2026-11-24T11:00:01Z");
    let (code, detail) = outlives_key.outcome().unwrap();
    assert_eq!(code, Code::AuthenticationFailed);
    assert!(detail.contains("user delegation key"), "{detail}");
}

#[test]
fn any_change_after_signing_and_any_other_resource_breaks_the_signature() {
    let tampered = |name, value| Case {
        tampered: Some((name, value)),
        ..Case::good()
    };
    let elsewhere = |resource: &str| Case {
        signed_resource: Some(resource.into()),
        ..Case::good()
    };
    let cases = [
        ("letters", tampered("sp", "rw")),
        ("expiry", tampered("se", "2026-11-23T13:00:01Z")),
        ("start", tampered("st", "2026-11-23T11:44:00Z")),
        ("protocol", tampered("spr", "https,http")),
        ("key version", tampered("skv", "2025-07-05")),
        (
            "key owner",
            tampered("skoid", "44444444-4444-4444-4444-444444444444"),
        ),
        (
            "key tenant",
            tampered("sktid", "44444444-4444-4444-4444-444444444444"),
        ),
        ("key start", tampered("skt", "2026-11-23T10:00:00Z")),
        ("key expiry", tampered("ske", "2026-11-25T11:00:00Z")),
        ("version", tampered("sv", "2025-07-05")),
        ("signature", tampered("sig", "AAAA")),
        ("signature that is no base64", tampered("sig", "%%")),
        ("content type", tampered("rsct", "text/html")),
        ("blob", elsewhere("/blob/acct1/raw/a/b/other.csv")),
        ("container", elsewhere("/blob/acct1/other/a/b/file.csv")),
        ("account", elsewhere("/blob/acct2/raw/a/b/file.csv")),
        (
            "sibling directory",
            Case {
                signed_resource: Some("/blob/acct1/raw/a/c".into()),
                ..Case::directory("a/b/file.csv", "2")
            },
        ),
        (
            "directory by prefix",
            Case {
                signed_resource: Some("/blob/acct1/raw/a/b".into()),
                ..Case::directory("a/bc/file.csv", "2")
            },
        ),
        (
            "raised depth",
            Case {
                tampered: Some(("sdd", "1")),
                ..Case::directory("a/b/file.csv", "2")
            },
        ),
    ];
    for (name, case) in cases {
        let (code, detail) = case.outcome().expect(name);
        assert_eq!(code, Code::AuthenticationFailed, "{name}");
        assert!(
            detail.contains("String to sign used was"),
            "{name}: {detail}"
        );
    }
}

#[test]
fn what_binds_a_token_to_a_request_is_enforced() {
    let bound = |bearer, tenant: &str| {
        let case = Case::good()
            .with("sduoid", &USER.to_string())
            .with("skdutid", tenant);
        Case { bearer, ..case }
    };
    let plain = Case {
        https: false,
        ..Case::good()
    };
    let far = Case {
        peer: "198.51.100.1",
        ..Case::good().with("sip", "203.0.113.7")
    };
    let v6 = Case {
        peer: "::1",
        ..Case::good().with("sip", "203.0.113.7")
    };
    let flat = |case| Case {
        hierarchical_namespace: false,
        ..case
    };
    let cases = [
        (
            "https over http",
            plain,
            Code::AuthorizationProtocolMismatch,
        ),
        ("another address", far, Code::AuthorizationSourceIpMismatch),
        ("an IPv6 peer", v6, Code::AuthorizationSourceIpMismatch),
        (
            "bound, no bearer",
            bound(None, ""),
            Code::AuthenticationFailed,
        ),
        (
            "bound, other user",
            bound(bearer(TENANT, OTHER), ""),
            Code::AuthenticationFailed,
        ),
        (
            "bound, other tenant",
            bound(bearer(OTHER, USER), ""),
            Code::AuthenticationFailed,
        ),
        (
            "too shallow",
            Case::directory("a", "2"),
            Code::AuthenticationFailed,
        ),
        (
            "flat directory",
            flat(Case::directory("a/b", "2")),
            Code::AuthenticationFailed,
        ),
        (
            "flat agent",
            flat(Case::good().with("saoid", "x")),
            Code::AuthenticationFailed,
        ),
    ];
    for (name, case, code) in cases {
        assert_eq!(case.outcome().expect(name).0, code, "{name}");
    }
}

#[test]
fn signed_headers_parameters_and_snapshots_must_come_with_the_request() {
    let header = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static("x-a"),
            HeaderValue::from_str(value).unwrap(),
        );
        headers
    };
    let parameters = || vec![("timeout".to_owned(), "30".to_owned())];
    let newest = || {
        Case::good()
            .with("sv", "2026-04-06")
            .with("srh", "x-a")
            .with("srq", "timeout")
    };
    let whole = Case {
        headers: header("1"),
        parameters: parameters(),
        ..newest()
    };
    assert_eq!(whole.outcome(), None);
    let without_header = Case {
        parameters: parameters(),
        ..newest()
    };
    assert!(without_header.outcome().is_some());
    let without_parameter = Case {
        headers: header("1"),
        ..newest()
    };
    assert!(without_parameter.outcome().is_some());

    let snapshot = || {
        vec![(
            "snapshot".to_owned(),
            "2026-11-20T00:00:00.0000000Z".to_owned(),
        )]
    };
    assert_eq!(
        Case {
            parameters: snapshot(),
            ..Case::good().with("sr", "bs")
        }
        .outcome(),
        None
    );
}

#[test]
fn a_repeated_parameter_is_a_bad_request() {
    let twice = vec![("sp".to_owned(), "r".to_owned())];
    let (code, _) = Case {
        parameters: twice,
        ..Case::good()
    }
    .outcome()
    .unwrap();
    assert_eq!(code, Code::InvalidQueryParameterValue);
}

#[test]
fn a_revoked_key_ends_its_tokens_and_a_new_one_of_the_same_window_has_another_value() {
    let mut keys = DelegationKeys::default();
    let before = *keys.issue(issued_key(), NOW).unwrap();
    assert_eq!(
        *keys.issue(issued_key(), NOW).unwrap(),
        before,
        "the same key again"
    );
    keys.revoke_all();
    assert!(keys.value(&issued_key()).is_none());
    assert_ne!(*keys.issue(issued_key(), NOW).unwrap(), before);
    let later = NOW + Duration::days(2);
    keys.issue(
        KeyId {
            expiry: later + Duration::days(1),
            ..issued_key()
        },
        later,
    )
    .unwrap();
    assert!(
        keys.value(&issued_key()).is_none(),
        "expired keys are forgotten"
    );
}
