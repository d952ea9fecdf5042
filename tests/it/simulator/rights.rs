//! Whose rights a request has: the delegating principal's roles, the bound user, the bearer.

use azure_storage_sas::SasBuilder;
use sas_broker::simulator::{TokenSpec, TokenVersion};

use super::*;

impl World {
    /// The key of another principal, by its own token.
    async fn key_for(&self, principal: Uuid) -> UserDelegationKey {
        let token = self.azure.mint(&TokenSpec {
            version: TokenVersion::V1,
            ..TokenSpec::application(TENANT, principal, "https://storage.azure.com")
        });
        self.key_of("acct1", 24, Arc::new(FixedToken(token)))
            .await
            .unwrap()
    }
}

/// A credential that always shows one token.
#[derive(Debug)]
struct FixedToken(String);

#[async_trait::async_trait]
impl TokenCredential for FixedToken {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<azure_core::credentials::TokenRequestOptions<'_>>,
    ) -> azure_core::Result<azure_core::credentials::AccessToken> {
        let expiry = OffsetDateTime::UNIX_EPOCH + Duration::days(365 * 200);
        Ok(azure_core::credentials::AccessToken::new(
            self.0.clone(),
            expiry,
        ))
    }
}

#[actix_web::test]
async fn time_revocation_and_lost_roles_end_a_token() {
    let (world, key) = World::with_file("acct1").await;
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let url = world.url(
        "raw/a/b/file.csv",
        &sas.container("raw").read().list().build(),
    );
    assert_eq!(world.get(&url).await.0, 200);
    world.advance(Duration::minutes(59));
    assert_eq!(world.get(&url).await.0, 200);
    world.advance(Duration::minutes(1));
    assert_eq!(world.get(&url).await, refused(403, "AuthenticationFailed"));

    let fresh = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let url = world.url("raw/a/b/file.csv", &fresh.container("raw").read().build());
    assert_eq!(world.get(&url).await.0, 200);
    world.azure.remove_roles("acct1", BROKER).unwrap();
    assert_eq!(
        world.get(&url).await,
        refused(403, "AuthorizationPermissionMismatch")
    );
    let role = RoleAssignment {
        principal: BROKER,
        role: StorageRole::BlobDataReader,
        container: None,
    };
    world.azure.assign_role("acct1", role).unwrap();
    assert_eq!(world.get(&url).await.0, 200);
    world.azure.revoke_delegation_keys("acct1").unwrap();
    assert_eq!(world.get(&url).await, refused(403, "AuthenticationFailed"));
}

#[actix_web::test]
async fn a_token_can_do_no_more_than_the_principal_behind_it() {
    let (world, _) = World::with_file("acct1").await;
    world.azure.put_blob("acct1", "other", "x", "x").unwrap();
    let key = world.key_for(READER).await;
    let builder = || SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let raw = builder().container("raw").read().write().build();
    assert_eq!(world.get(&world.url("raw/a/b/file.csv", &raw)).await.0, 200);
    let mismatch = refused(403, "AuthorizationPermissionMismatch");
    assert_eq!(world.put("raw/a/b/file.csv", &raw, "new").await, mismatch);
    let other = builder().container("other").read().build();
    assert_eq!(world.get(&world.url("other/x", &other)).await, mismatch);
}

#[actix_web::test]
async fn a_user_bound_token_needs_the_user_beside_it() {
    let (world, key) = World::with_file("acct1").await;
    let sas = SasBuilder::new("acct1", &key, world.in_an_hour()).unwrap();
    let sas = sas.delegated_user_object_id(ADA.to_string());
    let url = world.url("raw/a/b/file.csv", &sas.container("raw").read().build());
    let with = async |user| {
        let token = world
            .azure
            .mint(&TokenSpec::user(TENANT, user, "https://storage.azure.com"));
        outcome(world.http.get(&url).bearer_auth(token)).await
    };
    assert_eq!(world.get(&url).await, refused(403, "AuthenticationFailed"));
    assert_eq!(with(EVE).await, refused(403, "AuthenticationFailed"));
    assert_eq!(with(ADA).await, refused(200, ""));
}

#[actix_web::test]
async fn without_a_token_the_bearers_own_roles_count() {
    let (world, _) = World::with_file("acct1").await;
    let url = format!("{}/raw/a/b/file.csv", world.azure.blob_endpoint("acct1"));
    let as_user = async |request: reqwest::RequestBuilder, user| {
        let token = world
            .azure
            .mint(&TokenSpec::user(TENANT, user, "https://storage.azure.com"));
        outcome(request.bearer_auth(token)).await
    };
    let mismatch = refused(403, "AuthorizationPermissionMismatch");
    assert_eq!(as_user(world.http.get(&url), ADA).await, refused(200, ""));
    assert_eq!(as_user(world.http.delete(&url), ADA).await, mismatch);
    assert_eq!(as_user(world.http.get(&url), EVE).await, mismatch);
    assert_eq!(
        world.get(&url).await,
        refused(401, "NoAuthenticationInformation")
    );
    let plain = format!(
        "{}/raw/a/b/file.csv",
        world.azure.plain_blob_endpoint("acct1")
    );
    let answer = as_user(world.http.get(&plain), ADA).await;
    assert_eq!(
        answer,
        refused(401, "InvalidAuthenticationInfo"),
        "no bearer over plain HTTP"
    );
}
