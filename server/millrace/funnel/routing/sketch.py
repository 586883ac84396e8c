"""A prompt as a few sums: what the ledger keeps of its features, so that a replay can tell what would be learned.

Each of the router's features, some 65,000, is added to one of 32 sums, or taken from it. Hundreds of words fall
together in each, so that no word can be read from them. But prompts that have much in common have like sums: a label
for one of them says about as much of another as it would by their words.
"""

import numpy as np

from millrace.funnel.routing.features import WIDTH, Features

VERSION = 1  # of the sums and of the features that are in them
SUMS = 32
STEPS = 24  # of a sum, for one feature of the value 1
_MOST = 127  # steps
_MIXED = (np.arange(WIDTH, dtype=np.uint32) * np.uint32(2_654_435_761)) >> np.uint32(26)  # 6 bits (Knuth)
_SUM, _SIGN = (_MIXED % SUMS).astype(np.intp), np.where(_MIXED < SUMS, 1.0, -1.0)
_SLOTS = np.arange(SUMS + 1, dtype=np.uint32)


def sketched(features: Features) -> bytes:
    """Return the version, and a signed byte for each sum: in some 10 µs. The intercept is in none of them."""
    slots = features.slots[:-1]
    sums = np.bincount(_SUM[slots], _SIGN[slots] * features.values[:-1], SUMS)
    return bytes([VERSION]) + np.clip(np.rint(sums * STEPS), -_MOST, _MOST).astype(np.int8).tobytes()


def unsketched(sketch: bytes) -> Features | None:
    """Return the sums, and the intercept, as features of `Heads.of`; None if there are none, or of another version."""
    if len(sketch) != 1 + SUMS or sketch[0] != VERSION:
        return None
    sums = np.frombuffer(sketch, np.int8, SUMS, 1).astype(np.float32) / STEPS
    return Features(slots=_SLOTS, values=np.append(sums, np.float32(1.0)))
