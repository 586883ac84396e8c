"""What evidence has taught of the checks, each tenant by itself: which of them separate, and the learned check.

Nothing of it is stored: after a start evidence teaches all that is kept once more.
"""

import sys
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from millrace import log
from millrace.evidence.separation import LEVERS, is_wrong, separations
from millrace.funnel.checks.features import KINDS
from millrace.funnel.checks.judge import AS_SHIPPED, Standing
from millrace.funnel.checks.learned import Labelled, Model, learned
from millrace.funnel.checks.table import CHECKS, HARD, LEARNED
from millrace.types import Judged

KEPT = 1500  # judged answers of a tenant: the last ones
TENANTS = 256  # that are known; of more, those are forgotten of whom nothing was judged for longest
MORE = 0.1  # share of new answers after which the check is learned once more
ANSWER_BYTES = 3_000  # of a judged answer with its features, about


class _Features(NamedTuple):
    """Hundreds of features of an answer, in two rows of numbers: they take a tenth of what a dictionary takes."""

    names: "array[int]"  # their places in `_NAMES`
    values: "array[float]"

    def items(self) -> Iterable[tuple[str, float]]:
        """Return names and values."""
        return zip(map(_NAMES.__getitem__, self.names), self.values, strict=True)


_NAMES: list[str] = []  # of all features, a bounded number
_PLACES: dict[str, int] = {}


class _Answer(NamedTuple):
    """A judged answer as it is kept."""

    judged: Judged  # with no features but what the checks said
    features: _Features  # that are learned from

    def labelled(self) -> Labelled:
        """Return what is learned from it."""
        return Labelled(self.features, is_wrong(self.judged), 1 / self.judged.sample.probability)


class _Tenant(Struct):
    answers: deque[_Answer] = field(default_factory=lambda: deque(maxlen=KEPT))
    standing: Standing = AS_SHIPPED
    model: Model | None = None
    new: int = 0  # judged answers since the check was learned


class Lessons:
    """A `ports.Student`. `learn` is called on a thread of its own; what others read is replaced, never changed."""

    def __init__(self, learn_model: Callable[[Sequence[Labelled]], Model | None] = learned) -> None:
        self._learn_model = learn_model
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def standing(self, tenant: str) -> Standing:
        """Return which checks of a tenant act."""
        known = self._tenants.get(tenant)
        return AS_SHIPPED if known is None else known.standing

    def model(self, tenant: str) -> Model | None:
        """Return the learned check of a tenant; None until enough is known."""
        known = self._tenants.get(tenant)
        return None if known is None else known.model

    @property
    def bytes_used(self) -> int:
        """Bytes of what is known, about."""
        return ANSWER_BYTES * sum(len(known.answers) for known in [*self._tenants.values()])

    def learn(self, judged: Sequence[Judged]) -> None:
        """Learn from what was judged of the small model's answers."""
        by_tenant: defaultdict[str, list[Judged]] = defaultdict(list)
        for each in judged:
            sample = each.sample
            if sample.lever in LEVERS and sample.is_random and sample.features:
                by_tenant[sample.tenant].append(each)
        for name, some in by_tenant.items():
            known = self._tenants.setdefault(name, _Tenant())
            self._tenants.move_to_end(name)
            known.answers.extend(map(_kept, sorted(some, key=lambda each: each.sample.taken_at)))
            known.new += len(some)
            self._renew(name, known)
        while len(self._tenants) > TENANTS:
            self._tenants.popitem(last=False)

    def _renew(self, name: str, known: _Tenant) -> None:
        before, known.standing = known.standing, standing_of([each.judged for each in known.answers])
        for check in sorted(known.standing.off - before.off):
            log.get().warning("a check is switched off: it does not separate", check=check, tenant=name)
        for check in sorted(before.off - known.standing.off):
            log.get().info("a check is switched on again", check=check, tenant=name)
        for check in sorted(known.standing.proven - before.proven):
            log.get().info("a check separates, and acts from now on", check=check, tenant=name)
        if known.model is None or known.new >= MORE * len(known.answers):
            known.model = self._learn_model([each.labelled() for each in known.answers])
            known.new = 0


def standing_of(judged: Sequence[Judged]) -> Standing:
    """Return which checks act, by what was judged of one tenant."""
    known = separations(judged)
    return Standing(
        off=frozenset(name for name, each in known.items() if each.is_bad and name not in HARD),
        proven=frozenset(name for name, each in known.items() if each.is_good and name in CHECKS),
    )


def _is_learned_from(name: str) -> bool:
    """Whether it is one of a bounded number of features, and not what was learned."""
    return name.startswith(KINDS) or (name.isidentifier() and name != LEARNED)


def _kept(judged: Judged) -> _Answer:
    """Return it as it is kept. What the learned check itself said is no feature, nor is the opening."""
    sample = judged.sample
    features = {_place(name): value for name, value in sample.features.items() if _is_learned_from(name)}
    said = {sys.intern(name): value for name, value in sample.features.items() if name.isidentifier()}
    without = replace(judged, sample=replace(sample, features=said, prompt_features=b""))
    return _Answer(without, _Features(array("I", features), array("f", features.values())))


def _place(name: str) -> int:
    place = _PLACES.get(name)
    if place is None:
        place = _PLACES[name] = len(_NAMES)
        _NAMES.append(name)
    return place
