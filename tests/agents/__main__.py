"""`python -m tests.agents`: let coding agents work through Millrace, and say what was not as it must be.

`--prepare` only installs them; words choose scenarios by parts of their names: `python -m tests.agents codex`. Each runs
in a network namespace of its own, which has the loopback interface alone.
"""

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.agents import network
from tests.agents.environment import APART, missing, prepare
from tests.agents.scenarios import SCENARIOS, run
from tests.support.paths import REPOSITORY


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.agents", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of scenarios; without any, all")
    parser.add_argument("--prepare", action="store_true", help="only install the agents")
    parser.add_argument("--keep", type=Path, help="leave all files of the runs in this folder")
    parser.add_argument("--here", help=argparse.SUPPRESS)  # the scenario of this process, which is in its namespace
    arguments = parser.parse_args()
    if arguments.here:
        return here(arguments.here, arguments.keep)
    if reason := missing():
        sys.exit(reason)
    prepare()
    if arguments.prepare:
        return 0
    chosen = [name for name in SCENARIOS if all(word in name for word in arguments.words)]
    failed = [name for name in chosen if apart(name, arguments.keep).returncode]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} passed", *failed)
    return bool(failed or not chosen)


def apart(name: str, keep: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a scenario in a process that sees no network."""
    command = [*APART, sys.executable, "-m", "tests.agents", "--here", name]
    print(f"== {name}", flush=True)
    return subprocess.run([*command, *(("--keep", str(keep)) if keep else ())], cwd=REPOSITORY, check=False)


def here(name: str, keep: Path | None) -> int:
    """Run a scenario, and say what was not as it must be."""
    network.raise_loopback()
    assert network.interfaces() == {"lo"}, "this is no network of its own"
    with TemporaryDirectory() as folder:
        faults = asyncio.run(run(SCENARIOS[name], keep / name if keep else Path(folder)))
    for fault in faults:
        print("  *", fault[:3000])
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
