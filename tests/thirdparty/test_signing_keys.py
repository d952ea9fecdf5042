"""Tokens of an issuer that is not ours, whose signing keys roll over while callers keep calling."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import broker as under_test
from conftest import CONTAINER, PLAIN_PATH
from databases import Sqlite

REQUESTS = 200
WORKERS = 8


@pytest.fixture(scope="module")
def broker(directory, around):
    """One that holds the issuer's keys, and has met no unknown key id in the last five minutes."""
    with under_test.serving(directory, around, Sqlite.create(directory)) as running:
        running.issued(running.reader)
        yield running


def test_a_key_roll_over_refuses_nobody(broker, issuer):
    """Every request carries a token of its own, signed with the newest key at that moment."""

    def one(number: int) -> int:
        if number == REQUESTS // 2:
            issuer.roll(retire_old=False)
        token = broker.token_for(broker.reader)
        return broker.ask(token, container=CONTAINER, path=PLAIN_PATH).status_code

    jwks = f"/{issuer.tenant}/v2.0/jwks"
    asked_before = issuer.requests()[jwks]
    with ThreadPoolExecutor(WORKERS) as workers:
        statuses = list(workers.map(one, range(REQUESTS)))
    assert set(statuses) == {200}
    # One unknown key id, met by several requests at once, is one look at the issuer's keys.
    assert issuer.requests()[jwks] == asked_before + 1


def test_tokens_that_the_issuer_signed_but_that_are_not_for_us_are_refused(broker):
    def status(**claims: object) -> int:
        return broker.ask(broker.token_for(broker.reader, **claims)).status_code

    assert status() == 200
    wrong = {
        "another audience": {"aud": "api://other"},
        "another tenant": {"tid": str(uuid.uuid4())},
        "another issuer": {"iss": f"https://issuer.example/{uuid.uuid4()}/v2.0"},
        "no object id": {"oid": None},
        "no expiry": {"exp": None},
        "expired": {"exp": 1_700_000_000},
        "not yet valid": {"nbf": 4_000_000_000},
    }
    refused = {what: status(**claims) for what, claims in wrong.items()}
    assert refused == dict.fromkeys(wrong, 401)
    assert status(roles=None) == 403
