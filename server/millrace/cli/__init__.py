"""The commands of `millrace`. What they need of the C library is said here, before anything else is imported."""

import ctypes
import os
import sys

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # M_… of glibc's malloc.h
_LARGE = 2**18  # bytes: what has more goes back to the system when it is freed


def keep_one_heap() -> None:
    """Have all threads share the heap of glibc, without what is large, unless its settings are in the environment.

    By default each thread gets a heap of its own, but for those that have one already. What one has freed no other can
    use, so in hours of load they grow to twice of what is in use. Nearly all threads allocate holding the interpreter's
    lock, so they seldom wait. And once something large was freed, what has up to its size comes from a heap, which ends
    with whatever was put behind it, and seldom becomes smaller.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # another C library may have none
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)


keep_one_heap()
