"""Rotation against a data plane that is not ours: Azurite, holding the simulated account's keys.

Azurite takes its keys at its start, so that between a regeneration and its restart it is a Blob
service that does not know the new key yet.
"""

import contextlib

import pytest
from azure.storage.blob import BlobServiceClient

import servers
import services
from databases import Sqlite
from rotating import BREAK_GLASS, MINUTE, opens, wait_until


class RestartableAzurite:
    """One place at which Azurite runs with the keys that it was last started with."""

    def __init__(self, directory, tls) -> None:
        self._directory, self._tls, self._port = directory, tls, services.free_port()
        self._running = contextlib.ExitStack()

    def start(self, keys: dict[str, str]) -> servers.Azurite:
        self.stop()
        both = (keys["key1"], keys["key2"])
        instance = servers.azurite(self._directory, self._tls, *both, https=True, port=self._port)
        return self._running.enter_context(instance)

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def azurite(directory, tls):
    azurite = RestartableAzurite(directory, tls)
    yield azurite
    azurite.stop()


def test_a_published_key_opens_azurite_once_it_holds_the_keys_that_azure_lists(
    world, azure, azurite, directory
):
    broker = world.broker(Sqlite.create(directory))
    broker.apply()
    assert broker.rotate().returncode == 0
    before = azure.keys()
    running = azurite.start(before)
    assert broker.rotate(*BREAK_GLASS).returncode == 0
    published = azure.secret().value
    assert not opens(running.with_key(published))
    assert opens(running.with_key(before["key1"]))
    assert opens(running.with_key(before["key2"]))
    running = azurite.start(azure.keys())
    assert opens(running.with_key(published))
    assert opens(running.with_key(before["key1"]))
    assert not opens(running.with_key(before["key2"]))


def test_a_new_key_is_proved_at_azurite_and_published_as_a_connection_string_only_then(
    world, azure, azurite, tls, directory
):
    """The account's Blob endpoint is Azurite's own: it judges the broker's Shared Key signature."""
    before = azure.keys()
    running = azurite.start(before)
    broker = world.broker(Sqlite.create(directory), blob_services=[running])
    broker.apply(blob_endpoint=running.endpoint, value="connection_string", proof="required")
    assert broker.rotate().returncode == 0

    def connected() -> BlobServiceClient:
        published = azure.secret()
        assert published.properties.content_type == "application/vnd.sas-broker.connection-string"
        authority = str(tls.authority)
        return BlobServiceClient.from_connection_string(
            published.value, connection_verify=authority
        )

    assert opens(connected())
    rotation = broker.rotating(*BREAK_GLASS)
    try:
        wait_until(
            lambda: "prove key2 refused" in rotation.log.read_text(), "Azurite refuses the new key"
        )
        # Nothing was published, and what consumers read still opens it.
        assert azure.keys()["key2"] != before["key2"]
        assert len(azure.versions()) == 1
        assert opens(connected())
        azurite.start(azure.keys())
        world.pass_time(MINUTE)
        wait_until(lambda: rotation.process.poll() is not None, "the rotation ends")
    finally:
        rotation.kill()
    assert rotation.process.returncode == 0, rotation.log.read_text()
    assert f"AccountKey={azure.keys()['key2']};" in azure.secret().value
    assert opens(connected())


def test_where_the_blob_service_proves_nothing_azures_list_of_keys_can_be_proof_enough(
    world, azure, azurite, directory
):
    running = azurite.start(azure.keys())
    broker = world.broker(Sqlite.create(directory), blob_services=[running])
    wishes = {"blob_endpoint": running.endpoint, "proof": "listkeys_if_unreachable"}
    broker.apply(**wishes)
    azurite.stop()
    assert broker.rotate().returncode == 0
    done = broker.rotate(*BREAK_GLASS)
    assert done.returncode == 0
    assert "ARM lists the key; the Blob service was not reached" in done.stdout
    running = azurite.start(azure.keys())
    assert opens(running.with_key(azure.secret().value))
