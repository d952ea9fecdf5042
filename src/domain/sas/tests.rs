//! What the signer refuses, and what a token looks like. That the signatures are right is shown by
//! the vectors and the second oracle in `tests/it`.

use time::{Duration, macros::datetime};

use super::*;
use crate::domain::ids::{BlobPath, IssuanceId, ObjectId};

const GUID: &str = "11111111-1111-1111-1111-111111111111";

fn key(delegated_tenant: Option<&str>) -> UserDelegationKey {
    UserDelegationKey::new(&KeyElements {
        signed_oid: GUID,
        signed_tid: GUID,
        signed_start: "2026-01-01T00:00:00Z",
        signed_expiry: "2026-01-02T00:00:00Z",
        signed_service: "b",
        signed_version: "2025-11-05",
        signed_delegated_user_tid: delegated_tenant,
        value: "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",
    })
    .unwrap()
}

fn path(text: &str) -> BlobPath {
    text.parse().unwrap()
}

fn text(text: &str) -> Option<FieldText> {
    Some(text.parse().unwrap())
}

fn spec(target: SasTarget, letters: &[u8]) -> SasSpec {
    SasSpec::new(
        "acct1".parse().unwrap(),
        "raw".parse().unwrap(),
        target,
        PermissionSet::of(letters),
        datetime!(2026-01-01 01:00 UTC),
    )
}

/// What the signer says to a container token with one thing changed, at a version.
fn outcome(version: &str, change: impl FnOnce(&mut SasSpec)) -> Result<(), SignError> {
    let mut spec = spec(SasTarget::Container, b"rl");
    change(&mut spec);
    sign(&spec, &key(None), version.parse().unwrap()).map(drop)
}

#[test]
fn a_field_is_refused_before_its_version_and_signed_from_it_on() {
    type Change = fn(&mut SasSpec);
    let object_id: ObjectId = GUID.parse().unwrap();
    let cases: [(&str, &str, &str, Change); 7] = [
        ("saoid", "2019-12-12", "2020-02-10", |s| {
            s.end_user = Some(EndUser::Authorized(GUID.parse().unwrap()));
        }),
        ("suoid", "2019-12-12", "2020-02-10", |s| {
            s.end_user = Some(EndUser::Unauthorized(GUID.parse().unwrap()));
        }),
        ("scid", "2019-12-12", "2020-02-10", |s| {
            s.correlation_id = Some(GUID.parse::<IssuanceId>().unwrap());
        }),
        ("ses", "2020-10-02", "2020-12-06", |s| {
            s.encryption_scope = text("scope1")
        }),
        ("sduoid", "2025-05-05", "2025-07-05", |s| {
            s.delegated_user_object_id = Some(GUID.parse().unwrap());
        }),
        ("srh", "2026-02-06", "2026-04-06", |s| {
            s.request_headers = vec![SignedPair::new("x-a", "1").unwrap()];
        }),
        ("srq", "2026-02-06", "2026-04-06", |s| {
            s.request_query = vec![SignedPair::new("comp", "block").unwrap()];
        }),
    ];
    for (parameter, before, since, change) in cases {
        let refusal = SignError::FieldTooNew {
            parameter,
            since: since.parse().unwrap(),
        };
        assert_eq!(outcome(before, change), Err(refusal), "{parameter}");
        assert_eq!(outcome(since, change), Ok(()), "{parameter}");
    }
    let bound = SasSpec {
        delegated_user_object_id: Some(object_id),
        ..spec(SasTarget::Container, b"r")
    };
    let key = key(Some(GUID));
    assert!(sign(&bound, &key, "2025-07-05".parse().unwrap()).is_ok());
    assert_eq!(
        sign(
            &spec(SasTarget::Container, b"r"),
            &key,
            "2025-05-05".parse().unwrap()
        )
        .unwrap_err(),
        SignError::FieldTooNew {
            parameter: "skdutid",
            since: "2025-07-05".parse().unwrap()
        },
    );
}

#[test]
fn a_resource_is_refused_before_its_version_and_signed_from_it_on() {
    let version = SasTarget::BlobVersion {
        path: path("a"),
        version_id: "2026-01-01T00:00:00.0000000Z".parse().unwrap(),
    };
    for (target, before, since) in [
        (version, "2019-07-07", "2019-10-10"),
        (
            SasTarget::Directory(path("a/b")),
            "2019-12-12",
            "2020-02-10",
        ),
    ] {
        let refusal = SignError::ResourceTooNew {
            resource: target.resource(),
            since: since.parse().unwrap(),
        };
        assert_eq!(outcome(before, |s| s.target = target.clone()), Err(refusal));
        assert_eq!(
            outcome(since, |s| *s = spec(target.clone(), b"r")),
            Ok(()),
            "{:?}",
            target.resource()
        );
    }
}

#[test]
fn letters_must_exist_for_the_resource_and_the_version() {
    let now = "2025-11-05";
    assert_eq!(
        outcome(now, |s| s.permissions = PermissionSet::EMPTY),
        Err(SignError::NoPermissions)
    );
    assert_eq!(
        outcome(now, |s| *s = spec(SasTarget::Blob(path("a")), b"rl")),
        Err(SignError::IllegalLetters {
            letters: PermissionSet::of(b"l"),
            resource: SignedResource::Blob
        })
    );
    assert_eq!(
        outcome("2020-02-10", |s| s.permissions = PermissionSet::of(b"rfi")),
        Err(SignError::LettersTooNew {
            letters: PermissionSet::of(b"i"),
            since: "2020-08-04".parse().unwrap()
        })
    );
}

#[test]
fn the_window_is_not_empty_and_ends_with_the_key_at_the_latest() {
    let now = "2025-11-05";
    let key_expiry = key(None).expiry();
    assert_eq!(outcome(now, |s| s.expiry = key_expiry), Ok(()));
    assert_eq!(
        outcome(now, |s| s.expiry = key_expiry + Duration::SECOND),
        Err(SignError::OutlivesKey)
    );
    assert_eq!(
        outcome(now, |s| s.start = Some(s.expiry)),
        Err(SignError::EmptyWindow)
    );
    assert_eq!(
        outcome(now, |s| s.start = Some(s.expiry - Duration::SECOND)),
        Ok(())
    );
    for change in [
        (|s| s.start = Some(s.expiry - Duration::MILLISECOND)) as fn(&mut SasSpec),
        |s| s.expiry -= Duration::NANOSECOND,
    ] {
        assert_eq!(outcome(now, change), Err(SignError::FractionOfSecond));
    }
}

#[test]
fn nothing_is_demanded_twice_or_without_bound() {
    let pairs = |names: &[&str]| -> Vec<SignedPair> {
        names
            .iter()
            .map(|name| SignedPair::new(name, "1").unwrap())
            .collect()
    };
    assert_eq!(
        outcome("2026-04-06", |s| s.request_headers =
            pairs(&["x-a", "x-b", "X-A"])),
        Err(SignError::RepeatedName { parameter: "srh" })
    );
    let names: Vec<String> = (0..=SIGNED_PAIRS_MAX).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(
        outcome("2026-04-06", |s| s.request_query = pairs(&names)),
        Err(SignError::TooManyNames { parameter: "srq" })
    );
    assert_eq!(
        outcome("2026-04-06", |s| s.request_query = pairs(&names[1..])),
        Ok(())
    );
}

#[test]
fn a_token_escapes_all_but_unreserved_characters_and_says_what_was_asked() {
    let mut spec = spec(SasTarget::Directory(path("a/b")), b"lr");
    spec.start = Some(datetime!(2026-01-01 00:00 UTC));
    spec.ip = Some("10.0.0.1-10.0.0.9".parse().unwrap());
    spec.response_headers.content_disposition = text("inline; x=\"100% é+&~/*'\"");
    spec.request_headers = vec![
        SignedPair::new("x b", "2").unwrap(),
        SignedPair::new("x-a", "1").unwrap(),
    ];
    let signed = sign(&spec, &key(None), "2026-04-06".parse().unwrap()).unwrap();
    let (said, signature) = signed.expose_token().split_once("&sig=").unwrap();
    assert_eq!(
        said,
        format!(
            "sp=rl&st=2026-01-01T00%3A00%3A00Z&se=2026-01-01T01%3A00%3A00Z&skoid={GUID}\
             &sktid={GUID}&skt=2026-01-01T00%3A00%3A00Z&ske=2026-01-02T00%3A00%3A00Z&sks=b\
             &skv=2025-11-05&sip=10.0.0.1-10.0.0.9&spr=https&sv=2026-04-06&sr=d&srh=x%20b,x-a\
             &rscd=inline%3B%20x%3D%22100%25%20%C3%A9%2B%26~%2F%2A%27%22&sdd=2"
        )
    );
    assert!(signature.ends_with("%3D"), "base64 of 32 bytes, escaped");
}

#[test]
fn debug_shows_neither_the_token_nor_the_signature() {
    let spec = spec(SasTarget::Container, b"rl");
    let signed = sign(&spec, &key(None), ServiceVersion::DEFAULT).unwrap();
    let (_, signature) = signed.expose_token().split_once("&sig=").unwrap();
    let shown = format!("{signed:?}");
    assert!(!shown.contains("sig=") && !shown.contains(signature));
    assert!(shown.contains(signed.signature_sha256()));
    assert_eq!(signed.signature_sha256().len(), 64);
}

#[test]
fn a_token_never_outgrows_its_first_allocation() {
    let mut spec = spec(SasTarget::Directory(path(&["é"; 254].join("/"))), b"rl");
    spec.response_headers.content_type = text(&"é".repeat(FIELD_TEXT_CHARS_MAX));
    spec.request_query = vec![SignedPair::new(&"=".repeat(FIELD_TEXT_CHARS_MAX), "").unwrap()];
    let key = key(None);
    let fields = signed_fields(&spec, &key, "2026-04-06".parse().unwrap()).unwrap();
    let signature = "=".repeat(44);
    let token = token(&spec, &fields, &signature);
    assert_eq!(token.capacity(), token_room(&fields, &signature), "it grew");
}
