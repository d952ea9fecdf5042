"""The broker under test: the real binary, its configuration, its command line, one process of it.

`configuration`, `policy` and `rotation_policy` are the only places that know the keys of the files.
"""

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import requests

import servers
import services
from databases import Postgres, Sqlite

BINARY = Path(os.environ["SAS_BROKER_BIN"])
AUDIENCE = "api://sas-broker.test"
# What a caller of the issuing endpoints must hold, as an application role.
CALLER_ROLE = "SasBroker.Caller"
SECRET_VARIABLE = "BROKER_CLIENT_SECRET"
WEBHOOK_SECRET_VARIABLE = "BROKER_WEBHOOK_SECRET"
COMMAND_SECONDS_MAX = 60


@dataclass(frozen=True)
class Cloud:
    """What the broker is told about the Azure that it is pointed at."""

    authority: str
    tenant: str
    client_id: str
    client_secret: str
    allowed_hosts: list[str]
    ca_file: Path
    audience: str = AUDIENCE
    # Only where keys are rotated.
    resource_manager: str | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a broker that issues is pointed at: an issuer in Entra's place, and Azurite."""

    issuer: servers.Issuer
    azurite: servers.Azurite
    tls: servers.Tls

    @property
    def cloud(self) -> Cloud:
        client = self.issuer.client
        return Cloud(
            authority=self.issuer.origin,
            tenant=self.issuer.tenant,
            client_id=client.id,
            client_secret=client.secret,
            allowed_hosts=[urlsplit(self.azurite.endpoint).netloc],
            ca_file=self.tls.authority,
        )


def configuration(
    cloud: Cloud,
    database_url: str,
    port: int,
    log_filter: str,
    metrics_port: int | None = None,
    webhook_url: str | None = None,
) -> str:
    """The TOML file. The secrets are not in it: they come from the environment."""
    management = f"""
resource_manager = "{cloud.resource_manager}"
resource_manager_audience = "https://management.azure.com"
"""
    metrics = f"""
[metrics]
listen = "127.0.0.1:{metrics_port}"
"""
    webhook = f"""
[webhook]
url = "{webhook_url}"
secret_env = "{WEBHOOK_SECRET_VARIABLE}"
"""
    return f"""
[server]
listen = "127.0.0.1:{port}"

[cloud]
name = "custom"
authority = "{cloud.authority}"
allowed_hosts = {json.dumps(cloud.allowed_hosts)}
ca_file = "{cloud.ca_file}"
{management if cloud.resource_manager else ""}
[entra]
audiences = ["{cloud.audience}"]
application_role = "{CALLER_ROLE}"

[[entra.tenants]]
id = "{cloud.tenant}"

[database]
url = "{database_url}"

[credentials.blob]
kind = "client_secret"
tenant_id = "{cloud.tenant}"
client_id = "{cloud.client_id}"
secret_env = "{SECRET_VARIABLE}"
{metrics if metrics_port else ""}
{webhook if webhook_url else ""}
[log]
filter = "{log_filter}"
"""


def policy(around: Surroundings, reader: str, writer: str) -> dict:
    """The role table: one caller may read one container, another may write there too."""
    tenant = around.issuer.tenant
    principal = {"kind": "service_principal", "tenant_id": tenant}
    scope = {"account": servers.ACCOUNT, "container": "raw"}
    roles = {reader: "reader", writer: "contributor"}
    account = {
        "name": servers.ACCOUNT,
        "tenant_id": tenant,
        "blob_endpoint": around.azurite.endpoint,
        "signing_identity": "blob",
        # Azurite leaves `scid` out of what it signs, and so refuses tokens that carry one.
        "correlation_id_supported": False,
    }
    grants = [
        {"principal": principal | {"object_id": object_id}, "role": role, "scope": scope}
        for object_id, role in roles.items()
    ]
    return {"accounts": [account], "grants": grants}


def rotation_policy(cloud: Cloud, place: dict, blob_endpoint: str, **wishes: object) -> dict:
    """The role table: the simulated account, whose key is kept in the simulated vault."""
    rotation = {"vault": place["vault_url"], "schedule": {"kind": "interval", "days": 30}}
    account = {
        "name": place["account"],
        "resource_id": place["resource_id"],
        "tenant_id": cloud.tenant,
        "blob_endpoint": blob_endpoint,
        "signing_identity": "blob",
        "rotation": rotation | wishes,
    }
    return {"accounts": [account], "grants": []}


class Program:
    """The binary with one configuration: its command line, and one serving process at a time."""

    def __init__(
        self,
        directory: Path,
        cloud: Cloud,
        database: Sqlite | Postgres,
        *,
        environment: dict[str, str] | None = None,
        log_filter: str = "info",
        **sections: object,
    ) -> None:
        self.database = database
        self.directory = directory / f"broker-{uuid.uuid4()}"
        self.directory.mkdir()
        self.log = self.directory / "broker.log"
        self._port = services.free_port()
        self.origin = f"http://127.0.0.1:{self._port}"
        self._file = self.directory / "config.toml"
        text = configuration(cloud, database.url, self._port, log_filter, **sections)
        self._file.write_text(text)
        self._environment = {SECRET_VARIABLE: cloud.client_secret, **(environment or {})}
        self.service: services.Service | None = None

    def command(self, *arguments: str | Path) -> list[str | Path]:
        return [BINARY, "--config", self._file, *arguments]

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess:
        """One command of the command line; the test fails if it does, unless told otherwise."""
        return subprocess.run(
            self.command(*arguments),
            env=self._environment,
            check=check,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
        )

    def spawn(self, log: Path, *arguments: str | Path) -> services.Service:
        """The same in the background; what it prints goes to the log."""
        name = f"sas-broker {arguments[0]}"
        return services.Service(name, self.command(*arguments), log, env=self._environment)

    def apply_document(self, document: dict) -> None:
        file = self.directory / "policy.json"
        file.write_text(json.dumps(document))
        self.run("apply", "-f", file)

    def audit_list(self) -> list[dict]:
        """Every record of the journal, read from the database without the serving process."""
        printed = self.run("audit", "list", "--output", "json", "--limit", "100000").stdout
        return [json.loads(line) for line in printed.splitlines()]

    def start(self) -> None:
        self.launch()
        self.service.wait_until(self.is_ready)

    def launch(self) -> None:
        """Starts the process and waits for nothing."""
        self.service = self.spawn(self.log, "serve")

    def is_ready(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.origin}/readyz", timeout=5).status_code == 200
        return False

    def stop(self) -> int:
        """An orderly end; the exit status."""
        return self.service.stop()

    def post(
        self,
        path: str,
        bearer: str,
        body: dict,
        *,
        session: requests.Session | None = None,
        idempotency_key: str | None = None,
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {bearer}"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        return (session or requests).post(
            f"{self.origin}{path}",
            json=body,
            headers=headers,
            timeout=servers.REQUEST_SECONDS_MAX,
        )


class Broker(Program):
    """One that issues, with callers who ask it."""

    def __init__(
        self,
        directory: Path,
        around: Surroundings,
        database: Sqlite | Postgres,
        **options: str,
    ) -> None:
        super().__init__(directory, around.cloud, database, **options)
        self.around = around
        self.reader, self.writer = str(uuid.uuid4()), str(uuid.uuid4())

    def apply_policy(self, *, without: str | None = None, strangers: int = 0) -> None:
        """The whole role table, or all of it but the grants of one object id; and as many grants
        more, of callers who never call."""
        document = policy(self.around, self.reader, self.writer)
        document["grants"] = [
            grant for grant in document["grants"] if grant["principal"]["object_id"] != without
        ]
        pattern = document["grants"][-1]
        for _ in range(strangers):
            stranger = pattern["principal"] | {"object_id": str(uuid.uuid4())}
            document["grants"].append(pattern | {"principal": stranger})
        self.apply_document(document)

    def token_for(self, object_id: str, **claims: object) -> str:
        """An access token as Entra v2 gives it to an application that calls on its own behalf."""
        application = str(uuid.uuid4())
        usual = {
            "aud": AUDIENCE,
            "tid": self.around.issuer.tenant,
            "oid": object_id,
            "sub": object_id,
            "azp": application,
            "uti": uuid.uuid4().hex,
            "ver": "2.0",
            "roles": [CALLER_ROLE],
        }
        return self.around.issuer.token(**usual | claims)

    def ask(
        self,
        bearer: str,
        *,
        session: requests.Session | None = None,
        idempotency_key: str | None = None,
        **request: object,
    ) -> requests.Response:
        """`POST /v1/sas` for the container that the policy speaks of."""
        options = {"session": session, "idempotency_key": idempotency_key}
        return self.post("/v1/sas", bearer, wanted(**request), **options)

    def issued(self, object_id: str, **request: object) -> dict:
        """The answer to a request that must succeed."""
        answer = self.ask(self.token_for(object_id), **request)
        assert answer.status_code == 200, answer.text
        return answer.json()


def wanted(**request: object) -> dict:
    """A request for a token of the container that the policy speaks of."""
    return {"account": servers.ACCOUNT, "container": "raw", "permissions": "r"} | request


def signed_fields(token: str) -> dict[str, str]:
    """The parameters of a SAS, decoded."""
    return dict(parse_qsl(token, strict_parsing=True))


@contextlib.contextmanager
def serving(
    directory: Path, around: Surroundings, database: Sqlite | Postgres, **options: str
) -> Iterator[Broker]:
    """A broker with its policy applied, answering requests."""
    broker = Broker(directory, around, database, **options)
    broker.apply_policy()
    try:
        broker.start()
        yield broker
    finally:
        if broker.service:
            broker.stop()
