//! Tables for each rule of the decision, and a property test against [`super::model`].

use std::net::IpAddr;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use time::{Duration, macros::datetime};
use uuid::Uuid;

use super::*;
use crate::domain::{
    caller::CallerKind,
    grant::{Conditions, Effect, Grant, Principal, Provenance, Role, Scope},
    ids::{AppRole, BlobPath, GrantId},
    permission::SignedResource,
    request::Target,
    snapshot::PolicyTable,
};

const NOW: OffsetDateTime = datetime!(2026-11-23 10:00:00 UTC);
const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const OTHER_TENANT: TenantId = TenantId(Uuid::from_u128(2));
const ALICE: ObjectId = ObjectId(Uuid::from_u128(10));
const TEAM: ObjectId = ObjectId(Uuid::from_u128(20));

fn caller(groups: Groups) -> Caller {
    Caller {
        tenant_id: TENANT,
        object_id: ALICE,
        kind: CallerKind::User,
        app_id: None,
        scopes: vec![],
        roles: vec!["Lab.Member".parse().unwrap()],
        groups,
        token_id: None,
        issued_at: NOW,
        expires_at: NOW + Duration::HOUR,
    }
}

fn alice() -> Caller {
    caller(Groups::Known(vec![TEAM]))
}

fn account(hierarchical_namespace: bool) -> Account {
    Account {
        name: "acct1".parse().unwrap(),
        resource_id: None,
        tenant_id: TENANT,
        blob_endpoint: "https://acct1.blob.core.windows.net".parse().unwrap(),
        dfs_endpoint: Some("https://acct1.dfs.core.windows.net".parse().unwrap()),
        hierarchical_namespace,
        signing_identity: "default".parse().unwrap(),
        correlation_id_supported: true,
        sas_period_seconds_max: None,
        issuance_enabled: true,
        management_identity: None,
        rotation: None,
    }
}

fn user() -> Principal {
    Principal::User {
        tenant_id: TENANT,
        object_id: ALICE,
    }
}

fn team() -> Principal {
    Principal::Group {
        tenant_id: TENANT,
        object_id: TEAM,
    }
}

fn grant(id: u128, principal: Principal, role: &str, prefix: Option<&str>) -> Grant {
    Grant {
        id: GrantId(Uuid::from_u128(id)),
        version: 1,
        principal,
        role: role.parse().unwrap(),
        scope: Scope {
            account: "acct1".parse().unwrap(),
            container: "raw".parse().unwrap(),
            prefix: prefix.map(|prefix| prefix.parse().unwrap()),
        },
        effect: Effect::Allow,
        conditions: Conditions::default(),
        provenance: Provenance::default(),
    }
}

fn deny(id: u128, principal: Principal, role: &str, prefix: Option<&str>) -> Grant {
    Grant {
        effect: Effect::Deny,
        ..grant(id, principal, role, prefix)
    }
}

fn table(grants: Vec<Grant>) -> PolicyTable {
    let strict = Role {
        name: "strict".parse().unwrap(),
        permissions: "rw".parse().unwrap(),
        lifetime_seconds_max: Some(1_800),
        bind_to_caller: true,
        require_ip: true,
    };
    PolicyTable {
        version: 7,
        accounts: vec![account(true)],
        roles: vec![strict],
        grants,
        ..PolicyTable::default()
    }
}

fn ask(target: Target, permissions: &str) -> AccessRequest {
    AccessRequest {
        account: "acct1".parse().unwrap(),
        container: "raw".parse().unwrap(),
        target,
        permissions: permissions.parse().unwrap(),
        lifetime_seconds: None,
        ip: None,
        bind_to_caller: false,
    }
}

fn path(text: &str) -> BlobPath {
    text.parse().unwrap()
}

fn blob(text: &str) -> Target {
    Target::Blob(path(text))
}

fn run(caller: &Caller, request: &AccessRequest, table: PolicyTable) -> Decision {
    let client: IpAddr = "198.51.100.7".parse().unwrap();
    let moment = Moment {
        client: Some(client),
        limits: &Limits::default(),
        now: NOW,
    };
    decide(caller, request, &Snapshot::new(table), moment)
}

fn code(caller: &Caller, request: &AccessRequest, table: PolicyTable) -> &'static str {
    match run(caller, request, table).verdict {
        Ok(_) => "allowed",
        Err(refusal) => refusal.code().as_str(),
    }
}

#[test]
fn scopes_contain_on_segment_boundaries() {
    let rows = [
        (None, Target::Container, "allowed"),
        (None, blob("x/y"), "allowed"),
        (Some("a/b"), blob("a/b"), "allowed"),
        (Some("a/b"), blob("a/b/c"), "allowed"),
        (Some("a/b"), blob("a/bc"), "no-grant"),
        (Some("a/b"), blob("a"), "no-grant"),
        (Some("a/b"), Target::Directory(path("a/b/c")), "allowed"),
        (
            Some("a/b"),
            Target::Directory(path("a")),
            "scope-exceeds-grant",
        ),
        (Some("a/b"), Target::Container, "scope-exceeds-grant"),
    ];
    for (prefix, target, expected) in rows {
        let table = table(vec![grant(1, user(), "reader", prefix)]);
        assert_eq!(
            code(&alice(), &ask(target.clone(), "r"), table),
            expected,
            "{prefix:?} {target:?}"
        );
    }
}

#[test]
fn unknown_account_unknown_container_and_no_grant_look_the_same() {
    let table = || table(vec![grant(1, user(), "reader", None)]);
    let mut elsewhere = ask(blob("x"), "r");
    elsewhere.account = "nowhere".parse().unwrap();
    let mut other = ask(blob("x"), "r");
    other.container = "other".parse().unwrap();
    let mut nobody = alice();
    nobody.object_id = ObjectId(Uuid::from_u128(99));
    let answers = [
        run(&alice(), &elsewhere, table()),
        run(&alice(), &other, table()),
        run(&nobody, &ask(blob("x"), "r"), table()),
    ];
    for answer in answers {
        assert_eq!(answer.verdict, Err(Refusal::NoGrant));
        assert_eq!(answer.considered, []);
    }
}

#[test]
fn letters_join_over_grants_and_a_missing_one_refuses() {
    let table = || {
        table(vec![
            grant(1, user(), "reader", None),
            grant(2, team(), "uploader", Some("in")),
        ])
    };
    let joined = run(&alice(), &ask(blob("in/x"), "wr"), table())
        .verdict
        .unwrap();
    assert_eq!(joined.grants().len(), 2);
    let over = run(&alice(), &ask(blob("in/x"), "rwd"), table())
        .verdict
        .unwrap_err();
    assert_eq!(over.to_string(), "your grants here give rw but not d");
    assert_eq!(
        code(&alice(), &ask(blob("x"), "w"), table()),
        "permission-not-granted"
    );
}

#[test]
fn a_deny_bites_above_and_below_the_request() {
    let allow = || grant(1, user(), "contributor", None);
    let rows = [
        (Some("secret"), Target::Container, "r", "denied"),
        (
            Some("a/secret"),
            Target::Directory(path("a")),
            "r",
            "denied",
        ),
        (Some("a"), blob("a/secret/x"), "r", "denied"),
        (None, blob("x"), "r", "denied"),
        (Some("secret"), blob("open/x"), "r", "allowed"),
        (Some("a/b"), blob("a/bc"), "r", "allowed"),
        (Some("secret"), Target::Container, "w", "allowed"),
    ];
    for (prefix, target, letters, expected) in rows {
        let table = table(vec![allow(), deny(2, team(), "reader", prefix)]);
        let request = ask(target, letters);
        assert_eq!(
            code(&alice(), &request, table),
            expected,
            "{prefix:?} {request:?}"
        );
    }
    let only_denied = table(vec![deny(2, user(), "reader", None)]);
    assert_eq!(
        code(&alice(), &ask(blob("x"), "r"), only_denied),
        "no-grant"
    );
}

#[test]
fn a_deny_that_begins_later_ends_the_token_there() {
    let mut later = deny(2, user(), "reader", None);
    later.conditions.not_before = Some(NOW + Duration::seconds(300));
    let table = table(vec![grant(1, user(), "reader", None), later]);
    let allowed = run(&alice(), &ask(blob("x"), "r"), table).verdict.unwrap();
    assert_eq!(allowed.expiry().at(), NOW + Duration::seconds(300));
    assert!(
        allowed.expiry().bounds()[0]
            .to_string()
            .starts_with("deny ")
    );
}

#[test]
fn the_most_generous_grant_counts_and_the_window_is_the_minimum_over_the_letters() {
    let mut short = grant(1, user(), "reader", None);
    short.conditions.lifetime_seconds_max = Some(120);
    let mut ends = grant(2, user(), "uploader", None);
    ends.conditions.expires = Some(NOW + Duration::seconds(600));
    let table = || {
        table(vec![
            short.clone(),
            grant(3, team(), "reader", None),
            ends.clone(),
        ])
    };
    let mut request = ask(blob("x"), "r");
    request.lifetime_seconds = Some(50_000);
    let read = run(&alice(), &request, table()).verdict.unwrap();
    assert_eq!(read.expiry().lifetime_seconds(), 3_600);
    assert_eq!(
        read.grants(),
        [GrantRef {
            id: GrantId(Uuid::from_u128(3)),
            version: 1
        }]
    );
    request.permissions = "rw".parse().unwrap();
    let both = run(&alice(), &request, table()).verdict.unwrap();
    assert_eq!(both.expiry().lifetime_seconds(), 600);
}

#[test]
fn bindings_add_up_and_an_address_is_never_inferred() {
    let table = || table(vec![grant(1, user(), "strict", None)]);
    assert_eq!(code(&alice(), &ask(blob("x"), "r"), table()), "ip-required");
    let mut request = ask(blob("x"), "r");
    request.ip = Some("203.0.113.7".parse().unwrap());
    request.lifetime_seconds = Some(3_600);
    let bound = run(&alice(), &request, table()).verdict.unwrap();
    assert_eq!(bound.bound_to(), Some(ALICE));
    assert_eq!(bound.delegated_tenant(), None);
    assert_eq!(
        bound.expiry().bounds()[0].to_string(),
        "role strict: 1800 s"
    );
}

#[test]
fn the_two_network_conditions_are_never_mixed() {
    let mut sip = grant(1, user(), "reader", None);
    sip.conditions.sip_within = vec!["203.0.113.0/24".parse().unwrap()];
    let mut from = grant(1, user(), "reader", None);
    from.conditions.caller_networks = vec!["203.0.113.0/24".parse().unwrap()];
    let asking = |ip: Option<&str>| {
        let mut request = ask(blob("x"), "r");
        request.ip = ip.map(|ip| ip.parse().unwrap());
        request
    };
    let code = |grant: &Grant, ip| code(&alice(), &asking(ip), table(vec![grant.clone()]));
    assert_eq!(code(&sip, None), "ip-required");
    assert_eq!(code(&sip, Some("203.0.113.9")), "allowed");
    assert_eq!(code(&sip, Some("198.51.100.7")), "ip-not-allowed");
    assert_eq!(code(&from, Some("203.0.113.9")), "network-not-allowed");
    from.conditions.caller_networks = vec!["198.51.100.0/24".parse().unwrap()];
    assert_eq!(code(&from, None), "allowed");
}

#[test]
fn unknown_groups_refuse_only_where_a_group_could_matter() {
    let missing = caller(Groups::Unknown(GroupsUnknown::Missing));
    let overage = caller(Groups::Unknown(GroupsUnknown::Overage));
    let foreign = Principal::Group {
        tenant_id: OTHER_TENANT,
        object_id: TEAM,
    };
    let own = || grant(1, user(), "reader", None);
    let rows = [
        (vec![own()], "r", "allowed", "allowed"),
        (
            vec![grant(2, team(), "reader", None)],
            "r",
            "groups-missing",
            "groups-overage",
        ),
        (
            vec![own(), grant(2, team(), "uploader", None)],
            "rw",
            "groups-missing",
            "groups-overage",
        ),
        (
            vec![own(), grant(2, team(), "uploader", None)],
            "r",
            "allowed",
            "allowed",
        ),
        (
            vec![own(), deny(2, team(), "auditor", None)],
            "r",
            "allowed",
            "allowed",
        ),
        (
            vec![own(), deny(2, team(), "reader", Some("x"))],
            "r",
            "groups-missing",
            "groups-overage",
        ),
        (
            vec![own(), deny(2, team(), "reader", Some("y"))],
            "r",
            "allowed",
            "allowed",
        ),
        (
            vec![own(), deny(2, foreign.clone(), "reader", None)],
            "r",
            "allowed",
            "allowed",
        ),
        (
            vec![grant(2, foreign, "reader", None)],
            "r",
            "no-grant",
            "no-grant",
        ),
    ];
    for (grants, letters, with_missing, with_overage) in rows {
        let request = ask(blob("x"), letters);
        assert_eq!(
            code(&missing, &request, table(grants.clone())),
            with_missing,
            "{grants:?}"
        );
        assert_eq!(
            code(&overage, &request, table(grants.clone())),
            with_overage,
            "{grants:?}"
        );
    }
}

#[test]
fn a_user_of_another_directory_is_bound_through_it() {
    let mut guest = alice();
    guest.tenant_id = OTHER_TENANT;
    let principal = Principal::User {
        tenant_id: OTHER_TENANT,
        object_id: ALICE,
    };
    let mut request = ask(blob("x"), "r");
    request.bind_to_caller = true;
    let bound = run(
        &guest,
        &request,
        table(vec![grant(1, principal, "reader", None)]),
    );
    assert_eq!(
        bound.verdict.unwrap().delegated_tenant(),
        Some(OTHER_TENANT)
    );
}

#[test]
fn accounts_and_configuration_can_switch_things_off() {
    let allow = || vec![grant(1, user(), "reader", None)];
    let mut flat = table(allow());
    flat.accounts = vec![account(false)];
    let directory = ask(Target::Directory(path("a")), "r");
    assert_eq!(
        code(&alice(), &directory, flat),
        "directory-needs-namespace"
    );
    let mut off = table(allow());
    off.accounts[0].issuance_enabled = false;
    assert_eq!(
        code(&alice(), &ask(blob("x"), "r"), off),
        "issuance-disabled"
    );
    assert_eq!(
        code(&alice(), &ask(blob("x"), "ro"), table(allow())),
        "permission-disabled"
    );
    let mut ending = table(allow());
    ending.grants[0].conditions.expires = Some(NOW + Duration::seconds(59));
    assert_eq!(
        code(&alice(), &ask(blob("x"), "r"), ending),
        "window-too-short"
    );
}

#[test]
fn grants_count_from_their_first_to_right_before_their_last_instant() {
    let at = |from: Option<i64>, until: Option<i64>| {
        let mut one = grant(1, user(), "reader", None);
        one.conditions.not_before = from.map(|s| NOW + Duration::seconds(s));
        one.conditions.expires = until.map(|s| NOW + Duration::seconds(s));
        code(&alice(), &ask(blob("x"), "r"), table(vec![one]))
    };
    assert_eq!(at(Some(0), None), "allowed");
    assert_eq!(at(Some(1), None), "no-grant");
    assert_eq!(at(None, Some(0)), "no-grant");
    assert_eq!(at(None, Some(60)), "allowed");
}

fn any_prefix() -> impl Strategy<Value = Option<BlobPath>> {
    option::of(select(vec!["a", "a/b", "a/b/c", "ab", "b"]).prop_map(path))
}

fn any_target() -> impl Strategy<Value = Target> {
    let paths = || select(vec!["a", "a/b", "a/b/c", "a/b/c/d", "ab", "b/x"]).prop_map(path);
    prop_oneof![
        Just(Target::Container),
        paths().prop_map(Target::Blob),
        paths().prop_map(Target::Directory),
    ]
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let app_role = |role: &str| Principal::AppRole {
        tenant_id: TENANT,
        role: role.parse::<AppRole>().unwrap(),
    };
    let stranger = Principal::Group {
        tenant_id: TENANT,
        object_id: ObjectId(Uuid::from_u128(21)),
    };
    let same_id = Principal::ServicePrincipal {
        tenant_id: TENANT,
        object_id: ALICE,
    };
    select(vec![
        user(),
        team(),
        stranger,
        app_role("Lab.Member"),
        app_role("Else"),
        same_id,
    ])
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    let instant = || {
        option::weighted(
            0.25,
            (-600_i64..1_200).prop_map(|s| NOW + Duration::seconds(s)),
        )
    };
    let networks = |of: Vec<&'static str>| {
        option::weighted(0.2, select(of))
            .prop_map(|n| n.map(|n| n.parse().unwrap()).into_iter().collect())
    };
    let own = option::weighted(0.3, 60_u32..4_000);
    (
        instant(),
        instant(),
        networks(vec!["198.51.100.0/24", "10.0.0.0/8"]),
        networks(vec!["203.0.113.0/25", "10.0.0.0/8"]),
        own,
    )
        .prop_map(
            |(not_before, expires, caller_networks, sip_within, lifetime_seconds_max)| Conditions {
                not_before,
                expires,
                caller_networks,
                sip_within,
                lifetime_seconds_max,
            },
        )
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let roles = vec![
        "reader",
        "contributor",
        "uploader",
        "auditor",
        "strict",
        "undeclared",
    ];
    (
        any_principal(),
        select(roles),
        any_prefix(),
        any_conditions(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(principal, role, prefix, conditions, deny)| {
            let mut one = grant(0, principal, role, None);
            one.scope.prefix = prefix;
            one.conditions = conditions;
            if deny {
                one.effect = Effect::Deny;
                one.conditions.lifetime_seconds_max = None;
                one.conditions.sip_within.clear();
            }
            one
        })
        .prop_filter("the table holds checked grants only", |grant| {
            grant.check().is_ok()
        })
}

fn any_request() -> impl Strategy<Value = AccessRequest> {
    let letters = subsequence(b"racwdl".to_vec(), 1..4);
    let ip = option::of(select(vec!["203.0.113.7", "203.0.113.0-203.0.113.200"]));
    (any_target(), letters, option::of(60_u32..50_000), ip).prop_filter_map(
        "letters legal for the target",
        |(target, letters, lifetime_seconds, ip)| {
            let mut request = ask(target, std::str::from_utf8(&letters).unwrap());
            request.lifetime_seconds = lifetime_seconds;
            request.ip = ip.map(|ip| ip.parse().unwrap());
            request.checked().ok()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_decision_agrees_with_the_naive_model(
        mut grants in vec(any_grant(), 0..8),
        request in any_request(),
        groups in select(vec![
            Groups::Known(vec![]),
            Groups::Known(vec![TEAM]),
            Groups::Unknown(GroupsUnknown::Missing),
        ]),
        namespace in any::<bool>(),
        period in option::weighted(0.2, 60_u32..5_000),
        client in option::of(select(vec!["198.51.100.7", "192.0.2.1"])),
    ) {
        for (i, grant) in grants.iter_mut().enumerate() {
            grant.id = GrantId(Uuid::from_u128(i as u128));
        }
        let mut table = table(grants);
        table.accounts[0] = Account { sas_period_seconds_max: period, ..account(namespace) };
        let limits = Limits::default();
        let client = client.map(|ip| ip.parse().unwrap());
        let moment = Moment { client, limits: &limits, now: NOW };
        let caller = caller(groups);
        let expected = model::allowed(&caller, &request, &table, moment);
        let decision = decide(&caller, &request, &Snapshot::new(table), moment);
        let found = decision.verdict.as_ref().ok().map(|allowed| allowed.expiry().at());
        prop_assert_eq!(found, expected, "{:?}", decision);
    }
}

#[test]
fn resources_have_distinct_codes() {
    let all: std::collections::HashSet<_> = RefusalCode::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(all.len(), RefusalCode::ALL.len());
    assert_eq!(Target::Container.resource(), SignedResource::Container);
}
