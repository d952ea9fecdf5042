"""Rotation by the command line, as the operator sees it and as Microsoft's clients find it.

The broker is the real binary; the account and the vault are the simulated Azure's, which the same
clients have vouched for in `test_simulator.py`.
"""

import pytest

from rotating import BREAK_GLASS, MINUTE, opens, wait_until


@pytest.fixture
def broker(world, database):
    broker = world.broker(database)
    broker.apply()
    return broker


def succeeded(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_published_key_opens_the_account_and_is_published_as_the_convention_says(
    broker, azure, world
):
    before = azure.keys()
    succeeded(broker.rotate())
    adopted = azure.secret()
    # Adoption changes no key.
    assert (adopted.value, azure.keys()) == (before["key1"], before)
    assert opens(azure.blobs(adopted.value))
    # The vault's times are whole seconds, and two versions are to be told apart by them.
    world.pass_time(1)
    succeeded(broker.rotate(*BREAK_GLASS))
    after, published = azure.keys(), azure.secret()
    assert after["key1"] == before["key1"]
    assert published.value == after["key2"] != before["key2"]
    assert opens(azure.blobs(published.value))
    # The superseded key still works, the dead one does not.
    assert opens(azure.blobs(adopted.value))
    assert not opens(azure.blobs(before["key2"]))
    properties = published.properties
    assert properties.content_type == "application/vnd.sas-broker.storage-key"
    assert 30 <= (properties.expires_on - properties.created_on).days <= 31
    assert properties.tags["ProviderAddress"] == azure.place["resource_id"]
    assert properties.tags["ValidityPeriodDays"] == "30"
    versions = azure.versions()
    assert [version.tags["CredentialId"] for version in versions] == ["key1", "key2"]
    assert all(version.enabled for version in versions)
    assert broker.steps() == [
        ("prove", "key1", "done"),
        ("publish", "key1", "intended"),
        ("publish", "key1", "done"),
        ("regenerate", "key2", "intended"),
        ("regenerate", "key2", "done"),
        ("prove", "key2", "done"),
        ("publish", "key2", "intended"),
        ("publish", "key2", "done"),
    ]
    broker.run("audit", "verify")


def test_inside_the_overlap_an_ordinary_rotation_is_refused_until_when_it_says(broker, azure):
    succeeded(broker.rotate())
    before = azure.keys()
    refused = broker.rotate()
    assert refused.returncode == 1
    assert "refused: inside the overlap, which ends at 20" in refused.stdout
    assert (azure.keys(), len(azure.versions())) == (before, 1)


def test_what_stands_in_the_way_is_said_and_azure_is_left_alone_meanwhile(broker, azure):
    azure.command("arm_roles", roles=[])
    waits = broker.rotate("--wait-seconds", "5")
    assert waits.returncode == 1
    assert waits.stdout.count("waits, blocked: ARM: refused: 403 AuthorizationFailed") == 1
    assert azure.calls("arm_read") == 1
    azure.command("arm_roles", roles=["contributor"])
    succeeded(broker.rotate())
    assert azure.secret().value == azure.keys()["key1"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(broker, azure):
    before = azure.keys(), broker.audit_list()
    told = succeeded(broker.rotate("--dry-run"))
    assert "would prove and publish the live value of key1" in told
    with azure.vault() as vault:
        assert not list(vault.list_properties_of_secrets())
    assert (azure.keys(), broker.audit_list()) == before
    succeeded(broker.rotate())
    before = azure.keys(), azure.versions(), broker.audit_list()
    told = succeeded(broker.rotate("--dry-run"))
    assert told.startswith("fresh: the newest version holds the live key1")
    after = azure.keys(), azure.versions(), broker.audit_list()
    assert [version.id for version in before[1]] == [version.id for version in after[1]]
    assert (before[0], before[2]) == (after[0], after[2])


def test_a_kill_during_a_regeneration_loses_nothing_and_regenerates_nothing_twice(
    broker, azure, world
):
    succeeded(broker.rotate())
    before = azure.keys()
    azure.fail("arm_regenerate_key", "silence_after")
    rotation = broker.rotating(*BREAK_GLASS)
    try:
        wait_until(lambda: azure.keys() != before, "the key is regenerated, its answer held back")
    finally:
        rotation.kill()
    # The version that consumers read still opens the account.
    assert (azure.secret().value, len(azure.versions())) == (before["key1"], 1)
    assert opens(azure.blobs(before["key1"]))
    # Whoever comes next waits: first for the lease of the dead process, then for what it had sent.
    told = succeeded(broker.rotate("--dry-run"))
    assert "nothing is repeated before" in told
    for told in ("another broker holds the lease", "it is running still"):
        waits = broker.rotate(*BREAK_GLASS, "--wait-seconds", "0")
        assert waits.returncode == 1
        assert told in waits.stdout
        assert broker.steps()[-1] == ("regenerate", "key2", "intended")
        world.pass_time(3 * MINUTE)
    world.pass_time(5 * MINUTE)
    told = succeeded(broker.rotate(*BREAK_GLASS))
    assert "regenerate key2 seen" in told
    assert azure.calls("arm_regenerate_key") == 1
    assert azure.secret().value == azure.keys()["key2"] != before["key2"]
    assert opens(azure.blobs(azure.secret().value))
    assert opens(azure.blobs(before["key1"]))
    broker.run("audit", "verify")
