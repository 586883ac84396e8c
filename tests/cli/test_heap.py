"""That all threads of a command share one heap, and that what has been freed can be given back."""

import asyncio
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from millrace import heap
from millrace.cli import serving
from tests.support.waiting import until

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


# Every second block is freed, so that none of it lies at the end of the heap.
FREED = """
from pathlib import Path
from millrace import heap
def mebibytes():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) // 1024
heap.keep_one()
blocks = [b"a" * 60_000 for _ in range(4000)]
del blocks[::2]
before = mebibytes()
heap.give_back()
print(before - mebibytes())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is asked for anything")


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


def test_what_has_been_freed_is_given_back() -> None:
    given = subprocess.run([sys.executable, "-c", FREED], check=True, timeout=60, capture_output=True, text=True)
    assert int(given.stdout) > 100  # of 114


async def test_a_server_goes_on_giving_back_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[None] = []

    def give_back() -> None:
        given.append(None)
        if len(given) == 1:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(heap, "give_back", give_back)
    monkeypatch.setattr(serving, "GIVE_BACK_EVERY_S", 0.001)
    monkeypatch.setattr(serving, "GIVE_BACK_PART", 0)
    tidying = asyncio.create_task(serving._tidy())
    await until(lambda: len(given) >= 3)
    tidying.cancel()
