"""The commands of `millrace`. What they need of the C library is said here, before anything else is imported."""

import ctypes
import os
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def keep_one_heap() -> None:
    """Have all threads share the heap of glibc, unless its settings are in the environment.

    By default each thread gets a heap of its own, but for those that have one already. What one has freed no other can
    use, so in hours of load they grow to twice of what is in use. Nearly all threads allocate holding the interpreter's
    lock, so they seldom wait.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # another C library may have none
        library.mallopt(_ARENA_MAX, 1)


keep_one_heap()
