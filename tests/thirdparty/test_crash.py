"""No record, no secret: whatever a client received before a SIGKILL is in the journal."""

import contextlib
import hashlib
import threading

import pytest
import requests

import broker as under_test

WORKERS = 8
# Enough answers that several group commits are on their way at any moment.
ANSWERS_BEFORE_KILL = 150
ROUNDS = 3


class Callers:
    """Threads that ask for tokens without pause until the broker is gone."""

    def __init__(self, broker: under_test.Broker) -> None:
        self._broker = broker
        self._bearer = broker.token_for(broker.reader)
        self._enough = threading.Semaphore(0)
        # By issuance id: the hash of the signature, which is what the journal holds of it.
        self.received: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._ask) for _ in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with requests.Session() as session, contextlib.suppress(requests.RequestException):
            while True:
                answer = self._broker.ask(self._bearer, session=session)
                if answer.status_code != 200:
                    continue
                issued = answer.json()
                signature = under_test.signed_fields(issued["token"])["sig"]
                self.received[issued["id"]] = hashlib.sha256(signature.encode()).hexdigest()
                self._enough.release()

    def wait_for(self, answers: int) -> None:
        for _ in range(answers):
            assert self._enough.acquire(timeout=under_test.COMMAND_SECONDS_MAX)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(under_test.COMMAND_SECONDS_MAX)


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
            callers.join()
        received |= callers.received
        broker.start()
    assert len(received) >= ROUNDS * ANSWERS_BEFORE_KILL
    assert_recorded(received, broker)


def test_an_orderly_stop_finishes_what_was_asked_and_ends_well(broker):
    callers = Callers(broker)
    try:
        callers.wait_for(ANSWERS_BEFORE_KILL)
    finally:
        status = broker.stop()
        callers.join()
    assert status == 0
    assert_recorded(callers.received, broker)
