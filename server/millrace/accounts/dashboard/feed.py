"""What one dashboard is told each second: what has ended since, under its filters. In any thread, one at a time."""

from collections import deque
from collections.abc import Sequence

from millrace.accounts.dashboard.figures import rates
from millrace.accounts.dashboard.filters import Filters
from millrace.accounts.dashboard.rollups import Ended, Group
from millrace.accounts.dashboard.story import line
from millrace.accounts.dashboard.sums import Sums, total
from millrace.levers import model_of
from millrace.types import EVIDENCE_TENANT
from millrace.wire import dashboard as wire

MINUTE_S = 60.0


class Feed:
    """The last minute, under some filters."""

    def __init__(self, filters: Filters, now: float) -> None:
        """`now` is by a clock that never goes back, as all times here."""
        self._filters = filters
        self._lately: deque[tuple[float, Sums]] = deque()
        self._began = self._told = now

    def tick(self, ended: Sequence[Ended], now: float, wall: float, dropped: int, state: wire.Now | None) -> wire.Tick:
        """Return what has ended since the last call. `wall` in Unix seconds."""
        just = total(sums for each in ended for group, sums in each.groups.items() if self._fits(group))
        self._lately.append((now, just))
        while now - self._lately[0][0] >= MINUTE_S:
            self._lately.popleft()
        span_s, self._told = now - self._told, now
        rows = [row for each in ended for row in each.rows if row.tenant != EVIDENCE_TENANT]
        fitting = [row for row in rows if self._fits((row.tenant, model_of(row.calls, row.cache), row.tag))]
        shown = fitting[: -wire.MAX_ENTRIES - 1 : -1]
        return wire.Tick(
            at=wall,
            span_s=round(span_s, 3),
            dropped=dropped,
            ended=rates(just, span_s),
            minute=rates(total(sums for _, sums in self._lately), min(MINUTE_S, max(1.0, now - self._began))),
            entries=[line(row) for row in shown],
            left_out=len(fitting) - len(shown),
            now=state,
        )

    def _fits(self, group: Group) -> bool:
        tenant, model, tag = group
        wanted = self._filters
        return wanted.tenant in (None, tenant) and wanted.model in (None, model) and wanted.tag in (None, tag)
