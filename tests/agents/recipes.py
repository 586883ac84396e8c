"""The recipes of the README, as they are printed there."""

import re

from tests.support.paths import REPOSITORY

BLOCK = re.compile(r"```\w*\n((?:(?!```)[^\n]*\n)+)|\n\n((?: {4}[^\n]*\n)+)")


def recipe(client: str) -> str:
    """Return the first block of code after the name of a client in bold."""
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    found = BLOCK.search(readme, readme.index(f"**{client}**"))
    assert found, f"README has no recipe for {client}"
    return found[1] or re.sub("^    ", "", found[2], flags=re.MULTILINE)


def exported(client: str) -> dict[str, str]:
    """Return the variables that a recipe exports."""
    return dict(re.findall(r"^export (\w+)=(\S+)", recipe(client), re.MULTILINE))
