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
        (ToolChoice("function", "depth", "sea"), "function:sea\0depth"),
        (ToolChoice("hosted", "web_search"), "hosted:web_search"),
        (ToolChoice("auto", allowed=(("", "b"), ("", "a"))), "auto:[('', 'a'), ('', 'b')]"),
    ],
)
def test_the_key(choice: ToolChoice, key: str) -> None:
    """Answers stored by earlier versions are found under it."""
    assert choice.key == key


@pytest.mark.parametrize(
    ("choice", "called", "satisfied"),
    [
        (ToolChoice("auto"), set(), True),
        (ToolChoice("none"), {("", "depth")}, True),  # `none` demands no call; one that comes anyway is let through
        (ToolChoice("required"), set(), False),
        (ToolChoice("required"), {("", "depth")}, True),
        (DEPTH, set(), False),
        (DEPTH, {("", "depth")}, True),
        (DEPTH, {("", "depth"), ("", "height")}, False),
        (DEPTH, {("sea", "depth")}, False),
        (ToolChoice("function", "depth", "sea"), {("sea", "depth")}, True),
        (ToolChoice("hosted", "web_search"), set(), True),  # no call of it can be seen
        (ToolChoice("auto", allowed=(("", "depth"),)), set(), True),
        (ToolChoice("auto", allowed=(("", "depth"),)), {("", "height")}, False),
        (ToolChoice("required", allowed=(("", "depth"),)), {("", "depth")}, True),
    ],
)
def test_what_satisfies_it(choice: ToolChoice, called: set[tuple[str, str]], satisfied: bool) -> None:
    """Only `required` and `function` ask for calls."""
    assert choice.satisfied_by(called) is satisfied
