"""The command `keys`, on a folder."""

from pathlib import Path

from click.testing import CliRunner, Result

from millrace.__main__ import main

WITHIN_S = 2.0  # a new key is good, and a revoked one bad


def keys_command(folder: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["keys", *arguments, "--data-dir", str(folder)])


def add_key(folder: Path, *arguments: str) -> str:
    """Add a key and return its text."""
    result = keys_command(folder, "add", *(arguments or ("--tenant", "acme")))
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")
