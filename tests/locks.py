"""`python -m tests.locks`: install every lock in fresh environments, with the oldest pip and with the newest.

Exit code 1 where a lock is not complete. One is complete when its installation resolves nothing: each dependency, each
extra of a dependency and each build tool has its pin. `pip check` does not look at extras; a dry run without an index
does, and finds only what is installed.
"""

import ensurepip
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.stock import environment as stock

REPOSITORY = Path(__file__).parent.parent
# The oldest pip that is supported is the one that a Python brings; 3.11.0 brought 22.3.
OLDEST = f"pip=={'22.3' if sys.version_info < (3, 12) else ensurepip.version()}"
NEWEST = "pip"
NO_SOURCES = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")} | {
    "PIP_CONFIG_FILE": os.devnull
}


def incomplete(python: Path, wanted: Iterable[str]) -> str:
    """Say what these requirements lack in an environment, extras included; nothing where nothing is missing."""
    for check in (("check",), ("install", "--dry-run", "--no-index", *wanted)):
        ended = subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", *check],
            env=NO_SOURCES,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            return (ended.stdout if check[0] == "check" else ended.stderr).strip()
    return ""


def wanted() -> dict[str, list[str]]:
    """Return what `pyproject.toml` asks for, by lock."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    groups: dict[str, list[str]] = project["dependency-groups"]
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    runtime = [*project["project"]["dependencies"], *extras["minilm"]]
    dev = [*runtime, *extras["otel"], *extras["postgres"], *extras["redis"], *groups["dev"]]
    return {"runtime": [*runtime, *groups["build"]], "dev": dev, "stock": groups["stock"]}


def environment(folder: Path, pip: str) -> Path:
    """Make a fresh environment with this pip; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", pip], check=True)
    (folder / ".made").touch()  # what `make` would make
    return python


def installed(folder: Path, pip: str) -> Iterator[tuple[str, Path]]:
    """Install the locks one by one, the way `make` does; yield each one's name and its environment's Python."""
    python = environment(folder / "millrace", pip)
    for name in ("runtime", "dev"):
        make = ("make", "--silent", f"VENV={folder / 'millrace'}", str(folder / "millrace" / f".{name}"))
        subprocess.run(make, cwd=REPOSITORY, check=True)
        yield name, python
    python = environment(folder / "stock", pip)
    stock.install(python)
    yield "stock", python


def main() -> int:
    """Return the exit code."""
    console = Console()
    faults = 0
    os.environ["PIP_COMPILE"] = "0"  # nothing of what is installed runs, and compiling it takes most of the time
    with Progress(console=console) as progress, tempfile.TemporaryDirectory() as folder:
        task = progress.add_task("locks", total=2 * len(wanted()))
        for pip in (OLDEST, NEWEST):
            for name, python in installed(Path(folder, "oldest" if pip == OLDEST else "newest"), pip):
                fault = incomplete(python, wanted()[name])
                faults += bool(fault)
                console.print(f"{name}, {'oldest' if pip == OLDEST else 'newest'} pip: {fault or 'complete'}")
                progress.advance(task)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
