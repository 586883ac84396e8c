"""The same client for programs without asyncio: its connection lives in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from millrace.wire import documents, responses as wire
from millrace_client.client import DEFAULT_URL, Client
from millrace_client.stream import Event, Reply, Stream

T = TypeVar("T")


class SyncClient:
    """A client of a Millrace server whose methods wait. It may be used by several threads at once.

        with SyncClient("ws://127.0.0.1:8000") as client:
            for event in client.stream("What is a millrace?"):
                ...
            reply = client.ask("And a mill pond?")

    Arguments and errors are those of `Client`; a `ticket` may be a plain function.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        ticket: str | Callable[[], str] | None = None,
        origin: str | None = None,
        negotiate: bool = True,
    ) -> None:
        fetched = _in_a_thread(ticket) if callable(ticket) else ticket
        self._client = Client(url, api_key=api_key, ticket=fetched, origin=origin, negotiate=negotiate)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="millrace client", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        try:
            self._await(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._await(self._client.__aexit__(kind, error, trace))
        finally:
            self._stop()

    @property
    def hello(self) -> wire.Hello | None:
        """The `millrace.hello` of the last connection; None if it was not negotiated."""
        return self._client.hello

    def stream(
        self,
        input: str | list[dict[str, Any]],  # noqa: A002 - the wire's own name
        *,
        model: str = "auto",
        lane: str | None = None,
        **options: Any,
    ) -> "SyncStream":
        """Send a request and return its stream of events. Options as for `Client.stream`."""
        return self._stream(lambda: self._client.stream(input, model=model, lane=lane, **options))

    def ask(self, input: str | list[dict[str, Any]], **options: Any) -> Reply:  # noqa: A002
        """Send a request and return its whole answer. Raises `MillraceError` if it fails."""
        with self.stream(input, **options) as stream:
            return stream.reply()

    def resume(self, response_id: str, after: int = -1, epoch: str | None = None) -> "SyncStream":
        """Return the stream of a response's events after number `after`; by default, of all its events."""
        return self._stream(lambda: self._client.resume(response_id, after, epoch))

    def ping(self) -> float:
        """Return the round-trip time to the server in seconds."""
        return self._await(self._client.ping())

    def feedback(
        self, response_id: str, rating: Literal["up", "down"], better: str | None = None
    ) -> documents.FeedbackAnswer:
        """Say what you think of an answer, once for each key. Raises `MillraceError`."""
        return self._await(self._client.feedback(response_id, rating, better))

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(self._started.set)
            self._loop.run_forever()

    def _stop(self) -> None:
        assert self._loop is not None, "the thread runs"
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _stream(self, begin: Callable[[], Stream]) -> "SyncStream":
        async def begun() -> Stream:
            return begin()

        return SyncStream(self._await(begun()), self._await, self._soon)

    def _soon(self, call: Callable[[], None]) -> None:
        """Have something called in the client's thread, without waiting for it; nothing is left to do once it ended."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(call)

    def _await(self, waited: Coroutine[Any, Any, T]) -> T:
        """Wait in this thread for what runs in the client's thread; an interrupt ends it there too."""
        if self._loop is None or not self._thread.is_alive():
            waited.close()
            raise RuntimeError("the client is not open; use it in a `with` block")
        future = asyncio.run_coroutine_threadsafe(waited, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class SyncStream:
    """An iterator of events. `cancel()` cancels the request; so does leaving `with` early."""

    def __init__(
        self,
        stream: Stream,
        wait: Callable[[Coroutine[Any, Any, None]], None],
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._stream = stream
        self._await = wait
        self._soon = soon

    @property
    def id(self) -> str | None:
        """Of the response; set by its first event."""
        return self._stream.id

    @property
    def response(self) -> wire.ResponseBody | None:
        """Set by the first event, complete after the terminal."""
        return self._stream.response

    @property
    def text(self) -> str:
        """The text so far, without what was taken back, after the events read until now."""
        return self._stream.text

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, if its provider shows it."""
        return self._stream.reasoning

    @property
    def refusal(self) -> str:
        """The text so far that the provider marked as a refusal."""
        return self._stream.refusal

    @property
    def ended(self) -> bool:
        """Whether the terminal has arrived."""
        return self._stream.ended

    def cancel(self) -> None:
        """Ask the server to stop. The terminal event still arrives, with the cost. A signal handler may call it."""
        self._soon(self._stream.cancel)

    def reply(self) -> Reply:
        """Read to the end and return the answer. Raises `MillraceError` if it failed."""
        for _ in self:
            pass
        return self._stream.result()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Return the next event; what has arrived costs no change of threads."""
        event = self._stream.poll()
        if event is None:
            self._await(self._stream.wait())
            event = self._stream.poll()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


def _in_a_thread(fetch: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    """Return a function that does not stop the client's connection while a ticket is fetched."""

    async def fetched() -> str:
        return await asyncio.to_thread(fetch)

    return fetched
