"""`millrace` with a wall clock that is some seconds off: `python -m tests.shared_faults.skewed SECONDS serve ...`.

The clock is set before anything of Millrace is imported, which takes `time.time` over as it is then.
"""

import sys
import time


def main() -> None:
    """Set the clock, and run the command."""
    off_s, real = float(sys.argv.pop(1)), time.time
    time.time = lambda: real() + off_s
    from millrace.__main__ import main as command  # noqa: PLC0415 - with the clock that was set

    command()


if __name__ == "__main__":
    main()
