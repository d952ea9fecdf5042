//! Random specs and keys, from alphabets that hold what could break a field, a path or a query.

use std::net::Ipv4Addr;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{collection::btree_map, option, prelude::*, sample::subsequence};
use sas_broker::domain::{
    ids::{BlobPath, IssuanceId, ObjectId},
    permission::{PermissionSet, SignedResource},
    sas::{
        EndUser, FieldText, KeyElements, ResponseHeaders, SasSpec, SasTarget, SignedIp, SignedPair,
        UserDelegationKey,
    },
    time_text,
};
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

const KEY_START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
const KEY_SECONDS: i64 = 7 * 24 * 3600;

fn guid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// Free text with every character that could mean something to somebody. What the signer refuses
/// becomes absent.
fn text() -> impl Strategy<Value = Option<FieldText>> {
    option::of("[ab:,\n\r\u{85} +&=%?#é日/]{0,6}")
        .prop_map(|text| text.and_then(|text| text.parse().ok()))
}

fn path() -> impl Strategy<Value = BlobPath> {
    "[^\\p{C}\\\\]{1,20}(/[a-z.]{1,5}){0,3}"
        .prop_filter_map("a path that the broker accepts", |text: String| {
            text.parse().ok()
        })
}

fn moment() -> impl Strategy<Value = FieldText> {
    "20[0-9]{2}-01-01T00:00:00\\.[0-9]{7}Z".prop_map(|text| text.parse().unwrap())
}

fn target() -> impl Strategy<Value = SasTarget> {
    prop_oneof![
        Just(SasTarget::Container),
        path().prop_map(SasTarget::Blob),
        (path(), moment()).prop_map(|(path, snapshot)| SasTarget::BlobSnapshot { path, snapshot }),
        (path(), moment())
            .prop_map(|(path, version_id)| SasTarget::BlobVersion { path, version_id }),
        path().prop_map(SasTarget::Directory),
    ]
}

fn letters_of(resource: SignedResource) -> impl Strategy<Value = PermissionSet> {
    let legal: Vec<PermissionSet> = resource.legal().letters().collect();
    subsequence(legal.clone(), 1..=legal.len()).prop_map(|letters| {
        letters
            .into_iter()
            .fold(PermissionSet::EMPTY, PermissionSet::union)
    })
}

fn ip() -> impl Strategy<Value = SignedIp> {
    (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(a, b, single)| {
        let (first, last) = (Ipv4Addr::from(a.min(b)), Ipv4Addr::from(a.max(b)));
        let text = if single {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        text.parse().unwrap()
    })
}

fn end_user() -> impl Strategy<Value = EndUser> {
    (guid().prop_map(ObjectId), any::<bool>()).prop_map(|(object_id, authorized)| {
        if authorized {
            EndUser::Authorized(object_id)
        } else {
            EndUser::Unauthorized(object_id)
        }
    })
}

/// In the order of their names, as the other crate signs them.
fn pairs() -> impl Strategy<Value = Vec<SignedPair>> {
    btree_map("[a-z][a-z0-9 &=:,-]{0,6}", "[ab:,\n +&=é]{0,6}", 0..4).prop_map(|pairs| {
        pairs
            .iter()
            .filter_map(|(name, value)| SignedPair::new(name, value).ok())
            .collect()
    })
}

fn response_headers() -> impl Strategy<Value = ResponseHeaders> {
    (text(), text(), text(), text(), text()).prop_map(
        |(cache_control, content_disposition, content_encoding, content_language, content_type)| {
            ResponseHeaders {
                cache_control,
                content_disposition,
                content_encoding,
                content_language,
                content_type,
            }
        },
    )
}

/// Everything that the newest layout can sign.
pub(super) fn spec() -> impl Strategy<Value = SasSpec> {
    let place = (
        "[a-z0-9]{3,24}",
        "[a-z0-9]{2,9}(-[a-z0-9]{1,4}){0,2}[a-z]",
        target(),
    )
        .prop_flat_map(|(account, container, target)| {
            let letters = letters_of(target.resource());
            (Just(account), Just(container), Just(target), letters)
        });
    let window = (option::of(0..KEY_SECONDS), 1..=KEY_SECONDS);
    let people = (
        option::of(end_user()),
        option::of(guid()),
        option::of(guid()),
    );
    let rest = (
        option::of(ip()),
        text(),
        response_headers(),
        pairs(),
        pairs(),
    );
    (place, window, people, rest).prop_map(|(place, (start, expiry), people, rest)| {
        let (account, container, target, letters) = place;
        let at = |seconds| KEY_START + Duration::seconds(seconds);
        let account = account.parse().unwrap();
        let container = container.parse().unwrap();
        let mut spec = SasSpec::new(account, container, target, letters, at(expiry));
        spec.start = start.filter(|&start| start < expiry).map(at);
        (
            spec.end_user,
            spec.correlation_id,
            spec.delegated_user_object_id,
        ) = (people.0, people.1.map(IssuanceId), people.2.map(ObjectId));
        (spec.ip, spec.encryption_scope, spec.response_headers) = (rest.0, rest.1, rest.2);
        (spec.request_headers, spec.request_query) = (rest.3, rest.4);
        spec
    })
}

/// A key in both forms.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) ours: UserDelegationKey,
    pub(super) theirs: azure_storage_common::models::UserDelegationKey,
}

/// `user_bound`: whether some of the keys shall have a delegated user's tenant.
pub(super) fn keys(user_bound: bool) -> impl Strategy<Value = Keys> {
    let user_tid = option::of(guid()).prop_map(move |tid| tid.filter(|_| user_bound));
    (guid(), guid(), user_tid, any::<[u8; 32]>()).prop_map(|(oid, tid, user_tid, value)| {
        let expiry = KEY_START + Duration::seconds(KEY_SECONDS);
        let (oid, tid) = (oid.to_string(), tid.to_string());
        let user_tid = user_tid.map(|tid| tid.to_string());
        let ours = UserDelegationKey::new(&KeyElements {
            signed_oid: &oid,
            signed_tid: &tid,
            signed_start: &time_text::to_text(KEY_START),
            signed_expiry: &time_text::to_text(expiry),
            signed_service: "b",
            signed_version: "2025-11-05",
            signed_delegated_user_tid: user_tid.as_deref(),
            value: &STANDARD.encode(value),
        });
        let theirs = azure_storage_common::models::UserDelegationKey {
            signed_oid: Some(oid),
            signed_tid: Some(tid),
            signed_start: Some(KEY_START),
            signed_expiry: Some(expiry),
            signed_service: Some("b".into()),
            signed_version: Some("2025-11-05".into()),
            signed_delegated_user_tid: user_tid,
            value: Some(value.to_vec()),
        };
        Keys {
            ours: ours.unwrap(),
            theirs,
        }
    })
}
