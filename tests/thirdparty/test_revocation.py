"""A revocation is final: once another process has committed it, no token is given out."""

import time

import pytest

import broker as under_test
from callers import Callers

ANSWERS_AROUND_THE_REVOCATION = 100


@pytest.fixture
def broker(directory, around, database):
    with under_test.serving(directory, around, database) as running:
        yield running


def test_no_token_after_a_grant_was_removed_by_another_process(broker):
    callers = Callers(broker)
    try:
        callers.wait_for(ANSWERS_AROUND_THE_REVOCATION)
        broker.apply_policy(without=broker.reader)
        revoked_at = time.monotonic()
        callers.wait_for(ANSWERS_AROUND_THE_REVOCATION)
    finally:
        callers.stop()
    after = [answer.status for answer in callers.answers if answer.asked_at > revoked_at]
    assert set(after) == {403}
    before = [answer.status for answer in callers.answers if answer.asked_at <= revoked_at]
    assert set(before) <= {200, 403}
    assert before.count(200) >= ANSWERS_AROUND_THE_REVOCATION
    # The journal's order says the same: nothing was released on an older table after the change.
    released = [record for record in broker.audit_list() if record["kind"] == "issued"]
    assert len({record["policy_version"] for record in released}) == 1
    broker.run("audit", "verify")
