//! The data lake endpoint under directory tokens made by the official `azure_storage_sas`.

use azure_storage_sas::SasBuilder;
use serde_json::Value;

use super::*;

impl World {
    fn lake(&self, path: &str, query: &str) -> String {
        format!("{}/raw/{path}?{query}", self.azure.dfs_endpoint("lake1"))
    }

    /// Creates a file and writes `body` into it; the status of each of the three steps.
    async fn write_file(&self, path: &str, sas: &str, body: &str) -> [u16; 3] {
        let create = self
            .http
            .put(self.lake(path, &format!("resource=file&{sas}")));
        let append = format!("action=append&position=0&{sas}");
        let append = self
            .http
            .patch(self.lake(path, &append))
            .body(body.to_owned());
        let flush = format!("action=flush&position={}&{sas}", body.len());
        let flush = self.http.patch(self.lake(path, &flush));
        let mut statuses = [0; 3];
        for (status, request) in statuses.iter_mut().zip([create, append, flush]) {
            *status = outcome(request).await.0;
        }
        statuses
    }

    /// Names below a directory of `raw`.
    async fn paths(&self, query: &str) -> Vec<String> {
        let url = format!(
            "{}/raw?resource=filesystem&{query}",
            self.azure.dfs_endpoint("lake1")
        );
        let body = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let name = |path: &Value| path["name"].as_str().unwrap().to_owned();
        body["paths"]
            .as_array()
            .unwrap_or_else(|| panic!("{body}"))
            .iter()
            .map(name)
            .collect()
    }
}

fn directory_token(world: &World, key: &UserDelegationKey) -> String {
    let expiry = world.now() + Duration::hours(1);
    let sas = SasBuilder::new("lake1", key, expiry)
        .unwrap()
        .directory("raw", "a/b");
    sas.read().add().create().write().delete().list().build()
}

#[actix_web::test]
async fn a_directory_token_works_in_its_directory_on_both_endpoints_and_nowhere_else() {
    let (world, key) = World::with_file("lake1").await;
    world
        .azure
        .put_blob("lake1", "raw", "a/bc/file.csv", "x")
        .unwrap();
    let sas = directory_token(&world, &key);
    assert_eq!(
        world.get(&world.lake("a/b/file.csv", &sas)).await,
        refused(200, "")
    );
    let blob = format!(
        "{}/raw/a/b/file.csv?{sas}",
        world.azure.blob_endpoint("lake1")
    );
    assert_eq!(world.get(&blob).await, refused(200, ""));
    let failed = refused(403, "AuthenticationFailed");
    for outside in ["a/bc/file.csv", "a", "x/b/file.csv", "a/file.csv"] {
        assert_eq!(
            world.get(&world.lake(outside, &sas)).await,
            failed,
            "{outside}"
        );
    }
    let listing = |prefix: &str| {
        format!(
            "{}/raw?restype=container&comp=list&prefix={prefix}&{sas}",
            world.azure.blob_endpoint("lake1")
        )
    };
    assert_eq!(world.get(&listing("a/bc")).await, failed);
    assert_eq!(world.get(&listing("a/")).await, failed);
    assert_eq!(world.get(&listing("")).await, failed);
    let inside = world
        .http
        .get(listing("a/b"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        inside.contains("a/b/file.csv") && !inside.contains("a/bc"),
        "{inside}"
    );
}

#[actix_web::test]
async fn files_are_created_appended_flushed_listed_and_deleted() {
    let (world, key) = World::with_file("lake1").await;
    let sas = directory_token(&world, &key);
    assert_eq!(
        world.write_file("a/b/c/new.csv", &sas, "hello").await,
        [201, 202, 200]
    );
    assert_eq!(
        world.azure.blob("lake1", "raw", "a/b/c/new.csv").unwrap(),
        b"hello"
    );
    assert_eq!(world.write_file("a/new.csv", &sas, "no").await, [403; 3]);

    let head = world
        .http
        .head(world.lake("a/b/c", &sas))
        .send()
        .await
        .unwrap();
    assert_eq!(head.headers()["x-ms-resource-type"], "directory");
    let direct = format!("recursive=false&directory=a/b&{sas}");
    assert_eq!(world.paths(&direct).await, ["a/b/c", "a/b/file.csv"]);
    let deep = format!("recursive=true&directory=a/b&{sas}");
    assert_eq!(
        world.paths(&deep).await,
        ["a/b/c", "a/b/c/new.csv", "a/b/file.csv"]
    );
    let page = format!("maxResults=1&{deep}");
    assert_eq!(world.paths(&page).await, ["a/b/c"]);
    assert_eq!(
        world
            .paths(&format!("continuation=a/b/file.csv&{deep}"))
            .await,
        ["a/b/file.csv"]
    );

    let directory = world
        .http
        .put(world.lake("a/b/d", &format!("resource=directory&{sas}")));
    assert_eq!(outcome(directory).await.0, 201);
    let gap = world.lake("a/b/c/new.csv", &format!("action=append&position=9&{sas}"));
    let gap = outcome(world.http.patch(gap).body("x")).await;
    assert_eq!(gap, refused(400, "InvalidFlushPosition"));

    let full = world.http.delete(world.lake("a/b/c", &sas));
    assert_eq!(outcome(full).await, refused(409, "DirectoryNotEmpty"));
    let tree = world
        .http
        .delete(world.lake("a/b/c", &format!("recursive=true&{sas}")));
    assert_eq!(outcome(tree).await, refused(200, ""));
    assert_eq!(
        world.get(&world.lake("a/b/c/new.csv", &sas)).await,
        refused(404, "PathNotFound")
    );
}

#[actix_web::test]
async fn the_data_lake_endpoint_speaks_json_and_wants_a_hierarchical_account() {
    let (world, key) = World::with_file("lake1").await;
    let forged = directory_token(&world, &key).replace("sp=racwdl", "sp=r");
    let answer = world
        .http
        .get(world.lake("a/b/file.csv", &forged))
        .send()
        .await
        .unwrap();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "AuthenticationFailed");

    let key = world.key("acct1", 24).await;
    let sas = SasBuilder::new("acct1", &key, world.now() + Duration::hours(1)).unwrap();
    let sas = sas.container("raw").read().build();
    let flat = format!("{}/raw/x?{sas}", world.azure.dfs_endpoint("acct1"));
    assert_eq!(world.get(&flat).await, refused(501, "NotImplemented"));
}
