"""Connections to providers of our own: they push what they read. Kept alive, with TLS, not through a proxy."""

import asyncio
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from urllib.parse import urlsplit

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType
from msgspec import Struct

from millrace.upstreams.exchange import KERNEL_BYTES, ConnectError, Traced
from millrace.upstreams.http1 import Connection, Exchange

KEPT_S = 15.0  # that an idle connection is kept alive; most servers wait longer
FOUND_S = 10.0  # that the addresses of a name are remembered
NEXT_ADDRESS_S = 0.25  # until the next address of a name is tried beside the first (RFC 8305)

_Key = tuple[str, str, int]  # scheme, host, port


class _Address(Struct, frozen=True):
    """What of a URL its connections and the heads of its requests need."""

    key: _Key  # what two URLs must have in common to share a connection
    lines: str  # the first two of a head


class PushingConnections:
    """The connections to all providers. Must be made in a running loop."""

    def __init__(self) -> None:
        self._idle: dict[_Key, deque[tuple[float, Connection]]] = {}
        self._open: set[Connection] = set()
        self._addresses: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], call: Traced, *, connect_timeout_s: float, new: bool
    ) -> Exchange:
        """Send a request; return its response once the head has come. Raises `ConnectError` or `ResponseError`."""
        address = _address(url)
        head = _head(address, headers, len(body))
        connection = None if new else self._kept(address.key)
        if connection is None:
            connection = await self._connected(address.key, connect_timeout_s)
        call.is_reused = connection.uses > 0
        exchange = connection.ask(head, body)
        call.sent = True
        try:
            await exchange.begun()
        except BaseException:
            exchange.close()  # its answer may be whole by now, and then the connection is another request's
            raise
        return exchange

    def _kept(self, key: _Key) -> Connection | None:
        """Return a connection that was used before, if there is one."""
        idle = self._idle.get(key)
        now = time.monotonic()
        while idle:
            since, connection = idle.pop()
            if now - since < KEPT_S and not connection.is_lost and not connection.transport.is_closing():
                return connection
            connection.abort()
        return None

    def close(self) -> None:
        """Close all connections."""
        for connection in tuple(self._open):
            connection.abort()
        self._idle.clear()

    def close_idle(self, but: Collection[str]) -> None:
        """Close the idle connections, but those to the hosts of some URLs."""
        for key in self._idle.keys() - {_address(url).key for url in but}:
            for _, connection in self._idle.pop(key):
                connection.abort()

    async def _connected(self, key: _Key, connect_timeout_s: float) -> Connection:
        """Return a new connection. Raises `ConnectError`."""
        scheme, host, port = key
        loop = asyncio.get_running_loop()

        def free(connection: Connection) -> None:
            self._drop_old()
            self._idle.setdefault(key, deque()).append((time.monotonic(), connection))

        try:
            async with asyncio.timeout(connect_timeout_s):
                addresses = await self._resolved(host, port)
                connected = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, socket_factory=_socket
                )
                is_secure = scheme == "https"
                try:
                    _, connection = await loop.create_connection(
                        lambda: Connection(free, self._open.discard),
                        sock=connected,
                        ssl=_context() if is_secure else None,
                        server_hostname=host if is_secure else None,
                    )
                except BaseException:
                    connected.close()
                    raise
        except TimeoutError as error:
            raise ConnectError("no connection in time", is_timeout=True) from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectError(_words(error, host), may_pass=isinstance(error, ConnectionError)) from error
        self._open.add(connection)
        if connection.is_lost:
            self._open.discard(connection)
        return connection

    async def _resolved(self, host: str, port: int) -> list[AddrInfoType]:
        found_at, addresses = self._addresses.get((host, port), (0.0, []))
        if addresses and time.monotonic() - found_at < FOUND_S:
            return addresses
        loop = asyncio.get_running_loop()
        addresses = [*await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        self._addresses[host, port] = (time.monotonic(), addresses)
        return addresses

    def _drop_old(self) -> None:
        """Close what has been idle for too long; the oldest are at the front."""
        now = time.monotonic()
        for idle in self._idle.values():
            while idle and now - idle[0][0] >= KEPT_S:
                idle.popleft()[1].abort()


@lru_cache
def _address(url: str) -> _Address:
    parts = urlsplit(url)
    key = parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Address(key, f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n")


def _head(address: _Address, headers: Mapping[str, str], length: int) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{address.lines}Content-Length: {length}\r\n{lines}\r\n".encode("latin-1")


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _socket(address: AddrInfoType) -> socket.socket:
    """Return a socket for an upstream, which reads ahead little: a model that is paused must not fill the memory."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)  # noqa: FBT003 - its only parameter
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _words(error: Exception, host: str) -> str:
    """Return why a connection could not be made."""
    match error:
        case socket.gaierror():
            return f"the name of its host, {host}, was not found (DNS)"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid (TLS): {str(error)[:200]}"
        case ssl.SSLError():
            return "the TLS handshake failed; is it http:// rather than https://?"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
    return "no connection"
