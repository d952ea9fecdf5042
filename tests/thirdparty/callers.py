"""Load: threads that ask one broker for tokens without pause, and keep what they got."""

import contextlib
import hashlib
import threading
import time
from dataclasses import dataclass

import requests

import broker as under_test

WORKERS = 8


@dataclass(frozen=True)
class Answer:
    """What one request came to; `asked_at` is monotonic, `issuance` absent if it was refused."""

    asked_at: float
    status: int
    issuance: str | None = None
    # Of the signature's base64 text: what the journal holds of it.
    signature_sha256: str | None = None


class Callers:
    """They ask as the reader until told to stop, or until the broker is gone."""

    def __init__(self, broker: under_test.Broker) -> None:
        self._broker = broker
        self._bearer = broker.token_for(broker.reader)
        self._stopping = threading.Event()
        self._answered = threading.Condition()
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with requests.Session() as session, contextlib.suppress(requests.RequestException):
            while not self._stopping.is_set():
                asked_at = time.monotonic()
                response = self._broker.ask(self._bearer, session=session)
                with self._answered:
                    self.answers.append(self._kept(asked_at, response))
                    self._answered.notify_all()

    @staticmethod
    def _kept(asked_at: float, response: requests.Response) -> Answer:
        if response.status_code != 200:
            return Answer(asked_at, response.status_code)
        body = response.json()
        signature = under_test.signed_fields(body["token"])["sig"]
        digest = hashlib.sha256(signature.encode()).hexdigest()
        return Answer(asked_at, response.status_code, body["id"], digest)

    def wait_for(self, answers: int) -> None:
        """Returns when that many requests that began after this call have been answered."""
        since = time.monotonic()

        def have_come() -> bool:
            return sum(answer.asked_at > since for answer in self.answers) >= answers

        with self._answered:
            assert self._answered.wait_for(have_come, timeout=under_test.COMMAND_SECONDS_MAX)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(under_test.COMMAND_SECONDS_MAX)

    def received(self) -> dict[str, str]:
        """Every issuance that a caller holds, with the hash of its signature."""
        issued = (answer for answer in self.answers if answer.issuance)
        return {answer.issuance: answer.signature_sha256 for answer in issued}
