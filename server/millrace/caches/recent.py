"""Results of a function for recent texts, bounded by the length of these texts."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

EACH = 100  # characters that a text counts beside its own

T = TypeVar("T")


class Recent(Generic[T]):
    """Calls a function of a text, and keeps what it returned. Not thread-safe."""

    def __init__(self, compute: Callable[[str], T], max_size: int) -> None:
        self.size = 0  # characters of all texts kept
        self._compute = compute
        self._max_size = max_size
        self._kept: OrderedDict[str, T] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, text: str) -> T:
        """Return the result for a text."""
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        result = self._kept[text] = self._compute(text)
        self.size += len(text) + EACH
        while self.size > self._max_size:
            self.size -= len(self._kept.popitem(last=False)[0]) + EACH
        return result
