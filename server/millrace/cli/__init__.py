"""The commands of `millrace`. What they need of the C library is said here, before anything else is imported."""

from millrace import heap

heap.keep_one()
