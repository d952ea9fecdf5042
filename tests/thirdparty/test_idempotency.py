"""`Idempotency-Key`: a repeated request gets the token of the first time, and no other."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import broker as under_test
import readers
from conftest import AWKWARD_PATH, BLOBS, CONTAINER, PLAIN_PATH

# What a repetition answers just as the first time did.
SAME = ("id", "starts_at", "expires_at", "permissions", "path")
SIMULTANEOUS = 16


@pytest.fixture
def broker(directory, around, database):
    with under_test.serving(directory, around, database) as running:
        yield running


@pytest.fixture
def key():
    return str(uuid.uuid4())


def same(answer: dict) -> dict:
    return {name: answer[name] for name in SAME}


def told(result: dict) -> dict | str:
    """One item of a batch's answer: what must be the same again, or the problem's code."""
    return same(result["sas"]) if "sas" in result else result["problem"]["code"]


def kinds_of(broker: under_test.Broker, issuance: str) -> list[str]:
    """The kinds of the records of one issuance, oldest first."""
    listed = broker.audit_list()
    return [record["kind"] for record in reversed(listed) if record.get("id") == issuance]


def test_a_repetition_gets_the_recorded_id_and_window_even_from_the_next_process(
    azurite, broker, key
):
    bearer = broker.token_for(broker.reader)

    def ask() -> dict:
        answer = broker.ask(bearer, path=PLAIN_PATH, idempotency_key=key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    first, second = ask(), ask()
    broker.service.kill()
    broker.start()
    third = ask()
    assert same(second) == same(third) == same(first)
    for answer in (first, second, third):
        with readers.official(azurite, CONTAINER, answer["token"]) as client:
            assert client.download_blob(PLAIN_PATH).readall() == BLOBS[PLAIN_PATH]
    assert kinds_of(broker, first["id"]) == ["issued", "replayed", "replayed"]
    broker.run("audit", "verify")


def test_simultaneous_repetitions_are_one_issuance(broker, key):
    bearer = broker.token_for(broker.reader)

    def ask(_: int) -> dict:
        answer = broker.ask(bearer, path=PLAIN_PATH, idempotency_key=key)
        assert answer.status_code == 200, answer.text
        return same(answer.json())

    with ThreadPoolExecutor(SIMULTANEOUS) as workers:
        first, *others = workers.map(ask, range(SIMULTANEOUS))
    assert others == [first] * (SIMULTANEOUS - 1)
    expected = ["issued"] + ["replayed"] * (SIMULTANEOUS - 1)
    assert kinds_of(broker, first["id"]) == expected


def test_a_repeated_batch_gets_every_id_again_in_its_place(broker, key):
    bearer = broker.token_for(broker.reader)
    requests = [
        under_test.wanted(path=PLAIN_PATH),
        under_test.wanted(path="a//b"),
        under_test.wanted(path=PLAIN_PATH, permissions="w"),
        under_test.wanted(path=AWKWARD_PATH),
    ]

    def ask() -> list:
        body = {"requests": requests}
        answer = broker.post("/v1/sas/batch", bearer, body, idempotency_key=key)
        assert answer.status_code == 200, answer.text
        return [told(result) for result in answer.json()["results"]]

    first = ask()
    assert first[1:3] == ["invalid-request", "permission-not-granted"]
    assert ask() == first


def test_a_key_belongs_to_one_caller_and_one_request(broker, key):
    bearer, other = (broker.token_for(oid) for oid in (broker.reader, broker.writer))
    first = broker.ask(bearer, path=PLAIN_PATH, idempotency_key=key)
    assert first.status_code == 200, first.text
    changed = broker.ask(bearer, idempotency_key=key)
    assert (changed.status_code, changed.json()["code"]) == (422, "idempotency-key-reused")
    theirs = broker.ask(other, path=PLAIN_PATH, idempotency_key=key)
    assert theirs.status_code == 200, theirs.text
    assert theirs.json()["id"] != first.json()["id"]


def test_a_repetition_after_the_grant_was_removed_is_refused(broker, key):
    bearer = broker.token_for(broker.reader)
    assert broker.ask(bearer, path=PLAIN_PATH, idempotency_key=key).status_code == 200
    broker.apply_policy(without=broker.reader)
    again = broker.ask(bearer, path=PLAIN_PATH, idempotency_key=key)
    assert (again.status_code, again.json()["code"]) == (403, "no-grant")
