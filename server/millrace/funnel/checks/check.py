"""What a check is. The table of all of them is in `table.py`."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

from msgspec import Struct

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.form import Form

Fails = Callable[[Candidate], str]  # why an answer fails, in our words, that repeat none of it; empty: it passes
Breaks = Callable[[Candidate, Form], Awaitable[str]]  # the same of what is declared, off the loop


class Kind(StrEnum):
    """What follows if an answer fails a check."""

    HARD = "hard"  # it is of no use, or breaks what was declared: it is taken back, whatever evidence says
    FIRM = "firm"  # it is likely wrong: it is taken back, until evidence says that the check does not separate
    SOFT = "soft"  # a sign that says little alone: it is taken back only once evidence says that the check separates


class Needs(StrEnum):
    """Of which answers a check says anything."""

    ANY = "any"
    TEXT = "text"  # that have text and call no tool
    PROSE = "prose"  # the same, with no declared format, to a request that offers no tools


class Check(Struct, frozen=True, kw_only=True):
    """One check. Its name appears in `millrace.check` and in the ledger."""

    name: str
    kind: Kind
    fails: Fails | None = None  # of a complete answer; may take 0.1 ms for 1,500 characters
    of_a_beginning: Fails | None = None  # of an answer that is not complete; None: a beginning says nothing
    may_begin: Callable[[str], bool] | None = None  # whether a text so far may still become such a beginning; None: yes
    breaks: Breaks | None = None  # in place of `fails`, for what is slow
    needs: Needs = Needs.ANY
    only_if_named: bool = False  # by the request
    is_mendable: bool = False  # the model may mend it once it is told what is wrong

    def is_about(self, met: Needs) -> bool:
        """Whether the check says anything of an answer that meets these needs."""
        return self.needs in _MET[met]


_MET = {Needs.ANY: {Needs.ANY}, Needs.TEXT: {Needs.ANY, Needs.TEXT}, Needs.PROSE: {*Needs}}


def met(candidate: Candidate) -> Needs:
    """Return the most that an answer meets of what checks need."""
    if candidate.calls or not candidate.text.strip():
        return Needs.ANY
    declared = candidate.tools or candidate.format is not None or candidate.schema is not None
    return Needs.TEXT if declared else Needs.PROSE
