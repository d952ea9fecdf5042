"""The servers that are not ours: a test CA, Azurite for Blob storage, an issuer in Entra's place.

Each is a child process on loopback. The broker itself is started in `broker.py`.
"""

import base64
import contextlib
import json
import secrets
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import trustme
from azure.storage.blob import BlobServiceClient

import services
import toolbox

REQUEST_SECONDS_MAX = 30
ACCOUNT = "acct1"


@dataclass(frozen=True)
class Tls:
    """A throw-away CA and one certificate for 127.0.0.1, as files."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def create(cls, directory: Path) -> "Tls":
        tls = cls(directory / "ca.pem", directory / "server.pem", directory / "server.key")
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(tls.authority)
        server.cert_chain_pems[0].write_to_path(tls.certificate)
        server.private_key_pem.write_to_path(tls.key)
        return tls


@dataclass(frozen=True)
class Client:
    """The broker's own application registration at the issuer."""

    id: str
    secret: str
    object_id: str

    @classmethod
    def create(cls) -> "Client":
        # The word in the secret makes a leak of it easy to name.
        secret = f"canary-client-secret-{secrets.token_urlsafe(24)}"
        return cls(str(uuid.uuid4()), secret, str(uuid.uuid4()))


@dataclass(frozen=True)
class Issuer:
    """`issuer.mjs`, running: Entra's public paths, and a way to ask for tokens and new keys."""

    origin: str
    tenant: str
    client: Client
    session: requests.Session

    def token(self, *, expires_in: int = 3600, **claims: object) -> str:
        """A caller's access token with these claims; None leaves a claim out."""
        body = {"claims": claims, "expires_in": expires_in}
        return self._control("POST", "token", body)["token"]

    def roll(self, *, retire_old: bool) -> str:
        """Signs with a new key from now on; the new key id."""
        return self._control("POST", "roll", {"retire_old": retire_old})["kid"]

    def requests(self) -> dict[str, int]:
        return self._control("GET", "requests")

    def storage_tokens(self) -> list[str]:
        """Every token that was given to the broker's own identity."""
        return self._control("GET", "storage-tokens")["tokens"]

    def _control(self, method: str, what: str, body: object = None) -> dict:
        url = f"{self.origin}/control/{what}"
        answer = self.session.request(method, url, json=body, timeout=REQUEST_SECONDS_MAX)
        answer.raise_for_status()
        return answer.json()


@contextlib.contextmanager
def issuer(directory: Path, tls: Tls) -> Iterator[Issuer]:
    tenant, client = str(uuid.uuid4()), Client.create()
    options = {
        "certificate": str(tls.certificate),
        "key": str(tls.key),
        "modules": str(toolbox.NODE_MODULES),
        "tenant": tenant,
        "client": {"id": client.id, "secret": client.secret, "object_id": client.object_id},
    }
    script = Path(__file__).with_name("issuer.mjs")
    log = directory / "issuer.log"
    command = [toolbox.node(), script, json.dumps(options)]
    service = services.Service("the issuer", command, log)
    with services.running(service, lambda: '{"port":' in log.read_text()):
        line = next(line for line in log.read_text().splitlines() if line.startswith('{"port":'))
        with requests.Session() as session:
            session.verify = str(tls.authority)
            session.trust_env = False
            origin = f"https://127.0.0.1:{json.loads(line)['port']}"
            yield Issuer(origin, tenant, client, session)


@dataclass(frozen=True)
class Azurite:
    """Azurite's Blob service, holding the one account `ACCOUNT`."""

    endpoint: str
    # The first, if it holds both.
    account_key: str
    authority: Path

    def service(self, credential: object) -> BlobServiceClient:
        """The official client on the account."""
        return BlobServiceClient(
            self.endpoint, credential=credential, connection_verify=str(self.authority)
        )

    def as_owner(self) -> BlobServiceClient:
        """Signed in with the account key, as the person who fills the containers would be."""
        return self.with_key(self.account_key)

    def with_key(self, account_key: str) -> BlobServiceClient:
        """Signed in with a key that may or may not be one of the account's."""
        return self.service({"account_name": ACCOUNT, "account_key": account_key})


class Clock:
    """The time at which a program lives, as an offset from now that can change while it runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """From now on the program's clock is `seconds` ahead, or behind if negative."""
        # Renamed into place, because the server may read at any moment.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)

    def node_flags(self) -> list[str | Path]:
        return ["--require", Path(__file__).with_name("clock.cjs")]

    def environment(self) -> dict[str, str]:
        return {"CLOCK_OFFSET_FILE": str(self._file)}

    def preload(self, library: Path) -> dict[str, str]:
        """The environment of a program in machine code, with what `clock_library` made."""
        return self.environment() | {"LD_PRELOAD": str(library)}


def clock_library(directory: Path) -> Path:
    """`clock.c`, compiled by the C compiler that Rust links with."""
    library = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return library


@contextlib.contextmanager
def azurite(
    directory: Path,
    tls: Tls,
    *account_keys: str,
    https: bool,
    clock: Clock | None = None,
    port: int | None = None,
) -> Iterator[Azurite]:
    """Holds the account with one key or both. A port is given to start it again in the same place.

    OAuth, and so user delegation keys, are to be had over HTTPS only.

    A key's value depends on who asks and for when, not on the instance, so that other instances
    accept the same tokens: one over plain HTTP, or one that lives at another time.
    """
    scheme, port = ("https" if https else "http"), port or services.free_port()
    program = toolbox.NODE_MODULES / "azurite/dist/src/blob/main.js"
    flags = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    # The clients' `x-ms-version` is newer than the newest that Azurite knows.
    flags += ["--disableTelemetry", "--skipApiVersionCheck"]
    if https:
        flags += ["--cert", tls.certificate, "--key", tls.key, "--oauth", "basic"]
    service = services.Service(
        f"Azurite over {scheme}",
        [toolbox.node(), *(clock.node_flags() if clock else []), program, *flags],
        directory / f"azurite-{port}.log",
        cwd=directory,
        env={"AZURITE_ACCOUNTS": ":".join([ACCOUNT, *account_keys])}
        | (clock.environment() if clock else {}),
    )
    with services.running(service, lambda: services.answers(port)):
        yield Azurite(f"{scheme}://127.0.0.1:{port}/{ACCOUNT}", account_keys[0], tls.authority)


def new_account_key() -> str:
    """64 random bytes in base64, as Azure makes them."""
    return base64.b64encode(secrets.token_bytes(64)).decode()
