"""The servers and readers prove themselves, without the broker.

A user delegation SAS made by the official library must open the blobs and be refused where it
should. If these fail, the fault is in the harness; if only the others fail, it is in the broker.
"""

from datetime import UTC, datetime, timedelta

import jwt
import obstore
import pytest
from azure.identity import ClientSecretCredential
from azure.storage.blob import generate_container_sas

import readers
import servers
from conftest import AWKWARD_PATH, BLOBS, CONTAINER, PLAIN_PATH

NOW = datetime.now(UTC).replace(microsecond=0)
# `sv` is signed as the newest that the library knows, which Azurite takes as it is.
WINDOW = {"start": NOW - timedelta(minutes=15), "expiry": NOW + timedelta(hours=1)}


@pytest.fixture(scope="module")
def delegation_key(azurite, issuer):
    credential = ClientSecretCredential(
        issuer.tenant,
        issuer.client.id,
        issuer.client.secret,
        authority=issuer.origin,
        disable_instance_discovery=True,
        connection_verify=azurite.authority.as_posix(),
    )
    with azurite.service(credential) as service:
        return service.get_user_delegation_key(WINDOW["start"], WINDOW["expiry"])


@pytest.fixture(scope="module")
def token(delegation_key):
    return container_sas(delegation_key)


def container_sas(delegation_key, **changes):
    arguments = {"permission": "rl", "protocol": "https", **WINDOW, **changes}
    return generate_container_sas(
        servers.ACCOUNT, CONTAINER, user_delegation_key=delegation_key, **arguments
    )


def test_the_official_client_reads_and_lists_and_is_refused_a_write(azurite, token):
    with readers.official(azurite, CONTAINER, token) as client:
        assert {blob.name for blob in client.list_blobs()} == set(BLOBS)
        for path, content in BLOBS.items():
            assert client.download_blob(path).readall() == content
        refused = readers.refusal(lambda: client.upload_blob("new", b"x"))
        assert refused == readers.Refused(403, "AuthorizationPermissionMismatch")


def test_obstore_reads_and_lists_and_is_refused_a_write(azurite, token):
    with readers.independent(azurite, CONTAINER, token) as store:
        assert readers.listed(store) == set(BLOBS)
        assert readers.read(store, PLAIN_PATH) == BLOBS[PLAIN_PATH]
        assert readers.read(store, AWKWARD_PATH) == BLOBS[AWKWARD_PATH]
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            obstore.put(store, "new", b"x")


def test_an_altered_sas_is_refused(azurite, token):
    with readers.official(azurite, CONTAINER, token.replace("sp=rl", "sp=racwdl")) as client:
        refused = readers.refusal(client.get_container_properties)
    assert refused == readers.Refused(403, "AuthorizationFailure")


def test_an_instance_at_another_time_knows_when_a_sas_begins_and_ends(
    shifted_azurite, storage_clock, token
):
    seconds = (WINDOW["expiry"] - datetime.now(UTC)).total_seconds()
    with readers.official(shifted_azurite, CONTAINER, token) as client:
        outcomes = {}
        for offset in (-3600, 0, int(seconds) - 30, int(seconds) + 2):
            storage_clock.shift(offset)
            outcomes[offset] = readers.refusal(lambda: client.download_blob(PLAIN_PATH))
    refused = readers.Refused(403, "AuthorizationFailure")
    assert list(outcomes.values()) == [refused, None, None, refused]


def test_a_plain_http_instance_takes_the_same_key_but_not_an_https_only_sas(
    plain_azurite, delegation_key, token
):
    either = container_sas(delegation_key, protocol="https,http")
    with readers.official(plain_azurite, CONTAINER, either) as client:
        assert client.download_blob(PLAIN_PATH).readall() == BLOBS[PLAIN_PATH]
    with readers.official(plain_azurite, CONTAINER, token) as client:
        refused = readers.refusal(lambda: client.download_blob(PLAIN_PATH))
        assert refused == readers.Refused(403, "AuthorizationProtocolMismatch")


def published_key_ids(issuer):
    discovery = f"{issuer.origin}/{issuer.tenant}/v2.0/.well-known/openid-configuration"
    document = issuer.session.get(discovery, timeout=servers.REQUEST_SECONDS_MAX).json()
    assert document["issuer"] == f"{issuer.origin}/{issuer.tenant}/v2.0"
    keys = issuer.session.get(document["jwks_uri"], timeout=servers.REQUEST_SECONDS_MAX).json()
    return {key["kid"] for key in keys["keys"]}


def test_the_issuer_publishes_what_it_signs_with_and_rolls_its_keys(issuer):
    before = jwt.get_unverified_header(issuer.token(oid="someone"))["kid"]
    assert before in published_key_ids(issuer)
    beside = issuer.roll(retire_old=False)
    assert published_key_ids(issuer) >= {before, beside}
    alone = issuer.roll(retire_old=True)
    assert published_key_ids(issuer) == {alone}
    assert jwt.get_unverified_header(issuer.token(oid="someone"))["kid"] == alone
