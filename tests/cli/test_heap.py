"""That all threads of a command share one heap."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, threading
if sys.argv[2:]:
    import millrace.__main__
met = threading.Barrier(5)
def allocate():
    kept = [bytes(1000 + size) for size in range(1000)]
    met.wait()
    met.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
met.wait()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
told = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
library.malloc_info(0, told)
library.fclose(told)
met.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a heap for each thread")
def test_threads_share_one_heap(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def heaps(*arguments: str, **settings: str) -> int:
        told = tmp_path / "told.xml"
        command = [sys.executable, "-c", PROGRAM, str(told), *arguments]
        subprocess.run(command, check=True, timeout=60, env=environment | settings)
        return told.read_text().count("<heap nr=")

    assert heaps() > 3  # what Python does by itself, or this shows nothing
    assert heaps("as a command") == 1
    assert heaps("as a command", MALLOC_ARENA_MAX="3") == 3  # the operator's own
