//! The simulated Azure, over its sockets: with plain requests, and with the official Rust clients
//! that keep it honest. The token check itself is tested as a table beside its code.

mod arm;
mod data;
mod delegation_key;
mod dfs;
mod entra;
mod fault;
mod rights;
mod shared_key;
mod vault;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, Transport};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use azure_storage_blob::models::KeyInfo;
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions};
use azure_storage_common::models::UserDelegationKey;
use sas_broker::simulator::{
    AccountSpec, ApiSpec, AppRoleAssignment, ApplicationSpec, RoleAssignment, Running, SimClock,
    Simulator, Spec, StorageRole, TenantSpec, TokenVersion, UserSpec,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, uuid};

const TENANT: Uuid = uuid!("00000000-0000-0000-0000-0000000000a1");
const OTHER_TENANT: Uuid = uuid!("00000000-0000-0000-0000-0000000000a2");
const ADA: Uuid = uuid!("00000000-0000-0000-0000-0000000000b1");
const EVE: Uuid = uuid!("00000000-0000-0000-0000-0000000000b2");
const ANALYSTS: Uuid = uuid!("00000000-0000-0000-0000-0000000000c1");
const BROKER_CLIENT: Uuid = uuid!("00000000-0000-0000-0000-0000000000d1");
const BROKER: Uuid = uuid!("00000000-0000-0000-0000-0000000000d2");
const PUBLIC_CLIENT: Uuid = uuid!("00000000-0000-0000-0000-0000000000e1");
const API_V1_CLIENT: Uuid = uuid!("00000000-0000-0000-0000-0000000000f1");
const READER: Uuid = uuid!("00000000-0000-0000-0000-0000000000d4");

const BROKER_SECRET: &str = "canary-broker-secret";
const ADA_PASSWORD: &str = "canary-ada-password";

/// Long ago enough that nothing here can lean on the machine's own clock.
const START: OffsetDateTime = datetime!(2031-03-04 12:00 UTC);

/// One running simulator, its clock and a client that trusts it.
struct World {
    azure: Running,
    seconds: Arc<AtomicI64>,
    http: reqwest::Client,
}

impl World {
    async fn start() -> Self {
        let seconds = Arc::new(AtomicI64::new(START.unix_timestamp()));
        let shared = Arc::clone(&seconds);
        let clock: SimClock = Arc::new(move || {
            OffsetDateTime::from_unix_timestamp(shared.load(Ordering::SeqCst)).unwrap()
        });
        let azure = Simulator::start(spec(), clock).await.unwrap();
        let http = http_client(azure.ca_pem());
        Self {
            azure,
            seconds,
            http,
        }
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds.load(Ordering::SeqCst)).unwrap()
    }

    fn advance(&self, time: Duration) {
        self.seconds
            .fetch_add(time.whole_seconds(), Ordering::SeqCst);
    }

    fn client_options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.azure.authority().to_string();
        ClientOptions {
            transport: Some(Transport::new(Arc::new(self.http.clone()))),
            cloud: Some(Arc::new(cloud.into())),
            ..ClientOptions::default()
        }
    }

    /// The official client-secret credential of the broker's application.
    fn credential(&self, secret: &str) -> Arc<dyn TokenCredential> {
        let options = ClientSecretCredentialOptions {
            client_options: self.client_options(),
        };
        ClientSecretCredential::new(
            &TENANT.to_string(),
            BROKER_CLIENT.to_string(),
            Secret::new(secret.to_owned()),
            Some(options),
        )
        .unwrap()
    }

    /// A delegation key of the broker for the next hours, through the official clients.
    async fn key(&self, account: &str, hours: i64) -> UserDelegationKey {
        self.key_of(account, hours, self.credential(BROKER_SECRET))
            .await
            .unwrap()
    }

    async fn key_of(
        &self,
        account: &str,
        hours: i64,
        credential: Arc<dyn TokenCredential>,
    ) -> azure_core::Result<UserDelegationKey> {
        let options = BlobServiceClientOptions {
            client_options: self.client_options(),
            ..BlobServiceClientOptions::default()
        };
        let endpoint = self.azure.blob_endpoint(account);
        let client = BlobServiceClient::new(endpoint, Some(credential), Some(options))?;
        let info = KeyInfo {
            start: Some(self.now() - Duration::minutes(20)),
            expiry: Some(self.now() + Duration::hours(hours)),
            ..KeyInfo::default()
        };
        client
            .get_user_delegation_key(info.try_into()?, None)
            .await?
            .into_model()
    }

    /// `GET` of a URL made of an endpoint, a path and a query; status and `x-ms-error-code`.
    async fn get(&self, url: &str) -> (u16, String) {
        outcome(self.http.get(url)).await
    }
}

/// Sends a request; status and `x-ms-error-code`.
async fn outcome(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let code = answer.headers().get("x-ms-error-code");
    let code = code
        .map(|code| code.to_str().unwrap().to_owned())
        .unwrap_or_default();
    (answer.status().as_u16(), code)
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn http_client(ca_pem: &str) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .no_proxy()
        .build()
        .unwrap()
}

fn spec() -> Spec {
    let user = |object_id, name: &str, password: &str, groups| UserSpec {
        object_id,
        user_name: format!("{name}@contoso.example"),
        password: password.into(),
        groups,
    };
    let many_groups = (0..201).map(Uuid::from_u128).collect();
    let tenant = TenantSpec {
        id: TENANT,
        users: vec![
            user(ADA, "ada", ADA_PASSWORD, vec![ANALYSTS]),
            user(EVE, "eve", "canary-eve-password", many_groups),
        ],
        applications: applications(),
    };
    let other = TenantSpec {
        id: OTHER_TENANT,
        ..TenantSpec::default()
    };
    Spec {
        tenants: vec![tenant, other],
        accounts: accounts(),
    }
}

fn applications() -> Vec<ApplicationSpec> {
    let broker_api = ApiSpec {
        app_id_uri: "api://sas-broker".into(),
        accepted_token_version: TokenVersion::V2,
        scopes: vec!["sas.issue".into(), "sas.read".into()],
        app_role_assignments: vec![
            AppRoleAssignment {
                principal: ANALYSTS,
                role: "SasBroker.Auditor".into(),
            },
            AppRoleAssignment {
                principal: BROKER,
                role: "SasBroker.Admin".into(),
            },
        ],
        emits_groups: true,
        emits_idtyp: true,
    };
    let v1_api = ApiSpec {
        app_id_uri: "api://legacy".into(),
        ..ApiSpec::default()
    };
    vec![
        ApplicationSpec {
            client_id: BROKER_CLIENT,
            object_id: BROKER,
            secrets: vec!["an-older-secret".into(), BROKER_SECRET.into()],
            api: Some(broker_api),
            ..ApplicationSpec::default()
        },
        ApplicationSpec {
            client_id: PUBLIC_CLIENT,
            ..ApplicationSpec::default()
        },
        ApplicationSpec {
            client_id: API_V1_CLIENT,
            api: Some(v1_api),
            ..ApplicationSpec::default()
        },
    ]
}

fn accounts() -> Vec<AccountSpec> {
    let on_account = |principal, role| RoleAssignment {
        principal,
        role,
        container: None,
    };
    let assignments = vec![
        on_account(BROKER, StorageRole::BlobDataContributor),
        on_account(READER, StorageRole::BlobDelegator),
        RoleAssignment {
            principal: READER,
            role: StorageRole::BlobDataReader,
            container: Some("raw".into()),
        },
        RoleAssignment {
            principal: ADA,
            role: StorageRole::BlobDataReader,
            container: Some("raw".into()),
        },
    ];
    ["acct1", "lake1"]
        .map(|name| AccountSpec {
            name: name.into(),
            tenant_id: TENANT,
            hierarchical_namespace: name == "lake1",
            containers: vec!["raw".into(), "other".into()],
            role_assignments: assignments.clone(),
            ..AccountSpec::default()
        })
        .into()
}
