"""Adds up what the levers did for many requests: the bill as a waterfall, for all of them and by groups."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct, field

from millrace.accounts.durations import Durations
from millrace.levers import Levers, Saving, Waste, faster, is_by_large, levers_of
from millrace.types import EMBEDDINGS, EVIDENCE_TENANT, Past, Price
from millrace.wire import levers as wire

GROUPS = 10_000  # at most; all further ones are one
OTHERS = "(others)"
NONE = "(none)"
NANO = 10**9


class _Sum(Struct):
    """Nanodollars of some requests."""

    requests: int = 0
    answered: int = 0
    unknown: int = 0
    capped: int = 0
    baseline: int = 0
    cost: int = 0
    savings: Counter[Saving] = field(default_factory=Counter)
    saving_requests: Counter[Saving] = field(default_factory=Counter)
    waste: Counter[Waste] = field(default_factory=Counter)
    waste_requests: Counter[Waste] = field(default_factory=Counter)
    durations: Durations = field(default_factory=Durations)

    def add(self, row: Past, found: Levers, *, is_unknown: bool) -> None:
        self.requests += row.tenant != EVIDENCE_TENANT  # which asks what nobody has asked for
        self.answered += bool(found.answer or found.baseline)
        self.unknown += is_unknown
        self.capped += row.code == "max_output_tokens"
        self.baseline += found.baseline
        self.cost += row.cost
        for saving, dollars in found.savings.items():
            self.savings[saving] += dollars
            self.saving_requests[saving] += 1
        for waste, dollars in found.waste.items():
            self.waste[waste] += dollars
            self.waste_requests[waste] += 1
        if (lever := faster(row, found)) is not None:
            self.durations.spared(lever, row.usage.output_tokens, row.latency_ms)


class Waterfall:
    """The requests of one window. Not thread-safe."""

    def __init__(self, *, by: str | None = None, standard: Price | None = None) -> None:
        """`by` is one of `wire.BY`. `standard` is the large model's price today, for rows that do not tell theirs."""
        self._by = by
        self._name = _NAMES[by] if by else None
        self._standard = standard
        self._total = _Sum()
        self._groups: dict[str, _Sum] = {}

    def add(self, row: Past) -> None:
        """Add one request."""
        found = levers_of(row, self._standard)
        is_unknown = bool(found.baseline) and row.baseline is None and row.strategy != EMBEDDINGS
        self._total.add(row, found, is_unknown=is_unknown)
        if found.answer is not None and row.strategy != EMBEDDINGS:
            by_large = is_by_large(row, found.answer)
            self._total.durations.answered(row.usage.output_tokens, row.latency_ms, by_large=by_large)
        if self._name is not None:
            name = self._name(row, found) or NONE
            if row.tenant == EVIDENCE_TENANT and self._by != "day":
                name = EVIDENCE_TENANT
            group = self._groups.get(name)
            if group is None:
                name = name if len(self._groups) < GROUPS else OTHERS
                group = self._groups.setdefault(name, _Sum())
            group.add(row, found, is_unknown=is_unknown)

    def report(self, *, since: float, until: float, tenant: str | None) -> wire.LeversReport:
        """Return the bill. Times are Unix seconds."""
        medians = self._total.durations
        groups = [_bill(name, group, medians) for name, group in self._groups.items()]
        if self._by == "day":
            groups.sort(key=lambda group: group.name)
        else:
            groups.sort(key=lambda group: (-group.baseline_usd, group.name))
        return wire.LeversReport(
            since=since,
            until=until,
            tenant=tenant,
            by=self._by,
            total=_bill("", self._total, medians),
            groups=groups,
        )


def _bill(name: str, total: _Sum, medians: Durations) -> wire.ShownBill:
    def share(nanodollars: int) -> float:
        return nanodollars / total.baseline if total.baseline else 0.0

    savings = [
        wire.ShownSaving(
            lever=saving.value,
            requests=total.capped if saving is Saving.CAP else total.saving_requests[saving],
            saved_usd=total.savings[saving] / NANO,
            share=share(total.savings[saving]),
            saved_ms=total.durations.saved_ms(saving, medians),
            estimated=saving is Saving.CAP,
        )
        for saving in Saving
    ]
    waste = [
        wire.ShownWaste(
            kind=kind.value,
            requests=total.waste_requests[kind],
            cost_usd=total.waste[kind] / NANO,
            share=share(total.waste[kind]),
        )
        for kind in Waste
    ]
    saved = total.baseline - total.cost
    return wire.ShownBill(
        name=name,
        requests=total.requests,
        answered=total.answered,
        unknown=total.unknown,
        baseline_usd=total.baseline / NANO,
        cost_usd=total.cost / NANO,
        saved_usd=saved / NANO,
        share=share(saved),
        savings=savings,
        waste=waste,
    )


def _model(row: Past, found: Levers) -> str:
    if found.answer is not None:
        return found.answer.model
    return "(cache)" if found.baseline else "(no answer)"


_NAMES: dict[str, Callable[[Past, Levers], str]] = {
    "tag": lambda row, _: row.tag,
    "user": lambda row, _: row.user,
    "key": lambda row, _: row.key_id,
    "model": _model,
    "day": lambda row, _: f"{datetime.fromtimestamp(row.opened_at, UTC):%Y-%m-%d}",
    "tenant": lambda row, _: row.tenant,
}
