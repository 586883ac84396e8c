"""Judges that users write: functions that a distribution names in the entry point group `millrace.judges`."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from millrace.evidence.own_functions import Function, OwnFunction, own_functions
from millrace.types import Says

GROUP = "millrace.judges"
WITHIN_S = 20.0  # that one may take
AT_ONCE = 2  # calls of one judge in threads

TAKEN = frozenset({"equal", "facts", "likeness", "model", "feedback"})  # names

_SAYS: dict[bool | None, Says] = {True: Says.SAME, False: Says.DIFFERENT, None: Says.UNSURE}


class OwnJudge:
    """A judge of the user's: true says that two answers are the same, false that they differ, None nothing."""

    def __init__(self, name: str, function: Function, within_s: float = WITHIN_S) -> None:
        self.name = name
        self._function = OwnFunction("judge", name, function, within_s=within_s, at_once=AT_ONCE)

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return what the function says. It may take long; a function that is not async runs in a thread."""
        return _SAYS[await self._function.verdict(question, earlier, fresh)]


def own_judges(found: Iterable[EntryPoint] | None = None) -> list[OwnJudge]:
    """Return the judges that are installed, by name. One that cannot be loaded is left out with a warning."""
    return [OwnJudge(name, function) for name, function in own_functions("judge", GROUP, TAKEN, found).items()]
