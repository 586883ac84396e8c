"""What is asked of glibc's heap. Another C library is left alone."""

import ctypes
import os
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def keep_one() -> None:
    """Have all threads share one heap, unless the settings of glibc are in the environment.

    By default each thread gets a heap of its own, but for those that have one already. What one has freed no other can
    use, so in hours of load they grow to twice of what is in use. Nearly all threads allocate holding the interpreter's
    lock, so they seldom wait.
    """
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        _call("mallopt", _ARENA_MAX, 1)


def give_back() -> None:
    """Give back to the system what has been freed, of which glibc only does so by itself what lies at the heap's end.

    Takes half a microsecond for each block that is free, for which other threads wait that allocate.
    """
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)) is not None:
        function(*arguments)
