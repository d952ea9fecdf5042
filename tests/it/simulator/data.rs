//! The blob endpoint under tokens made by the official `azure_storage_sas`.

use azure_storage_sas::{SasBuilder, SasProtocol};
use sas_broker::simulator::TokenSpec;

use super::*;

impl World {
    /// A world with a file in `raw`, and a key of the broker.
    pub(super) async fn with_file(account: &str) -> (Self, UserDelegationKey) {
        let world = Self::start().await;
        world
            .azure
            .put_blob(account, "raw", "a/b/file.csv", "0123456789")
            .unwrap();
        let key = world.key(account, 24).await;
        (world, key)
    }

    pub(super) fn in_an_hour(&self) -> OffsetDateTime {
        self.now() + Duration::hours(1)
    }

    pub(super) fn url(&self, path: &str, sas: &str) -> String {
        format!("{}/{path}?{sas}", self.azure.blob_endpoint("acct1"))
    }

    pub(super) async fn put(&self, path: &str, sas: &str, body: &str) -> (u16, String) {
        let request = self
            .http
            .put(self.url(path, sas))
            .header("x-ms-blob-type", "BlockBlob");
        outcome(request.body(body.to_owned())).await
    }
}

#[actix_web::test]
async fn a_blob_token_reads_its_blob_and_nothing_else() {
    let (world, key) = World::with_file("acct1").await;
    world
        .azure
        .put_blob("acct1", "raw", "a/b/other.csv", "x")
        .unwrap();
    world
        .azure
        .put_blob("acct1", "other", "a/b/file.csv", "x")
        .unwrap();
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = sas.protocol(SasProtocol::Https).start(world.now());
    let sas = sas.blob("raw", "a/b/file.csv").read().build();

    let answer = world
        .http
        .get(world.url("raw/a/b/file.csv", &sas))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-ms-blob-type"], "BlockBlob");
    assert_eq!(answer.headers()["content-length"], "10");
    assert_eq!(answer.text().await.unwrap(), "0123456789");

    let failed = refused(403, "AuthenticationFailed");
    assert_eq!(
        world.get(&world.url("raw/a/b/other.csv", &sas)).await,
        failed
    );
    assert_eq!(
        world.get(&world.url("other/a/b/file.csv", &sas)).await,
        failed
    );
    let list = format!("restype=container&comp=list&{sas}");
    assert_eq!(world.get(&world.url("raw", &list)).await, failed);
    let mismatch = refused(403, "AuthorizationPermissionMismatch");
    assert_eq!(world.put("raw/a/b/file.csv", &sas, "new").await, mismatch);
    let delete = world.http.delete(world.url("raw/a/b/file.csv", &sas));
    assert_eq!(outcome(delete).await, mismatch);
    let plain = format!(
        "{}/raw/a/b/file.csv?{sas}",
        world.azure.plain_blob_endpoint("acct1")
    );
    assert_eq!(
        world.get(&plain).await,
        refused(403, "AuthorizationProtocolMismatch")
    );
    assert_eq!(
        world.azure.blob("acct1", "raw", "a/b/file.csv").unwrap(),
        b"0123456789"
    );
}

#[actix_web::test]
async fn a_refusal_shows_the_string_that_was_signed_and_never_a_signature() {
    let (world, key) = World::with_file("acct1").await;
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = sas.blob("raw", "a/b/file.csv").read().build();
    let forged = sas.replace("sp=r", "sp=rw");
    let answer = world
        .http
        .get(world.url("raw/a/b/file.csv", &forged))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "application/xml");
    let body = answer.text().await.unwrap();
    let start = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>AuthenticationFailed</Code>\
                 <Message>Server failed to authenticate the request.";
    assert!(body.starts_with(start), "{body}");
    assert!(
        body.contains("<AuthenticationErrorDetail>Signature did not match."),
        "{body}"
    );
    assert!(body.contains("/blob/acct1/raw/a/b/file.csv"), "{body}");
    let shown = url::form_urlencoded::parse(sas.as_bytes()).find(|(name, _)| name == "sig");
    assert!(!body.contains(shown.unwrap().1.as_ref()), "{body}");
}

#[actix_web::test]
async fn create_may_not_overwrite_and_write_may() {
    let (world, key) = World::with_file("acct1").await;
    let builder = || {
        SasBuilder::new("acct1", &key, world.in_an_hour())
            .unwrap()
            .container("raw")
    };
    let (create, write) = (builder().create().build(), builder().write().build());
    let mismatch = refused(403, "AuthorizationPermissionMismatch");
    assert_eq!(world.put("raw/new", &create, "1").await, refused(201, ""));
    assert_eq!(world.put("raw/new", &create, "2").await, mismatch);
    assert_eq!(world.put("raw/new", &write, "3").await, refused(201, ""));
    assert_eq!(world.azure.blob("acct1", "raw", "new").unwrap(), b"3");
    let only_if_absent = world
        .http
        .put(world.url("raw/new", &write))
        .header("x-ms-blob-type", "BlockBlob")
        .header("if-none-match", "*");
    assert_eq!(
        outcome(only_if_absent).await,
        refused(409, "BlobAlreadyExists")
    );
    assert_eq!(
        world.put("raw/a?b", &write, "x").await.0,
        403,
        "an unescaped ? ends the path"
    );
    assert_eq!(
        world.put("raw/%C3%BC%20%25+%2F%26", &create, "x").await.0,
        201
    );
    assert!(world.azure.blob("acct1", "raw", "ü %+/&").is_some());
    let untyped = world.http.put(world.url("raw/untyped", &write));
    assert_eq!(outcome(untyped).await, refused(400, "InvalidHeaderValue"));
}

#[actix_web::test]
async fn blocks_become_a_blob_when_their_list_is_put() {
    let (world, key) = World::with_file("acct1").await;
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = sas.container("raw").create().build();
    for (id, body) in [("QQ==", "one "), ("Qg==", "two")] {
        let id = id.replace('=', "%3D");
        let block = world.url("raw/big", &format!("comp=block&blockid={id}&{sas}"));
        assert_eq!(outcome(world.http.put(block).body(body)).await.0, 201);
    }
    assert!(world.azure.blob("acct1", "raw", "big").is_none());
    let list = "<BlockList><Latest>QQ==</Latest><Uncommitted>Qg==</Uncommitted></BlockList>";
    let commit = world.url("raw/big", &format!("comp=blocklist&{sas}"));
    assert_eq!(
        outcome(
            world
                .http
                .put(&commit)
                .header("content-type", "application/xml")
                .body(list)
        )
        .await
        .0,
        201
    );
    assert_eq!(world.azure.blob("acct1", "raw", "big").unwrap(), b"one two");
    let read = format!("{}/raw/big", world.azure.blob_endpoint("acct1"));
    let token = TokenSpec::application(TENANT, BROKER, "https://storage.azure.com");
    let read = world
        .http
        .get(read)
        .bearer_auth(world.azure.mint(&token))
        .send()
        .await
        .unwrap();
    assert_eq!(read.headers()["content-type"], "application/octet-stream");
    let again = outcome(world.http.put(&commit).body(list)).await;
    assert_eq!(
        again,
        refused(403, "AuthorizationPermissionMismatch"),
        "c does not overwrite"
    );
}

#[actix_web::test]
async fn ranges_heads_and_overridden_headers_follow_the_service() {
    let (world, key) = World::with_file("acct1").await;
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = sas.container("raw").read().content_type("text/x").build();
    let url = world.url("raw/a/b/file.csv", &sas);
    for (range, status, body) in [
        ("bytes=2-4", 206, Some("234")),
        ("bytes=7-", 206, Some("789")),
        ("bytes=7-99", 206, Some("789")),
        ("lines=1-2", 200, Some("0123456789")),
        ("bytes=10-", 416, None),
    ] {
        let answer = world
            .http
            .get(&url)
            .header("x-ms-range", range)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status, "{range}");
        if let Some(body) = body {
            assert_eq!(answer.text().await.unwrap(), body, "{range}");
        }
    }
    let head = world.http.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "10");
    assert_eq!(head.headers()["content-type"], "text/x");
    let etag = head.headers()["etag"].clone();
    let unchanged = world.http.get(&url).header("if-none-match", etag.clone());
    assert_eq!(outcome(unchanged).await.0, 304);
    let changed = world.http.get(&url).header("if-match", "\"other\"");
    assert_eq!(outcome(changed).await, refused(412, "ConditionNotMet"));
    let missing = world.url("raw/none", &sas);
    assert_eq!(world.get(&missing).await, refused(404, "BlobNotFound"));
    let head = world.http.head(&missing).send().await.unwrap();
    assert_eq!(head.headers()["x-ms-error-code"], "BlobNotFound");
}

#[actix_web::test]
async fn listing_pages_through_prefixes_and_delimiters() {
    let (world, key) = World::with_file("acct1").await;
    for name in ["a/c.csv", "a&b", "z"] {
        world.azure.put_blob("acct1", "raw", name, name).unwrap();
    }
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = sas.container("raw").list().build();
    let list = async |query: &str| {
        let url = world.url("raw", &format!("restype=container&comp=list&{query}&{sas}"));
        world
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    let names = |xml: &str| -> Vec<String> {
        xml.split("<Name>")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().into())
            .collect()
    };
    let all = list("").await;
    assert_eq!(names(&all), ["a&amp;b", "a/b/file.csv", "a/c.csv", "z"]);
    assert!(
        all.contains("<NextMarker />") && all.contains("ContainerName=\"raw\""),
        "{all}"
    );
    assert_eq!(names(&list("delimiter=/").await), ["a&amp;b", "a/", "z"]);
    assert_eq!(
        names(&list("delimiter=/&prefix=a/").await),
        ["a/b/", "a/c.csv"]
    );
    let first = list("maxresults=3").await;
    assert_eq!(names(&first), ["a&amp;b", "a/b/file.csv", "a/c.csv"]);
    assert!(first.contains("<NextMarker>z</NextMarker>"), "{first}");
    assert_eq!(names(&list("maxresults=3&marker=z").await), ["z"]);
    let bad = world.url(
        "raw",
        &format!("restype=container&comp=list&maxresults=0&{sas}"),
    );
    assert_eq!(
        world.get(&bad).await,
        refused(400, "InvalidQueryParameterValue")
    );
    let read = world.get(&world.url("raw/z", &sas)).await;
    assert_eq!(read, refused(403, "AuthorizationPermissionMismatch"));
}

#[actix_web::test]
async fn containers_are_not_managed_with_a_token_and_missing_ones_are_named_missing() {
    let (world, key) = World::with_file("acct1").await;
    let builder = || SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = builder()
        .container("raw")
        .read()
        .write()
        .delete()
        .list()
        .build();
    let container = world.url("raw", &format!("restype=container&{sas}"));
    let failure = refused(403, "AuthorizationFailure");
    assert_eq!(outcome(world.http.put(&container)).await, failure);
    assert_eq!(outcome(world.http.delete(&container)).await, failure);
    let gone = builder().container("gone").read().build();
    assert_eq!(
        world.get(&world.url("gone/x", &gone)).await,
        refused(404, "ContainerNotFound")
    );
    world.azure.create_container("acct1", "gone").unwrap();
    assert_eq!(
        world.get(&world.url("gone/x", &gone)).await,
        refused(404, "BlobNotFound")
    );
    assert!(world.azure.put_blob("acct1", "nowhere", "x", "x").is_err());
}
