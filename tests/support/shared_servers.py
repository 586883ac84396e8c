"""Redis and PostgreSQL in processes of their own, on free ports, with nothing left of them afterwards."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from millrace.stores.postgres import migrations
from millrace.stores.postgres.connection import Connection
from millrace.stores.redis import link
from tests.support.namespaces import Host
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S

START_S = 60.0


@dataclass(slots=True)
class SharedServer:
    """One server of a store. It can be stopped, started again, and hung."""

    url: str
    command: list[str]
    user: int | None  # who runs it; None: whoever runs the tests
    log: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, user=self.user, start_new_session=True, cwd="/"
            )
        deadline = time.monotonic() + START_S
        while b"eady to accept connections" not in self.log.read_bytes():  # both say so, with other first letters
            assert self.process.poll() is None, self.log.read_text("utf-8", "replace")
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it with all its processes, and wait for its end."""
        if self.process is not None:
            self._send(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def hang(self) -> None:
        """Have it answer nothing, with its sockets open."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """End `hang`."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes, each of which has a session of its own in PostgreSQL."""
        assert self.process is not None
        for pid in (self.process.pid, *_children(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def restart(self, away_s: float = 0.0) -> None:
        """Kill it, and start it again after so many seconds."""
        await asyncio.to_thread(self.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self.start)


def patient_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Redis is late, and not away; what is about its deadlines undoes this."""
    monkeypatch.setattr(link, "_patience", lambda _: asyncio.timeout(PATIENCE_S))
    monkeypatch.setattr(link, "SOON_S", PATIENCE_S)


@contextmanager
def redis_server(*options: str, at: Host | None = None) -> Iterator[SharedServer]:
    """Run Redis, on a host of its own if one is named. It stores nothing, unless options say so."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed; install it with: apt install redis-server")
    port = free_port()
    with TemporaryDirectory(prefix="millrace-redis-") as folder:
        plain = ("--save", "", "--appendonly", "no", "--protected-mode", "no")
        prefix, address = ([], "127.0.0.1") if at is None else (at.prefix, at.address)
        command = [*prefix, program, "--port", str(port), "--bind", address, "--dir", folder, *plain, *options]
        yield from _running(SharedServer(f"redis://{address}:{port}/0", command, None, Path(folder) / "log"))


@contextmanager
def postgres_server() -> Iterator[SharedServer]:
    """Run PostgreSQL with an empty database. It cares less for its disk than it should."""
    initdb = _postgres_program("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed; install it with: apt install postgresql")
    port = free_port()
    account = _account()
    with TemporaryDirectory(prefix="millrace-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if account is not None:
            os.chown(folder, account, -1)
        data = str(folder / "data")
        made = [initdb, "-D", data, "-U", "millrace", "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale"]
        subprocess.run(made, check=True, capture_output=True, user=account, cwd="/")
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options |= {"max_connections": 100, "shared_buffers": "16MB"}
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command = [str(Path(initdb).with_name("postgres")), "-D", data, *flags]
        url = f"postgresql://millrace@127.0.0.1:{port}/postgres"
        yield from _running(SharedServer(url, command, account, folder / "log"))


def _running(server: SharedServer) -> Iterator[SharedServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def _postgres_program(name: str) -> str | None:
    """Return the newest of its kind: Debian does not put them on the path."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(beside[-1]) if beside else shutil.which(name)


def _account() -> int | None:
    """Return who runs PostgreSQL, which root must not."""
    if os.getuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres").pw_uid
    return pwd.getpwnam("nobody").pw_uid


def with_tables(server: SharedServer, schema: str) -> str:
    """Make the tables of a service in PostgreSQL; return its name."""
    connection = Connection(server.url, schema)
    migrations.upgrade(connection, schema)
    connection.close()
    return schema
