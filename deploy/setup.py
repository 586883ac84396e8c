"""Prepares what the replicas of compose.yaml share: PostgreSQL's tables, and a first key if there is none.

The key is written to the file that MILLRACE_FIRST_KEY names, which only its owner may read; delete it when you have
noted the key. More are made by `millrace keys`.
"""

import asyncio
import os
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from millrace import settings
from millrace.__main__ import main as millrace
from millrace.assembly import key_store

CONFIG = "/etc/millrace/millrace.toml"


def main() -> int:
    """Prepare; return the exit code."""
    config, file = Path(os.environ.get("MILLRACE_CONFIG", CONFIG)), Path(os.environ["MILLRACE_FIRST_KEY"])
    code = run("db", "upgrade", "--config", str(config))
    if code or asyncio.run(has_keys(settings.load(config))):
        return code
    with redirect_stdout(StringIO()) as made:
        code = run("keys", "add", "--tenant", "default", "--role", "admin", "--name", "first", "--config", str(config))
    if code == 0:
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(made.getvalue())
        print(f"made a first key; it is in {file}", file=sys.stderr)
    return code


async def has_keys(loaded: settings.Settings) -> bool:
    """Return whether a key was ever made."""
    async with key_store(loaded.server.data_dir, loaded.shared) as store:
        return bool(await store.load())


def run(*arguments: str) -> int:
    """Run a command of `millrace`; return its exit code."""
    try:
        millrace(list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
