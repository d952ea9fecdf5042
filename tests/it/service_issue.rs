//! `POST /v1/sas` from an Entra token to a token that storage honours, and no further.

use std::collections::BTreeSet;

use sas_broker::simulator::{TokenSpec, TokenVersion};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::world::{
    ADA, ADA_PASSWORD, ANALYSTS, API_URI, BEN, BROKER_PRINCIPAL, EVE, FLAT, GUEST, LAKE, NOTEBOOK,
    OTHER_TENANT, ROBOT, START, TENANT, World, deny, grant, group, outcome, person, query_of,
    read_file, robot, text, user, when,
};

const READ: (u16, &str) = (200, "");
const NO_LETTER: (u16, &str) = (403, "AuthorizationPermissionMismatch");
const NO_SCOPE: (u16, &str) = (403, "AuthenticationFailed");

async fn storage(request: reqwest::RequestBuilder, expected: (u16, &str), what: &str) {
    let (status, code) = outcome(request).await;
    assert_eq!((status, code.as_str()), expected, "{what}");
}

fn members(answer: &Value) -> BTreeSet<&str> {
    answer
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn a_blob_token_says_what_it_is_opens_that_blob_and_ends_in_time() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let answer = world.ask(&world.ada(), &read_file(LAKE)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let sas = &answer.body;
    let told = [
        "id",
        "token",
        "url",
        "account",
        "container",
        "path",
        "resource",
        "permissions",
        "protocol",
        "starts_at",
        "expires_at",
        "refresh_after",
        "bounded_by",
    ];
    assert_eq!(members(sas), told.into());
    assert_eq!(sas["resource"], "blob");
    assert_eq!(sas["protocol"], "https");
    assert_eq!(sas["bounded_by"], json!(["default: 900 s"]));
    assert_eq!(sas["expires_at"], text(START + Duration::minutes(15)));
    assert_eq!(sas["starts_at"], text(START - Duration::minutes(15)));
    assert_eq!(sas["refresh_after"], text(START + Duration::minutes(10)));
    let id: Uuid = sas["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);

    let fields = query_of(sas["token"].as_str().unwrap());
    for (name, value) in [
        ("st", &sas["starts_at"]),
        ("se", &sas["expires_at"]),
        ("sp", &json!("r")),
        ("spr", &json!("https")),
        ("sr", &json!("b")),
        ("sv", &json!("2025-11-05")),
        ("scid", &sas["id"]),
        ("skoid", &json!(BROKER_PRINCIPAL)),
        ("sktid", &json!(TENANT)),
    ] {
        assert_eq!(
            fields.get(name).map(String::as_str),
            value.as_str(),
            "{name}"
        );
    }
    assert!(!fields.contains_key("sip") && !fields.contains_key("sduoid"));
    let url = sas["url"].as_str().unwrap();
    let blob = format!("{}/raw/2026/11/file.csv?", world.azure.blob_endpoint(LAKE));
    assert_eq!(url, format!("{blob}{}", sas["token"].as_str().unwrap()));

    let read = world.http.get(url).send().await.unwrap();
    assert_eq!(read.text().await.unwrap(), "day,value\n1,42\n");
    let write = world
        .http
        .put(url)
        .header("x-ms-blob-type", "BlockBlob")
        .body("x");
    storage(write, NO_LETTER, "write").await;
    let other = url.replace("2026/11", "2026/12");
    storage(world.http.get(&other), NO_SCOPE, "another blob").await;
    let https = world.azure.blob_endpoint(LAKE).to_string();
    let plain = url.replace(&https, world.azure.plain_blob_endpoint(LAKE).as_str());
    let (status, _) = outcome(world.http.get(&plain)).await;
    assert_eq!(status, 403, "plain HTTP");
    world.clock.advance(Duration::seconds(899));
    storage(world.http.get(url), READ, "a second before its end").await;
    world.clock.advance(Duration::seconds(1));
    storage(world.http.get(url), NO_SCOPE, "at its end").await;
    world.stop().await;
}

#[tokio::test]
async fn resources_default_letters_are_put_in_order_and_lifetimes_are_shortened_by_what_says_so() {
    let world = World::start().await;
    let roles = json!([{ "name": "short", "permissions": "w", "lifetime_seconds_max": 600 }]);
    let expiring = json!({ "expires": world.text_in(Duration::seconds(301)) });
    let grants = json!([
        grant(user(ADA), "contributor", LAKE, "raw"),
        grant(user(ADA), "short", FLAT, "raw"),
        when(grant(user(ADA), "reader", FLAT, "raw"), expiring),
        grant(user(ADA), "reader", FLAT, "private"),
    ]);
    world
        .apply(json!({ "roles": roles, "grants": grants }))
        .await;
    let ada = world.ada();
    let ask = |body: Value| {
        let ada = ada.clone();
        let world = &world;
        async move { world.issue(&ada, &body).await }
    };

    let container =
        ask(json!({ "account": LAKE, "container": "raw", "permissions": "lawrc" })).await;
    assert_eq!(container["resource"], "container");
    assert_eq!(container["permissions"], "racwl");
    assert!(container.get("path").is_none());
    let listing = format!(
        "{}&restype=container&comp=list",
        container["url"].as_str().unwrap()
    );
    storage(world.http.get(listing), READ, "list").await;

    for (asked, seconds, bounds) in [
        (json!(60), 60, vec!["requested: 60 s"]),
        (
            json!(3_600),
            3_600,
            vec!["requested: 3600 s", "broker limit: 3600 s"],
        ),
        (json!(43_200), 3_600, vec!["broker limit: 3600 s"]),
    ] {
        let mut body = read_file(LAKE);
        body["lifetime_seconds"] = asked;
        let sas = ask(body).await;
        assert_eq!(sas["expires_at"], world.text_in(Duration::seconds(seconds)));
        let mut told: Vec<&str> = sas["bounded_by"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        told.sort_unstable_by_key(|bound| !bound.starts_with("requested"));
        assert_eq!(told, bounds);
    }
    let mut body = read_file(FLAT);
    body["permissions"] = json!("w");
    assert_eq!(
        ask(body.clone()).await["bounded_by"],
        json!(["role short: 600 s"])
    );
    body["permissions"] = json!("rw");
    let sas = ask(body).await;
    let bound = sas["bounded_by"][0].as_str().unwrap();
    assert!(
        bound.starts_with("grant ") && bound.contains(" expires "),
        "{bound}"
    );
    assert_eq!(sas["expires_at"], text(START + Duration::seconds(301)));
    world.stop().await;
}

#[tokio::test]
async fn an_address_is_signed_and_storage_holds_the_token_to_it() {
    let world = World::start().await;
    let within = json!({ "sip_within": ["127.0.0.0/8"] });
    world
        .grant(json!([
            grant(user(ADA), "reader", LAKE, "raw"),
            when(grant(user(ADA), "reader", FLAT, "raw"), within),
        ]))
        .await;
    let ada = world.ada();
    for (ip, expected) in [
        ("127.0.0.1", 200),
        ("127.0.0.0-127.0.0.9", 200),
        ("203.0.113.7", 403),
    ] {
        let mut body = read_file(LAKE);
        body["ip"] = json!(ip);
        let sas = world.issue(&ada, &body).await;
        assert_eq!(sas["ip"], ip);
        assert_eq!(query_of(sas["token"].as_str().unwrap())["sip"], ip);
        let (status, _) = outcome(world.http.get(sas["url"].as_str().unwrap())).await;
        assert_eq!(status, expected, "{ip}");
    }
    let ask = async |ip: Value| {
        let mut body = read_file(FLAT);
        body["ip"] = ip;
        world.ask(&ada, &body).await
    };
    assert_eq!(ask(Value::Null).await.refusal(), (403, "ip-required"));
    assert_eq!(
        ask(json!("203.0.113.7")).await.refusal(),
        (403, "ip-not-allowed")
    );
    assert_eq!(
        ask(json!("127.0.0.0-128.0.0.0")).await.refusal(),
        (403, "ip-not-allowed")
    );
    assert_eq!(ask(json!("127.3.2.1")).await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_bound_token_works_with_the_callers_own_storage_bearer_only() {
    let world = World::start().await;
    let roles = json!([{ "name": "bound", "permissions": "r", "bind_to_caller": true }]);
    let grants = json!([
        grant(user(ADA), "reader", LAKE, "raw"),
        grant(user(ADA), "bound", FLAT, "raw"),
    ]);
    world
        .apply(json!({ "roles": roles, "grants": grants }))
        .await;
    let mut asked = read_file(LAKE);
    asked["bind_to_caller"] = json!(true);
    for body in [asked, read_file(FLAT)] {
        let sas = world.issue(&world.ada(), &body).await;
        assert_eq!(sas["bound_to"], json!(ADA));
        assert_eq!(
            query_of(sas["token"].as_str().unwrap())["sduoid"],
            ADA.to_string()
        );
        let get = || world.http.get(sas["url"].as_str().unwrap());
        let bare = outcome(get()).await;
        assert_eq!(bare.0, 403, "without a bearer: {bare:?}");
        let hers = get().bearer_auth(world.storage_bearer(ADA));
        storage(hers, READ, "her own bearer").await;
        let foreign = outcome(get().bearer_auth(world.storage_bearer(BEN))).await;
        assert_eq!(foreign.0, 403, "somebody else's bearer: {foreign:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_directory_is_signed_on_hns_and_refused_with_the_way_out_on_a_flat_account() {
    let world = World::start().await;
    let below = |account| grant(user(ADA), "reader", account, "raw/2026/11");
    world.grant(json!([below(LAKE), below(FLAT)])).await;
    let ada = world.ada();
    let directory = |account: &str, path: &str| {
        json!({ "account": account, "container": "raw", "path": path,
                "resource": "directory", "permissions": "rl" })
    };
    let sas = world.issue(&ada, &directory(LAKE, "2026/11")).await;
    assert_eq!(sas["resource"], "directory");
    let fields = query_of(sas["token"].as_str().unwrap());
    assert_eq!((fields["sr"].as_str(), fields["sdd"].as_str()), ("d", "2"));
    let url = sas["url"].as_str().unwrap();
    let dfs = world.azure.dfs_endpoint(LAKE);
    assert!(url.starts_with(&format!("{dfs}/raw/2026/11?")), "{url}");
    let on = |path: &str| format!("{dfs}/raw/{path}?{}", sas["token"].as_str().unwrap());
    storage(
        world.http.get(on("2026/11/file.csv")),
        READ,
        "below the directory",
    )
    .await;
    storage(
        world.http.get(on("2026/12/file.csv")),
        NO_SCOPE,
        "beside it",
    )
    .await;

    let refusal = async |body: Value| {
        let answer = world.ask(&ada, &body).await;
        (
            answer.code().to_owned(),
            answer.body["hint"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let (code, hint) = refusal(directory(LAKE, "2026")).await;
    assert_eq!(code, "scope-exceeds-grant");
    assert!(hint.contains("directory"), "{hint}");
    let (code, hint) = refusal(directory(FLAT, "2026/11")).await;
    assert_eq!(code, "directory-needs-namespace");
    assert!(hint.contains("batch"), "{hint}");
    let list = json!({ "account": FLAT, "container": "raw", "permissions": "l" });
    let (code, hint) = refusal(list).await;
    assert_eq!(code, "scope-exceeds-grant");
    assert!(hint.contains("flat account"), "{hint}");
    assert_eq!(
        world.ask(&ada, &read_file(FLAT)).await.status,
        200,
        "a named blob"
    );
    let mut segment = read_file(FLAT);
    segment["path"] = json!("2026/11x/file.csv");
    assert_eq!(world.ask(&ada, &segment).await.refusal(), (403, "no-grant"));
    world.stop().await;
}

#[tokio::test]
async fn users_groups_applications_and_both_token_versions_call_by_their_grants() {
    let world = World::start().await;
    let app_role = json!({ "kind": "app_role", "tenant_id": TENANT, "role": "Pipelines" });
    let robot_itself =
        json!({ "kind": "service_principal", "tenant_id": TENANT, "object_id": ROBOT });
    let guest = json!({ "kind": "user", "tenant_id": OTHER_TENANT, "object_id": GUEST });
    world
        .grant(json!([
            grant(group(ANALYSTS), "reader", LAKE, "raw"),
            grant(robot_itself, "reader", LAKE, "raw"),
            grant(app_role, "reader", FLAT, "raw"),
            grant(guest, "reader", LAKE, "raw"),
            grant(user(BEN), "reader", FLAT, "raw"),
            grant(user(ADA), "reader", FLAT, "raw"),
            deny(grant(group(ANALYSTS), "reader", FLAT, "raw/2026")),
        ]))
        .await;
    let v1 = |token: TokenSpec| TokenSpec {
        version: TokenVersion::V1,
        audience: API_URI.to_owned(),
        ..token
    };
    let many: Vec<Uuid> = (0..201).map(Uuid::from_u128).collect();
    let ada = || person(TENANT, ADA, &[ANALYSTS]);
    let ben = || person(TENANT, BEN, &[Uuid::nil()]);
    let eve = || person(TENANT, EVE, &many);
    let nameless = || person(TENANT, EVE, &[]);
    let rows: [(&str, TokenSpec, &str, (u16, &str)); 14] = [
        ("a member of the group", ada(), LAKE, (200, "")),
        ("the same by a v1 token", v1(ada()), LAKE, (200, "")),
        ("the group's deny", ada(), FLAT, (403, "denied")),
        ("not in the group", ben(), LAKE, (403, "no-grant")),
        ("a grant of his own", ben(), FLAT, (200, "")),
        ("too many groups", eve(), LAKE, (403, "groups-overage")),
        (
            "too many groups, v1",
            v1(eve()),
            LAKE,
            (403, "groups-overage"),
        ),
        ("no groups claim", nameless(), LAKE, (403, "groups-missing")),
        (
            "a group's deny might bite",
            person(TENANT, BEN, &[]),
            FLAT,
            (403, "groups-missing"),
        ),
        (
            "the robot's own grant",
            robot(&["SasBroker.Caller"]),
            LAKE,
            (200, ""),
        ),
        (
            "by its app role",
            TokenSpec {
                groups: Some(vec![Uuid::nil()]),
                ..robot(&["SasBroker.Caller", "Pipelines"])
            },
            FLAT,
            (200, ""),
        ),
        (
            "the robot without the caller role",
            robot(&["Pipelines"]),
            FLAT,
            (403, "insufficient-scope"),
        ),
        (
            "the other directory's person",
            person(OTHER_TENANT, GUEST, &[]),
            LAKE,
            (200, ""),
        ),
        (
            "the same oid of another directory",
            person(OTHER_TENANT, ADA, &[]),
            LAKE,
            (403, "no-grant"),
        ),
    ];
    for (what, token, account, expected) in rows {
        let answer = world.ask(&world.mint(&token), &read_file(account)).await;
        assert_eq!(answer.refusal(), expected, "{what}: {}", answer.text);
        if expected.0 == 200 {
            let url = answer.body["url"].as_str().unwrap().to_owned();
            storage(world.http.get(url), READ, what).await;
        }
    }
    let record = &world.records_of("issued").await[0];
    assert_eq!(record["actor"]["object_id"], json!(ADA));
    assert_eq!(record["actor"]["app_id"], json!(NOTEBOOK));
    assert_eq!(record["client"], "127.0.0.1");
    world.stop().await;
}

#[tokio::test]
async fn a_person_who_signs_in_at_entra_gets_a_token_that_the_broker_takes() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "password")
        .append_pair("client_id", &NOTEBOOK.to_string())
        .append_pair("username", "ada@contoso.example")
        .append_pair("password", ADA_PASSWORD)
        .append_pair("scope", &format!("{API_URI}/.default"))
        .finish();
    let url = format!("{}{TENANT}/oauth2/v2.0/token", world.azure.authority());
    let signing_in = world
        .http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = signing_in
        .body(form)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    world
        .issue(answer["access_token"].as_str().unwrap(), &read_file(LAKE))
        .await;
    world.stop().await;
}
