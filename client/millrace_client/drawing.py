"""Draws an answer on a terminal while it comes, and says in one line who gave it and what it cost."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from millrace.wire import responses as wire
from millrace_client.commands import dollars
from millrace_client.stream import Event

REDRAW_S = 1 / 15  # at least so long between two drawings
BELOW = 3  # lines that stay free beside the answer
# What moves the cursor or changes the terminal: C0 and C1 controls, but for line ends and tabs.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

Body = Callable[[str], ConsoleRenderable]


class Drawn(Protocol):
    """What is drawn of a stream."""

    @property
    def text(self) -> str:
        """The text so far."""
        ...

    @property
    def refusal(self) -> str:
        """The text so far that the provider marked as a refusal."""
        ...


class Drawing:
    """The end of an answer while it comes, and the whole of it at the end, as far as it then stands.

    What is taken back never stays on the screen, however long it was. `body` makes of a text what is shown.
    """

    def __init__(self, console: Console, stream: Drawn, body: Body = Text) -> None:
        self._console = console
        self._stream = stream
        self._body = body
        self._notices: list[Text] = []
        self._status = Text(style="dim")
        self._began = time.monotonic()
        self._drawn = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._console.print(*self._notices, self._answer(), sep="\n")

    def take(self, event: Event) -> None:
        """Show what an event has changed."""
        match event:
            case wire.Route():
                self._status = Text(event.model, style="dim")
            case wire.Revise():
                because = f"↻ {event.from_model}: {event.reason}; {event.to_model} answers"
                self._notices.append(Text(because, style="dim italic"))
            case wire.Notice():
                self._notices.append(Text(event.message, style="yellow"))
            case wire.UsageSoFar():
                parts = f"{event.tokens} tokens", dollars(event.cost_usd), f"{time.monotonic() - self._began:.0f} s"
                self._status = Text(" · ".join(parts), style="dim")
            case wire.TextDelta() | wire.RefusalDelta() if time.monotonic() - self._drawn < REDRAW_S:
                return
        self._drawn = time.monotonic()
        self._live.update(Group(_Tail(Group(*self._notices, self._answer())), self._status), refresh=True)

    def _answer(self) -> ConsoleRenderable:
        return self._body(printable(self._stream.text or self._stream.refusal))


class _Tail:
    """The last lines of something, as many as the terminal has room for."""

    def __init__(self, of: ConsoleRenderable) -> None:
        self._of = of

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._of, options.update(height=None), pad=False)
        for line in lines[-max(1, console.height - BELOW) :]:
            yield from line
            yield Segment.line()


def write(event: Event) -> None:
    """Write what an event adds to an answer that is never revised, for a pipe."""
    if isinstance(event, wire.TextDelta | wire.RefusalDelta):
        sys.stdout.write(event.delta)
        sys.stdout.flush()


def printable(text: str) -> str:
    """Return a model's text without the characters that would steer the terminal."""
    return text.translate(_CONTROLS)


def account(response: wire.ResponseBody) -> Text:
    """Return the line that says who answered and what it cost."""
    metadata, usage = response.metadata, response.usage
    parts = [f"{response.status}" if response.status != "completed" else "", metadata.get("millrace.route", "")]
    if (cache := metadata.get("millrace.cache")) not in (None, "miss"):
        parts.append(f"{cache} hit")
    if (check := metadata.get("millrace.check")) not in (None, "passed"):
        parts.append(f"check: {check}")
    parts.append(response.model)
    if usage is not None:
        parts += [f"{usage.total_tokens} tokens", dollars(usage.cost_usd), f"saved {dollars(usage.saved_usd)}"]
        parts += ["estimated"] if usage.estimated else []
        parts += [f"{usage.trimmed_tokens} tokens of the prompt cut"] if usage.trimmed_tokens else []
    if cap := metadata.get("millrace.max_output_tokens"):
        parts.append(f"cut at the server's cap of {cap} tokens")
    return Text(" · ".join(filter(None, parts)), style="dim")
