"""Judges the beginning of an answer while it grows, and says so as soon as more text can change nothing."""

from collections.abc import Callable, Sequence

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.checks import Checks
from millrace.types import Request, Verdict

MOST_DELTAS = 40  # after which a beginning is judged as it is: it may hold back the first word of an answer


class Beginning:
    """The beginning of one answer."""

    def __init__(self, checks: Checks, request: Request, candidate: Callable[[], Candidate]) -> None:
        """`candidate` returns the answer so far."""
        self._checks = checks
        self._names = checks.selected(request)
        self._tenant = request.tenant
        self._candidate = candidate

    def verdict(self, deltas: Sequence[str]) -> Verdict | None:
        """Return the verdict on the text deltas so far; None while more text may change it.

        It is called after each read, so a read costs some 0.05 ms until there is a verdict. Most answers have one
        within a few tokens.
        """
        is_open = len(deltas) < MOST_DELTAS and self._checks.may_begin_badly("".join(deltas), self._names, self._tenant)
        return None if is_open else self._checks.judge_beginning(self._candidate(), self._names)
