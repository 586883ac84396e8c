"""The recipes of the documentation, as they are printed there."""

import re

from tests.support.paths import REPOSITORY

BLOCK = re.compile(r"```\w*\n((?:(?!```)[^\n]*\n)+)|\n\n((?: {4}[^\n]*\n)+)")


def recipe(client: str) -> str:
    """Return the first block of code of the page about a client."""
    pages = (file.read_text("utf-8") for file in sorted((REPOSITORY / "docs").glob("*.md")))
    page = next(page for page in pages if page.startswith(f"# {client}\n"))
    found = BLOCK.search(page)
    assert found, f"the page about {client} has no recipe"
    return found[1] or re.sub("^    ", "", found[2], flags=re.MULTILINE)


def exported(client: str) -> dict[str, str]:
    """Return the variables that a recipe exports."""
    return dict(re.findall(r"^export (\w+)=(\S+)", recipe(client), re.MULTILINE))
