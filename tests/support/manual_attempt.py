"""An upstream call whose words come when a test says so, in the same turn of the loop."""

import asyncio
from collections.abc import Callable

from millrace.errors import UpstreamError
from millrace.ports import Sink
from millrace.types import Aside, Finish, FinishReason, Usage


class ManualAttempt:
    """One call; one delta counts as about one token. `steps` are the pauses and resumes that it was asked for."""

    def __init__(self) -> None:
        self.sink: Sink = _nowhere
        self.aside: Callable[[Aside], None] = _nowhere
        self.on_begin: Callable[[], None] = _nothing
        self.done: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self.sent = True
        self.notes: tuple[str, ...] = ()
        self.retried_after = ""
        self.service_tier = ""
        self.usage: Usage | None = None
        self.input_usage: Usage | None = None
        self.steps: list[str] = []

    def read(self, *deltas: str) -> None:
        """Let these deltas come in one read."""
        self._note_begin("".join(deltas))
        self.parts += deltas
        self.sink([*deltas])

    def read_aside(self, aside: Aside) -> None:
        self._note_begin()
        self.asides.append(aside)
        self.aside(aside)

    def finish(self, usage: Usage | None = None) -> None:
        """End well, with the usage that the provider reports."""
        self.usage = usage
        self.done.set_result(Finish(reason=FinishReason.STOP))

    def fail(self, code: str = "upstream_error") -> None:
        self.done.set_exception(UpstreamError(code, "it broke"))

    def _note_begin(self, text: str = ".") -> None:
        if not self.asides and not "".join(self.parts).strip() and text.strip():
            self.on_begin()

    def abort(self) -> None:
        self.done.cancel()

    def limit(self, output_tokens: int) -> None:
        self.steps.append(f"limit {output_tokens}")

    def pause(self) -> None:
        self.steps.append("pause")

    def resume(self) -> None:
        self.steps.append("resume")


def _nowhere(_: object) -> None:
    """Take words before anybody listens."""


def _nothing() -> None:
    """Nobody wants to know when it begins."""
