//! The signer against tokens that the official SDKs for Python made: every vector of `tests/data`,
//! and eight more by hand, where an error shows at a glance.

#[path = "../../examples/sas_vectors/vector.rs"]
pub(crate) mod vector;

use sas_broker::domain::{
    permission::{PermissionSet, SignedResource},
    sas::{KeyElements, SasSpec, SasTarget, SignedSas, UserDelegationKey, sign},
};
use time::macros::datetime;

use vector::{Vector, decoded};

const VECTORS: &str = include_str!("../data/sas-vectors.jsonl");

#[test]
fn every_vector_of_the_official_sdks_is_reproduced() {
    assert_eq!(VECTORS.lines().count(), 491);
    for (place, line) in VECTORS.lines().enumerate() {
        let vector = Vector::read(line.as_bytes()).unwrap();
        assert_eq!(
            vector.differences(),
            Vec::<String>::new(),
            "line {}",
            place + 1
        );
    }
}

#[test]
fn a_difference_anywhere_in_a_vector_is_reported() {
    let mut checked = 0;
    for line in VECTORS.lines().take(8) {
        let sound: serde_json::Value = serde_json::from_str(line).unwrap();
        for name in sound["expected_params"].as_object().unwrap().keys() {
            let mut altered = sound.clone();
            altered["expected_params"][name] = "x".into();
            let mut missing = sound.clone();
            missing["expected_params"]
                .as_object_mut()
                .unwrap()
                .remove(name);
            for vector in [altered, missing] {
                let vector = Vector::read(vector.to_string().as_bytes()).unwrap();
                assert_ne!(vector.differences(), Vec::<String>::new(), "{name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 200);
}

#[test]
fn an_input_that_we_would_not_sign_in_full_is_reported() {
    let line = VECTORS.lines().next().unwrap();
    let vector = |name: &str, value: serde_json::Value| {
        let mut altered: serde_json::Value = serde_json::from_str(line).unwrap();
        altered["input"][name] = value;
        Vector::read(altered.to_string().as_bytes())
    };
    assert!(vector("unheard_of", 1.into()).is_err(), "an unknown field");
    for (name, value) in [
        ("protocol", "https,http"),
        ("sr", "b"),
        ("sv", "2020-02-10"),
        ("expiry", "9999-01-01"),
    ] {
        assert_ne!(
            vector(name, value.into()).unwrap().differences(),
            [""; 0],
            "{name}"
        );
    }
    assert_ne!(
        vector("directory_depth", 7.into()).unwrap().differences(),
        [""; 0],
        "too deep"
    );
}

#[test]
fn eight_tokens_by_hand_have_the_signature_of_the_official_sdk() {
    let blob = SasTarget::Blob("dir/file.csv".parse().unwrap());
    let container = SasTarget::Container;
    let directory = SasTarget::Directory("a/b".parse().unwrap());
    let user = Some("33333333-3333-3333-3333-333333333333");
    for (version, target, bound_to, expected) in [
        (
            "2025-05-05",
            &container,
            None,
            "80z8oo8pHauC0HGT40wezCUFP8u6OPCOBZp6XUl56yI=",
        ),
        (
            "2025-05-05",
            &blob,
            None,
            "JlbpUb4Bu8bJuMbpnCD+Oz6iosLvwqUxEUteo/M7qPI=",
        ),
        (
            "2025-11-05",
            &container,
            None,
            "tHHdtFGHDdWb7bpR7D82JIkJwrLN/vItwE2bUXlH2cY=",
        ),
        (
            "2025-11-05",
            &blob,
            None,
            "0iIBanQWilhrC3cb6T4n3DFSnwQJSTXA3X8E8Ym+BxA=",
        ),
        (
            "2026-10-06",
            &container,
            None,
            "Lg8knwj44P7LHLT6sSSAh9/ROelrH5ZVswj39xKl1Sk=",
        ),
        (
            "2026-10-06",
            &blob,
            None,
            "HGvUhL33eryXuS7XAUq3tGkm6vd97ZYVx/o7/3fIu/4=",
        ),
        (
            "2026-10-06",
            &container,
            user,
            "qK1DWI3FyuM/EOAR18IKnn+JvZBpLltnkDHxwsniWCI=",
        ),
        (
            "2026-10-06",
            &directory,
            None,
            "3qenj6+46nofzc5DWFK24uWOif0zdmpkHGos80cXLSI=",
        ),
    ] {
        let signed = signed_by_hand(version, target, bound_to);
        let signature = decoded(signed.expose_token()).pop().unwrap();
        assert_eq!(
            signature,
            ("sig".to_owned(), expected.to_owned()),
            "{version} {target:?}"
        );
    }
}

#[test]
fn the_hash_for_the_log_is_that_of_the_signatures_base64_text() {
    let signed = signed_by_hand("2025-11-05", &SasTarget::Container, None);
    assert_eq!(
        signed.signature_sha256(),
        // sha256sum of tHHdtFGHDdWb7bpR7D82JIkJwrLN/vItwE2bUXlH2cY=
        "801da350e8d6d83db47fc2c30f512f5548ef2c4d926cfdd65a3625568f870736"
    );
}

fn signed_by_hand(version: &str, target: &SasTarget, bound_to: Option<&str>) -> SignedSas {
    let letters: &[u8] = if target.resource() == SignedResource::Blob {
        b"r"
    } else {
        b"rl"
    };
    let mut spec = SasSpec::new(
        "acct".parse().unwrap(),
        "cont".parse().unwrap(),
        target.clone(),
        PermissionSet::of(letters),
        datetime!(2026-01-01 01:00 UTC),
    );
    spec.start = Some(datetime!(2026-01-01 00:00 UTC));
    spec.delegated_user_object_id = bound_to.map(|user| user.parse().unwrap());
    let key = UserDelegationKey::new(&KeyElements {
        signed_oid: "11111111-1111-1111-1111-111111111111",
        signed_tid: "22222222-2222-2222-2222-222222222222",
        signed_start: "2026-01-01T00:00:00Z",
        signed_expiry: "2026-01-02T00:00:00Z",
        signed_service: "b",
        signed_version: version,
        signed_delegated_user_tid: None,
        // The bytes 0 to 31.
        value: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    })
    .unwrap();
    sign(&spec, &key, version.parse().unwrap()).unwrap()
}
