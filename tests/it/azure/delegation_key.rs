//! The broker's own credential and its delegation keys, over real sockets against the simulator.

use std::{collections::HashMap, sync::Arc};

use actix_web::http::StatusCode;
use azure_core::credentials::TokenCredential;
use sas_broker::{
    azure::{
        credential::{CredentialSpec, Surroundings, credential},
        delegation_key::BlobKeys,
    },
    domain::{
        account::Account,
        cloud::Cloud,
        sas::{SasSpec, SasTarget, ServiceVersion, UserDelegationKey, sign},
        time_text::whole_seconds,
    },
    ports::{Clock, DelegationKeys, Entropy, KeyFetchError, KeyRequest},
    simulator::{
        AccountSpec, ApplicationSpec, Endpoint, Fault, RoleAssignment, Running, Spec, StorageRole,
        TenantSpec,
    },
    system::SystemClock,
};
use time::Duration;
use url::Url;
use uuid::{Uuid, uuid};

use super::{Middling, SharedClock, TENANT, http, simulator};

const CLIENT: Uuid = uuid!("00000000-0000-0000-0000-0000000000d1");
const BROKER: Uuid = uuid!("00000000-0000-0000-0000-0000000000d2");
const SECRET: &str = "canary-broker-secret";

fn spec() -> Spec {
    let application = ApplicationSpec {
        client_id: CLIENT,
        object_id: BROKER,
        secrets: vec![SECRET.into()],
        ..ApplicationSpec::default()
    };
    let reader = RoleAssignment {
        principal: BROKER,
        role: StorageRole::BlobDataReader,
        container: None,
    };
    Spec {
        tenants: vec![TenantSpec {
            id: TENANT.0,
            applications: vec![application],
            ..TenantSpec::default()
        }],
        accounts: vec![AccountSpec {
            name: "acct1".into(),
            tenant_id: TENANT.0,
            containers: vec!["raw".into()],
            role_assignments: vec![reader],
            ..AccountSpec::default()
        }],
    }
}

struct World {
    azure: Running,
    clock: Arc<SharedClock>,
}

impl World {
    /// The SDK reckons a token's end by the machine's clock, so this world starts there.
    async fn start() -> Self {
        let clock = SharedClock::at(SystemClock.now());
        let azure = simulator(spec(), &clock).await;
        Self { azure, clock }
    }

    fn account(&self) -> Account {
        Account {
            name: "acct1".parse().unwrap(),
            resource_id: None,
            tenant_id: TENANT,
            blob_endpoint: self.azure.blob_endpoint("acct1"),
            dfs_endpoint: None,
            hierarchical_namespace: false,
            signing_identity: "blob".parse().unwrap(),
            correlation_id_supported: true,
            sas_period_seconds_max: None,
            issuance_enabled: true,
            management_identity: None,
            rotation: None,
        }
    }

    fn credential(&self, secret: &str) -> Arc<dyn TokenCredential> {
        let client = http(self.azure.ca_pem());
        let clock: Arc<dyn Clock> = self.clock.clone();
        let entropy: Arc<dyn Entropy> = Arc::new(Middling);
        let around = Surroundings {
            authority: &self.azure.authority(),
            client: &client,
            direct: &client,
            clock: &clock,
            entropy: &entropy,
        };
        let spec = CredentialSpec::ClientSecret {
            tenant_id: TENANT,
            client_id: CLIENT,
            secret: secret.into(),
        };
        credential(spec, &around).unwrap()
    }

    fn keys(&self, secret: &str) -> BlobKeys {
        let endpoint = self.azure.blob_endpoint("acct1");
        let host = format!("127.0.0.1:{}", endpoint.port().unwrap());
        let cloud = Cloud {
            authority: self.azure.authority(),
            storage_suffix: None,
            resource_manager: None,
            vault_suffix: None,
            allowed_hosts: vec![host],
        };
        let credentials = HashMap::from([("blob".parse().unwrap(), self.credential(secret))]);
        let client = http(self.azure.ca_pem());
        BlobKeys::new(credentials, client, cloud, ServiceVersion::DEFAULT)
    }

    fn request(&self, account: Account) -> KeyRequest {
        let starts_at = whole_seconds(self.clock.now()) - Duration::minutes(20);
        KeyRequest {
            account: Arc::new(account),
            starts_at,
            expires_at: starts_at + Duration::days(1),
            delegated_tenant: None,
        }
    }

    async fn fetch(&self, secret: &str) -> Result<UserDelegationKey, KeyFetchError> {
        self.keys(secret).fetch(&self.request(self.account())).await
    }

    async fn status_of(&self, url: &str) -> u16 {
        let answer = http(self.azure.ca_pem()).get(url).send().await.unwrap();
        answer.status().as_u16()
    }
}

#[actix_web::test]
async fn a_fetched_key_signs_tokens_that_open_the_blob() {
    let world = World::start().await;
    world
        .azure
        .put_blob("acct1", "raw", "a/b.csv", "1,2")
        .unwrap();
    let request = world.request(world.account());
    let key = world.keys(SECRET).fetch(&request).await.unwrap();
    assert_eq!(
        (key.start(), key.expiry()),
        (request.starts_at, request.expires_at)
    );
    assert_eq!(key.signed_object_id().0, BROKER);

    let now = whole_seconds(world.clock.now());
    let target = SasTarget::Blob("a/b.csv".parse().unwrap());
    let (account, container) = ("acct1".parse().unwrap(), "raw".parse().unwrap());
    let letters = "r".parse().unwrap();
    let spec = SasSpec::new(
        account,
        container,
        target,
        letters,
        now + Duration::minutes(15),
    );
    let sas = sign(&spec, &key, ServiceVersion::DEFAULT).unwrap();
    let blob = format!("{}/raw/a/b.csv", world.azure.blob_endpoint("acct1"));
    assert_eq!(
        world
            .status_of(&format!("{blob}?{}", sas.expose_token()))
            .await,
        200
    );
    assert_ne!(world.status_of(&blob).await, 200, "not without the token");
    world.azure.stop().await;
}

#[actix_web::test]
async fn a_credential_asks_entra_once_for_many_keys() {
    let world = World::start().await;
    let keys = world.keys(SECRET);
    for _ in 0..3 {
        keys.fetch(&world.request(world.account())).await.unwrap();
    }
    assert_eq!(world.azure.calls(Endpoint::Token), 1);
    assert_eq!(world.azure.calls(Endpoint::DelegationKey), 3);
    world.azure.stop().await;
}

#[actix_web::test]
async fn refusals_say_why_and_never_what_the_secret_is() {
    let world = World::start().await;
    let wrong = world.fetch("canary-wrong-secret").await.unwrap_err();
    let said = "Entra answered AADSTS7000215";
    assert_eq!(wrong, KeyFetchError::Denied(said.to_owned()));
    assert_eq!(world.azure.calls(Endpoint::DelegationKey), 0);

    let down = Fault::Status {
        code: StatusCode::NOT_FOUND,
        retry_after_seconds: None,
    };
    world.azure.set_fault(Endpoint::Token, Some(down));
    let away = world.fetch(SECRET).await.unwrap_err();
    assert!(
        matches!(away, KeyFetchError::Unavailable(_)),
        "no word of Entra's: {away}"
    );
    world.azure.set_fault(Endpoint::Token, None);

    world.azure.remove_roles("acct1", BROKER).unwrap();
    let KeyFetchError::Denied(said) = world.fetch(SECRET).await.unwrap_err() else {
        panic!("an identity without a role must be denied");
    };
    assert!(
        said.starts_with("403 ") && !said.contains("canary"),
        "{said}"
    );
    world.azure.stop().await;
}

#[actix_web::test]
async fn the_brokers_bearer_goes_nowhere_that_the_configuration_does_not_allow() {
    let world = World::start().await;
    let keys = world.keys(SECRET);
    let endpoint: Url = world.azure.dfs_endpoint("acct1");
    let elsewhere = Account {
        blob_endpoint: endpoint,
        ..world.account()
    };
    let stranger = Account {
        signing_identity: "other".parse().unwrap(),
        ..world.account()
    };
    for account in [elsewhere, stranger] {
        let error = keys.fetch(&world.request(account)).await.unwrap_err();
        assert!(matches!(error, KeyFetchError::Misconfigured(_)), "{error}");
    }
    for endpoint in [Endpoint::Token, Endpoint::DelegationKey, Endpoint::Data] {
        assert_eq!(world.azure.calls(endpoint), 0, "{endpoint:?}");
    }
    world.azure.stop().await;
}

#[actix_web::test]
async fn a_failing_service_is_asked_again_but_not_for_ever() {
    let world = World::start().await;
    let rows = [
        (
            StatusCode::TOO_MANY_REQUESTS,
            KeyFetchError::Throttled { retry_after: None },
        ),
        (
            StatusCode::BAD_GATEWAY,
            KeyFetchError::Unavailable("502 Bad Gateway".to_owned()),
        ),
    ];
    for (code, expected) in rows {
        let before = world.azure.calls(Endpoint::DelegationKey);
        let fault = Fault::Status {
            code,
            retry_after_seconds: None,
        };
        world.azure.set_fault(Endpoint::DelegationKey, Some(fault));
        let error = world.fetch(SECRET).await.unwrap_err();
        let asked = world.azure.calls(Endpoint::DelegationKey) - before;
        assert!((1..=3).contains(&asked), "{code}: asked {asked} times");
        assert_eq!(
            std::mem::discriminant(&error),
            std::mem::discriminant(&expected),
            "{error}"
        );
    }
    world.azure.set_fault(Endpoint::DelegationKey, None);
    assert!(world.fetch(SECRET).await.is_ok());
    world.azure.stop().await;
}
