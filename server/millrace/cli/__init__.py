"""The commands of `millrace`. What they need of the C library is said here, before anything else is imported."""

import contextlib
import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def keep_one_heap() -> None:
    """Have all threads share the heap of glibc. Elsewhere this does nothing, nor once a second thread has allocated.

    By default each thread gets a heap of its own. What one has freed no other can use, so in hours of load they grow to
    twice of what is in use. Nearly all threads allocate holding the interpreter's lock, so they seldom wait.
    """
    with contextlib.suppress(OSError, AttributeError):  # another system, or another C library
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


keep_one_heap()
