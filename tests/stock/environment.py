"""The clients' own Python environment and node_modules, made of pinned and hashed packages."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE.parent.parent / ".venv-stock"
BIN = VENV / "bin"
NODE_MODULES = HERE / "node_modules"
PINS = (HERE / "requirements.txt", HERE / "package-lock.json")
STAMP = VENV / "stamp"  # what is installed


def is_ready() -> bool:
    """Whether both are there, and made of these pins."""
    return STAMP.exists() and NODE_MODULES.is_dir() and STAMP.read_text("utf-8") == _pinned()


def prepare() -> None:
    """Make both, unless they are ready; raise `CalledProcessError` where that fails."""
    if is_ready():
        return
    venv.create(VENV, with_pip=True, clear=True)
    install(BIN / "python")
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    STAMP.write_text(_pinned(), "utf-8")


def install(python: Path) -> None:
    """Install the lock of the Python clients, which is complete and all of wheels: nothing is resolved."""
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    wheels = ("install", "--no-deps", "--only-binary", ":all:", "--require-hashes")
    subprocess.run([*pip, *wheels, "-r", HERE / "requirements.txt"], check=True)
    subprocess.run([*pip, "check"], check=True)


def variables(base_url: str, home: Path) -> dict[str, str]:
    """Return all that a client sees of this machine: where to ask, and an empty home."""
    return {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "LLM_USER_PATH": str(home / "llm"),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "not-looked-at",
        "ANTHROPIC_BASE_URL": base_url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": "not-looked-at",
    }


def _pinned() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in PINS) + sys.version.encode()).hexdigest()
