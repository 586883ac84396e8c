"""What became of some requests, added up: counts, histograms and a few ids. Two of them added are that of both.

Everything has a name, so that adding needs to know none. What there may be several of has a colon in its name:
`status:completed`. Money is in whole nanodollars, times are in whole microseconds.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct

from millrace.accounts.dashboard.buckets import bucket
from millrace.accounts.durations import step_of
from millrace.levers import UNKNOWN, Levers, escalation, faster, is_by_large, levers_of
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    CacheOutcome,
    Outcome,
    Past,
    Price,
    Status,
    Strategy,
    Tier,
)

VERSION = 1  # of what is kept; another one has the ledger added up anew
CUT = "max_output_tokens"  # why an answer is incomplete that was capped
K = TypeVar("K", str, int)

_FAILED = (Status.FAILED, Status.KILLED)


class Sums(Struct, array_like=True):
    """See above. A mark is the id of the request with the highest number, or of the first by name of several."""

    counts: dict[str, int] = {}
    histograms: dict[str, dict[int, int]] = {}
    marks: dict[str, tuple[float, str]] = {}

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number

    def place(self, name: str, at: int) -> None:
        """Count one more in a part of a histogram."""
        histogram = self.histograms.get(name)
        if histogram is None:
            histogram = self.histograms[name] = {}
        histogram[at] = histogram.get(at, 0) + 1

    def mark(self, name: str, number: float, request_id: str) -> None:
        """Note a request, if its number is the highest."""
        before = self.marks.get(name)
        if before is None or (number, request_id) > before:
            self.marks[name] = (number, request_id)

    def merge(self, other: "Sums") -> None:
        """Add what was added up elsewhere."""
        _merge(self.counts, other.counts)
        for name, histogram in other.histograms.items():
            if name in self.histograms:
                _merge(self.histograms[name], histogram)
            else:
                self.histograms[name] = dict(histogram)
        for name, (number, request_id) in other.marks.items():
            self.mark(name, number, request_id)

    def named(self, kind: str) -> dict[str, int]:
        """Return the counts of a kind, which is what stands before the colon."""
        prefix = f"{kind}:"
        return {name.removeprefix(prefix): count for name, count in self.counts.items() if name.startswith(prefix)}

    def get(self, name: str) -> int:
        """Return a count; 0 of nothing."""
        return self.counts.get(name, 0)

    @property
    def errors(self) -> int:
        """How many requests have failed."""
        return sum(self.get(f"status:{status.value}") for status in _FAILED)

    def add(self, row: Past, standard: Price | None = None) -> None:
        """Add a request. `standard` is the large model's price today, for rows that do not tell theirs.

        Of what evidence asks at the operator's cost, only that cost is added: it is nobody's request.
        """
        found = levers_of(row, standard)
        self.count("cost", row.cost)
        self._add_levers(row, found)
        if row.tenant == EVIDENCE_TENANT:
            return
        self._add_end(row)
        self._add_usage(row)
        if row.strategy != EMBEDDINGS:
            self._add_cascade(row)
            if found.answer is not None:
                size, step = row.usage.output_tokens.bit_length(), step_of(row.latency_ms)
                self.place(f"took:{size}", step)
                if is_by_large(row, found.answer):
                    self.place(f"took_by_large:{size}", step)

    def _add_levers(self, row: Past, found: Levers) -> None:
        if found.baseline:
            self.count("baseline", found.baseline)
            if row.baseline is None and row.strategy != EMBEDDINGS:
                self.count("unknown")
        if found.answer or found.baseline:
            self.count("answered")
        if (lever := faster(row, found)) is not None:
            self.count(f"spared:{lever.value}:{row.usage.output_tokens.bit_length()}")
            self.count(f"took:{lever.value}", round(row.latency_ms))
        for saving, nanodollars in found.savings.items():
            self.count(f"saving:{saving.value}", nanodollars)
            self.count(f"saving_requests:{saving.value}")
        for waste, nanodollars in found.waste.items():
            self.count(f"waste:{waste.value}", nanodollars)
            self.count(f"waste_requests:{waste.value}")

    def _add_end(self, row: Past) -> None:
        source, status = row.source or "none", row.status
        self.count("requests")
        self.count(f"status:{status.value}")
        if status in _FAILED:
            self.count(f"error:{(row.code or UNKNOWN) if status is Status.FAILED else status.value}")
            self.mark("failed", row.opened_at, row.request_id)
        elif status is Status.INCOMPLETE:
            self.count(f"incomplete:{row.code or UNKNOWN}")
        if row.code == CUT:
            self.count("capped")
        self.count(f"source:{source}")
        if row.cost:
            self.count(f"source_cost:{source}", row.cost)
        self.place("cost", bucket(row.cost))
        self.mark("dearest", row.cost, row.request_id)
        if row.ttft_ms is not None:
            self.place(f"ttft:{source}", bucket(round(row.ttft_ms * 1000)))
        if status is not Status.KILLED:  # nobody knows when that one ended
            self.place(f"total:{source}", bucket(round(row.latency_ms * 1000)))
            self.mark("slowest", row.latency_ms, row.request_id)

    def _add_usage(self, row: Past) -> None:
        usage = row.usage
        self.count(f"strategy:{row.strategy}")
        self.count("input", usage.input_tokens)
        self.count("output", usage.output_tokens)
        for name, tokens in (
            ("cached_input", usage.cached_input_tokens),
            ("reasoning", usage.reasoning_tokens),
            ("trimmed", row.trimmed_tokens),
        ):
            if tokens:
                self.count(name, tokens)

    def _add_cascade(self, row: Past) -> None:
        self.count("asked")
        if row.cache is not CacheOutcome.MISS:
            self.count(f"cache:{row.cache.value}")
        if row.calls and row.calls[0].tier in (Tier.SMALL, Tier.LARGE):
            self.count(f"first:{row.calls[0].tier}")
        if (reason := escalation(row.strategy, row.calls, row.story, row.check)) is not None:
            self.count(f"escalated:{reason}")
        for check in judged(row):
            self.count("checked")
            if check is not None:
                self.count(f"check:{check}")
        if len(row.calls) > 1:
            self._add_race(row)

    def _add_race(self, row: Past) -> None:
        lost = sum(call.outcome is Outcome.LOST for call in row.calls)
        if not lost:
            return
        self.count("races" if row.strategy == Strategy.RACE else "hedges")
        self.count("lost_calls", lost)
        winner = next((call for call in row.calls if call.outcome in (Outcome.ANSWERED, Outcome.REVISED)), None)
        if winner is not None:
            self.count(f"won:{winner.tier}")


def judged(row: Past) -> list[str | None]:
    """Return for each answer that was judged which check it failed, if one; a draft may fail one before it is whole.

    What a stored answer has failed was counted when it was made.
    """
    checks = [judgement.check for judgement in row.story.judgements]
    return [row.check, *checks] if row.calls and row.check is not None and row.check not in checks else checks


def total(many: Iterable[Sums]) -> Sums:
    """Return new sums of all."""
    sums = Sums()
    for each in many:
        sums.merge(each)
    return sums


def merged(before: bytes, more: bytes) -> bytes:
    """Return two sums that were kept as one."""
    sums = decoded(before)
    sums.merge(decoded(more))
    return encoded(sums)


encoded = msgspec.msgpack.Encoder().encode
decoded = msgspec.msgpack.Decoder(Sums).decode


def _merge(into: dict[K, int], more: dict[K, int]) -> None:
    for name, number in more.items():
        into[name] = into.get(name, 0) + number
