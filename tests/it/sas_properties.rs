//! The signer on random specs: Microsoft's own crate makes the same token, and neither the token
//! nor the string-to-sign can be read in two ways.

mod oracle;
mod random;

use proptest::prelude::*;
use sas_broker::domain::{
    permission::PermissionSet,
    sas::{EndUser, SasSpec, SasTarget, SignedPair, sign, string_to_sign},
    time_text,
};

use crate::sas_vectors::vector::decoded;
use random::Keys;

/// Names and values.
type Said = Vec<(String, String)>;

const LAYOUTS: [&str; 5] = [
    "2018-11-09",
    "2020-02-10",
    "2020-12-06",
    "2025-07-05",
    "2026-04-06",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn microsofts_crate_makes_the_same_token(
        mut spec in random::spec(),
        keys in random::keys(true),
    ) {
        spec.permissions = limited(spec.permissions, PermissionSet::of(b"racwdxyltmeopi"));
        let ours = sign(&spec, &keys.ours, oracle::VERSION.parse().unwrap()).unwrap();
        let mut ours = decoded(ours.expose_token());
        let mut theirs = decoded(&oracle::token(&spec, &keys.theirs));
        theirs.retain(|(name, _)| name != "snapshot");
        ours.sort();
        theirs.sort();
        prop_assert_eq!(ours, theirs);
    }

    /// What is signed can be read back in one way only, so no two specs share a signature: text
    /// cannot move from one field into another.
    #[test]
    fn a_string_to_sign_says_what_was_asked_and_nothing_else((version, spec, keys) in signable()) {
        let signed = string_to_sign(&spec, &keys.ours, version.parse().unwrap()).unwrap();
        let (fields, headers, query) = read_back(&signed, version);
        let mut asked = asked(&spec, &keys, version);
        asked.push(("resource".into(), resource(&spec)));
        let moment = match &spec.target {
            SasTarget::BlobSnapshot { snapshot, .. } => snapshot.as_str(),
            SasTarget::BlobVersion { version_id, .. } => version_id.as_str(),
            SasTarget::Container | SasTarget::Blob(_) | SasTarget::Directory(_) => "",
        };
        asked.push(("moment".into(), moment.into()));
        asked.retain(|(_, value)| !value.is_empty());
        asked.sort();
        prop_assert_eq!(fields, asked);
        prop_assert_eq!(headers, said(&spec.request_headers));
        prop_assert_eq!(query, said(&spec.request_query));
    }

    #[test]
    fn a_token_decodes_to_what_was_asked((version, spec, keys) in signable()) {
        let signed = sign(&spec, &keys.ours, version.parse().unwrap()).unwrap();
        let mut sent = decoded(signed.expose_token());
        let (name, signature) = sent.pop().unwrap();
        prop_assert_eq!((name.as_str(), signature.len()), ("sig", 44));
        let names = |pairs: &[SignedPair]| {
            pairs.iter().map(SignedPair::name).collect::<Vec<_>>().join(",")
        };
        let mut asked = asked(&spec, &keys, version);
        asked.push(("srh".into(), names(&spec.request_headers)));
        asked.push(("srq".into(), names(&spec.request_query)));
        if let SasTarget::Directory(path) = &spec.target {
            asked.push(("sdd".into(), path.as_str().split('/').count().to_string()));
        }
        asked.retain(|(_, value)| !value.is_empty());
        asked.sort();
        sent.sort();
        prop_assert_eq!(sent, asked);
    }
}

/// The first version of a layout, and a spec and a key that it can sign in full.
fn signable() -> impl Strategy<Value = (&'static str, SasSpec, Keys)> {
    proptest::sample::select(&LAYOUTS[..]).prop_flat_map(|version| {
        let spec = random::spec().prop_map(move |spec| fitted(spec, version));
        (Just(version), spec, random::keys(version >= "2025-07-05"))
    })
}

/// The spec without what `version` does not know.
fn fitted(mut spec: SasSpec, version: &str) -> SasSpec {
    let letters: &[u8] = match version {
        "2018-11-09" => b"racwdl",
        "2020-02-10" => b"racwdxyltmeop",
        "2020-12-06" => b"racwdxyltmeopi",
        _ => b"racwdxyltfmeopi",
    };
    spec.permissions = limited(spec.permissions, PermissionSet::of(letters));
    if version < "2026-04-06" {
        (spec.request_headers, spec.request_query) = (Vec::new(), Vec::new());
    }
    if version < "2025-07-05" {
        spec.delegated_user_object_id = None;
    }
    if version < "2020-12-06" {
        spec.encryption_scope = None;
    }
    if version < "2020-02-10" {
        (spec.end_user, spec.correlation_id) = (None, None);
        if let SasTarget::BlobVersion { path, .. } | SasTarget::Directory(path) = spec.target {
            spec.permissions = limited(spec.permissions, PermissionSet::of(b"rwd"));
            spec.target = SasTarget::Blob(path);
        }
    }
    spec
}

/// Those of the letters that are in `most`, or `r`, which is legal everywhere.
fn limited(letters: PermissionSet, most: PermissionSet) -> PermissionSet {
    let rest = letters.intersection(most);
    if rest.is_empty() {
        PermissionSet::of(b"r")
    } else {
        rest
    }
}

fn said(pairs: &[SignedPair]) -> Said {
    pairs
        .iter()
        .map(|pair| (pair.name().into(), pair.value().into()))
        .collect()
}

fn resource(spec: &SasSpec) -> String {
    let mut parts = vec!["", "blob", spec.account.as_str(), spec.container.as_str()];
    parts.extend(spec.target.path().map(|path| path.as_str()));
    parts.join("/")
}

/// The fields that stand both in the token and in the string-to-sign, empty if absent.
fn asked(spec: &SasSpec, keys: &Keys, version: &str) -> Said {
    fn text(value: Option<impl ToString>) -> String {
        value.map_or(String::new(), |value| value.to_string())
    }
    let (authorized, unauthorized) = match spec.end_user {
        Some(EndUser::Authorized(object_id)) => (Some(object_id), None),
        Some(EndUser::Unauthorized(object_id)) => (None, Some(object_id)),
        None => (None, None),
    };
    let (key, headers) = (&keys.theirs, &spec.response_headers);
    [
        ("sp", spec.permissions.to_string()),
        ("st", text(spec.start.map(time_text::to_text))),
        ("se", time_text::to_text(spec.expiry)),
        ("skoid", text(key.signed_oid.as_ref())),
        ("sktid", text(key.signed_tid.as_ref())),
        ("skt", text(key.signed_start.map(time_text::to_text))),
        ("ske", text(key.signed_expiry.map(time_text::to_text))),
        ("sks", text(key.signed_service.as_ref())),
        ("skv", text(key.signed_version.as_ref())),
        ("saoid", text(authorized)),
        ("suoid", text(unauthorized)),
        ("scid", text(spec.correlation_id)),
        ("skdutid", text(key.signed_delegated_user_tid.as_ref())),
        ("sduoid", text(spec.delegated_user_object_id)),
        ("sip", text(spec.ip)),
        ("spr", "https".into()),
        ("sv", version.into()),
        ("sr", spec.target.resource().code().into()),
        ("ses", text(spec.encryption_scope.as_ref())),
        ("rscc", text(headers.cache_control.as_ref())),
        ("rscd", text(headers.content_disposition.as_ref())),
        ("rsce", text(headers.content_encoding.as_ref())),
        ("rscl", text(headers.content_language.as_ref())),
        ("rsct", text(headers.content_type.as_ref())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Reads a string-to-sign: its fields (without the empty ones, sorted), the headers and the query
/// parameters. Written from the documentation's lists, not from our table.
fn read_back(signed: &str, version: &str) -> (Said, Said, Said) {
    let mut names = "sp st se resource skoid sktid skt ske sks skv".to_owned();
    names += if version >= "2020-02-10" {
        " saoid suoid scid"
    } else {
        ""
    };
    names += if version >= "2025-07-05" {
        " skdutid sduoid"
    } else {
        ""
    };
    names += " sip spr sv sr moment";
    names += if version >= "2020-12-06" { " ses" } else { "" };
    let mut lines = signed.split('\n').map(str::to_owned);
    let mut fields: Said = names
        .split(' ')
        .map(|name| (name.to_owned(), lines.next().unwrap()))
        .collect();
    let mut lines: Vec<String> = lines.collect();
    let last = lines.split_off(lines.len() - 5);
    let overrides = ["rscc", "rscd", "rsce", "rscl", "rsct"].map(str::to_owned);
    fields.extend(overrides.into_iter().zip(last));
    fields.retain(|(_, value)| !value.is_empty());
    fields.sort();
    let (mut headers, mut query) = (Vec::new(), Vec::new());
    if version >= "2026-04-06" {
        // Header lines, two blank lines, parameter lines.
        let blank = lines.iter().position(String::is_empty).unwrap();
        assert_eq!(lines[blank + 1], "");
        headers = lines[..blank].iter().map(|line| pair(line)).collect();
        query = lines[blank + 2..].iter().map(|line| pair(line)).collect();
    } else {
        assert_eq!(lines, [""; 0]);
    }
    (fields, headers, query)
}

fn pair(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap();
    (name.into(), value.into())
}
