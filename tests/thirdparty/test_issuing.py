"""What the broker issues opens what it says, as long as it says, with other people's code."""

from datetime import UTC, datetime

import obstore
import pytest

import broker as under_test
import readers
from conftest import AWKWARD_PATH, BLOBS, CONTAINER, OTHER_CONTAINER, PLAIN_PATH

WRONG_VERB = readers.Refused(403, "AuthorizationPermissionMismatch")
WRONG_PLACE_OR_TIME = readers.Refused(403, "AuthorizationFailure")
WRONG_PROTOCOL = readers.Refused(403, "AuthorizationProtocolMismatch")


@pytest.fixture(scope="module")
def container_token(broker):
    return broker.issued(broker.reader, permissions="rl")["token"]


def test_a_container_sas_lists_and_reads_with_the_official_client(azurite, container_token):
    with readers.official(azurite, CONTAINER, container_token) as client:
        assert {blob.name for blob in client.list_blobs()} == set(BLOBS)
        for path, content in BLOBS.items():
            assert client.download_blob(path).readall() == content


def test_a_container_sas_lists_and_reads_with_obstore(azurite, container_token):
    with readers.independent(azurite, CONTAINER, container_token) as store:
        assert readers.listed(store) == set(BLOBS)
        for path, content in BLOBS.items():
            assert readers.read(store, path) == content


def test_a_reader_is_refused_every_change_by_both_clients(azurite, container_token):
    with readers.official(azurite, CONTAINER, container_token) as client:
        changes = {
            "create": lambda: client.upload_blob("new", b"x"),
            "overwrite": lambda: client.upload_blob(PLAIN_PATH, b"x", overwrite=True),
            "delete": lambda: client.delete_blob(PLAIN_PATH),
        }
        refused = {what: readers.refusal(change) for what, change in changes.items()}
    assert refused == dict.fromkeys(changes, WRONG_VERB)
    with readers.independent(azurite, CONTAINER, container_token) as store:
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            obstore.put(store, "new", b"x")


def test_a_sas_opens_no_other_container(azurite, container_token):
    with readers.official(azurite, OTHER_CONTAINER, container_token) as client:
        assert readers.refusal(lambda: client.download_blob(PLAIN_PATH)) == WRONG_PLACE_OR_TIME


@pytest.mark.parametrize("path", BLOBS)
def test_a_blob_sas_opens_that_blob_and_nothing_else(azurite, broker, path):
    token = broker.issued(broker.reader, path=path)["token"]
    (neighbour,) = set(BLOBS) - {path}
    with readers.official(azurite, CONTAINER, token) as client:
        assert client.download_blob(path).readall() == BLOBS[path]
        assert readers.refusal(lambda: client.download_blob(neighbour).readall())
        assert readers.refusal(lambda: list(client.list_blobs()))
    with readers.independent(azurite, CONTAINER, token) as store:
        assert readers.read(store, path) == BLOBS[path]
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            readers.read(store, neighbour)


def test_a_contributor_writes_with_a_sas_and_reads_it_back(azurite, broker):
    token = broker.issued(broker.writer, path="upload/new.csv", permissions="rcw")["token"]
    with readers.official(azurite, CONTAINER, token) as client:
        client.upload_blob("upload/new.csv", b"fresh")
        assert client.download_blob("upload/new.csv").readall() == b"fresh"
        assert readers.refusal(lambda: client.delete_blob("upload/new.csv")) == WRONG_VERB
    with azurite.as_owner() as owner:
        owner.get_blob_client(CONTAINER, "upload/new.csv").delete_blob()


def test_a_sas_ends_when_the_answer_says_so(shifted_azurite, storage_clock, broker):
    answer = broker.issued(broker.reader, path=PLAIN_PATH, lifetime_seconds=120)
    starts, expires = (datetime.fromisoformat(answer[name]) for name in ("starts_at", "expires_at"))
    now = datetime.now(UTC)
    offsets = {
        "before it starts": int((starts - now).total_seconds()) - 5,
        "now": 0,
        "just before it ends": int((expires - now).total_seconds()) - 20,
        "just after it has ended": int((expires - now).total_seconds()) + 2,
    }
    outcomes = {}
    with readers.official(shifted_azurite, CONTAINER, answer["token"]) as client:
        for moment, offset in offsets.items():
            storage_clock.shift(offset)
            outcomes[moment] = readers.refusal(lambda: client.download_blob(PLAIN_PATH))
    assert outcomes == {
        "before it starts": WRONG_PLACE_OR_TIME,
        "now": None,
        "just before it ends": None,
        "just after it has ended": WRONG_PLACE_OR_TIME,
    }


def test_a_sas_is_refused_over_plain_http(plain_azurite, container_token):
    with readers.official(plain_azurite, CONTAINER, container_token) as client:
        assert readers.refusal(lambda: client.download_blob(PLAIN_PATH)) == WRONG_PROTOCOL


def test_the_answer_reports_what_is_signed(broker):
    answer = broker.issued(broker.reader, path=AWKWARD_PATH, ip="203.0.113.7")
    signed = under_test.signed_fields(answer["token"])
    assert (signed["st"], signed["se"]) == (answer["starts_at"], answer["expires_at"])
    assert (signed["sp"], signed["sr"], signed["spr"]) == ("r", "b", "https")
    assert (signed["sip"], signed["sv"]) == ("203.0.113.7", "2025-11-05")
    assert (signed["skoid"], signed["sktid"]) == (
        broker.around.issuer.client.object_id,
        broker.around.issuer.tenant,
    )
    assert signed["se"] <= signed["ske"]
    assert "scid" not in signed
    assert answer["url"].endswith(f"?{answer['token']}")


def test_the_url_of_the_answer_opens_the_blob_as_it_stands(azurite, broker, issuer):
    url = broker.issued(broker.reader, path=AWKWARD_PATH)["url"]
    got = issuer.session.get(url, timeout=under_test.COMMAND_SECONDS_MAX)
    assert (got.status_code, got.content) == (200, BLOBS[AWKWARD_PATH])


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"permissions": "rw"}, "permission-not-granted"), ({"container": "other"}, "no-grant")],
)
def test_over_asking_is_refused_with_a_problem_and_no_token(broker, asked, code):
    answer = broker.ask(broker.token_for(broker.reader), **asked)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "sig=" not in answer.text
