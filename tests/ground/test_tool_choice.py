"""A tool choice: what it asks for, and its text in cache keys."""

import pytest

from millrace.types.tool_choice import ToolChoice

DEPTH = ToolChoice("function", "depth")


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (DEPTH, "function:depth"),
    ],
)
def test_the_key(choice: ToolChoice, key: str) -> None:
    """Answers stored by earlier versions are found under it."""
    assert choice.key == key


@pytest.mark.parametrize(
    ("choice", "called", "satisfied"),
    [
        (ToolChoice("auto"), set(), True),
        (ToolChoice("none"), {"depth"}, True),  # `none` demands no call; one that comes anyway is let through
        (ToolChoice("required"), set(), False),
        (ToolChoice("required"), {"depth"}, True),
        (DEPTH, set(), False),
        (DEPTH, {"depth"}, True),
        (DEPTH, {"depth", "height"}, False),
    ],
)
def test_what_satisfies_it(choice: ToolChoice, called: set[str], satisfied: bool) -> None:
    """Only `required` and `function` ask for calls."""
    assert choice.satisfied_by(called) is satisfied
