"""Openings that were learned: the first words of answers that judges found wrong, again and again.

An answer of the small model that was judged counts for its first one to five words, each as a hash that no other tenant
can compare. Two words or more count as weak once more than half of the answers that begin with them are wrong, with
99.9 % confidence (Clopper and Pearson 1934): that takes ten answers at least. An answer that is taken back for its
opening is seldom judged, so an opening is forgotten a month after it was last judged, and has to show itself again.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from millrace.evidence.intervals import lower
from millrace.evidence.separation import LEVERS, is_wrong
from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.table import OPENING
from millrace.ports import Clock
from millrace.types import Judged, Sample, Verdict

WORDS = 5  # of an opening at most
TAIL = 0.001  # in which share of cases the bound may be wrong: many openings are looked at
WRONG = 0.5  # above which share of wrong answers an opening is weak
LEAST = 10  # wrong answers; fewer are never enough
KEPT_S = 30 * 86_400
OPENINGS = 4096  # of a tenant
TENANTS = 256
FEATURE = "o."  # how the names of its features begin
_HEAD = 200  # characters in which the first words are looked for
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_LAST_WORD = re.compile(r"[\w']+\Z")
_APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'", "`": "'"})


class _Count(Struct):
    """How often answers that began so were judged."""

    before: str  # the opening that is one word shorter; empty: it is one word
    judged: int = 0
    wrong: int = 0
    at: float = 0.0  # when the last one was taken, in Unix seconds

    @property
    def is_weak(self) -> bool:
        if not self.before or self.wrong < LEAST or self.wrong <= WRONG * self.judged:  # nearly all: the bound is slow
            return False
        return lower(self.wrong, self.judged, TAIL) > WRONG


class LearnedOpenings:
    """The weak openings of each tenant. It learns on another thread than it is asked on."""

    def __init__(self, wall: Clock) -> None:
        self._wall = wall  # Unix seconds
        self._counts: OrderedDict[str, OrderedDict[str, _Count]] = OrderedDict()  # by tenant and opening
        # By tenant and opening; each is replaced as a whole, since it may be read right now.
        self._weak: dict[str, dict[str, float]] = {}  # when it is forgotten
        self._begun: dict[str, dict[str, float]] = {}  # the same for the openings that weak ones begin with

    def learn(self, judged: Sequence[Judged]) -> None:
        """Learn from answers of the small model that were judged."""
        learned: set[str] = set()
        for each in judged:
            sample = each.sample
            openings = [name for name in sample.features if name.startswith(FEATURE)]
            if sample.lever in LEVERS and sample.is_random and openings:
                self._count(sample, openings, is_wrong=is_wrong(each))
                learned.add(sample.tenant)
        for tenant in learned & self._counts.keys():
            self._publish(tenant)

    def judge(self, candidate: Candidate) -> Verdict:
        """Return the verdict on an answer, or on its beginning if it has not ended."""
        weak = self._weak.get(candidate.tenant)
        if not weak or candidate.calls:
            return Verdict()
        now = self._wall()
        found = _openings(candidate.text, candidate.tenant, is_whole=candidate.finish is not None)
        if any(weak.get(opening, now) > now for opening in found):
            return Verdict(check=OPENING, reason="most answers that began with the same words were wrong")
        return Verdict()

    def may_begin(self, text: str, tenant: str) -> bool:
        """Whether an answer that goes on may still come to begin with a weak opening."""
        begun = self._begun.get(tenant)
        if not begun or len(text) > _HEAD:
            return False
        found = _openings(text, tenant, is_whole=False)
        return not found or begun.get(found[-1], 0.0) > self._wall()

    def _count(self, sample: Sample, openings: Sequence[str], *, is_wrong: bool) -> None:
        counts = self._counts.setdefault(sample.tenant, OrderedDict())
        self._counts.move_to_end(sample.tenant)
        for opening, before in zip(openings, ("", *openings), strict=False):
            count = counts.setdefault(opening, _Count(before))
            counts.move_to_end(opening)
            count.judged += 1
            count.wrong += is_wrong
            count.at = max(count.at, sample.taken_at)
        while len(counts) > OPENINGS:
            counts.popitem(last=False)
        while len(self._counts) > TENANTS:
            forgotten, _ = self._counts.popitem(last=False)
            self._weak.pop(forgotten, None)
            self._begun.pop(forgotten, None)

    def _publish(self, tenant: str) -> None:
        counts = self._counts[tenant]
        weak = {opening: count.at + KEPT_S for opening, count in counts.items() if count.is_weak}
        begun: dict[str, float] = {}
        for opening, until in weak.items():
            before = counts[opening].before
            while before:
                begun[before] = max(begun.get(before, 0.0), until)
                before = counts[before].before if before in counts else ""
        self._weak[tenant], self._begun[tenant] = weak, begun


def opening_of(text: str, tenant: str) -> dict[str, float]:
    """Return how a complete answer begins, as features that evidence keeps."""
    return dict.fromkeys(_openings(text, tenant, is_whole=True), 1.0)


def _openings(text: str, tenant: str, *, is_whole: bool) -> list[str]:
    """Return the first word, the first two, and so on, as hashes. A word that may go on is none yet."""
    head = text[:_HEAD].translate(_APOSTROPHES)
    if not is_whole:
        head = _LAST_WORD.sub("", head)
    words = [word.casefold() for word in islice(map(re.Match.group, _WORD.finditer(head)), WORDS)]
    return [_hashed(" ".join(words[:many]), many, tenant) for many in range(1, len(words) + 1)]


def _hashed(words: str, many: int, tenant: str) -> str:
    key = hashlib.sha256(tenant.encode()).digest()
    return f"{FEATURE}{many}:{hashlib.blake2b(words.encode(), digest_size=6, key=key).hexdigest()}"
