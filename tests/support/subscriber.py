"""A subscriber of a response that records what it is told."""

from millrace.funnel.facts import Fact, Metered


class RecordingSubscriber:
    """Keeps the calls as they come: a list for the words of one read, a fact for anything else."""

    is_metered = True

    def __init__(self, *, congested: bool | None = False) -> None:
        self.congested = congested
        self.calls: list[Fact | list[str]] = []
        self.has_failed = False

    def text(self, deltas: list[str]) -> None:
        self.calls.append([*deltas])

    def fact(self, fact: Fact) -> None:
        self.calls.append(fact)

    def fail(self) -> None:
        self.has_failed = True

    @property
    def facts(self) -> list[Fact | str]:
        """What it was told of what a log keeps, delta by delta: all but the usage until now."""
        flat: list[Fact | str] = []
        for call in self.calls:
            flat += call if isinstance(call, list) else [call]
        return [fact for fact in flat if not isinstance(fact, Metered)]
