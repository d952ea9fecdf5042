"""Signatures: the example program against vectors that the official library makes just now.

The frozen vectors of every layout are a Rust test; these are new on every run, in the newest.
"""

import json
import secrets
import subprocess
from pathlib import Path

import pytest

import broker
import vectors

COUNT = 300


@pytest.fixture(scope="module")
def drawn():
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return vectors.lines(seed, COUNT)


def compare(directory: Path, lines: list[str]) -> subprocess.CompletedProcess:
    """Runs the example as a stranger would, on a file of vectors."""
    file = directory / "vectors.jsonl"
    file.write_text("\n".join(lines) + "\n")
    program = broker.BINARY.parent / "examples" / "sas_vectors"
    return subprocess.run([program, file], capture_output=True, text=True)


def test_every_vector_of_the_official_library_is_reproduced(tmp_path, drawn):
    ran = compare(tmp_path, drawn)
    assert f"{COUNT} passed, 0 failed" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 0


def test_a_vector_that_differs_in_one_parameter_is_told(tmp_path, drawn):
    altered = json.loads(drawn[0])
    altered["expected_params"]["sig"] = altered["expected_params"]["sig"].swapcase()
    ran = compare(tmp_path, [json.dumps(altered), *drawn[1:]])
    assert f"{COUNT - 1} passed, 1 failed" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 1
