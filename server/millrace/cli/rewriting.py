"""Sets one key of a TOML file and leaves all else as it is: order, comments, blank lines."""

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from millrace.settings import ENV_PREFIX

NOT_WRITTEN = 1  # exit code
_HEADER = re.compile(r"^\s*\[")


class RewritingError(ValueError):
    """The file is written in a way in which the key cannot be set without changing more."""


def write_setting(config: Path, section: str, key: str, value: float) -> None:
    """Set a number for a command, and say so; or say why it is not written, and exit with `NOT_WRITTEN`."""
    try:
        set_key(config, section, key, value)
    except (OSError, RewritingError) as error:
        click.echo(f"{config}: not written: {error}", err=True)
        sys.exit(NOT_WRITTEN)
    click.echo(f"{config}: [{section}] {key} = {value!r}; it holds from the next start of the server", err=True)
    if (variable := f"{ENV_PREFIX}{section.upper()}__{key.upper()}") in os.environ:
        click.echo(f"{variable} is set too, and overrides it", err=True)


def set_key(path: Path, section: str, key: str, value: float) -> None:
    """Set a number in a section. Raises `RewritingError` or `OSError`; then the file is as it was."""
    before = path.read_bytes().decode("utf-8")  # `read_text` would turn its line ends into others
    after = with_key(before, section, key, value)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(after.encode())
        unfinished.chmod(path.stat().st_mode & 0o7777)
        unfinished.replace(path.resolve())
    finally:
        unfinished.unlink(missing_ok=True)


def with_key(text: str, section: str, key: str, value: float) -> str:
    """Return a TOML text with this key. Raises `RewritingError`."""
    expected: dict[str, Any] = tomllib.loads(text)
    expected.setdefault(section, {})[key] = value
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    _set(lines, section, key, f"{key} = {value!r}", end)
    written = "".join(lines)
    try:
        is_right = tomllib.loads(written) == expected
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise RewritingError(f"[{section}] is not written line by line; add this to it by hand: {key} = {value!r}")
    return written


def _set(lines: list[str], section: str, key: str, setting: str, end: str) -> None:
    header = re.compile(rf"^\s*\[\s*{re.escape(section)}\s*\]")
    begin = next((at for at, line in enumerate(lines) if header.match(line)), None)
    if begin is None:
        blank = [end] if lines and lines[-1].strip() else []
        lines += [*blank, f"[{section}]{end}", setting + end]
        return
    close = next((at for at in range(begin + 1, len(lines)) if _HEADER.match(lines[at])), len(lines))
    own = re.compile(rf"^(\s*){re.escape(key)}\s*=[^#\r\n]*?(\s*#[^\r\n]*)?(\s*)$")
    for at in range(begin + 1, close):
        if found := own.match(lines[at]):
            lines[at] = f"{found[1]}{setting}{found[2] or ''}{end}"
            return
    # After the line that shows it as a comment, else after the last key of the section.
    shown = re.compile(rf"^\s*#\s*{re.escape(key)}\s*=")
    place = next((at for at in range(begin + 1, close) if shown.match(lines[at])), None)
    if place is None:
        place = max(at for at in range(begin, close) if lines[at].strip() and not lines[at].lstrip().startswith("#"))
    lines.insert(place + 1, setting + end)
