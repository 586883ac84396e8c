"""docs/providers.md and the presets say the same, and a strict provider stands for each."""

import re
from typing import Any

import msgspec
import pytest

from millrace.settings import QuirksSettings
from millrace.upstreams.quirks import ALL, PRESETS, Quirks
from tests.strict.rules import RULES
from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "providers.md").read_text("utf-8")
WORDS = {"all": ALL, "none": frozenset[str]()}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    section = PAGE.partition(heading)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `") and "`provider`" not in line]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def named(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


SET = {named(row[0])[0]: row for row in rows("## Presets")}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_set_for_a_preset_is_on_the_page(preset: str) -> None:
    _, cap, reasoning, own_fields, ids, more, *rest = SET[preset]
    switches: Any = dict.fromkeys(named(more), True)
    told = Quirks(
        max_tokens_field=named(cap)[0],
        reasoning=PRESETS[preset].reasoning.__class__(reasoning.partition(",")[0]),
        reasoning_fields=named(reasoning) or ("reasoning_content",),
        own_fields=WORDS[own_fields] if own_fields in WORDS else frozenset(named(own_fields)),
        call_ids=PRESETS[preset].call_ids.__class__(ids),
        drop=frozenset(named(" ".join(rest))),
        **switches,
    )
    assert told == PRESETS[preset]


def test_every_preset_has_been_seen() -> None:
    """`auto` is none that could be seen. Each row says where."""
    seen = rows("## What was seen")
    assert {named(row[0])[0] for row in seen} == set(PRESETS) - {"auto"} == set(RULES)
    assert all(re.search(r"\w#\d+|\w\.\w+/", row[2]) for row in seen)


def test_every_key_of_quirks_is_on_the_page() -> None:
    table = PAGE.partition("| key of `quirks`")[2].partition("\n\n")[0]
    told = [named(line)[0] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(told) == sorted(field.name for field in msgspec.structs.fields(QuirksSettings))
