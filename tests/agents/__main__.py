"""`python -m tests.agents`: let coding agents work through Millrace, and say what was not as it must be.

`--prepare` only installs them. Words choose scenarios by parts of their names: `python -m tests.agents codex http`.
Each runs in a network namespace of its own, which has the loopback interface alone.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.agents import network
from tests.agents.environment import APART, missing, prepare
from tests.agents.scenarios import SCENARIOS, Run
from tests.support.paths import REPOSITORY

MAX_FAULT = 1500  # characters of a fault that are shown


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.agents", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of scenarios; without any, all")
    parser.add_argument("--prepare", action="store_true", help="only install the agents")
    parser.add_argument("--keep", type=Path, help="leave all files of the runs in this folder, which is empty")
    parser.add_argument("--here", help=argparse.SUPPRESS)  # the scenario of this process, which is in its namespace
    arguments = parser.parse_args()
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if arguments.here:
        # Whoever starts this in the background may have it ignore Ctrl-C, which the agents would inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return here(arguments.here, arguments.keep, console)
    if reason := missing():
        sys.exit(reason)
    prepare()
    if arguments.prepare:
        return 0
    chosen = [name for name in SCENARIOS if all(word in name for word in arguments.words)]
    if not chosen:
        sys.exit("no scenario is called that; see tests/agents/scenarios.py")
    failed = [
        name for name in chosen if subprocess.run(apart(name, arguments.keep), cwd=REPOSITORY, check=False).returncode
    ]
    console.print(f"{len(chosen) - len(failed)} of {len(chosen)} passed", *failed)
    return bool(failed)


def apart(name: str, keep: Path | None = None) -> list[str]:
    """Return the command that runs a scenario in a process that sees no network."""
    more = ["--keep", str(keep.resolve())] if keep else []
    return [*APART, sys.executable, "-m", "tests.agents", "--here", name, *more]


def here(name: str, keep: Path | None, console: Console) -> int:
    """Run a scenario, and say what was not as it must be."""
    network.raise_loopback()
    assert network.interfaces() == {"lo"}, "this is no network of its own"
    console.print(name)
    with TemporaryDirectory() as folder:
        run = Run(SCENARIOS[name], keep / name if keep else Path(folder), lambda said: console.print("  ", said))
        asyncio.run(run.through())
    for fault in run.faults:
        console.print("   FAILED:", fault[:MAX_FAULT])
    return bool(run.faults)


if __name__ == "__main__":
    sys.exit(main())
