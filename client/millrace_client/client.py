"""The client: asks on a connection, opens another when that one drains or breaks, and goes on where it was."""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import WebSocketException

from millrace.errors import MillraceError
from millrace.wire import responses as wire
from millrace.wire.options import Options
from millrace_client.connection import Connection, opened
from millrace_client.stream import Reply, Stream, lost

DEFAULT_URL = "ws://127.0.0.1:8000"
PATH = "/v1/responses"
COME_BACK = (1001, 1006, 1011, 1012, 1013)  # close codes after which another connection is worth a try
TRIES = 5
FIRST_S, LONGEST_S = 0.5, 8.0  # between them

_PASSING = (OSError, WebSocketException)

Ticket = str | Callable[[], Awaitable[str]]


class Client:
    """A client of a Millrace server. `url` is its address: ws://, wss://, http:// or https://.

    It shows an `api_key`, or a `ticket`: one, or a function that fetches one for each connection; `origin` is the
    page the tickets are for. Without `negotiate` it gets standard events only, and nothing is resumed.
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
        self._connection: Connection | None = None  # where requests go; None while another is opened
        self._latest: Connection | None = None  # the same, also when it has ended
        self._retired: set[Connection] = set()  # they drain
        self._waiting: deque[Stream] = deque()  # to be sent
        self._orphans: list[Stream] = []  # to be resumed
        self._opening: asyncio.Task[None] | None = None
        self._why_lost: Exception | None = None

    @property
    def hello(self) -> wire.Hello | None:
        """What the server said first on the last connection, if it was negotiated."""
        return self._latest.hello if self._latest is not None else None

    async def __aenter__(self) -> Self:
        self._take_up(await self._open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lose(lost())
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        connections = [*self._retired, *([self._connection] if self._connection else [])]
        await asyncio.gather(*(connection.close() for connection in connections))

    def stream(
        self,
        input: str | list[dict[str, Any]],  # noqa: A002 - the wire's own name
        *,
        model: str = "auto",
        lane: str | None = None,
        **options: Any,
    ) -> Stream:
        """Ask, and return the stream of events. Requests of one `lane` run one after the other; else side by side.

        `options` are those of Millrace (`strategy`, `delivery`, `cache`, `deadline_ms`, `max_cost_usd`,
        `on_disconnect`, `idempotency_key`, ...) and any field of the Responses API (`instructions`, `tools`, `store`,
        `previous_response_id`, `text`, `metadata`, ...). None leaves one out.
        """
        event_id = f"ev_{next(self._numbers)}"
        fields = {"input": input, "model": model, "event_id": event_id, **_on_the_wire(options)}
        stream = Stream(event_id, lane, self._cancel, fields)
        if self._why_lost is not None:
            stream.fail(self._why_lost)
        elif lane is not None and self._connection is not None:
            self._connection.ask(stream)
        else:
            self._waiting.append(stream)
            self.freed()
        return stream

    async def ask(self, input: str | list[dict[str, Any]], **options: Any) -> Reply:  # noqa: A002
        """Ask, wait, and return the whole answer; a failed one raises `MillraceError`. Options as for `stream`."""
        async with self.stream(input, **options) as stream:
            return await stream.reply()

    def resume(self, response_id: str, after: int = -1, epoch: str | None = None) -> Stream:
        """Return the stream of a response's events after the one numbered `after`; of all of them by default.

        `epoch` is that of the `hello` when it was asked for: another process says `resume_expired`.
        """
        stream = Stream(f"ev_{next(self._numbers)}", None, self._cancel)
        stream.id, stream.seen = response_id, after
        stream.epoch = epoch or (self.hello.epoch if self.hello else None)
        if self._why_lost is not None:
            stream.fail(self._why_lost)
        elif stream.epoch is None:
            stream.fail(MillraceError("resume_expired", "only a client that negotiates can resume"))
        elif self._connection is not None:
            self._connection.resume(stream)
        else:
            self._orphans.append(stream)
        return stream

    async def ping(self) -> float:
        """Return how long the server takes to answer, in seconds."""
        if self._connection is None:
            raise self._why_lost or lost("there is no connection right now")
        return await self._connection.ping()

    def freed(self) -> None:
        """Send what waits, as far as it may be sent; called by the connection."""
        while self._waiting and self._connection is not None and not self._connection.is_full:
            self._connection.ask(self._waiting.popleft())

    def draining(self, connection: Connection, pause_s: float) -> None:
        """Ask there no more, and open another; called by the connection."""
        if connection is self._connection:
            self._retired.add(connection)
            self._reopen(pause_s)

    def unheard(self, connection: Connection, stream: Stream, error: MillraceError) -> None:
        """Ask again where that is safe; called by the connection."""
        if self._why_lost is not None:
            stream.fail(error)
        elif error.code != "server_draining":
            self._ask_again(stream, error)
        elif connection in self._retired:
            self._send_again(stream)
        else:
            stream.fail(error)

    def over(self, connection: Connection, streams: list[Stream]) -> None:
        """Go on elsewhere with what can go on; called by the connection."""
        self._retired.discard(connection)
        worth_it = connection.close_code in COME_BACK and self._why_lost is None and connection.hello is not None
        kept = [stream for stream in streams if worth_it and stream.is_detached]
        for stream in streams:
            if stream not in kept:
                stream.fail(lost())
        if connection is self._connection and kept:
            self._reopen(_backoff(0))
        elif connection is self._connection:
            self._lose(lost())
        for stream in kept:
            self._adopt(stream)

    async def _open(self) -> Connection:
        ticket = await self._ticket() if callable(self._ticket) else self._ticket
        return await opened(
            self.url, self, api_key=self._api_key, ticket=ticket, origin=self._origin, negotiate=self._negotiate
        )

    def _take_up(self, connection: Connection) -> None:
        """Go on with a new connection."""
        self._connection = self._latest = connection
        orphans, self._orphans = self._orphans, []
        for stream in orphans:
            self._adopt(stream)
        waiting, self._waiting = self._waiting, deque()
        for stream in waiting:
            if stream.asked_lane is None:
                self._waiting.append(stream)
            else:
                connection.ask(stream)
        self.freed()

    def _reopen(self, pause_s: float) -> None:
        self._connection = None
        self._opening = asyncio.create_task(self._open_again(pause_s))

    async def _open_again(self, pause_s: float) -> None:
        for failures in itertools.count(1):
            await asyncio.sleep(pause_s)
            try:
                self._take_up(await self._open())
            except Exception as error:  # also that of a function that fetches tickets
                passing = error.rule.retry if isinstance(error, MillraceError) else isinstance(error, _PASSING)
                if failures == TRIES or not passing:
                    self._lose(lost(f"the connection to Millrace ended, and no other could be opened: {error}"))
                    return
                pause_s = _backoff(failures)
            else:
                return

    def _adopt(self, stream: Stream) -> None:
        """Go on with a stream that a connection has left: now, or when there is one again."""
        if stream.ended:
            return
        if self._connection is None:
            self._orphans.append(stream)
        elif stream.id is None:
            self._ask_again(stream)
        elif self.hello is None or stream.epoch != self.hello.epoch:
            self._ask_again(stream, MillraceError("resume_expired", "the server that answered is gone"))
        else:
            self._connection.resume(stream)
            if stream.is_cancelled:
                self._connection.cancel(stream)

    def _ask_again(self, stream: Stream, error: Exception | None = None) -> None:
        """Ask a request again that may have run; without an idempotency key it might be billed twice."""
        if stream.is_repeatable:
            self._send_again(stream)
        else:
            stream.fail(error or lost("the connection ended, and without an idempotency_key it is not asked again"))

    def _send_again(self, stream: Stream) -> None:
        stream.begin_again()
        if stream.asked_lane is not None and self._connection is not None:
            self._connection.ask(stream)
        else:
            self._waiting.append(stream)
            self.freed()

    def _lose(self, error: Exception) -> None:
        """End all that has not ended."""
        self._why_lost = self._why_lost or error
        for stream in (*self._waiting, *self._orphans):
            stream.fail(error)
        self._waiting.clear()
        self._orphans.clear()

    def _cancel(self, stream: Stream) -> None:
        connections = (*self._retired, *([self._connection] if self._connection else []))
        carrier = next((connection for connection in connections if connection.carries(stream)), None)
        if carrier is not None:
            carrier.cancel(stream)
        elif stream.id is not None:  # to be resumed, so that its end can be told
            stream.is_cancelled = True
        else:
            self._waiting = deque(waiting for waiting in self._waiting if waiting is not stream)
            stream.take(_cancelled())


def _on_the_wire(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request: what is an option of Millrace goes into its object."""
    given = {name: value for name, value in options.items() if value is not None}
    chosen = {name: given.pop(name) for name in Options.__struct_fields__ if name in given}
    return given | ({"millrace": given.get("millrace", {}) | chosen} if chosen else {})


def _backoff(failures: int) -> float:
    """Return how long to wait; chance spreads the clients that lost one server together."""
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
    """Return the WebSocket address behind what people write: any of four schemes, with or without a path."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path = f"{path.removesuffix('/v1')}{PATH}"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))
