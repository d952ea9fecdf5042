//! What the tests of rotation's adapters share: an account, its cloud, credentials that tell who they
//! are, and a canary.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use sas_broker::{
    azure::credential::Credentials,
    domain::{
        account::Account,
        cloud::{Cloud, CloudName},
        rotation::RotationPolicy,
    },
    ports::{Clock, OutsideError},
    system::SystemClock,
};
use serde_json::{Value, json};
use url::Url;

use super::{TENANT, script::Script};

/// An account key that must not be told to anybody.
pub(super) const CANARY: &str = "Y2FuYXJ5LWtleS1vZi1hbi1hY2NvdW50LXRoYXQtbXVzdC1ub3QtYmUtdG9sZA==";

pub(super) const SUBSCRIPTION: &str = "60000000-0000-4000-8000-000000000001";

pub(super) fn resource_id(account: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/data (1)/providers/Microsoft.Storage/storageAccounts/{account}"
    )
}

pub(super) fn policy(vault: &Url) -> RotationPolicy {
    let text = json!({ "vault": vault, "schedule": { "kind": "interval", "days": 30 } });
    serde_json::from_value(text).unwrap()
}

/// `acct1`, managed by `rotation`, with everything at one host.
pub(super) fn account(host: &Url) -> Account {
    let blob: Url = format!("{}acct1", host.as_str()).parse().unwrap();
    serde_json::from_value(json!({
        "name": "acct1",
        "resource_id": resource_id("acct1"),
        "tenant_id": TENANT,
        "blob_endpoint": blob,
        "signing_identity": "blob",
        "management_identity": "rotation",
        "rotation": policy(host),
    }))
    .unwrap()
}

/// The public cloud, with the resource manager at `host`, which the configuration allows besides.
pub(super) fn cloud(host: &Script) -> Cloud {
    let public = CloudName::Public.well_known(vec![host.host()]).unwrap();
    Cloud {
        resource_manager: Some(host.url.clone()),
        ..public
    }
}

/// Signs in at once; its tokens name it and their audience.
#[derive(Debug, Default)]
pub(super) struct Named {
    name: &'static str,
    scopes: Mutex<Vec<String>>,
}

impl Named {
    pub(super) fn scopes(&self) -> Vec<String> {
        self.scopes.lock().unwrap().clone()
    }
}

#[async_trait]
impl TokenCredential for Named {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let scope = scopes.join(" ");
        self.scopes.lock().unwrap().push(scope.clone());
        let expires_on = SystemClock.now() + time::Duration::hours(1);
        Ok(AccessToken::new(bearer(self.name, &scope), expires_on))
    }
}

/// The token that a credential of that name gets.
pub(super) fn bearer(name: &str, scope: &str) -> String {
    format!("token-of-{name}-for-{scope}")
}

/// Two credentials; the first manages [`account`].
pub(super) fn credentials() -> (Credentials, Arc<Named>) {
    let named = |name| {
        let scopes = Mutex::default();
        Arc::new(Named { name, scopes })
    };
    let (rotation, blob) = (named("rotation"), named("blob"));
    let credentials = HashMap::from([
        (
            "rotation".parse().unwrap(),
            rotation.clone() as Arc<dyn TokenCredential>,
        ),
        ("blob".parse().unwrap(), blob),
    ]);
    (credentials, rotation)
}

/// Azure's envelope of an error.
pub(super) fn error(code: &str) -> Value {
    json!({ "error": { "code": code, "message": format!("line\r\nbreak {CANARY}") } })
}

pub(super) fn is_unclear<T: std::fmt::Debug>(done: &Result<T, OutsideError>) -> bool {
    matches!(done, Err(OutsideError::Unclear(_)))
}
