"""How soon a process answers: replicas come and go, and a restart is an outage while it lasts.

The real bound is a release build's: `cargo build --release --bins --examples`, then
`SAS_BROKER_BIN=target/release/sas-broker make test-thirdparty`. The debug build that the tests
usually run must only not be absurd.
"""

import re
import time
from pathlib import Path

import pytest

import broker as under_test
from databases import Sqlite

GRANTS = 1_000
STARTS = 5
IS_RELEASE = under_test.BINARY.parent.name == "release"
READY_SECONDS_MAX = 0.2 if IS_RELEASE else 2.0
POLL_SECONDS = 0.002


@pytest.fixture
def broker(directory, around):
    broker = under_test.Broker(directory, around, Sqlite.create(directory))
    broker.apply_policy(strangers=GRANTS)
    yield broker
    broker.stop()


def resident_mib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1024


def test_a_process_with_a_thousand_grants_is_ready_at_once(broker, capsys):
    token = broker.token_for(broker.reader)
    ready, issued = [], []
    for start in range(STARTS):
        if start:
            assert broker.stop() == 0
        began = time.monotonic()
        broker.launch()
        while not broker.is_ready():
            assert broker.service.process.poll() is None, broker.log.read_text()
            time.sleep(POLL_SECONDS)
        ready.append(time.monotonic() - began)
        resident = resident_mib(broker.service.process.pid)
        assert broker.ask(token).status_code == 200
        issued.append(time.monotonic() - began)
    with capsys.disabled():
        print(
            f"\n{GRANTS} grants, best of {STARTS} starts: ready after {min(ready) * 1000:.0f} ms, "
            f"first token after {min(issued) * 1000:.0f} ms, {resident} MiB resident when idle"
        )
    # The best, because the others measure what else this machine does.
    assert min(ready) < READY_SECONDS_MAX
