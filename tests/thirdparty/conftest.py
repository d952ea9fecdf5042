"""What every proof shares: one of each server for the whole run, and two filled containers."""

import os
from pathlib import Path

import pytest

import rotating
import servers
import services
from broker import Surroundings, serving
from databases import Postgres, Sqlite

# A name that every layer has to escape: a space, `%+&=#?` and letters beyond ASCII.
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


@pytest.fixture(scope="session")
def storage_clock(directory):
    return servers.Clock(directory / "clock")


@pytest.fixture(scope="session")
def clock_library(directory):
    return servers.clock_library(directory)


@pytest.fixture(scope="session")
def shifted_azurite(directory, tls, account_key, storage_clock):
    """The same account and blobs, at the time that `storage_clock` says."""
    instance = servers.azurite(directory, tls, account_key, https=True, clock=storage_clock)
    with instance as running:
        yield fill(running)


@pytest.fixture(scope="session")
def around(issuer, azurite, tls):
    return Surroundings(issuer, azurite, tls)


KINDS = ["sqlite", *(["postgres"] if services.POSTGRES_URL in os.environ else [])]


@pytest.fixture(params=KINDS)
def database(request, directory):
    """An empty database, of each kind that this machine can run."""
    if request.param == "postgres":
        return Postgres.create(os.environ[services.POSTGRES_URL])
    return Sqlite.create(directory)


@pytest.fixture(scope="session")
def broker(directory, around):
    """The broker that the proofs share which leave it as it was."""
    with serving(directory, around, Sqlite.create(directory)) as running:
        yield running


@pytest.fixture
def world(directory, clock_library):
    """A simulated Azure of one's own, and the time there."""
    with rotating.world(directory, clock_library) as running:
        yield running


@pytest.fixture
def azure(world):
    return world.azure
