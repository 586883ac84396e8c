"""The client: sends requests on a connection, reconnects when that one drains or breaks, and resumes streams."""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import msgspec
from websockets.exceptions import WebSocketException

from millrace.errors import MillraceError
from millrace.wire import documents, responses as wire
from millrace.wire.limits import CloseCode
from millrace.wire.options import Options
from millrace_client.connection import Connection, open_connection
from millrace_client.stream import Reply, Stream, error_of, lost_error

DEFAULT_URL = "ws://127.0.0.1:8000"
PATH = "/v1/responses"
RECONNECT_CODES = (
    1001,
    1006,
    CloseCode.FAULT,
    CloseCode.RESTART,
    CloseCode.SLOW_CONSUMER,
)  # close codes after which the client connects again
TRIES = 5
FIRST_S, LONGEST_S = 0.5, 8.0  # delay between attempts

_TRANSIENT = (OSError, WebSocketException)
_NOT_NEGOTIATED = "only a negotiated client can resume; connect with negotiate=True"
_NOT_RESENT = "the connection was lost; without an idempotency_key the request is not sent again"
_GONE = "the server process that ran this response is gone; send the request again"

Ticket = str | Callable[[], Awaitable[str]]


class Client:
    """A client of a Millrace server. `url` is its address: ws://, wss://, http:// or https://.

    It authenticates with an `api_key` or a `ticket`. `ticket` is a string, or a function that fetches one for each
    connection; `origin` is the page the tickets were issued for. Without `negotiate` the client receives standard
    events only and cannot resume.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        ticket: Ticket | None = None,
        origin: str | None = None,
        negotiate: bool = True,
    ) -> None:
        self.url = endpoint(url)
        self._api_key = api_key
        self._ticket = ticket
        self._origin = origin
        self._negotiate = negotiate
        self._numbers = itertools.count(1)
        self._connection: Connection | None = None  # takes new requests; None while reconnecting
        self._latest: Connection | None = None  # the newest one; kept after it closes
        self._draining: set[Connection] = set()  # take no new requests
        self._unsent: deque[Stream] = deque()
        self._unresumed: list[Stream] = []  # to be resumed once connected
        self._opening: asyncio.Task[None] | None = None
        self._fatal: Exception | None = None  # why every request fails from now on

    @property
    def hello(self) -> wire.Hello | None:
        """The `millrace.hello` of the last connection; None if it was not negotiated."""
        return self._latest.hello if self._latest is not None else None

    async def __aenter__(self) -> Self:
        self._use(await self._open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fail_all(lost_error("the client is closed"))
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        connections = [*self._draining, *([self._connection] if self._connection else [])]
        await asyncio.gather(*(connection.close() for connection in connections))

    def stream(
        self,
        input: str | list[dict[str, Any]],  # noqa: A002 - the wire's own name
        *,
        model: str = "auto",
        lane: str | None = None,
        **options: Any,
    ) -> Stream:
        """Send a request and return its stream of events.

        Requests of one `lane` run one after the other; requests without one run side by side.

        `options` are those of Millrace (`strategy`, `delivery`, `cache`, `deadline_ms`, `max_cost_usd`,
        `on_disconnect`, `idempotency_key`, ...) and any field of the Responses API (`instructions`, `tools`, `store`,
        `previous_response_id`, `text`, `metadata`, ...). An option that is None is not sent. Raises `RuntimeError` if
        the client was not opened.
        """
        self._check_open()
        event_id = f"ev_{next(self._numbers)}"
        fields = {"event_id": event_id, "input": input, "model": model, **request_fields(options)}
        stream = Stream(event_id, lane, self._cancel, fields)
        if self._fatal is not None:
            stream.fail(self._fatal)
        elif lane is not None and self._connection is not None:
            self._connection.ask(stream)
        else:
            self._unsent.append(stream)
            self.lane_freed()
            self._connect_if_idle()
        return stream

    async def ask(self, input: str | list[dict[str, Any]], **options: Any) -> Reply:  # noqa: A002
        """Send a request and return its whole answer. Options as for `stream`. Raises `MillraceError` if it fails."""
        async with self.stream(input, **options) as stream:
            return await stream.reply()

    def resume(self, response_id: str, after: int = -1, epoch: str | None = None) -> Stream:
        """Return the stream of a response's events after number `after`; by default, of all its events.

        `epoch` is that of the `hello` under which the request was sent. Another process answers `resume_expired`.
        """
        self._check_open()
        stream = Stream(f"ev_{next(self._numbers)}", None, self._cancel)
        stream.id, stream.seen = response_id, after
        stream.epoch = epoch or (self.hello.epoch if self.hello else None)
        if self._fatal is not None:
            stream.fail(self._fatal)
        elif stream.epoch is None:
            stream.fail(MillraceError("resume_expired", _NOT_NEGOTIATED))
        elif self._connection is not None:
            self._connection.resume(stream)
        else:
            self._unresumed.append(stream)
            self._connect_if_idle()
        return stream

    async def ping(self) -> float:
        """Return the round-trip time to the server in seconds."""
        if self._connection is None:
            raise self._fatal or lost_error("there is no connection right now")
        return await self._connection.ping()

    async def feedback(
        self, response_id: str, rating: Literal["up", "down"], better: str | None = None
    ) -> documents.FeedbackAnswer:
        """Say what you think of an answer, once for each key. It goes over HTTP, with the `api_key` if there is one.

        Raises `MillraceError`, also if the server cannot be reached.
        """
        head = {} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"}
        body = msgspec.json.encode(documents.FeedbackRequest(rating, better))
        address = f"{self.url.replace('ws', 'http', 1)}/{quote(response_id, safe='')}/feedback"
        try:
            async with aiohttp.ClientSession(headers=head) as session, session.post(address, data=body) as answer:
                given, status = await answer.read(), answer.status
        except aiohttp.ClientError as error:
            raise lost_error(f"the feedback was not sent: {error}") from None
        if status == HTTPStatus.OK:
            return msgspec.json.decode(given, type=documents.FeedbackAnswer)
        raise error_of(msgspec.json.decode(given, type=documents.Refused).error)

    def lane_freed(self) -> None:
        """Send unsent requests while lanes are free; called by the connection."""
        while self._unsent and self._connection is not None and not self._connection.is_full:
            self._connection.ask(self._unsent.popleft())

    def connection_draining(self, connection: Connection, delay_s: float) -> None:
        """Stop sending on this connection and open another; called by the connection."""
        if connection is self._connection:
            self._draining.add(connection)
            self._reconnect(delay_s)

    def request_rejected(self, connection: Connection, stream: Stream, error: MillraceError) -> None:
        """Send a rejected request again if that is safe; called by the connection."""
        if self._fatal is not None:
            stream.fail(error)
        elif error.code != "server_draining":
            self._retry_if_safe(stream, error)
        elif connection in self._draining:
            self._resend(stream)
        else:
            stream.fail(error)

    def connection_closed(self, connection: Connection, streams: list[Stream]) -> None:
        """Resume what can be resumed, fail the rest; called by the connection."""
        self._draining.discard(connection)
        may_reconnect = connection.close_code in RECONNECT_CODES and self._fatal is None
        if connection is self._connection and may_reconnect:
            self._reconnect(_backoff(0))
        elif connection is self._connection:
            self._fail_all(lost_error())
        for stream in streams:
            if may_reconnect and stream.is_detached and connection.hello is not None:
                self._resume_or_retry(stream)
            elif may_reconnect and not stream.is_cancelled:
                self._retry_if_safe(stream, lost_error())
            else:
                stream.fail(lost_error())

    def _check_open(self) -> None:
        """Raise `RuntimeError` before the client was opened: nothing would ever send the request."""
        if self._latest is None and self._fatal is None:
            raise RuntimeError("the client is not open; use it in an `async with` block")

    async def _open(self) -> Connection:
        ticket = await self._ticket() if callable(self._ticket) else self._ticket
        return await open_connection(
            self.url, self, api_key=self._api_key, ticket=ticket, origin=self._origin, negotiate=self._negotiate
        )

    def _use(self, connection: Connection) -> None:
        """Send and resume on a new connection."""
        self._connection = self._latest = connection
        streams, self._unresumed = self._unresumed, []
        for stream in streams:
            self._resume_or_retry(stream)
        unsent, self._unsent = self._unsent, deque()
        for stream in unsent:
            if stream.asked_lane is None:
                self._unsent.append(stream)
            else:
                connection.ask(stream)
        self.lane_freed()

    def _connect_if_idle(self) -> None:
        """Connect again for a new request after an earlier reconnect gave up."""
        if self._connection is None and (self._opening is None or self._opening.done()):
            self._reconnect(0.0)

    def _reconnect(self, delay_s: float) -> None:
        self._connection = None
        self._opening = asyncio.create_task(self._reconnect_loop(delay_s))

    async def _reconnect_loop(self, delay_s: float) -> None:
        for failures in itertools.count(1):
            await asyncio.sleep(delay_s)
            try:
                self._use(await self._open())
            except Exception as error:  # a function that fetches tickets may raise anything
                is_transient = error.rule.retry if isinstance(error, MillraceError) else isinstance(error, _TRANSIENT)
                if failures == TRIES or not is_transient:
                    message = f"the connection to Millrace was lost, and no other could be opened: {error}"
                    self._fail_waiting(lost_error(message))
                    if not is_transient:
                        self._fatal = self._fatal or lost_error(message)
                    return
                delay_s = _backoff(failures)
            else:
                return

    def _resume_or_retry(self, stream: Stream) -> None:
        """Continue a stream whose connection has closed: now, or once reconnected.

        A response can be resumed only in the process that runs it (PROTOCOL.md, Resume). With no response id yet, or
        in another process, the request is sent again, if that cannot bill it twice.
        """
        if stream.ended:
            return
        if self._connection is None:
            self._unresumed.append(stream)
        elif stream.id is None:
            self._retry_if_safe(stream)
        elif self.hello is None or stream.epoch != self.hello.epoch:
            expired = MillraceError("resume_expired", _GONE)
            if stream.is_cancelled:
                stream.fail(expired)  # it ended with its process
            else:
                self._retry_if_safe(stream, expired)
        else:
            self._connection.resume(stream)
            if stream.is_cancelled:
                self._connection.cancel(stream)

    def _retry_if_safe(self, stream: Stream, error: Exception | None = None) -> None:
        """Send a request again that may have run; fail it if it has no idempotency key, as it could be billed twice."""
        if stream.is_repeatable:
            self._resend(stream)
        else:
            stream.fail(error or lost_error(_NOT_RESENT))

    def _resend(self, stream: Stream) -> None:
        """Send a request again. One that was cancelled is cancelled again, as it may still run under its key."""
        stream.begin_again()
        if stream.asked_lane is not None and self._connection is not None:
            self._connection.ask(stream)
        else:
            self._unsent.append(stream)
            self.lane_freed()
        if stream.is_cancelled:
            self._cancel(stream)

    def _fail_all(self, error: Exception) -> None:
        """Fail every stream that waits for a connection, and every later request."""
        self._fatal = self._fatal or error
        self._fail_waiting(error)

    def _fail_waiting(self, error: Exception) -> None:
        """Fail every stream that waits for a connection; a later request opens one again."""
        for stream in (*self._unsent, *self._unresumed):
            stream.fail(error)
        self._unsent.clear()
        self._unresumed.clear()

    def _cancel(self, stream: Stream) -> None:
        stream.is_cancelled = True  # one that is resumed or sent again is cancelled then, for its terminal event
        connections = (*self._draining, *([self._connection] if self._connection else []))
        carrier = next((connection for connection in connections if connection.carries(stream)), None)
        if carrier is not None:
            carrier.cancel(stream)
        elif stream.id is None:
            self._unsent = deque(other for other in self._unsent if other is not stream)
            stream.take(_cancelled())


def request_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request, with the options of Millrace inside its `millrace` object."""
    fields = {name: value for name, value in options.items() if value is not None}
    chosen = {name: fields.pop(name) for name in Options.__struct_fields__ if name in fields}
    return fields | ({"millrace": fields.get("millrace", {}) | chosen} if chosen else {})


def _backoff(failures: int) -> float:
    """Return the delay in seconds; jitter spreads the clients of one lost server."""
    return min(LONGEST_S, FIRST_S * 2.0**failures) * random.uniform(0.5, 1)


def _cancelled() -> wire.Incomplete:
    """Return the terminal of a request that was cancelled before it was sent."""
    return wire.Incomplete(
        sequence_number=0,
        response=wire.ResponseBody(
            id="",
            created_at=0,
            status="cancelled",
            model="",
            metadata={},
            incomplete_details=wire.IncompleteDetails("cancelled"),
        ),
    )


def endpoint(url: str) -> str:
    """Return the WebSocket URL for an address with any of the four schemes, with or without a path."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path = f"{path.removesuffix('/v1')}{PATH}"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))
