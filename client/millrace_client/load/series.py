"""What happened when: the course of a run in a bounded number of intervals, for its plots."""

from __future__ import annotations

from dataclasses import dataclass, field

from millrace_client.load.histogram import Histogram

MOST = 240  # intervals; when more are needed, each two become one


@dataclass(slots=True)
class Interval:
    """The requests of an interval: those that were due in it, and those that ended in it."""

    due: int = 0
    ended: int = 0
    errors: int = 0  # of those that were due
    ttft: Histogram = field(default_factory=Histogram)  # of those that were due
    e2e: Histogram = field(default_factory=Histogram)

    def merge(self, other: Interval) -> None:
        """Take the requests of the next interval too."""
        self.due += other.due
        self.ended += other.ended
        self.errors += other.errors
        self.ttft.merge(other.ttft)
        self.e2e.merge(other.e2e)


class Series:
    """Intervals of equal length from the start of the run."""

    def __init__(self, width_s: float = 0.25) -> None:
        self.width_s = width_s
        self.intervals: list[Interval] = []

    def at(self, offset_s: float) -> Interval:
        """Return the interval of a time since the start."""
        while (number := int(max(0.0, offset_s) / self.width_s)) >= MOST:
            self._halve()
        while len(self.intervals) <= number:
            self.intervals.append(Interval())
        return self.intervals[number]

    def drawn(self, most: int) -> Series:
        """Return the same in at most this many intervals."""
        whole = Series(self.width_s)
        for interval in self.intervals:
            whole.intervals.append(copy := Interval())
            copy.merge(interval)
        while len(whole.intervals) > most:
            whole._halve()
        return whole

    def _halve(self) -> None:
        """Make each two intervals one."""
        for first, second in zip(self.intervals[::2], self.intervals[1::2], strict=False):
            first.merge(second)
        self.intervals = self.intervals[::2]
        self.width_s *= 2
