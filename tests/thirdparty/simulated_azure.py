"""The simulated Azure as a process of its own (`examples/simulator`), and clients on it.

Commands on its standard input switch faults, locks and roles; see `examples/simulator/command.rs`.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from azure.identity import ClientSecretCredential
from azure.keyvault.secrets import SecretClient
from azure.mgmt.storage import StorageManagementClient
from azure.storage.blob import BlobServiceClient

import broker
import services

BINARY = broker.BINARY.parent / "examples" / "simulator"


class SimulatedAzure:
    """The running example: where everything is, and the hand that reaches into it."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.place = self._read()

    def command(self, do: str, **fields: object) -> dict:
        """Carries out one command; a refusal fails the test."""
        self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert "error" not in answer, answer
        return answer

    def fail(self, endpoint: str, fault: str, **fields: object) -> None:
        self.command("fail", endpoint=endpoint, fault=fault, **fields)

    def calls(self, endpoint: str) -> int:
        return self.command("calls", endpoint=endpoint)["calls"]

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise services.ServiceFailed(f"the simulator ended with {self._process.wait()}")
        return json.loads(line)

    def credential(self, **overrides: object) -> ClientSecretCredential:
        """The application's own credential, with what a test wants different."""
        place = self.place | overrides
        return ClientSecretCredential(
            place["tenant"],
            place["client_id"],
            place["client_secret"],
            authority=place["authority"],
            disable_instance_discovery=True,
            connection_verify=place["ca_file"],
        )

    def arm(self, **options: object) -> StorageManagementClient:
        """The client never repeats a call: what is refused once is seen by the test."""
        scope = "https://management.azure.com/.default"
        return StorageManagementClient(
            self.credential(),
            self.place["subscription"],
            base_url=self.place["arm_url"].rstrip("/"),
            credential_scopes=[scope],
            connection_verify=self.place["ca_file"],
            **{"retry_total": 0, **options},
        )

    def vault(self, **options: object) -> SecretClient:
        return SecretClient(
            self.place["vault_url"],
            self.credential(),
            verify_challenge_resource=False,
            connection_verify=self.place["ca_file"],
            **{"retry_total": 0, **options},
        )

    def blobs(self, key: str) -> BlobServiceClient:
        """The account, opened with an account key."""
        return self.service({"account_name": self.place["account"], "account_key": key})

    def service(self, credential: object) -> BlobServiceClient:
        return BlobServiceClient(
            self.place["blob_endpoint"],
            credential=credential,
            connection_verify=self.place["ca_file"],
            retry_total=0,
        )


@contextlib.contextmanager
def simulated_azure(directory: Path, **wishes: object) -> Iterator[SimulatedAzure]:
    log = directory / "simulator.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [BINARY, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
    try:
        process.stdin.write(json.dumps(wishes) + "\n")
        process.stdin.flush()
        yield SimulatedAzure(process)
    finally:
        process.terminate()
        try:
            process.wait(services.STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()
