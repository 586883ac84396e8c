"""A simulated model that keeps of each call what it was asked, what it has sent and when, and how it ended."""

import re
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from aiohttp import web

from millrace.simulator import Simulator
from millrace.simulator.profiles import Profile
from millrace.simulator.question import Question
from millrace.simulator.script import Script
from millrace.simulator.shapes import Envelope
from millrace.simulator.stats import Call, Stats

_NUMBER = re.compile(r"\bquestion (\d+)\b")


class RecordedCall(Call):
    """One call."""

    def __init__(self, stats: Stats) -> None:
        super().__init__(stats)
        self.question = -1
        self.input_tokens = self.cached_tokens = 0
        self.began_at = time.monotonic()
        self.sent_at = array("d")  # of each token
        self.ended_at = 0.0
        self.has_finished = False
        self.reports = False  # its usage, at its end

    def charge(self, input_tokens: int) -> None:
        super().charge(input_tokens)
        self.input_tokens = input_tokens

    def sent(self, tokens: int = 1) -> None:
        super().sent(tokens)
        self.sent_at.extend([time.monotonic()] * tokens)

    def finish(self) -> None:
        self.has_finished = self.has_finished or not self._ended
        super().finish()

    def _close(self) -> bool:
        self.ended_at = self.ended_at or time.monotonic()
        return super()._close()

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Input, how much of it was cached, output."""
        return self.input_tokens, self.cached_tokens, self.most

    @property
    def how(self) -> str:
        """How it has ended."""
        return "finished" if self.has_finished else "broken off"

    def least(self, around_s: float) -> int:
        """Return how many tokens were sent until so long before its end."""
        return sum(at <= self.ended_at - around_s for at in self.sent_at)

    @property
    def most(self) -> int:
        """Tokens that were sent."""
        return len(self.sent_at)


class RecordingStats(Stats):
    """Counters whose calls are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[RecordedCall] = []

    @contextmanager
    def call(self) -> Iterator[Call]:
        call = RecordedCall(self)
        self.calls.append(call)
        try:
            yield call
        except BaseException:
            call.abort()
            raise
        call.finish()


class RecordingSimulator(Simulator):
    """A simulated model that remembers."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.stats: Stats = RecordingStats()

    @property
    def recorded(self) -> list[RecordedCall]:
        """All calls so far."""
        return cast("RecordingStats", self.stats).calls

    async def _deliver(
        self, request: web.Request, question: Question, script: Script, call: Call
    ) -> web.StreamResponse:
        assert isinstance(call, RecordedCall)
        call.question = number_in(question.prompt)
        return await super()._deliver(request, question, script, call)

    def _envelope(self, question: Question, script: Script, call: Call) -> Envelope:
        envelope: Envelope = super()._envelope(question, script, call)
        assert isinstance(call, RecordedCall)
        if envelope.usage is not None:
            call.cached_tokens, call.reports = envelope.usage.cached, True
        return envelope


def number_in(text: Any) -> int:
    """Return the number of the question in a text; -1 without one."""
    found = _NUMBER.search(str(text))
    return int(found[1]) if found else -1
