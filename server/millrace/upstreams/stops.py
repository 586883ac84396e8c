"""Stop sequences where the provider does not see to them: its API has none, refuses them, or ignores them. No I/O."""

from collections.abc import Sequence

from millrace.types import Prompt
from millrace.types.scored import cut


def stops_of(prompt: Prompt) -> tuple[str, ...]:
    """Return the stop sequences that a request has."""
    given = prompt.extras.get("stop")
    stops = [given] if isinstance(given, str) else given if isinstance(given, list) else ()
    return tuple(stop for stop in stops if isinstance(stop, str) and stop)


class StopSequences:
    """Ends the text before the stop sequence that is whole first. What may begin one is held until that is clear."""

    __slots__ = ("_held", "_longest", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = ""  # the one that has ended the text
        self._stops = tuple(stops)
        self._longest = max(map(len, stops))
        self._held: list[str] = []  # deltas that are not passed on yet

    def take(self, texts: list[str]) -> list[str]:
        """Return the deltas that can be passed on, of those that were held and these."""
        held = [*self._held, *texts]
        said = "".join(held)
        places = [(at, stop) for stop in self._stops if (at := said.find(stop)) >= 0]
        if places:  # of several, the one that is whole first, as a model that is stopped comes to it
            at, self.found = min(places, key=lambda place: (place[0] + len(place[1]), place[0]))
            self._held = []
            return _first(held, at)
        pending = self._pending(said)
        kept = len(held)
        while pending > 0:  # a delta is never parted
            kept -= 1
            pending -= len(held[kept])
        self._held = held[kept:]
        return held[:kept]

    def rest(self) -> list[str]:
        """Return what is held. No stop sequence has it: something else has come, or the answer has ended."""
        held, self._held = self._held, []
        return held

    def _pending(self, said: str) -> int:
        """Return how many of the last characters may be the beginning of a stop sequence."""
        for size in range(min(self._longest - 1, len(said)), 0, -1):
            if any(stop.startswith(said[-size:]) for stop in self._stops if len(stop) > size):
                return size
        return 0


def _first(deltas: list[str], size: int) -> list[str]:
    """Return the first characters of some deltas."""
    taken: list[str] = []
    for delta in deltas:
        if size <= 0:
            break
        taken.append(delta if len(delta) <= size else cut(delta, size))
        size -= len(delta)
    return taken
