"""Checks that users write: functions that a distribution names in the entry point group `millrace.checks`."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from millrace.evidence.own_functions import Function, OwnFunction, own_functions
from millrace.funnel.checks.table import NAMES
from millrace.types import PASSED

GROUP = "millrace.checks"
WITHIN_S = 10.0  # that one may take: the request waits for it
AT_ONCE = 32  # calls of one check in threads
REASON = "a check of your own says so"


class OwnCheck:
    """A check of the user's: true says that an answer will do, false that it will not, None nothing."""

    def __init__(self, name: str, function: Function, within_s: float = WITHIN_S) -> None:
        self.name = name
        self._function = OwnFunction("check", name, function, within_s=within_s, at_once=AT_ONCE)

    async def fails(self, question: str, answer: str) -> str:
        """Return why the answer fails; empty if it passes, or nothing is said."""
        return REASON if await self._function.verdict(question, answer) is False else ""


def own_checks(found: Iterable[EntryPoint] | None = None) -> list[OwnCheck]:
    """Return the checks that are installed, by name. One that cannot be loaded is left out with a warning."""
    taken = (*NAMES, PASSED)
    return [OwnCheck(name, function) for name, function in own_functions("check", GROUP, taken, found).items()]
