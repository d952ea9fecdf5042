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
    first, second = (run(DEPLOY / "config.compose.toml", *command, **database) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "partner-download" in first.stdout
    assert second.returncode == 0, second.stderr
    assert "partner-download" not in second.stdout
