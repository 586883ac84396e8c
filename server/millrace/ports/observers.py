"""What is told of every request that has ended."""

from typing import Protocol

from millrace.types import Entry


class Observer(Protocol):
    """Metrics, traces, whoever follows what happens."""

    def settled(self, entry: Entry) -> None:
        """Take the row of a request that has just ended. Called on the event loop, so it takes microseconds."""
        ...
