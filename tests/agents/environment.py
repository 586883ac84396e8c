"""The agents' own node_modules, made of pinned and hashed packages, and all that an agent sees of this machine.

The package `opencode-ai` only starts the program of the package for its platform, which is here by itself.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"
PINS = HERE / "package-lock.json"
STAMP = NODE_MODULES / ".stamp"  # what is installed
CLAUDE = NODE_MODULES / ".bin" / "claude"
CODEX = NODE_MODULES / ".bin" / "codex"
OPENCODE = NODE_MODULES / "opencode-linux-x64-baseline" / "bin" / "opencode"
APART = ("unshare", "--map-root-user", "--net")  # begins a command that sees no network
QUIET = {  # no look for news, no telemetry, no list of models from elsewhere
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_SHARE": "1",
    "NO_COLOR": "1",
}


def missing() -> str | None:
    """Return what of this machine is missing, if anything is."""
    if absent := [name for name in ("node", "npm", "unshare") if not shutil.which(name)]:
        return f"{absent[0]} is not installed"
    if subprocess.run([*APART, "true"], capture_output=True, check=False).returncode:
        return "network namespaces are not permitted here"
    return None


def is_ready() -> bool:
    """Whether all agents are there, and made of these pins."""
    there = all(path.exists() for path in (CLAUDE, CODEX, OPENCODE, STAMP))
    return there and STAMP.read_text("utf-8") == _pinned()


def prepare() -> None:
    """Install them, unless they are ready; raise `CalledProcessError` where that fails."""
    if is_ready():
        return
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    STAMP.write_text(_pinned(), "utf-8")


def variables(home: Path) -> dict[str, str]:
    """Return all that an agent sees of this machine: an empty home."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "TMPDIR": str(home), **QUIET}


def _pinned() -> str:
    return hashlib.sha256(PINS.read_bytes()).hexdigest()
