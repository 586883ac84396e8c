"""Which requests are looked at: from when to when, in which steps, of which model, tag and tenant."""

import math
import re

from msgspec import Struct

from millrace.accounts.dashboard.figures import NO_TAG
from millrace.errors import MillraceError, invalid
from millrace.types.rollup import KEPT_S, LATE_S, Span, Window
from millrace.wire import dashboard as wire, evidence
from millrace.wire.dashboard import Watch

ALL = "*"  # tenants

FEW_S = {
    Span.MINUTE: 6 * 3600,
    Span.HOUR: 14 * Span.DAY,
}  # up to which a span is fine enough to choose, and not too fine
TIME = f"{evidence.DURATION}, or a time in Unix seconds"
LONGEST = 200  # characters of a filter

_SPANS = {span.name.lower(): span for span in Span}
_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,6})?")


class Filters(Struct, frozen=True, kw_only=True):
    """A time is a number of seconds ago, or since 1970."""

    since: float = 0.0
    since_is_ago: bool = True
    until: float = 0.0
    until_is_ago: bool = True
    span: Span | None = None  # None: what fits the window
    model: str | None = None
    tag: str | None = None  # empty: those without one
    tenant: str | None = None  # None: all

    def between(self, now: float) -> tuple[float, float]:
        """Return from when to when, in Unix seconds; what is still to come is left out.

        Raises `invalid_request` if that is no time.
        """
        since = now - self.since if self.since_is_ago else self.since
        until = now - self.until if self.until_is_ago else min(self.until, now)
        if since >= until:
            raise invalid(
                "since", "since: the window has to begin before it ends; give an earlier since, or a later until"
            )
        return since, until

    def window(self, now: float) -> Window:
        """Return the window at a time (Unix seconds), widened to whole steps. Raises `invalid_request`."""
        since, until = self.between(now)
        span = self._span(now, since, until)
        return Window(
            span=span,
            since=math.floor(since / span) * span,
            until=math.ceil(until / span) * span,
            tenant=self.tenant,
            tag=self.tag,
            model=self.model,
        )

    def _span(self, now: float, since: float, until: float) -> Span:
        oldest = {span: now - kept_s for span, kept_s in KEPT_S.items()}
        if self.span is None:
            fine = (span for span, few in FEW_S.items() if until - since <= few and since >= oldest[span])
            span = next(fine, Span.DAY)
        else:
            span = self.span
        if since < oldest[span] - LATE_S:
            days = KEPT_S[span] // Span.DAY
            param = "since" if span is Span.DAY else "step"
            longer = "give a later since" if span is Span.DAY else "give a later since, or a longer step"
            raise invalid(param, f"{param}: {span.name.lower()}s are kept for {days} days; {longer}")
        return span


def read(given: Watch, own: str, *, sees_all: bool) -> Filters:
    """Return the filters that are given. `own`: the tenant of who asks, and of no other unless that one `sees_all`.

    Raises `invalid_request`, or `forbidden` for another tenant.
    """
    since, since_is_ago = _time(given.since or wire.SINCE, "since")
    until, until_is_ago = (0.0, True) if given.until in (None, "") else _time(given.until or 0.0, "until")
    if given.step and given.step not in _SPANS:
        raise invalid("step", f"step: expected one of {', '.join(_SPANS)}")
    for name in ("model", "tag", "tenant"):
        if len(getattr(given, name) or "") > LONGEST:
            raise invalid(name, f"{name}: at most {LONGEST} characters")
    tenant: str | None = given.tenant or own
    if tenant != own and not sees_all:
        message = "tenant: an admin sees the own tenant; `[dashboard] operators` names those who see all"
        raise MillraceError("forbidden", message, param="tenant")
    return Filters(
        since=since,
        since_is_ago=since_is_ago,
        until=until,
        until_is_ago=until_is_ago,
        span=_SPANS[given.step] if given.step else None,
        model=given.model or None,
        tag=None if not given.tag else "" if given.tag == NO_TAG else given.tag,
        tenant=None if tenant == ALL else tenant,
    )


def _time(given: str | float, param: str) -> tuple[float, bool]:
    """Return a time, and whether it is one ago."""
    if isinstance(given, str):
        ago_s = evidence.seconds(given)
        if ago_s is not None:
            return ago_s, True
        if not _SECONDS.fullmatch(given):
            raise invalid(param, f"{param}: {TIME}")
        given = float(given)
    if not 0 <= given < 1e11:  # noqa: PLR2004 - some thousand years
        raise invalid(param, f"{param}: {TIME}")
    return float(given), False
