"""Starts and stops the servers the tests need: child processes on loopback, ended by their pid.

What is installed and where is in `toolbox.py`. What the broker is asked is in `tests/thirdparty`.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import toolbox

POSTGRES_URL = "SAS_BROKER_TEST_POSTGRES_URL"

# Longest wait until a server answers. All of them are up within 2 s on an idle 2-core machine.
START_SECONDS_MAX = 60.0
# Longest wait for an orderly end before the process is killed.
STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.05
LOG_TAIL_CHARACTERS = 4_000
# Each Rust storage test opens a small pool of its own, and the tests run on all cores.
POSTGRES_CONNECTIONS_MAX = 300


class ServiceFailed(Exception):
    """A server that ended or stayed silent. Its text carries the end of the server's own log."""


class Service:
    """One child process with its log file. Use `running` unless the test itself ends it."""

    def __init__(self, name: str, command: list[str | Path], log: Path, **options: object) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, **options
            )

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not is_ready():
            if self.process.poll() is not None:
                raise self._failed(f"ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise self._failed(f"did not answer within {START_SECONDS_MAX:.0f} s")
            time.sleep(POLL_SECONDS)

    def _failed(self, what: str) -> ServiceFailed:
        tail = self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
        return ServiceFailed(f"{self.name} {what}; the end of its log:\n{tail}")

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Ends the process in order, or kills it after `STOP_SECONDS_MAX`; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL: no handler runs, nothing is flushed."""
        self.process.kill()
        return self.process.wait()


@contextlib.contextmanager
def running(service: Service, is_ready: Callable[[], bool]) -> Iterator[Service]:
    try:
        service.wait_until(is_ready)
        yield service
    finally:
        service.stop()


def free_port() -> int:
    """A loopback port that was free just now. Fine for tests: a taken port fails the start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    """True when something accepts TCP connections on the loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def environment_with_postgres(stack: contextlib.ExitStack, skips: toolbox.Skips) -> dict[str, str]:
    """The environment for a command that may use PostgreSQL, which `stack` stops again.

    A server that is named by the caller's environment already is used as it is. One that cannot be
    had or started is skipped aloud.
    """
    environment = dict(os.environ)
    if POSTGRES_URL in environment:
        return environment
    try:
        toolbox.ensure(toolbox.POSTGRES_PARTS)
        environment[POSTGRES_URL] = stack.enter_context(postgres())
    except (toolbox.Missing, ServiceFailed) as error:
        skips.add("every test on PostgreSQL", error)
    return environment


def stop_on_sigterm() -> None:
    """Lets SIGTERM unwind the program, so that it stops what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A throw-away PostgreSQL server; yields the URL of its administrator database."""
    with tempfile.TemporaryDirectory(prefix="sas-broker-postgres-") as scratch_name:
        scratch = Path(scratch_name)
        installed, identity = _postgres_for_this_user(scratch)
        password = secrets.token_urlsafe(24)
        _initialise_cluster(installed, scratch, password, identity)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": POSTGRES_CONNECTIONS_MAX,
            # The data does not outlive the test, so that a power cut need not be survived.
            "fsync": "off",
        }
        flags = [flag for key, value in settings.items() for flag in ("-c", f"{key}={value}")]
        server = Service(
            "PostgreSQL",
            [installed / "bin/postgres", "-D", scratch / "data", *flags],
            scratch / "log",
            cwd=scratch,
            **identity,
        )
        probe = [installed / "bin/pg_isready", "--quiet", "-h", "127.0.0.1", "-p", str(port)]
        try:
            server.wait_until(lambda: subprocess.run(probe).returncode == 0)
            yield f"postgres://sas_broker_test:{password}@127.0.0.1:{port}/postgres"
        finally:
            # SIGINT is PostgreSQL's "fast shutdown": it does not wait for forgotten clients.
            server.stop(signal.SIGINT)


def _postgres_for_this_user(scratch: Path) -> tuple[Path, dict[str, object]]:
    """PostgreSQL refuses root, so root runs a copy of it as `nobody`.

    A copy, because the checkout may lie where `nobody` cannot read, and its permissions are not
    ours to change.
    """
    package, libraries = toolbox.postgres_directories()
    if os.geteuid() != 0:
        return package / "pginstall", {}
    nobody = pwd.getpwnam("nobody")
    for source in (package, libraries):
        shutil.copytree(source, scratch / source.name, symlinks=True)
    for path in (scratch, *scratch.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return scratch / package.name / "pginstall", identity


def _initialise_cluster(
    installed: Path, scratch: Path, password: str, identity: dict[str, object]
) -> None:
    password_file = scratch / "password"
    password_file.write_text(password)
    if identity:
        os.chown(password_file, identity["user"], identity["group"])
    flags = ["--username=sas_broker_test", f"--pwfile={password_file}", "--auth=scram-sha-256"]
    flags += ["--encoding=UTF8", "--no-locale", "--no-sync"]
    command = [installed / "bin/initdb", "-D", scratch / "data", *flags]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=scratch, **identity)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServiceFailed(f"initdb: {error} {getattr(error, 'stderr', '')}") from error
    password_file.unlink()
