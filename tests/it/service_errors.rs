//! What is wrong with a request is said in one form, whoever finds it: status, code, challenge. The
//! form itself (a problem document, its members, the request id) is checked with every answer.

use reqwest::{Method, RequestBuilder};
use sas_broker::simulator::{TokenSignature, TokenSpec};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::world::{
    ADA, ANALYSTS, LAKE, OTHER_TENANT, START, TENANT, World, grant, person, read_file, robot, user,
    when,
};

/// Ada's good request with one member replaced, or taken out by null.
fn but(member: &str, value: Value) -> String {
    let mut body = read_file(LAKE);
    match value {
        Value::Null => drop(body.as_object_mut().unwrap().remove(member)),
        value => body[member] = value,
    }
    body.to_string()
}

fn malformed_bodies() -> Vec<(&'static str, String, &'static str)> {
    let long = "a/".repeat(600);
    vec![
        ("no JSON", "account=lake1".to_owned(), "expected"),
        ("nothing", String::new(), "EOF"),
        ("cut off", r#"{"account":"#.to_owned(), "EOF"),
        ("a list", "[]".to_owned(), "invalid"),
        ("null", "null".to_owned(), "invalid type"),
        (
            "two documents",
            format!("{} {{}}", read_file(LAKE)),
            "trailing",
        ),
        ("nested deep", "[".repeat(5_000), "invalid"),
        (
            "unknown member",
            but("lifetime", json!(900)),
            "unknown field `lifetime`",
        ),
        (
            "a member twice",
            r#"{"account":"lake1","account":"flat1"}"#.to_owned(),
            "duplicate",
        ),
        (
            "no account",
            but("account", Value::Null),
            "missing field `account`",
        ),
        (
            "no permissions",
            but("permissions", Value::Null),
            "missing field `permissions`",
        ),
        (
            "account as number",
            but("account", json!(1)),
            "invalid type",
        ),
        (
            "binding as text",
            but("bind_to_caller", json!("yes")),
            "invalid type",
        ),
        (
            "negative lifetime",
            but("lifetime_seconds", json!(-1)),
            "invalid value",
        ),
        (
            "fractional lifetime",
            but("lifetime_seconds", json!(900.5)),
            "invalid type",
        ),
        (
            "too short a lifetime",
            but("lifetime_seconds", json!(59)),
            "lifetime_seconds: ",
        ),
        (
            "upper-case account",
            but("account", json!("Lake1")),
            "account: ",
        ),
        (
            "account with a dot",
            but("account", json!("lake1.evil")),
            "account: ",
        ),
        (
            "container too short",
            but("container", json!("ra")),
            "container: ",
        ),
        (
            "container with two dashes",
            but("container", json!("raw--1")),
            "container: ",
        ),
        ("empty path", but("path", json!("")), "path: "),
        ("absolute path", but("path", json!("/a")), "path: "),
        ("dot segment", but("path", json!("a/../b")), "path: "),
        ("backslash", but("path", json!("a\\b")), "path: "),
        ("control character", but("path", json!("a\nb")), "path: "),
        ("path too long", but("path", json!(long)), "path: "),
        (
            "unknown resource",
            but("resource", json!("file")),
            "unknown variant",
        ),
        (
            "a snapshot",
            but("resource", json!("blob_snapshot")),
            "unknown variant",
        ),
        (
            "a container with a path",
            but("resource", json!("container")),
            "resource: ",
        ),
        (
            "a blob without a path",
            r#"{"account":"lake1","container":"raw","resource":"blob","permissions":"r"}"#
                .to_owned(),
            "resource: ",
        ),
        (
            "a directory without a path",
            r#"{"account":"lake1","container":"raw","resource":"directory","permissions":"r"}"#
                .to_owned(),
            "resource: ",
        ),
        ("no letter", but("permissions", json!("")), "permissions: "),
        (
            "unknown letter",
            but("permissions", json!("rz")),
            "permissions: ",
        ),
        (
            "a letter twice",
            but("permissions", json!("rr")),
            "permissions: ",
        ),
        (
            "upper-case letter",
            but("permissions", json!("R")),
            "permissions: ",
        ),
        (
            "list on a blob",
            but("permissions", json!("rl")),
            "permissions: ",
        ),
        ("no address", but("ip", json!("localhost")), "ip: "),
        ("IPv6", but("ip", json!("2001:db8::1")), "ip: "),
        ("a network", but("ip", json!("203.0.113.0/24")), "ip: "),
        (
            "a range upside down",
            but("ip", json!("203.0.113.9-203.0.113.7")),
            "ip: ",
        ),
    ]
}

#[tokio::test]
async fn a_malformed_request_is_a_400_that_names_the_member_and_leaves_no_record() {
    let world = World::start().await;
    let ada = world.ada();
    for (what, body, detail) in malformed_bodies() {
        for path in ["/v1/sas", "/v1/sas/explain"] {
            let answer = world.send(world.post_text(path, &ada, body.clone())).await;
            assert_eq!(
                answer.refusal(),
                (400, "invalid-request"),
                "{what}: {}",
                answer.text
            );
            let said = answer.body["detail"].as_str().unwrap();
            assert!(said.contains(detail), "{what}: {said}");
        }
    }
    let keys = ["", "with space", &"k".repeat(256)];
    for key in keys {
        let answer = world.ask_keyed(&ada, key, &read_file(LAKE)).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"), "key {key:?}");
    }
    let two = world.post("/v1/sas", &ada, &read_file(LAKE));
    let two = two
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    assert_eq!(world.send(two).await.refusal(), (400, "invalid-request"));
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=!",
        "cursor=e30",
        "page=2",
    ] {
        let answer = world.get(&format!("/v1/access?{query}"), &ada).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"), "{query}");
    }
    assert!(world.records().await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn sizes_media_types_paths_and_methods_have_their_own_answers() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let ada = world.ada();
    let padded = |bytes: usize| format!("{}{}", read_file(LAKE), " ".repeat(bytes));
    let just = 64 * 1024 - read_file(LAKE).to_string().len();
    assert_eq!(
        world
            .send(world.post_text("/v1/sas", &ada, padded(just)))
            .await
            .status,
        200
    );
    for (path, bytes) in [
        ("/v1/sas", just + 1),
        ("/v1/sas", 4 * 1024 * 1024),
        ("/v1/sas/explain", just + 1),
        ("/v1/sas/batch", 2 * 1024 * 1024),
    ] {
        let answer = world.send(world.post_text(path, &ada, padded(bytes))).await;
        assert_eq!(answer.refusal(), (413, "body-too-large"), "{path} {bytes}");
    }
    let typed = |media_type: &str| {
        let request = world
            .http
            .post(format!("{}/v1/sas", world.base))
            .bearer_auth(&ada);
        let request = request.body(read_file(LAKE).to_string());
        match media_type {
            "" => request,
            media_type => request.header("content-type", media_type),
        }
    };
    for media_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let answer = world.send(typed(media_type)).await;
        assert_eq!(
            answer.refusal(),
            (415, "unsupported-media-type"),
            "{media_type}"
        );
    }
    for media_type in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(
            world.send(typed(media_type)).await.status,
            200,
            "{media_type}"
        );
    }
    for path in [
        "/",
        "/v1",
        "/v1/sas/",
        "/v1//sas",
        "/v2/sas",
        "/v1/sas/batch/x",
        "/v1/admin/accounts/lake1",
        "/v1/admin/accounts/lake1/rotations/1/steps",
        "/metrics",
    ] {
        assert_eq!(
            world.get(path, &ada).await.refusal(),
            (404, "not-found"),
            "{path}"
        );
    }
    for (method, path, allowed) in [
        (Method::GET, "/v1/sas", "POST"),
        (Method::PUT, "/v1/sas/batch", "POST"),
        (Method::DELETE, "/v1/sas/explain", "POST"),
        (Method::POST, "/v1/access", "GET"),
        (Method::PATCH, "/healthz", "GET"),
        (Method::OPTIONS, "/openapi.json", "GET"),
        (
            Method::PUT,
            "/v1/admin/accounts/lake1/rotations",
            "GET, POST",
        ),
        (Method::POST, "/v1/admin/accounts/lake1/rotations/1", "GET"),
        (Method::GET, "/v1/events/key-vault", "OPTIONS, POST"),
    ] {
        let request = world.http.request(method, format!("{}{path}", world.base));
        let answer = world.send(request).await;
        assert_eq!(answer.refusal(), (405, "method-not-allowed"), "{path}");
        assert_eq!(answer.header("allow"), allowed, "{path}");
    }
    let long = format!("/v1/access?cursor={}", "a".repeat(8 * 1024));
    assert_eq!(
        world.get(&long, &ada).await.refusal(),
        (414, "target-too-long")
    );
    world.stop().await;
}

fn forgeries() -> Vec<(&'static str, TokenSpec)> {
    let ada = || person(TENANT, ADA, &[ANALYSTS]);
    let signed = |signature| TokenSpec { signature, ..ada() };
    let at = |by: Duration| json!((START + by).unix_timestamp());
    let nobody = Uuid::from_u128(0xbad);
    vec![
        (
            "a key that nobody published",
            signed(TokenSignature::Unpublished),
        ),
        ("alg none", signed(TokenSignature::Unsigned)),
        (
            "the public key as a shared secret",
            signed(TokenSignature::HmacWithPublicKey),
        ),
        (
            "another audience",
            TokenSpec {
                audience: "https://storage.azure.com".into(),
                ..ada()
            },
        ),
        ("a directory that is not allowed", person(nobody, ADA, &[])),
        (
            "a foreign issuer",
            ada().with_claim("iss", format!("https://sts.windows.net/{TENANT}/")),
        ),
        (
            "a tid that is not the issuer's",
            ada().with_claim("tid", OTHER_TENANT.to_string()),
        ),
        (
            "expired",
            ada().with_claim("exp", at(-Duration::minutes(3))),
        ),
        (
            "not valid yet",
            ada().with_claim("nbf", at(Duration::minutes(3))),
        ),
        (
            "issued too long ago",
            ada().with_claim("iat", at(-Duration::hours(3))),
        ),
        ("no oid", ada().with_claim("oid", Value::Null)),
        ("no exp", ada().with_claim("exp", Value::Null)),
        (
            "a critical header",
            ada().with_header("crit", json!(["exp"])),
        ),
        ("no kid", ada().with_header("kid", Value::Null)),
    ]
}

#[tokio::test]
async fn no_token_or_a_bad_one_is_a_401_challenge_and_a_weak_one_a_403() {
    let world = World::start().await;
    world.ada_reads_raw().await;
    let paths = ["/v1/sas", "/v1/sas/batch", "/v1/sas/explain", "/v1/access"];
    let request = |path: &str| -> RequestBuilder {
        let url = format!("{}{path}", world.base);
        let body = if path.ends_with("batch") {
            json!({ "requests": [read_file(LAKE)] })
        } else {
            read_file(LAKE)
        };
        match path {
            "/v1/access" => world.http.get(url),
            _ => world
                .http
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_string()),
        }
    };
    let ada = world.ada();
    for path in paths {
        for authorization in [None, Some("Basic YTpi"), Some("Bearer"), Some(ada.as_str())] {
            let bare = request(path);
            let bare = match authorization {
                Some(value) => bare.header("authorization", value),
                None => bare,
            };
            let answer = world.send(bare).await;
            assert_eq!(
                answer.refusal(),
                (401, "missing-token"),
                "{path} {authorization:?}"
            );
            assert_eq!(
                answer.header("www-authenticate"),
                r#"Bearer realm="sas-broker""#
            );
        }
        let twice = request(path).bearer_auth(&ada).bearer_auth(&ada);
        assert_eq!(world.send(twice).await.status, 401, "{path}: two tokens");
        let lower = request(path).header("authorization", format!("bearer {ada}"));
        assert_eq!(
            world.send(lower).await.status,
            200,
            "{path}: the scheme's case"
        );

        let mut weak = person(TENANT, ADA, &[ANALYSTS]);
        weak = weak.with_claim("scp", "User.Read");
        for token in [weak, robot(&["SasBroker.Auditor"])] {
            let answer = world
                .send(request(path).bearer_auth(world.mint(&token)))
                .await;
            assert_eq!(answer.refusal(), (403, "insufficient-scope"), "{path}");
            let challenge = answer.header("www-authenticate");
            assert!(
                challenge.contains(r#"error="insufficient_scope""#),
                "{challenge}"
            );
        }
    }
    let mut tokens: Vec<(&str, String)> = forgeries()
        .into_iter()
        .map(|(what, token)| (what, world.mint(&token)))
        .collect();
    tokens.push(("garbage", "garbage".to_owned()));
    tokens.push(("three parts of garbage", "a.b.c".to_owned()));
    tokens.push(("huge", format!("{ada}{}", "A".repeat(20_000))));
    let (head, signature) = ada.rsplit_once('.').unwrap();
    tokens.push((
        "another signature",
        format!("{head}.{}", signature.chars().rev().collect::<String>()),
    ));
    let good_payload = world.mint(&person(TENANT, Uuid::from_u128(7), &[]));
    let payload = good_payload.split('.').nth(1).unwrap();
    let header = ada.split('.').next().unwrap();
    tokens.push(("another payload", format!("{header}.{payload}.{signature}")));
    for (what, token) in tokens {
        let answer = world.send(request("/v1/sas").bearer_auth(&token)).await;
        assert_eq!(
            answer.refusal(),
            (401, "invalid-token"),
            "{what}: {}",
            answer.text
        );
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.contains(r#"error="invalid_token""#),
            "{what}: {challenge}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn trusted_proxies_and_nobody_else_say_where_a_client_is() {
    let inside = json!({ "caller_networks": ["203.0.113.0/24"] });
    let grants = json!([when(grant(user(ADA), "reader", LAKE, "raw"), inside)]);
    let behind = World::with(|config| {
        config.server.trusted_proxies = vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ];
    });
    for (world, rows) in [
        (
            behind.await,
            [
                ("203.0.113.9", 200, json!("203.0.113.9")),
                ("6.6.6.6, 203.0.113.9, 10.1.1.1", 200, json!("203.0.113.9")),
                ("203.0.113.9, 198.51.100.1", 403, json!("198.51.100.1")),
                ("nonsense", 403, Value::Null),
            ],
        ),
        (
            World::start().await,
            [
                ("203.0.113.9", 403, json!("127.0.0.1")),
                ("203.0.113.9, 10.1.1.1", 403, json!("127.0.0.1")),
                ("127.0.0.1", 403, json!("127.0.0.1")),
                ("nonsense", 403, json!("127.0.0.1")),
            ],
        ),
    ] {
        world.grant(grants.clone()).await;
        for (forwarded, status, client) in rows {
            // A minute apart, so that equal refusals are records of their own.
            world.clock.advance(Duration::seconds(61));
            let request = world.post("/v1/sas", &world.ada(), &read_file(LAKE));
            let answer = world
                .send(request.header("x-forwarded-for", forwarded))
                .await;
            assert_eq!(answer.status, status, "{forwarded}: {}", answer.text);
            if status == 403 {
                assert_eq!(answer.code(), "network-not-allowed");
            }
            let id = answer.header("x-request-id");
            let records = world.records().await;
            let record = records
                .iter()
                .find(|record| record["request_id"] == id)
                .unwrap();
            assert_eq!(
                record.get("client").unwrap_or(&Value::Null),
                &client,
                "{forwarded}"
            );
        }
        world.stop().await;
    }
}
