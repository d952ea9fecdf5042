"""The commands that a newcomer types: what they print is so, and their exit codes tell."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import broker as under_test
import services
from conftest import PLAIN_PATH

# Warm, on two idle cores, even a debug build takes two seconds. This only finds a demo that waits for
# something, in minutes of the machine's own clock.
DEMO_SECONDS_MAX = 30.0


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    command = [under_test.BINARY, *arguments]
    seconds = under_test.COMMAND_SECONDS_MAX
    options = {"capture_output": True, "text": True, "timeout": seconds}
    return subprocess.run(command, env=environment, **options)


def test_the_demo_comes_out_as_told_quickly_and_plain_when_piped():
    run("demo")
    began = time.monotonic()
    told = run("demo")
    seconds = time.monotonic() - began
    assert told.returncode == 0, told.stdout + told.stderr
    assert "steps came out as told" in told.stdout.splitlines()[-1]
    assert "\x1b" not in told.stdout + told.stderr
    assert seconds < DEMO_SECONDS_MAX


def test_the_demo_is_coloured_where_the_user_insists():
    assert "\x1b[" in run("demo", CLICOLOR_FORCE="1").stdout


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def dev(request, tmp_path):
    """What a running `dev` printed; whichever signal ends it, it leaves nothing behind."""
    log = tmp_path / "dev.log"
    command = [under_test.BINARY, "dev", "--port", str(services.free_port())]
    service = services.Service("dev", command, log, env={"TMPDIR": str(tmp_path)})
    try:
        service.wait_until(lambda: log.read_text().endswith("\n\n"))
        yield log.read_text()
    finally:
        status = service.stop(request.param)
    assert status == 0
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
def test_the_lines_that_dev_prints_work_as_they_stand(dev):
    script = dev.split("\n", 1)[1]
    command = ["bash", "-euo", "pipefail", "-c", script]
    options = {"capture_output": True, "text": True, "timeout": under_test.COMMAND_SECONDS_MAX}
    pasted = subprocess.run(command, env={"PATH": os.environ["PATH"]}, **options)
    assert pasted.returncode == 0, pasted.stderr
    issued, explained, reachable, *blob = pasted.stdout.splitlines()
    assert json.loads(issued)["path"] == PLAIN_PATH
    assert not json.loads(explained)["allowed"]
    (grant,) = json.loads(reachable)["grants"]
    assert (grant["permissions"], grant["container"]) == ("rl", "raw")
    assert blob[:2] == ["day,value", "1,42"]


@pytest.mark.parametrize(
    ("written", "instead", "told"),
    [
        ('listen = "127.0.0.1:8080"', 'listen = "here"', ["server.listen"]),
        ('listen = "127.0.0.1:8080"', 'listen = "0.0.0.0:80"', ["server.listen", "tls_key"]),
        ("shutdown_seconds = 30", "shutdown = 30", ["server", "shutdown_seconds"]),
        ('name = "public"', 'name = "mars"', ["cloud.name", "us_government"]),
        ('audiences = ["api://sas-broker"]', "audiences = []", ["entra.audiences"]),
        ("connections_max = 8", "connections_max = 1", ["database.connections_max", "2 to 100"]),
        ("lifetime_seconds_min = 60", "lifetime_seconds_min = 901", ["lifetime_seconds_min"]),
        ('kind = "managed_identity"', 'kind = "magic"', ["credentials.default", "developer"]),
        ('filter = "info"', 'filter = "a=loud"', ["log.filter"]),
    ],
)
def test_a_wrong_configuration_is_refused_by_the_name_of_its_key_with_a_way_out(
    tmp_path, written, instead, told
):
    example = run("config", "example").stdout
    assert written in example
    file = tmp_path / "config.toml"
    file.write_text(example.replace(written, instead))
    for command in (["config", "check"], ["serve"]):
        refused = run("--config", file, *command)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"error: configuration {file}")
        assert not [part for part in told if part not in refused.stderr], refused.stderr


def test_an_override_from_the_environment_is_checked_by_the_same_rules(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(run("config", "example").stdout)
    many = run("--config", file, "config", "check", SAS_BROKER__ENTRA__AUDIENCES="api://a,api://b")
    assert many.returncode == 0, many.stderr
    wrong = run("--config", file, "config", "check", SAS_BROKER__SERVER__LISEN="127.0.0.1:1")
    assert wrong.returncode == 1
    assert "lisen" in wrong.stderr
