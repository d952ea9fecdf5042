"""Secrets stay in memory: nothing that opens anything is in the log or in the database.

The broker talks as much as it can (`trace`). Then every secret of the run is looked for, in each
form that it could have been written in.
"""

from datetime import datetime

import pytest
from azure.identity import ClientSecretCredential

import broker as under_test
import canary
from conftest import PLAIN_PATH


@pytest.fixture
def broker(directory, around, database):
    with under_test.serving(directory, around, database, log_filter="trace") as running:
        yield running


def delegation_key_value(broker: under_test.Broker, token: str) -> str:
    """The key that `token` was signed with: Azurite gives everybody the same for the same times."""
    signed = under_test.signed_fields(token)
    issuer = broker.around.issuer
    credential = ClientSecretCredential(
        issuer.tenant,
        issuer.client.id,
        issuer.client.secret,
        authority=issuer.origin,
        disable_instance_discovery=True,
        connection_verify=str(broker.around.tls.authority),
    )
    start, expiry = (datetime.fromisoformat(signed[name]) for name in ("skt", "ske"))
    with broker.around.azurite.service(credential) as service:
        headers = {"x-ms-version": signed["skv"]}
        return service.get_user_delegation_key(start, expiry, headers=headers).value


def use_every_secret(broker: under_test.Broker) -> dict[str, str]:
    """Makes the broker handle each kind of secret, on paths that succeed and on paths that fail."""
    issuer = broker.around.issuer
    bearer = broker.token_for(broker.reader)
    forged = bearer[:-8] + "AAAAAAAA"
    issued, replayed = (
        broker.ask(bearer, path=PLAIN_PATH, idempotency_key="once").json() for _ in range(2)
    )
    item = under_test.wanted(path=PLAIN_PATH)
    batch = broker.post("/v1/sas/batch", bearer, {"requests": [item, item]}).json()
    assert broker.ask(bearer, permissions="rw").status_code == 403
    assert broker.ask(forged).status_code == 401
    # Where a confused client might put its token.
    assert broker.ask(bearer, permissions=bearer).status_code == 400
    assert broker.post("/v1/sas", bearer, {bearer: bearer}).status_code == 400
    assert broker.post(f"/v1/sas/{bearer}", bearer, {}).status_code == 404
    assert broker.post(f"/v1/access?cursor={bearer}", bearer, {}).status_code == 405
    tokens = [issued["token"], replayed["token"]]
    tokens += [result["sas"]["token"] for result in batch["results"]]
    signatures = [under_test.signed_fields(token)["sig"] for token in tokens]
    return {
        "a bearer token": bearer,
        "a bearer token's signature": bearer.rsplit(".", 1)[1],
        "a forged bearer token": forged,
        **{f"the signature of SAS {n}": text for n, text in enumerate(signatures)},
        "the delegation key": delegation_key_value(broker, issued["token"]),
        **{f"the broker's own token {n}": t for n, t in enumerate(issuer.storage_tokens())},
        "the broker's client secret": issuer.client.secret,
    }


def test_no_secret_is_in_the_log_or_the_database(broker):
    secrets = use_every_secret(broker)
    assert broker.stop() == 0
    places = {"log": broker.log.read_bytes(), "database": broker.database.contents()}
    # The search itself can find something: what is meant to be there is there.
    assert broker.reader.encode() in places["database"]
    assert b'"level":"TRACE"' in places["log"]
    assert not canary.leaks(secrets, places)
    assert b"sig=" not in places["log"] + places["database"]
