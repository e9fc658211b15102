"""A PostgreSQL server on loopback, of Debian's packages: started by a user who is not root, as it refuses root."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from tests.stack.user import give, ordinary

MISSING = "PostgreSQL or openssl is not installed here: `apt-get install postgresql openssl` brings them."


def program(name: str) -> str | None:
    """Where a program of PostgreSQL's lies; Debian keeps most of them off the PATH."""
    found = [str(path) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    return shutil.which(name) or (max(found) if found else None)


def installed() -> bool:
    """Whether a server can be started, and certificates made."""
    return bool(program("initdb") and program("postgres") and shutil.which("openssl"))


@contextmanager
def postgres(port: int, password: str) -> Iterator[subprocess.Popen]:
    """A server with the user and the database `prefect`, while the body runs."""
    folder = Path(tempfile.mkdtemp(prefix="maskmill-postgres-"))
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        give(path)
    said = ordinary()
    data = str(folder / "data")
    secret = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    made = [program("initdb"), "-D", data, "-U", "prefect", *secret, "--encoding=UTF8", "--locale=C.UTF-8"]
    try:
        subprocess.run(made, cwd=folder, check=True, capture_output=True, **said)
        here = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", str(port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program("postgres"), "-D", data, *here], cwd=folder, stdout=log, stderr=log, **said
            )
        try:
            asyncio.run(_made("prefect", port, password, process))
            yield process
        finally:
            process.send_signal(signal.SIGINT)  # which it calls a fast end
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _made(database: str, port: int, password: str, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            link = await asyncpg.connect(
                host="127.0.0.1", port=port, user="prefect", password=password, database="postgres"
            )
            break
        except (OSError, asyncpg.PostgresError):
            if process.poll() is not None or time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
    await link.execute(f"create database {database}")
    await link.close()


def asked(port: int, password: str, question: str) -> list[tuple[object, ...]]:
    """The rows that a question to the database gives."""

    async def ask() -> list[tuple[object, ...]]:
        link = await asyncpg.connect(host="127.0.0.1", port=port, user="prefect", password=password, database="prefect")
        try:
            return [tuple(row.values()) for row in await link.fetch(question)]
        finally:
            await link.close()

    return asyncio.run(ask())
