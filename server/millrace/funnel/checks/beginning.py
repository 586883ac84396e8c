"""Judges the beginning of an answer while it grows, and says so as soon as more text can change nothing."""

from collections.abc import Callable, Iterable, Sequence

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.checks import Checks
from millrace.funnel.checks.openings import NAME, LearnedOpenings
from millrace.funnel.checks.table import CHECKS
from millrace.types import Verdict

MOST_DELTAS = 40  # after which a beginning is judged as it is: it may hold back the first word of an answer


class Beginning:
    """The checks of a beginning, for one answer."""

    def __init__(
        self,
        names: Iterable[str],
        checks: Checks,
        openings: LearnedOpenings,
        tenant: str,
        candidate: Callable[[], Candidate],
    ) -> None:
        """`candidate` returns the answer so far."""
        self._names = tuple(names)
        self._checks = checks
        self._tests = [
            check.may_begin
            for check in map(CHECKS.get, self._names)
            if check is not None and check.of_a_beginning is not None
        ]
        self._openings = openings if NAME in self._names else None
        self._tenant = tenant
        self._candidate = candidate

    def verdict(self, deltas: Sequence[str]) -> Verdict | None:
        """Return the verdict on the text deltas so far; None while more text may change it.

        It is called after each read, so a read costs some 0.05 ms until there is a verdict. Most answers have one
        within a few tokens.
        """
        text = "".join(deltas)
        if len(deltas) < MOST_DELTAS and self._is_open(text):
            return None
        candidate = self._candidate()
        verdict = self._checks.judge_beginning(candidate, self._names)
        if verdict.passed and self._openings is not None:
            return self._openings.judge(candidate)
        return verdict

    def _is_open(self, text: str) -> bool:
        if any(may_begin is None or may_begin(text) for may_begin in self._tests):
            return True
        return self._openings is not None and self._openings.may_begin(text, self._tenant)
