"""No record, no secret: whatever a client received before a SIGKILL is in the journal."""

import pytest

import broker as under_test
from callers import Callers

# Enough answers that several group commits are on their way at any moment.
ANSWERS_BEFORE_KILL = 150
ROUNDS = 3


def assert_recorded(received: dict[str, str], broker: under_test.Broker) -> None:
    """Every issuance is in the journal with that very signature, and the chains are whole."""
    records = [record for record in broker.audit_list() if record["kind"] == "issued"]
    recorded = {record["id"]: record["signature_sha256"] for record in records}
    assert {received_id: recorded.get(received_id) for received_id in received} == received
    broker.run("audit", "verify")


@pytest.fixture
def broker(directory, around, database):
    with under_test.serving(directory, around, database) as running:
        yield running


def test_every_token_a_client_received_before_a_kill_is_in_the_journal(broker):
    received: dict[str, str] = {}
    for _ in range(ROUNDS):
        callers = Callers(broker)
        try:
            callers.wait_for(ANSWERS_BEFORE_KILL)
        finally:
            broker.service.kill()
            callers.stop()
        received |= callers.received()
        broker.start()
    assert len(received) >= ROUNDS * ANSWERS_BEFORE_KILL
    assert_recorded(received, broker)


def test_an_orderly_stop_finishes_what_was_asked_and_ends_well(broker):
    callers = Callers(broker)
    try:
        callers.wait_for(ANSWERS_BEFORE_KILL)
    finally:
        status = broker.stop()
        callers.stop()
    assert status == 0
    assert {answer.status for answer in callers.answers} <= {200, 503}
    assert_recorded(callers.received(), broker)
