//! Rotation's adapters together, against the simulated Azure: real sign-in, ARM, vault and data plane.

use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use sas_broker::{
    azure::{
        arm::{ArmAccounts, ArmOptions},
        credential::{CredentialSpec, Surroundings, credential},
        key_proof::SharedKeyProof,
        key_vault::KeyVault,
    },
    domain::{
        account::Account,
        cloud::Cloud,
        ids::{RotationId, SecretVersion},
        rotation::{
            KeyName,
            observation::{Origin, Published, SecretFacts, VersionFacts},
        },
    },
    ports::{
        AccountKey, Clock, Entropy, KeyProof, NewVersion, OutsideError, Proof, StorageAccounts,
        Vault,
    },
    simulator::{
        AccountSpec, ApplicationSpec, ArmRole, ArmRoleAssignment, Effect, Endpoint, Fault, KeySlot,
        Lock, ManagementSpec, Running, Seen, Spec, TenantSpec, VaultRole, VaultRoleAssignment,
        VaultSpec,
    },
    system::SystemClock,
};
use secrecy::ExposeSecret;
use time::Duration;
use url::Url;
use uuid::{Uuid, uuid};

use super::{Middling, SharedClock, TENANT, http, rotation::policy, simulator};

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
    let roles = [
        ArmRole::Reader,
        ArmRole::KeyOperator,
        ArmRole::DelegationKeyRevoker,
    ];
    let principal = BROKER;
    let management = ManagementSpec {
        role_assignments: roles
            .map(|role| ArmRoleAssignment { principal, role })
            .into(),
        ..ManagementSpec::default()
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
            management,
            ..AccountSpec::default()
        }],
    }
}

/// The simulated Azure, and a broker's adapters to it.
struct World {
    azure: Running,
    clock: Arc<SharedClock>,
    account: Account,
    arm: ArmAccounts,
    vault: KeyVault,
    proof: SharedKeyProof,
}

fn host(url: &Url) -> String {
    format!("127.0.0.1:{}", url.port().unwrap())
}

impl World {
    async fn start() -> Self {
        Self::with(SECRET).await
    }

    /// The SDK reckons a token's end by the machine's clock, so this world starts there.
    async fn with(secret: &str) -> Self {
        let clock = SharedClock::at(SystemClock.now());
        let azure = simulator(spec(), &clock).await;
        let officer = VaultRoleAssignment {
            principal: BROKER,
            role: VaultRole::SecretsOfficer,
            secret: None,
        };
        let at_vault = azure.create_vault(VaultSpec {
            name: "kv1".into(),
            tenant_id: TENANT.0,
            role_assignments: vec![officer],
            ..VaultSpec::default()
        });
        let (at_vault, at_blob) = (at_vault.unwrap(), azure.blob_endpoint("acct1"));
        let cloud = Cloud {
            authority: azure.authority(),
            storage_suffix: None,
            resource_manager: Some(azure.arm_url()),
            vault_suffix: Some("vault.azure.net".to_owned()),
            allowed_hosts: vec![host(&at_vault), host(&at_blob)],
        };
        let account = Account {
            name: "acct1".parse().unwrap(),
            resource_id: Some(azure.resource_id("acct1").unwrap()),
            tenant_id: TENANT,
            blob_endpoint: at_blob,
            dfs_endpoint: None,
            hierarchical_namespace: false,
            signing_identity: "rotation".parse().unwrap(),
            correlation_id_supported: true,
            sas_period_seconds_max: None,
            issuance_enabled: true,
            management_identity: None,
            rotation: Some(policy(&at_vault)),
        };
        let signed_in = signed_in(&azure, &clock, secret);
        let credentials = [("rotation".parse().unwrap(), signed_in)].into();
        let client = http(azure.ca_pem());
        let now: Arc<dyn Clock> = clock.clone();
        let options = ArmOptions {
            audience: Some("https://management.azure.com".to_owned()),
            ..ArmOptions::default()
        };
        Self {
            arm: ArmAccounts::new(&credentials, &client, &cloud, options, now.clone()),
            vault: KeyVault::new(
                credentials,
                client.clone(),
                cloud.clone(),
                None,
                now.clone(),
            ),
            proof: SharedKeyProof::new(client, cloud, now),
            azure,
            clock,
            account,
        }
    }

    /// Lets time pass: past every pause, and far enough that creation times differ.
    fn wait(&self) {
        self.clock.set(self.clock.now() + Duration::minutes(1));
    }

    async fn key(&self, name: KeyName) -> AccountKey {
        self.arm.key(&self.account, name).await.unwrap()
    }

    /// The version that a rotation would publish now.
    async fn new_version(&self, key: &AccountKey, rotation: u128) -> (Published, NewVersion) {
        let facts = self.arm.look(&self.account).await.unwrap();
        let rotation = RotationId(Uuid::from_u128(rotation));
        let published = Published::now(key.name, rotation, &facts.created);
        let resource = self.account.storage_resource_id().unwrap();
        let version = NewVersion {
            value: key.value.clone(),
            content_type: "text/plain",
            expires: self.clock.now() + Duration::days(31),
            tags: published.tags(&resource, 31),
        };
        (published, version)
    }

    async fn publish(&self, key: &AccountKey, rotation: u128) -> (Published, SecretVersion) {
        let (published, new) = self.new_version(key, rotation).await;
        let version = self.vault.publish(&self.account, new).await.unwrap();
        (published, version)
    }

    async fn versions(&self) -> Vec<VersionFacts> {
        match self.vault.look(&self.account).await.unwrap() {
            SecretFacts::Versions(versions) => versions,
            other => panic!("{other:?}"),
        }
    }
}

fn signed_in(azure: &Running, clock: &Arc<SharedClock>, secret: &str) -> Arc<dyn TokenCredential> {
    let client = http(azure.ca_pem());
    let clock: Arc<dyn Clock> = clock.clone();
    let entropy: Arc<dyn Entropy> = Arc::new(Middling);
    let around = Surroundings {
        authority: &azure.authority(),
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

#[actix_web::test]
async fn an_account_is_adopted_and_rotated_and_the_dead_version_switched_off() {
    let world = World::start().await;
    let World {
        arm,
        vault,
        proof,
        account,
        azure,
        ..
    } = &world;
    let before = arm.look(account).await.unwrap();
    assert!(before.shared_key_allowed);
    assert_eq!(vault.look(account).await, Ok(SecretFacts::Absent));

    let key1 = world.key(KeyName::Key1).await;
    let live = azure.account_key("acct1", KeySlot::Key1).unwrap().value;
    assert_eq!(key1.value.expose_secret(), live.expose_secret());
    assert_eq!(proof.prove(account, &key1).await, Proof::Accepted);
    let (adopted, first) = world.publish(&key1, 1).await;

    world.wait();
    let old = world.key(KeyName::Key2).await;
    arm.regenerate_key(account, KeyName::Key2).await.unwrap();
    let after = arm.look(account).await.unwrap();
    assert_eq!(after.created.key1, before.created.key1);
    assert!(after.created.key2.is_some() && after.created.key2 != before.created.key2);
    let key2 = world.key(KeyName::Key2).await;
    assert_eq!(proof.prove(account, &old).await, Proof::Rejected);
    assert_eq!(proof.prove(account, &key1).await, Proof::Accepted);
    assert_eq!(proof.prove(account, &key2).await, Proof::Accepted);
    let (rotated, second) = world.publish(&key2, 2).await;

    world.wait();
    arm.regenerate_key(account, KeyName::Key1).await.unwrap();
    vault.set_enabled(account, &first, false).await.unwrap();
    let mut versions = world.versions().await;
    versions.sort_by_key(|version| version.created);
    let seen: Vec<_> = versions
        .into_iter()
        .map(|found| (found.version, found.enabled, found.origin))
        .collect();
    let expected = [
        (first, false, Origin::Ours(adopted)),
        (second, true, Origin::Ours(rotated)),
    ];
    assert_eq!(seen, expected);
    let value = azure.secret_value("kv1", "sa-acct1").unwrap().unwrap();
    assert_eq!(value.expose_secret(), key2.value.expose_secret());
    assert_eq!(azure.calls(Endpoint::VaultGet), 0, "no value is read back");
    assert_eq!(azure.calls(Endpoint::Token), 2, "one for each audience");
    world.azure.stop().await;
}

#[actix_web::test]
async fn a_deleted_secret_is_seen_not_written_over_and_recovered() {
    let world = World::start().await;
    let key1 = world.key(KeyName::Key1).await;
    let (_, first) = world.publish(&key1, 1).await;
    world.azure.delete_secret("kv1", "sa-acct1").unwrap();
    let (vault, account) = (&world.vault, &world.account);
    assert_eq!(vault.look(account).await, Ok(SecretFacts::Deleted));
    let (_, new) = world.new_version(&key1, 2).await;
    let refused = vault.publish(account, new).await.unwrap_err();
    assert!(
        matches!(&refused, OutsideError::Locked(text)
        if text.contains("ObjectIsDeletedButRecoverable")),
        "{refused}"
    );
    for _ in 0..2 {
        vault.recover(account).await.unwrap();
    }
    let versions = world.versions().await;
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].version, first);
    world.azure.stop().await;
}

#[actix_web::test]
async fn an_effect_without_an_answer_is_unclear_and_shows_at_the_next_look() {
    let world = World::start().await;
    let World {
        arm,
        vault,
        account,
        azure,
        ..
    } = &world;
    let key1 = world.key(KeyName::Key1).await;
    for seen in [Seen::Cut, Seen::GatewayTimeout] {
        for (effect, takes_place) in [(Effect::Never, false), (Effect::Now, true)] {
            world.wait();
            let lost = Fault::Lost { effect, seen };
            let before = arm.look(account).await.unwrap().created;
            azure.fail_calls(Endpoint::ArmRegenerateKey, 0..1, lost);
            let done = arm.regenerate_key(account, KeyName::Key2).await;
            assert!(matches!(done, Err(OutsideError::Unclear(_))), "{done:?}");
            let after = arm.look(account).await.unwrap().created;
            assert_eq!(before != after, takes_place, "{effect:?} {seen:?}");

            let rotation = u128::from(azure.calls(Endpoint::VaultSet)) + 1;
            let (published, new) = world.new_version(&key1, rotation).await;
            azure.fail_calls(Endpoint::VaultSet, 0..1, lost);
            let done = vault.publish(account, new).await;
            assert!(matches!(done, Err(OutsideError::Unclear(_))), "{done:?}");
            let found = match vault.look(account).await.unwrap() {
                SecretFacts::Versions(versions) => versions
                    .iter()
                    .any(|version| version.origin == Origin::Ours(published.clone())),
                _ => false,
            };
            assert_eq!(found, takes_place, "{effect:?} {seen:?}");
        }
    }
    assert_eq!(azure.calls(Endpoint::ArmRegenerateKey), 4, "never resent");
    assert_eq!(azure.calls(Endpoint::VaultSet), 4, "never resent");
    world.azure.stop().await;
}

#[actix_web::test]
async fn what_azure_says_no_to_is_named() {
    let world = World::start().await;
    let World {
        arm,
        vault,
        account,
        azure,
        ..
    } = &world;
    let regenerate = async || {
        world.wait();
        let done = arm.regenerate_key(account, KeyName::Key1).await;
        done.unwrap_err().to_string()
    };
    azure.set_lock("acct1", Some(Lock::ReadOnly)).unwrap();
    assert_eq!(regenerate().await, "locked: 409 ScopeLocked");
    azure.set_lock("acct1", None).unwrap();
    azure.set_in_progress("acct1", true).unwrap();
    assert_eq!(
        regenerate().await,
        "busy: 409 StorageAccountOperationInProgress"
    );
    azure.set_in_progress("acct1", false).unwrap();
    let fault = Fault::SubscriptionThrottled {
        retry_after_seconds: Some(17),
    };
    azure.fail_calls(Endpoint::ArmRegenerateKey, 0..1, fault);
    assert_eq!(regenerate().await, "throttled");
    azure.set_arm_api_versions(&["2023-01-01"]);
    let unknown = regenerate().await;
    assert!(
        unknown.ends_with("cloud.vault_api_version: 400 NoRegisteredProviderFound"),
        "{unknown}"
    );
    azure.set_arm_api_versions(&["2024-01-01"]);
    assert_eq!(arm.revoke_user_delegation_keys(account).await, Ok(()));
    azure.remove_arm_roles("acct1", BROKER).unwrap();
    assert_eq!(regenerate().await, "refused: 403 AuthorizationFailed");
    azure.delete_account("acct1").unwrap();
    let gone = regenerate().await;
    assert!(gone.starts_with("gone: 404 "), "{gone}");

    let looked = async || vault.look(account).await.unwrap_err().to_string();
    azure.set_vault_firewall("kv1", true).unwrap();
    assert_eq!(
        looked().await,
        "refused: 403 Forbidden (ForbiddenByFirewall)"
    );
    azure.set_vault_firewall("kv1", false).unwrap();
    azure.remove_vault_roles("kv1", BROKER).unwrap();
    assert_eq!(looked().await, "refused: 403 Forbidden (ForbiddenByRbac)");
    world.azure.stop().await;
}

#[actix_web::test]
async fn an_identity_that_cannot_sign_in_is_refused_before_anything_is_sent() {
    let world = World::with("canary-wrong-secret").await;
    let (azure, account) = (&world.azure, &world.account);
    let denied = |code: &str| OutsideError::Denied(format!("Entra answered {code}"));
    let done = world.arm.regenerate_key(account, KeyName::Key1).await;
    assert_eq!(done, Err(denied("AADSTS7000215")));
    let done = world.vault.recover(account).await;
    assert_eq!(done, Err(denied("AADSTS7000215")));
    for endpoint in [Endpoint::ArmRegenerateKey, Endpoint::VaultDelete] {
        assert_eq!(azure.calls(endpoint), 0, "{endpoint:?}");
    }
    world.azure.stop().await;
}
