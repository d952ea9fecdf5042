"""What every proof shares: one of each server for the whole run, and two filled containers."""

from pathlib import Path

import pytest

import servers

# A name that every layer has to escape: a space, `%`, `+`, `&`, `=`, `#`, `?` and letters beyond ASCII.
AWKWARD_PATH = "2026/größe 100%+a&b=c#d?e.csv"
PLAIN_PATH = "2026/11/file.csv"
BLOBS = {PLAIN_PATH: b"a,b\n1,2\n", AWKWARD_PATH: b"c,d\n3,4\n"}
CONTAINER = "raw"
OTHER_CONTAINER = "other"


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("thirdparty")


@pytest.fixture(scope="session")
def tls(directory):
    return servers.Tls.create(directory)


@pytest.fixture(scope="session")
def issuer(directory, tls):
    with servers.issuer(directory, tls) as running:
        yield running


@pytest.fixture(scope="session")
def account_key():
    return servers.new_account_key()


def fill(azurite: servers.Azurite) -> servers.Azurite:
    with azurite.as_owner() as owner:
        for container in (CONTAINER, OTHER_CONTAINER):
            client = owner.create_container(container)
            for path, content in BLOBS.items():
                client.upload_blob(path, content)
    return azurite


@pytest.fixture(scope="session")
def azurite(directory, tls, account_key):
    with servers.azurite(directory, tls, account_key, https=True) as running:
        yield fill(running)


@pytest.fixture(scope="session")
def plain_azurite(directory, tls, account_key):
    """The same account and blobs, over plain HTTP."""
    with servers.azurite(directory, tls, account_key, https=False) as running:
        yield fill(running)
