"""`millrace serve --workers N`: a supervisor has N processes serve one port, and starts another for each that dies.

The supervisor serves nothing itself. It holds the port and the claim of data_dir, passes signals on, and replaces its
workers one after the other on SIGUSR1. A worker knows it by its standard input, which ends with the supervisor: then
the worker drains, too.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from millrace import app, assembly, log
from millrace.cli.serving import MAY_SHARE_PORT, address, claim, private, reserve, run, shared
from millrace.ports import Claim
from millrace.ports.replicas import Worker
from millrace.settings import IN_MEMORY, Fault, ServerSettings, Settings
from millrace.settings.changes import Source
from millrace.web.server import REPLACE, has_terminal

MOST = 64
LONG_S = 10.0  # after which a worker that dies has not failed to start
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before the next one, after one that died earlier
LOOK_S = 0.02  # between two looks whether a worker serves
START_S = 60.0  # for it to do so
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor tells a worker, as `--worker` in JSON."""

    folder: str
    number: int
    count: int
    strangers: list[str]
    listener: int | None  # a socket that it inherits; None: it binds the port, too


class Child:
    """One worker, as its supervisor sees it."""

    def __init__(self, process: asyncio.subprocess.Process, path: Path) -> None:
        self.process = process
        self.began_at = time.monotonic()
        self._path = path  # which it writes once it serves
        self.is_replaced = False

    async def serves(self) -> bool:
        """Wait until it serves; False if it ends before, or takes too long."""
        deadline = self.began_at + START_S
        while not self._path.exists():
            if self.process.returncode is not None:
                return False
            if time.monotonic() > deadline:
                log.get().error("worker does not serve yet, it is given up", pid=self.process.pid, after_s=START_S)
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def replace(self) -> None:
        """Have it end what it runs, and take nothing more."""
        self.is_replaced = True
        if self.process.stdin is not None:
            self.process.stdin.write(REPLACE)

    async def ended(self) -> int:
        """Wait for its end; the others need not look for it any more. Return its exit status."""
        status = await self.process.wait()
        self._path.unlink(missing_ok=True)
        return status


class Supervisor:
    """Keeps workers alive until it is told to stop."""

    def __init__(
        self, command: Callable[[Told], Sequence[str]], count: int, reserved: socket.socket, claim: Claim
    ) -> None:
        """`command` returns the program and arguments of a worker. `claim` is released when the end begins."""
        self._command = command
        self._count = count
        self._reserved = reserved
        self._claim = claim
        self._folder = Path(tempfile.mkdtemp(prefix="millrace-"))  # for its owner alone
        self._strangers: list[str] = []
        self._number = 0
        self._failures = 0  # in a row
        self._children: set[Child] = set()
        self._kept: set[asyncio.Task[None]] = set()
        self._stopped_by: signal.Signals | None = None
        self._has_failed = False
        self._may_end = asyncio.Event()
        self._replacing = asyncio.Lock()

    async def run(self, data_dir: str, serving: Callable[[], None]) -> signal.Signals | None:
        """Serve until told to stop, and return what has told it; `serving` is called once all workers serve.

        None: no worker could start, as their log says.
        """
        loop = asyncio.get_running_loop()
        heeds_terminal = has_terminal()
        for name in SIGNALS:
            if (number := getattr(signal, name, None)) is not None:
                loop.add_signal_handler(number, self._heed, number, heeds_terminal)
        self._strangers = [*assembly.living(data_dir)]
        try:
            first = [await self._start() for _ in range(self._count)]
            if all(await asyncio.gather(*(child.serves() for child in first))):
                serving()
                await self._may_end.wait()
            elif self._stopped_by is None:
                self._has_failed = True
                self._stop(signal.SIGTERM)
            while self._kept:
                await asyncio.wait(self._kept)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return None if self._has_failed else self._stopped_by

    def _heed(self, number: signal.Signals, heeds_terminal: bool) -> None:  # noqa: FBT001 - as the loop passes it
        if number == getattr(signal, "SIGUSR1", None):
            self._keep(self._replace_all())
        elif number != getattr(signal, "SIGHUP", None):
            self._stop(number)
        elif heeds_terminal and not has_terminal():  # the terminal has hung up
            self._stop(signal.SIGTERM)
        else:
            self._pass_on(number)

    def _stop(self, number: signal.Signals) -> None:
        """Have all workers end; now, at the second time."""
        self._stopped_by = self._stopped_by or number
        self._claim.release()
        self._reserved.close()
        self._may_end.set()
        self._pass_on(number)

    def _pass_on(self, number: signal.Signals) -> None:
        for child in self._children:
            child.send(number)

    async def _start(self) -> Child:
        self._number += 1
        listener = None if MAY_SHARE_PORT else self._reserved.fileno()
        told = Told(
            folder=str(self._folder),
            number=self._number,
            count=self._count,
            strangers=self._strangers,
            listener=listener,
        )
        process = await asyncio.create_subprocess_exec(
            *self._command(told),
            stdin=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=() if listener is None else (listener,),
            start_new_session=True,  # Ctrl-C is for the supervisor alone, which passes it on
        )
        child = Child(process, self._folder / str(self._number))
        self._children.add(child)
        self._keep(self._watch(child))
        if self._stopped_by is not None:
            child.send(self._stopped_by)
        return child

    async def _watch(self, child: Child) -> None:
        """Wait for the end of a worker, and start another if nobody wanted it."""
        status = await child.ended()
        self._children.discard(child)
        if self._stopped_by is not None or child.is_replaced:
            return
        if time.monotonic() - child.began_at >= LONG_S:
            self._failures = 0
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)) if self._failures else 0.0
        self._failures += 1
        log.get().error("worker died, another one is started", pid=child.process.pid, status=status, in_s=pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._may_end.wait()
        if self._stopped_by is None:
            await self._start()

    async def _replace_all(self) -> None:
        """Replace one worker after the other: the next one goes once the last one has ended what it ran."""
        async with self._replacing:
            for child in [each for each in self._children if not each.is_replaced]:
                new = await self._start()
                if not await new.serves() or self._stopped_by is not None:
                    log.get().error("worker did not start, so the others stay", pid=new.process.pid)
                    new.is_replaced = True
                    new.send(signal.SIGTERM)
                    return
                child.replace()
                await child.process.wait()

    def _keep(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)


async def serve_as_worker(loaded: Settings, source: Source, told: Told) -> None:
    """Serve as one of several: on the port that all share, and on one by which the others reach this one."""
    server = loaded.server
    public = shared(server.host, server.port) if told.listener is None else socket.socket(fileno=told.listener)
    with public, private() as own:
        worker = Worker(
            folder=told.folder,
            number=told.number,
            count=told.count,
            address=f"http://{address(own)}",
            strangers=frozenset(told.strangers),
        )
        unclaimed = assembly.claim(IN_MEMORY)  # the supervisor has the claim of data_dir
        await run(app.server(loaded, unclaimed, source, worker), public, own)


def fault_of(data_dir: str) -> Fault | None:
    """Return why no workers can serve a data_dir."""
    if sys.platform == "win32":
        return Fault("--workers", "not on Windows; run one process, or several replicas behind a load balancer")
    if data_dir == IN_MEMORY:
        return Fault("server.data_dir", f"{IN_MEMORY!r} cannot be shared by workers; name a folder")
    return None


def supervise(arguments: Sequence[str], count: int, server: ServerSettings, announce: Callable[[str], None]) -> None:
    """Serve with so many workers until a signal, then end as one process would.

    `arguments` are those of `millrace` that all workers have. `announce` is called with host and port once they serve.
    """
    claimed = claim(server)
    with reserve(server) as reserved:
        place, port = address(reserved), reserved.getsockname()[1]

        def command(told: Told) -> list[str]:
            worker = msgspec.json.encode(told).decode()
            return [sys.executable, "-P", "-m", "millrace", *arguments, "--port", str(port), "--worker", worker]

        supervisor = Supervisor(command, count, reserved, claimed)
        stopped_by = asyncio.run(supervisor.run(server.data_dir, lambda: announce(place)))
    if stopped_by is None:
        sys.exit(1)  # the workers have logged the reason
    if stopped_by is not signal.SIGINT:
        signal.signal(stopped_by, signal.SIG_DFL)
        signal.raise_signal(stopped_by)
