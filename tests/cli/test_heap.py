"""That all threads of a command share one heap."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
if sys.argv[1:]:
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
with open("/proc/self/maps") as maps:  # a heap of a thread begins at a multiple of 64 MiB
    begins = [int(line.split("-")[0], 16) for line in maps if line.split()[1].startswith("rw")]
met.wait()
print(sum(begin % 2**26 == 0 for begin in begins))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a heap for each thread")
def test_threads_share_one_heap() -> None:
    def heaps(*arguments: str) -> int:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
        return int(ended.stdout)

    assert heaps() >= 3  # what Python does by itself, or this shows nothing
    assert heaps("as a command") == 0
