"""What the caches hold at one moment of a window, under some settings: which answers, and since when."""

from collections.abc import Iterable

from msgspec import Struct, field


class CacheRules(Struct, frozen=True, kw_only=True):
    """The settings of both caches."""

    exact: bool = True
    semantic: bool = True
    ttl_s: float = 86_400.0


class World(Struct):
    """Keys and entries, each with when it was stored (Unix seconds)."""

    rules: CacheRules
    _exact: dict[str, float] = field(default_factory=dict)
    _semantic: dict[str, float] = field(default_factory=dict)

    def store(self, key: str, entry_id: str, at: float) -> None:
        """Keep an answer."""
        self._exact[key] = at
        if entry_id:
            self._semantic[entry_id] = at

    def knows(self, key: str) -> bool:
        """Whether an answer was ever in the exact cache."""
        return key in self._exact

    def knows_entry(self, entry_id: str) -> bool:
        """Whether an entry was ever in the semantic cache."""
        return entry_id in self._semantic

    def was_there(self, key: str, at: float) -> None:
        """Take note of an answer of the exact cache that was stored before the window."""
        self._exact.setdefault(key, at)

    def entry_was_there(self, entry_id: str, at: float) -> None:
        """Take note of an entry of the semantic cache that was stored before the window."""
        self._semantic.setdefault(entry_id, at)

    def remove(self, key: str, entry_id: str) -> None:
        """Delete an answer from both caches."""
        self._exact.pop(key, None)
        self._semantic.pop(entry_id, None)

    def has(self, key: str, now: float) -> bool:
        """Whether the exact cache has the answer."""
        at = self._exact.get(key)
        return self.rules.exact and at is not None and at <= now < at + self.rules.ttl_s

    def has_entry(self, entry_id: str, now: float) -> bool:
        """Whether the semantic cache has the entry."""
        at = self._semantic.get(entry_id)
        return self.rules.semantic and at is not None and at <= now < at + self.rules.ttl_s


class Families:
    """Which questions are about the same: those that were ever found near to one another."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}

    def join(self, entry_id: str, others: Iterable[str]) -> None:
        """Take note that questions are near."""
        for other in others:
            a, b = self._root(entry_id), self._root(other)
            if a != b:
                few, many = sorted((a, b), key=lambda each: len(self._members[each]))
                self._parent[few] = many
                self._members[many] += self._members.pop(few)

    def of(self, entry_id: str) -> list[str]:
        """Return all questions of the family of one."""
        return self._members[self._root(entry_id)]

    def _root(self, entry_id: str) -> str:
        parent = self._parent.setdefault(entry_id, entry_id)
        if parent == entry_id:
            self._members.setdefault(entry_id, [entry_id])
            return entry_id
        root = self._root(parent)
        self._parent[entry_id] = root
        return root
