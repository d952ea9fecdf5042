"""The two databases that the broker may keep its tables in, as the proofs need them."""

import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import toolbox


@dataclass(frozen=True)
class Sqlite:
    """A file in a folder of its own."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> "Sqlite":
        folder = directory / f"sqlite-{uuid.uuid4()}"
        folder.mkdir()
        return cls(folder)

    @property
    def url(self) -> str:
        return f"sqlite://{self.directory / 'broker.db'}"

    def contents(self) -> bytes:
        """Every byte on disk, the write-ahead log included."""
        return b"".join(file.read_bytes() for file in sorted(self.directory.iterdir()))


@dataclass(frozen=True)
class Postgres:
    """A database of its own on the server that `tests/tools` started."""

    url: str

    @classmethod
    def create(cls, administrator_url: str) -> "Postgres":
        name = f"thirdparty_{uuid.uuid4().hex}"
        _postgres_tool("createdb", f"--maintenance-db={administrator_url}", name)
        return cls(urlsplit(administrator_url)._replace(path=f"/{name}").geturl())

    def contents(self) -> bytes:
        """All rows of all tables, as text."""
        return _postgres_tool("pg_dump", "--inserts", f"--dbname={self.url}")


def _postgres_tool(tool: str, *arguments: str) -> bytes:
    package, _ = toolbox.postgres_directories()
    command = [package / "pginstall/bin" / tool, *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout
