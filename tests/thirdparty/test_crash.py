"""No record, no secret: whatever a client received before a SIGKILL is in the journal."""

import contextlib
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
        self.received: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with requests.Session() as session, contextlib.suppress(requests.RequestException):
            while True:
                answer = self._broker.ask(self._bearer, session=session)
                if answer.status_code != 200:
                    continue
                self.received.append(answer.json()["id"])
                self._enough.release()

    def wait_for(self, answers: int) -> None:
        for _ in range(answers):
            assert self._enough.acquire(timeout=under_test.COMMAND_SECONDS_MAX)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(under_test.COMMAND_SECONDS_MAX)


@pytest.fixture
def broker(directory, around, database):
    with under_test.serving(directory, around, database) as running:
        yield running


def test_every_token_a_client_received_before_a_kill_is_in_the_journal(broker):
    received: list[str] = []
    for _ in range(ROUNDS):
        callers = Callers(broker)
        try:
            callers.wait_for(ANSWERS_BEFORE_KILL)
        finally:
            broker.service.kill()
            callers.join()
        received += callers.received
        broker.start()
    recorded = {record["id"] for record in broker.audit_list() if record["kind"] == "issued"}
    assert len(received) >= ROUNDS * ANSWERS_BEFORE_KILL
    assert len(set(received)) == len(received)
    assert set(received) <= recorded
    broker.run("audit", "verify")


def test_an_orderly_stop_finishes_what_was_asked_and_ends_well(broker):
    callers = Callers(broker)
    try:
        callers.wait_for(ANSWERS_BEFORE_KILL)
    finally:
        status = broker.stop()
        callers.join()
    assert status == 0
    recorded = {record["id"] for record in broker.audit_list() if record["kind"] == "issued"}
    assert set(callers.received) <= recorded
    broker.run("audit", "verify")
