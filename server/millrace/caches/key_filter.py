"""Tells of most keys that they were never stored, without a look at the disk: a Bloom filter (1970)."""

BITS = 2**23  # 1 MiB; with 500,000 keys, 1 % of all others are taken for stored
_PROBES = (0, 24, 48, 72)  # bits of a key from which each place is taken; keys are SHA-256, so these are independent
_PROBED = 12  # bytes of a key that hold them


class KeyFilter:
    """A set that may hold too much, and never too little."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)

    def add(self, key: bytes) -> None:
        """Add a SHA-256."""
        for place in _places(key):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, key: bytes) -> bool:
        """Whether a SHA-256 may be in it."""
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in _places(key))

    def merge(self, other: "KeyFilter") -> None:
        """Add all that another one holds."""
        both = int.from_bytes(self._bits) | int.from_bytes(other._bits)
        self._bits[:] = both.to_bytes(len(self._bits))


def _places(key: bytes) -> list[int]:
    probed = int.from_bytes(key[:_PROBED])
    return [(probed >> probe) % BITS for probe in _PROBES]
