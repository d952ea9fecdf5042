"""What the proofs of rotation share: a broker at the simulated Azure, both at a time that can pass.

The clock of the broker is shifted by `clock.c`, the simulator's by a command; Microsoft's clients
live at the real time.
"""

import contextlib
import dataclasses
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import BlobServiceClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import broker as under_test
import servers
import services
from databases import Postgres, Sqlite
from simulated_azure import SimulatedAzure, simulated_azure

OPERATOR_ROLE = "SasBroker.Operator"
# The broker's scheduler looks at its clock twice a second, so whatever is due comes at once.
SOON_SECONDS_MAX = 30
MINUTE = 60
DAY = 24 * 60 * MINUTE
BREAK_GLASS = ("--key", "alternate", "--reason", "proof")


class World:
    """The simulated Azure, an operator in its directory, and the time."""

    def __init__(
        self, directory: Path, azure: SimulatedAzure, audience: str, clock_library: Path
    ) -> None:
        self.directory = directory
        self.azure = azure
        self.cloud = azure.cloud(audience)
        self._clock = servers.Clock(directory / f"clock-{uuid.uuid4()}")
        self._environment = self._clock.preload(clock_library)
        self._ahead = 0

    def broker(
        self,
        database: Sqlite | Postgres,
        *,
        blob_services: Sequence[servers.Azurite] = (),
        environment: dict[str, str] | None = None,
        **options: object,
    ) -> "RotatingBroker":
        """One that may also be pointed at Blob services that are not the simulated Azure's."""
        cloud = self._trusting(blob_services)
        environment = self._environment | (environment or {})
        return RotatingBroker(self, cloud, database, environment=environment, **options)

    def _trusting(self, blob_services: Sequence[servers.Azurite]) -> under_test.Cloud:
        hosts = [urlsplit(one.endpoint).netloc for one in blob_services]
        authorities = [self.cloud.ca_file, *(one.authority for one in blob_services)]
        ca_file = self.directory / f"authorities-{uuid.uuid4()}.pem"
        ca_file.write_text("".join(file.read_text() for file in authorities))
        allowed = self.cloud.allowed_hosts + hosts
        return dataclasses.replace(self.cloud, allowed_hosts=allowed, ca_file=ca_file)

    def pass_time(self, seconds: int) -> None:
        """For Azure first, so that nothing of the broker's comes from its future."""
        self.azure.command("advance", seconds=seconds)
        self._ahead += seconds
        self._clock.shift(self._ahead)

    def operator(self) -> str:
        """A token of an application that may rotate, as azure-identity gets it."""
        with self.azure.credential() as credential:
            return credential.get_token(f"{under_test.AUDIENCE}/.default").token


@contextlib.contextmanager
def world(directory: Path, library: Path) -> Iterator[World]:
    audience = str(uuid.uuid4())
    api = {"client_id": audience, "app_id_uri": under_test.AUDIENCE, "roles": [OPERATOR_ROLE]}
    with simulated_azure(directory, api=api) as azure:
        yield World(directory, azure, audience, library)


class RotatingBroker(under_test.Program):
    """The binary, pointed at the simulated Azure."""

    def __init__(
        self,
        world: World,
        cloud: under_test.Cloud,
        database: Sqlite | Postgres,
        **options: object,
    ) -> None:
        self.metrics_port = services.free_port()
        options = {"metrics_port": self.metrics_port, **options}
        super().__init__(world.directory, cloud, database, **options)
        self._world = world
        self.account = world.azure.place["account"]
        self.printed: list[str] = []

    def apply(self, *, blob_endpoint: str | None = None, **wishes: object) -> None:
        """The role table, with what a test wants different about the rotation."""
        place = self._world.azure.place
        endpoint = blob_endpoint or place["blob_endpoint"]
        document = under_test.rotation_policy(self._world.cloud, place, endpoint, **wishes)
        self.apply_document(document)

    def rotate(self, *arguments: str) -> subprocess.CompletedProcess:
        """`sas-broker rotate`, however it ends."""
        done = self.run("rotate", "--account", self.account, *arguments, check=False)
        self.printed += [done.stdout, done.stderr]
        return done

    def rotating(self, *arguments: str) -> services.Service:
        """The same in the background."""
        log = self.directory / f"rotate-{uuid.uuid4()}.log"
        return self.spawn(log, "rotate", "--account", self.account, *arguments)

    def request(self, bearer: str, **order: object) -> requests.Response:
        """`POST …/rotations`."""
        return self.post(f"/v1/admin/accounts/{self.account}/rotations", bearer, order)

    def read(self, path: str, bearer: str) -> dict:
        headers = {"Authorization": f"Bearer {bearer}"}
        seconds = servers.REQUEST_SECONDS_MAX
        answer = requests.get(f"{self.origin}{path}", headers=headers, timeout=seconds)
        answer.raise_for_status()
        return answer.json()

    def samples(self) -> dict[tuple[str, ...], float]:
        """The metrics, as Prometheus' own parser reads them: by name and label values."""
        seconds = servers.REQUEST_SECONDS_MAX
        page = requests.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=seconds)
        page.raise_for_status()
        families = text_string_to_metric_families(page.text)
        found = (sample for family in families for sample in family.samples)
        return {(one.name, *sorted(one.labels.values())): one.value for one in found}

    def counted(self, act: str) -> float:
        """How often this process has done such a step."""
        return self.samples()["sas_broker_rotation_steps_total", *sorted([act, "done"])]

    def steps(self) -> list[tuple[str, str, str]]:
        """Every step in the journal with its outcome, oldest first."""
        records = [record for record in self.audit_list() if record["kind"] == "rotation_step"]
        return [(one["act"], one.get("key"), one["outcome"]) for one in reversed(records)]


def wait_until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SOON_SECONDS_MAX
    while not is_so():
        assert time.monotonic() < deadline, f"not within {SOON_SECONDS_MAX} s: {what}"
        time.sleep(services.POLL_SECONDS)


def opens(service: BlobServiceClient) -> bool:
    """Whether the official client gets into the account, whole as it is."""
    with service:
        try:
            list(service.list_containers())
        except ClientAuthenticationError:
            # Azure says 403 to a wrong key; Azurite, where it also takes bearers, 400.
            return False
    return True
