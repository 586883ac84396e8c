"""Prepares the replicas of compose.yaml before they start, and keeps their keys the same.

    setup.py                            # upgrades PostgreSQL's tables; makes a first key, if there is none
    setup.py keys add --tenant acme     # a command of `millrace keys`, for all replicas

Each replica has its keys in its own folder; MILLRACE_REPLICAS names these. Commands change the keys of the first one,
which are then copied to the others; running replicas read them within two seconds. The first key is written to the file
that MILLRACE_FIRST_KEY names, which only its owner may read; delete it when you have noted the key.
"""

import os
import sqlite3
import sys
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path

from millrace.__main__ import main as millrace

DATABASE = "millrace.sqlite3"
WITHIN_S = 10  # for another process to release a database
CONFIG = "/etc/millrace/millrace.toml"


def main(arguments: list[str]) -> int:
    """Prepare the replicas, or run a command on the keys of all; return the exit code."""
    first, *others = map(Path, os.environ["MILLRACE_REPLICAS"].split())
    if not arguments:
        code = run("db", "upgrade", "--config", os.environ.get("MILLRACE_CONFIG", CONFIG))
        code = code or first_key(first, Path(os.environ["MILLRACE_FIRST_KEY"]))
    elif arguments[0] == "keys":
        code = run(*arguments, "--data-dir", str(first))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for other in others:
        if code == 0:
            count(other)
            copy(first / DATABASE, other / DATABASE)
    return code


def first_key(folder: Path, file: Path) -> int:
    """Make a key for whoever has this machine, unless there is one."""
    if count(folder):
        return 0
    with redirect_stdout(StringIO()) as made:
        code = run(
            "keys", "add", "--tenant", "default", "--role", "admin", "--name", "first", "--data-dir", str(folder)
        )
    if code == 0:
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(made.getvalue())
        print(f"made a first key; it is in {file}", file=sys.stderr)
    return code


def count(folder: Path) -> int:
    """Return how many keys a folder has. Its table is made if it is missing."""
    with redirect_stdout(StringIO()):
        run("keys", "list", "--data-dir", str(folder))
    with closing(sqlite3.connect(folder / DATABASE, timeout=WITHIN_S)) as database:
        ((number,),) = database.execute("SELECT count(*) FROM keys").fetchall()
    return int(number)


def copy(source: Path, target: Path) -> None:
    """Make the keys in one database those of another. Keys are never deleted, only revoked."""
    with closing(sqlite3.connect(target, timeout=WITHIN_S)) as database:
        names = ", ".join(row[1] for row in database.execute("PRAGMA table_info(keys)"))
        database.execute("ATTACH ? AS source", (str(source),))
        with database:
            database.execute(f"INSERT OR REPLACE INTO keys ({names}) SELECT {names} FROM source.keys")  # noqa: S608
    print(f"the keys of {source.parent.name} are those of {target.parent.name}, too", file=sys.stderr)


def run(*arguments: str) -> int:
    """Run a command of `millrace`; return its exit code."""
    try:
        millrace(list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
