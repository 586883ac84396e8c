"""What the router has learned of one tenant: the heads, whom the labels came from, what small answers have saved."""

from hashlib import blake2b

import msgspec
from msgspec import Struct, field

from millrace.evidence.trust import FEW
from millrace.funnel.routing.features import Features
from millrace.funnel.routing.heads import PRIOR_LABELS, Heads
from millrace.funnel.routing.labels import Separation
from millrace.types import Judged, Label, LabelSource, StateVersion

FORM = 1  # of the state
SIZE = 2**20  # bytes of one in memory, about
LATE_S = 6 * 3600.0  # after which a sample that was taken is judged at the latest
LATE = 4000  # samples of that time that are known one by one

_NOTHING = Heads()  # is never taught


class Count(Struct, array_like=True):
    """The labels of one source."""

    labels: int = 0
    weight: float = 0.0  # labels for which they count
    since: float = 0.0  # Unix seconds
    last: float = 0.0


class Costs(Struct, array_like=True):
    """What requests cost that the small model was asked first for, and what they would have on the large one alone."""

    requests: int = 0
    dollars: float = 0.0
    large_dollars: float = 0.0


class Learnt(Struct, array_like=True):
    """Which samples of evidence were learned already: they all come again after a start."""

    until: float = 0.0  # Unix seconds, when the last of them was taken
    late: dict[bytes, float] = {}  # those taken shortly before, and when

    def is_new(self, judged: Judged) -> bool:
        """Whether a sample was not learned yet. It is from now on."""
        key, at = blake2b(judged.sample.id.encode(), digest_size=8).digest(), judged.sample.taken_at
        if key in self.late or at < self.until - LATE_S:
            return False
        self.late[key] = at
        self.until = max(self.until, at)
        if len(self.late) > LATE:
            self.forget()
        return True

    def forget(self) -> None:
        """Leave out those that are too old to come late. If there are too many, it is as if all had been in time."""
        late = sorted(((at, key) for key, at in self.late.items() if at >= self.until - LATE_S))[-LATE // 2 :]
        self.late = {key: at for at, key in late}


class _State(Struct, array_like=True):
    form: int
    heads: bytes
    counts: dict[LabelSource, Count]
    words: dict[str, Separation]
    costs: Costs
    learnt: Learnt


class Learned(Struct, eq=False):
    """One tenant. One thread at a time teaches it; others may score meanwhile."""

    heads: Heads = _NOTHING
    counts: dict[LabelSource, Count] = field(default_factory=lambda: {source: Count() for source in LabelSource})
    words: dict[str, Separation] = field(default_factory=dict)  # of the checks: how often answers were right after it
    costs: Costs = field(default_factory=Costs)
    learnt: Learnt = field(default_factory=Learnt)
    version: StateVersion | None = None  # that is kept
    is_read: bool = False  # whether what is kept was read
    is_new: bool = False  # something in it is not kept yet
    keep_anew: bool = False  # what is kept must not be replaced: it could not be read

    @property
    def is_taught(self) -> bool:
        """Whether it has heads of its own."""
        return self.heads is not _NOTHING

    @property
    def labels(self) -> int:
        """For how many labels all that was learned counts."""
        return int(sum(count.weight for count in self.counts.values()))

    @property
    def is_prior(self) -> bool:
        """Whether too little was learned for the words to count more than the length."""
        return self.labels < PRIOR_LABELS

    def learn(self, features: Features, label: Label, at: float) -> None:
        """Learn one label; `at` in Unix seconds."""
        if self.heads is _NOTHING:
            self.heads = Heads()
        self.heads.learn(features, label.small, label.large, label.weight)
        count = self.counts[label.source]
        count.since, count.last = min(count.since or at, at), max(count.last, at)
        count.labels += 1
        count.weight += min(label.weight, 1.0)
        self.is_new = True

    def spent(self, dollars: float, large_dollars: float) -> None:
        """Count what a request has cost that the small model was asked first for."""
        self.costs.requests += 1
        self.costs.dollars += dollars
        self.costs.large_dollars += large_dollars
        self.is_new = True

    @property
    def saved(self) -> float | None:
        """Which part of the large model's price a request saves if the small model is asked first; None: not known."""
        costs = self.costs
        known = costs.requests >= FEW and costs.large_dollars > 0
        return 1 - costs.dollars / costs.large_dollars if known else None

    def dumped(self) -> bytes:
        """Return all that is to be kept."""
        heads = b"" if self.heads is _NOTHING else self.heads.dumped()
        state = _State(FORM, heads, self.counts, self.words, self.costs, self.learnt)
        return msgspec.msgpack.encode(state)

    @classmethod
    def loaded(cls, state: bytes) -> "Learned | None":
        """Return what was learned; None if it is damaged, or of another version, be it of the features."""
        try:
            kept = msgspec.msgpack.decode(state, type=_State)
        except msgspec.MsgspecError:
            return None
        heads = Heads.loaded(kept.heads) if kept.heads else _NOTHING
        if kept.form != FORM or heads is None:
            return None
        return cls(
            heads=heads, counts=kept.counts, words=kept.words, costs=kept.costs, learnt=kept.learnt, is_read=True
        )
