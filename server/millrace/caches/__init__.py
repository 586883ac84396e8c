"""Caches of earlier answers: exact, by the key of the whole request, and semantic, by the meaning of the question."""

import os

# This must run before the first import of numpy, which only modules of this room import. The vectors are small: a BLAS
# with one thread per core spends its time on synchronisation and competes with the event loop. A burst of lookups took
# five times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
