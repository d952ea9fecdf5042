"""Two independent readers of Blob storage that are given a SAS and nothing else.

The official client (Python) and obstore (Rust's object_store): they share no code, and escape the
token and the blob's name differently. Neither sends an `Authorization` header: Azurite lets a valid
bearer win over a bad SAS.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import obstore
import requests
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import ContainerClient
from obstore.store import AzureStore

import servers


@dataclass(frozen=True)
class Refused:
    """What the storage service said no with."""

    status: int
    code: str


def refusal(act: Callable[[], object]) -> Refused | None:
    """How the storage service refused `act` of the official client; None if it did not."""
    try:
        act()
    except HttpResponseError as error:
        return Refused(error.status_code, error.response.headers["x-ms-error-code"])
    return None


def official(
    azurite: servers.Azurite,
    container: str,
    token: str,
    *,
    session: requests.Session | None = None,
) -> ContainerClient:
    """`azure-storage-blob`, without retries: a refusal is the answer, not a hiccup.

    Who makes many of them gives a session, whose connections they share.
    """
    authority = str(azurite.authority)
    if session:
        shared = {"session": session, "session_owner": False}
        connections = {"transport": RequestsTransport(connection_verify=authority, **shared)}
    else:
        connections = {"connection_verify": authority}
    options = {"credential": token, "retry_total": 0, **connections}
    return ContainerClient(azurite.endpoint, container, **options)


@contextlib.contextmanager
def independent(azurite: servers.Azurite, container: str, token: str) -> Iterator[AzureStore]:
    """obstore; it takes the CA from the environment when the store is made."""
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(azurite.authority)
    try:
        yield AzureStore(
            container_name=container,
            account_name=servers.ACCOUNT,
            sas_key=token,
            endpoint=azurite.endpoint,
            retry_config={"max_retries": 0},
        )
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


def listed(store: AzureStore) -> set[str]:
    return {entry["path"] for page in obstore.list(store) for entry in page}


def read(store: AzureStore, path: str) -> bytes:
    return obstore.get(store, path).bytes().to_bytes()
