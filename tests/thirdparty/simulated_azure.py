"""The simulated Azure as a process of its own (`examples/simulator`), and clients on it.

Commands on its standard input switch faults, locks and roles; see `examples/simulator/command.rs`.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from azure.identity import ClientSecretCredential
from azure.keyvault.secrets import KeyVaultSecret, SecretClient, SecretProperties
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

    @property
    def secret_name(self) -> str:
        """Where the broker keeps the account's key."""
        return f"sa-{self.place['account']}"

    def cloud(self, audience: str) -> broker.Cloud:
        """What a broker has to be told, to be pointed at it."""
        trusted = [self.place["blob_endpoint"], self.place["vault_url"]]
        return broker.Cloud(
            authority=self.place["authority"].rstrip("/"),
            tenant=self.place["tenant"],
            client_id=self.place["client_id"],
            client_secret=self.place["client_secret"],
            allowed_hosts=[urlsplit(url).netloc for url in trusted],
            ca_file=Path(self.place["ca_file"]),
            audience=audience,
            resource_manager=self.place["arm_url"].rstrip("/"),
        )

    def keys(self) -> dict[str, str]:
        """The account's live keys, as Microsoft's client lists them."""
        account = self.place["resource_group"], self.place["account"]
        with self.arm() as arm:
            listed = arm.storage_accounts.list_keys(*account).keys_property
        return {key.key_name: key.value for key in listed}

    def secret(self) -> KeyVaultSecret:
        """What a consumer reads: the secret, without a version."""
        with self.vault() as vault:
            return vault.get_secret(self.secret_name)

    def versions(self) -> list[SecretProperties]:
        """The secret's versions, oldest first. Those of one second come in no order."""
        with self.vault() as vault:
            found = list(vault.list_properties_of_secret_versions(self.secret_name))
        return sorted(found, key=lambda version: version.created_on)

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
