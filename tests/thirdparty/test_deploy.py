"""The files under `deploy/` speak the binary's language: keys and policies that it accepts."""

import subprocess
from pathlib import Path

import pytest

import broker as under_test
import toolbox

DEPLOY = toolbox.ROOT / "deploy"


def run(configuration: Path, *arguments: str | Path, **environment: str):
    command = [under_test.BINARY, "--config", configuration, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["config.compose.toml", "config.systemd.toml"])
def test_the_configurations_are_valid(name):
    checked = run(DEPLOY / name, "config", "check")
    assert checked.returncode == 0, checked.stderr


def test_the_example_policy_can_be_applied_and_then_changes_nothing_more(tmp_path):
    database = {"SAS_BROKER__DATABASE__URL": f"sqlite://{tmp_path / 'broker.db'}"}
    command = ("apply", "-f", DEPLOY / "policy.example.yaml")
    rounds = [*command, "--dry-run"], command, command
    dry, first, second = (run(DEPLOY / "config.compose.toml", *one, **database) for one in rounds)
    for ran in (dry, first, second):
        assert ran.returncode == 0, ran.stderr
    assert "none made (--dry-run)" in dry.stdout
    # Had the dry run changed anything, there would be nothing left to change.
    assert "partner-download" in dry.stdout and "partner-download" in first.stdout
    assert second.stdout == "nothing to change\n"
