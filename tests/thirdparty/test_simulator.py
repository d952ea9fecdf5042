"""Microsoft's own clients against our simulated Azure, without the broker.

The broker is tested against the simulator, so somebody else has to say that the simulator is like
Azure: azure-identity, azure-mgmt-storage, azure-keyvault-secrets and azure-storage-blob, as they
are, pointed at it and nothing else. If these fail, the simulator is wrong, not the client.
"""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from azure.storage.blob import BlobClient, generate_blob_sas

from simulated_azure import simulated_azure

BLOB = "2026/größe 100%+a&b=c#d?e.csv"
CONTENT = b"a,b\n1,2\n"
# Long enough that both states of a deletion and of a recovery are seen on a slow machine.
UNDER_WAY_SECONDS = 60


@pytest.fixture(scope="module")
def azure(directory):
    with simulated_azure(directory) as running:
        yield running


@pytest.fixture
def arm(azure):
    azure.command("arm_roles", roles=["contributor"])
    with azure.arm() as client:
        yield client.storage_accounts
    azure.command("arm_roles", roles=["contributor"])


@pytest.fixture
def vault(azure):
    with azure.vault() as client:
        yield client
    azure.command("vault_roles", roles=["secrets_officer"])


@pytest.fixture
def account(azure):
    return azure.place["resource_group"], azure.place["account"]


@pytest.fixture
def name():
    return f"sa-{uuid.uuid4()}"


def refusal(error_type: type, act) -> HttpResponseError:
    with pytest.raises(error_type) as raised:
        act()
    return raised.value


def inner_code(error: HttpResponseError) -> str:
    return error.error.innererror["code"]


def values(arm, account) -> list[str]:
    return [key.value for key in arm.list_keys(*account).keys_property]


# ARM


def test_an_account_is_described_as_the_client_expects(azure, arm, account):
    found = arm.get_properties(*account)
    assert found.id == azure.place["resource_id"]
    assert found.type == "Microsoft.Storage/storageAccounts"
    assert (found.sku.name, found.kind) == ("Standard_LRS", "StorageV2")
    assert found.provisioning_state == "Succeeded"
    assert found.allow_shared_key_access is None
    assert found.primary_endpoints.blob == azure.place["blob_endpoint"] + "/"
    azure.command("allow_shared_key_access", allowed=False)
    assert arm.get_properties(*account).allow_shared_key_access is False
    azure.command("allow_shared_key_access", allowed=None)
    assert [one.name for one in arm.list()] == [account[1]]
    assert [one.name for one in arm.list_by_resource_group(account[0])] == [account[1]]


def test_each_key_is_regenerated_alone(arm, account):
    # `list_keys` adds `$expand=kerb` by itself.
    before = arm.list_keys(*account).keys_property
    assert [key.key_name for key in before] == ["key1", "key2"]
    assert {key.permissions.lower() for key in before} == {"full"}
    for place, key_name in enumerate(["key1", "key2"]):
        old = values(arm, account)
        started = datetime.now(UTC) - timedelta(seconds=1)
        both = arm.regenerate_key(*account, {"keyName": key_name}).keys_property
        assert both[place].key_name == key_name
        assert both[place].value != old[place]
        assert both[1 - place].value == old[1 - place]
        assert started < both[place].creation_time < datetime.now(UTC) + timedelta(seconds=1)
        assert values(arm, account) == [key.value for key in both]
    times = arm.get_properties(*account).key_creation_time
    assert times.key1 < times.key2


def test_a_key_opens_the_account_until_it_is_regenerated(azure, arm, account):
    old, other = values(arm, account)
    container = azure.place["container"]
    with azure.blobs(old) as owner:
        owner.get_blob_client(container, BLOB).upload_blob(
            CONTENT, overwrite=True, metadata={"origin": "proof"}, tags=None
        )
        fresh = owner.create_container(f"made-{uuid.uuid4()}")
        assert owner.get_account_information()["account_kind"] == "StorageV2"
        assert owner.get_service_properties()["hour_metrics"].enabled is False
        assert {container, fresh.container_name} <= {one.name for one in owner.list_containers()}
        assert fresh.get_container_properties().name == fresh.container_name
        assert [blob.name for blob in owner.get_container_client(container).list_blobs()] == [BLOB]
        fresh.delete_container()
    arm.regenerate_key(*account, {"keyName": "key1"})
    new = values(arm, account)[0]
    for key in (other, new):
        with azure.blobs(key) as owner:
            blob = owner.get_blob_client(container, BLOB)
            assert blob.download_blob().readall() == CONTENT
            assert blob.download_blob(offset=2, length=3).readall() == CONTENT[2:5]
            assert blob.get_blob_properties().metadata == {"origin": "proof"}
    with azure.blobs(old) as owner:
        dead = refusal(ClientAuthenticationError, owner.get_account_information)
        assert (dead.status_code, dead.error_code) == (403, "AuthenticationFailed")
        blob = owner.get_blob_client(container, BLOB)
        assert refusal(ClientAuthenticationError, blob.delete_blob).status_code == 403


def test_keys_can_be_refused_altogether(azure, arm, account):
    with azure.blobs(values(arm, account)[1]) as owner:
        azure.command("allow_shared_key_access", allowed=False)
        refused = refusal(HttpResponseError, owner.get_account_information)
        assert refused.error_code == "KeyBasedAuthenticationNotPermitted"
        azure.command("allow_shared_key_access", allowed=None)
        azure.command("network_denies", on=True)
        refused = refusal(HttpResponseError, owner.get_account_information)
        assert (refused.status_code, refused.error_code) == (403, "AuthorizationFailure")
        azure.command("network_denies", on=False)
        owner.get_account_information()


def test_revocation_ends_user_delegation_keys_and_leaves_the_accounts_own(azure, arm, account):
    container = azure.place["container"]
    with azure.blobs(values(arm, account)[0]) as owner:
        owner.get_blob_client(container, "x").upload_blob(CONTENT, overwrite=True)
    start = datetime.now(UTC) - timedelta(minutes=15)
    with azure.service(azure.credential()) as service:
        key = service.get_user_delegation_key(start, start + timedelta(hours=1))
    sas = generate_blob_sas(
        account[1],
        container,
        "x",
        user_delegation_key=key,
        permission="r",
        start=start,
        expiry=start + timedelta(hours=1),
    )
    url = f"{azure.place['blob_endpoint']}/{container}/x"
    verify = azure.place["ca_file"]
    with BlobClient.from_blob_url(url, credential=sas, connection_verify=verify) as blob:
        for key_name in ("key1", "key2"):
            arm.regenerate_key(*account, {"keyName": key_name})
        assert blob.download_blob().readall() == CONTENT
        arm.revoke_user_delegation_keys(*account)
        refused = refusal(ClientAuthenticationError, blob.get_blob_properties)
        assert refused.status_code == 403
    with azure.blobs(values(arm, account)[0]) as owner:
        owner.get_account_information()


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("reader", {"read"}),
        ("key_operator", {"list", "regenerate"}),
        ("delegation_key_revoker", {"revoke"}),
    ],
)
def test_a_role_allows_its_own_and_refuses_the_rest(azure, arm, account, role, allowed):
    azure.command("arm_roles", roles=[role])
    acts = {
        "read": lambda: arm.get_properties(*account),
        "list": lambda: arm.list_keys(*account),
        "regenerate": lambda: arm.regenerate_key(*account, {"keyName": "key1"}),
        "revoke": lambda: arm.revoke_user_delegation_keys(*account),
    }
    for what, act in acts.items():
        if what in allowed:
            act()
        else:
            refused = refusal(HttpResponseError, act)
            assert (refused.status_code, refused.error.code) == (403, "AuthorizationFailed")


def test_what_is_not_there_is_the_clients_not_found(arm, account):
    group, name = account
    for place, code in [
        ((group, "gone1"), "ResourceNotFound"),
        (("gone", name), "ResourceGroupNotFound"),
    ]:
        refused = refusal(ResourceNotFoundError, lambda place=place: arm.list_keys(*place))
        assert refused.error.code == code


def test_locks_and_other_operations_are_conflicts(azure, arm, account):
    azure.command("lock", lock="ReadOnly")
    refused = refusal(ResourceExistsError, lambda: arm.list_keys(*account))
    assert (refused.status_code, refused.error.code) == (409, "ScopeLocked")
    arm.get_properties(*account)
    azure.command("lock", lock=None)
    azure.command("in_progress", on=True)
    act = {"keyName": "key1"}
    refused = refusal(ResourceExistsError, lambda: arm.regenerate_key(*account, act))
    assert refused.error.code == "StorageAccountOperationInProgress"
    azure.command("in_progress", on=False)


def test_throttling_is_obeyed_and_the_two_limits_are_told_apart(azure, arm, account):
    for fault, code in [
        ("throttled", "TooManyRequests"),
        ("subscription_throttled", "SubscriptionRequestsThrottled"),
    ]:
        azure.fail("arm_list_keys", fault, retry_after_seconds=17)
        refused = refusal(HttpResponseError, lambda: arm.list_keys(*account))
        assert (refused.status_code, refused.error.code) == (429, code)
        assert refused.response.headers["Retry-After"] == "17"
    azure.fail("arm_list_keys", "throttled", retry_after_seconds=1)
    before = azure.calls("arm_list_keys")
    with azure.arm(retry_total=3) as patient:
        patient.storage_accounts.list_keys(*account)
    assert azure.calls("arm_list_keys") - before == 2


def test_an_answer_can_be_lost_with_and_without_its_effect(azure, arm, account):
    act = {"keyName": "key1"}
    first = values(arm, account)[0]
    azure.fail("arm_regenerate_key", "cut_before")
    refusal(ServiceResponseError, lambda: arm.regenerate_key(*account, act))
    assert values(arm, account)[0] == first
    azure.fail("arm_regenerate_key", "cut_after")
    refusal(ServiceResponseError, lambda: arm.regenerate_key(*account, act))
    second = values(arm, account)[0]
    assert second != first
    azure.fail("arm_regenerate_key", "gateway_timeout_after")
    refused = refusal(HttpResponseError, lambda: arm.regenerate_key(*account, act))
    assert refused.status_code == 504
    third = values(arm, account)[0]
    assert third != second
    azure.fail("arm_regenerate_key", "cut_and_late", after_seconds=0)
    refusal(ServiceResponseError, lambda: arm.regenerate_key(*account, act))
    assert values(arm, account)[0] != third


def test_a_wrong_secret_is_refused_by_the_simulated_entra(azure):
    credential = azure.credential(client_secret="wrong")
    scope = "https://management.azure.com/.default"
    refused = refusal(ClientAuthenticationError, lambda: credential.get_token(scope))
    assert "AADSTS7000215" in refused.message


# Key Vault


def test_secrets_are_set_read_listed_and_updated(azure, vault, name):
    before = azure.calls("vault_challenge")
    expires = (datetime.now(UTC) + timedelta(days=60)).replace(microsecond=0)
    tags = {"CredentialId": "key1", "ValidityPeriodDays": "60"}
    first = vault.set_secret(
        name, "one", content_type="text/plain", expires_on=expires, tags=tags
    )
    second = vault.set_secret(name, "two")
    assert (azure.calls("vault_challenge") - before) <= 1
    assert len(first.properties.version) == 32
    assert vault.get_secret(name.upper()).value == "two"
    assert vault.get_secret(name).properties.version == second.properties.version
    read = vault.get_secret(name, first.properties.version)
    assert read.value == "one"
    assert (read.properties.expires_on, read.properties.tags) == (expires, tags)
    assert read.properties.content_type == "text/plain"
    assert read.properties.recovery_level == "Recoverable+Purgeable"
    changed = vault.update_secret_properties(
        name, first.properties.version, enabled=False, tags={"CredentialId": "key2"}
    )
    assert (changed.enabled, changed.tags) == (False, {"CredentialId": "key2"})
    assert changed.expires_on == expires
    refused = refusal(
        HttpResponseError, lambda: vault.get_secret(name, first.properties.version)
    )
    assert (refused.status_code, inner_code(refused)) == (403, "SecretDisabled")
    versions = {one.version: one for one in vault.list_properties_of_secret_versions(name)}
    assert set(versions) == {first.properties.version, second.properties.version}
    assert versions[first.properties.version].enabled is False
    assert versions[second.properties.version].enabled is True
    assert name in {one.name for one in vault.list_properties_of_secrets()}


def test_the_list_of_versions_comes_in_pages(azure, vault, name):
    made = {vault.set_secret(name, str(n)).properties.version for n in range(53)}
    before = azure.calls("vault_list")
    listed = list(vault.list_properties_of_secret_versions(name))
    assert {one.version for one in listed} == made
    assert len(listed) == len(made)
    assert azure.calls("vault_list") - before == 3
    pages = vault.list_properties_of_secret_versions(name, max_page_size=20).by_page()
    assert [len(list(page)) for page in pages] == [20, 20, 13]
    # Azure gives an empty list, and no error, for a secret that is not there.
    assert list(vault.list_properties_of_secret_versions(f"not-{name}")) == []


def test_a_secret_is_deleted_recovered_and_purged(vault, name):
    kept = vault.set_secret(name, "kept")
    deleted = vault.begin_delete_secret(name).result()
    assert (deleted.name, deleted.properties.version) == (name, kept.properties.version)
    assert deleted.scheduled_purge_date - deleted.deleted_date == timedelta(days=90)
    refusal(ResourceNotFoundError, lambda: vault.get_secret(name))
    refused = refusal(ResourceExistsError, lambda: vault.set_secret(name, "again"))
    assert refused.error.code == "Conflict"
    assert inner_code(refused) == "ObjectIsDeletedButRecoverable"
    assert name in {one.name for one in vault.list_deleted_secrets()}
    vault.begin_recover_deleted_secret(name).wait()
    assert vault.get_secret(name).value == "kept"
    vault.begin_delete_secret(name).wait()
    vault.purge_deleted_secret(name)
    refused = refusal(ResourceNotFoundError, lambda: vault.get_deleted_secret(name))
    assert refused.error.code == "SecretNotFound"
    assert vault.set_secret(name, "new").value == "new"


def test_deletion_and_recovery_take_their_time(directory, name):
    takes = {"deletion_seconds": UNDER_WAY_SECONDS, "recovery_seconds": UNDER_WAY_SECONDS}
    with simulated_azure(directory, **takes) as azure, azure.vault() as vault:
        vault.set_secret(name, "kept")
        deletion = vault.begin_delete_secret(name, _polling_interval=0.1)
        refused = refusal(ResourceExistsError, lambda: vault.set_secret(name, "again"))
        assert inner_code(refused) == "ObjectIsBeingDeleted"
        azure.command("advance", seconds=UNDER_WAY_SECONDS)
        deletion.wait()
        recovery = vault.begin_recover_deleted_secret(name, _polling_interval=0.1)
        refused = refusal(ResourceExistsError, lambda: vault.set_secret(name, "again"))
        assert inner_code(refused) == "ObjectIsBeingRecovered"
        azure.command("advance", seconds=UNDER_WAY_SECONDS)
        recovery.wait()
        assert vault.get_secret(name).value == "kept"


def test_what_the_vault_refuses_is_the_clients_own_exception(azure, vault, name):
    missing = refusal(ResourceNotFoundError, lambda: vault.get_secret(name))
    assert missing.error.code == "SecretNotFound"
    vault.set_secret(name, "one")
    azure.fail("vault_get", "throttled", retry_after_seconds=1)
    throttled = refusal(HttpResponseError, lambda: vault.get_secret(name))
    assert (throttled.status_code, throttled.error.code) == (429, "Throttled")
    too_long = refusal(HttpResponseError, lambda: vault.set_secret(name, "v" * 25_601))
    assert (too_long.status_code, too_long.error.code) == (400, "BadParameter")
    azure.command("vault_firewall", on=True)
    refused = refusal(HttpResponseError, lambda: vault.get_secret(name))
    assert (refused.status_code, inner_code(refused)) == (403, "ForbiddenByFirewall")
    azure.command("vault_firewall", on=False)
    for role, refused_acts in [
        ("secrets_user", [lambda: vault.set_secret(name, "two")]),
        ("reader", [lambda: vault.get_secret(name), lambda: vault.set_secret(name, "two")]),
    ]:
        azure.command("vault_roles", roles=[role])
        assert len(list(vault.list_properties_of_secret_versions(name))) == 1
        for act in refused_acts:
            refused = refusal(HttpResponseError, act)
            assert (refused.status_code, inner_code(refused)) == (403, "ForbiddenByRbac")


def test_each_known_version_of_the_vaults_interface_is_spoken(azure, name):
    for version in ["7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"]:
        with azure.vault(api_version=version) as vault:
            vault.set_secret(name, version)
            assert vault.get_secret(name).value == version
    with azure.vault(api_version="7.3") as vault:
        refused = refusal(HttpResponseError, lambda: vault.get_secret(name))
        assert (refused.status_code, refused.error.code) == (400, "BadParameter")
