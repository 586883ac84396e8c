"""The requests of a load test: rows of a file or the built-in mix, drawn by weight."""

import secrets
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from millrace.errors import RULES
from millrace.types import CacheMode, Delivery, Strategy

COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
_REASONS = (
    "max_output_tokens",
    "content_filter",
    "deadline",
    "budget_exceeded",
    "slow_consumer",
)  # of incomplete responses
_EXPECTABLE = (COMPLETED, FAILED, CANCELLED, *_REASONS, *RULES)


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of request. `expect` is how it should end; by default completed, or cancelled by `cancel_after_ms`."""

    input: str | list[dict[str, Any]]
    strategy: Strategy | None = None
    delivery: Delivery | None = None
    cache: CacheMode | None = None
    model: str = "auto"
    weight: Annotated[float, Meta(gt=0)] = 1.0
    cancel_after_ms: Annotated[float, Meta(ge=0)] | None = None
    expect: str | None = None
    fresh: bool = False  # the input of every request is unique, so that it is a cache miss

    def __post_init__(self) -> None:
        if not self.input:
            raise ValueError("`input` is empty")
        if self.expect is not None and self.expect not in _EXPECTABLE:
            raise ValueError(f"`expect` is {self.expect!r}, which is neither completed, failed, cancelled nor a code")
        if self.expect == CANCELLED and self.cancel_after_ms is None:
            raise ValueError("`expect` is 'cancelled', but there is no `cancel_after_ms`")


# For the simulated models. The directives in brackets make a question long or hard; a real model ignores them.
BUILT_IN = (
    Row(input="What is a millrace?", weight=3),
    Row(input="What is the capital of France?", weight=2),
    Row(input="Describe a mill pond in a few words. [tokens=40]", weight=3, fresh=True),
    Row(input="Prove that the square root of 2 is irrational. [weak.small]", weight=1.5, fresh=True),
    Row(input="Tell me a long story. [tokens=200]", weight=0.5, fresh=True),
)


class BadPrompts(Exception):  # noqa: N818 - a fault of the user, not of the program
    """A file of prompts is invalid; each fault names its line."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def read(path: Path) -> tuple[Row, ...]:
    """Read a file of rows. Raises `BadPrompts`.

    A line that begins with `{` is a row in JSON, any other line a question. Blank lines and `#` lines are skipped.
    """
    rows, faults = [], []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPrompts([f"{path}: {error}"]) from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            rows.append(msgspec.json.decode(line, type=Row) if line.startswith("{") else Row(input=line))
        except msgspec.DecodeError as error:
            faults.append(f"{path}:{number}: {error}")
    if not rows and not faults:
        faults.append(f"{path}: has no prompt; write one question or JSON row a line")
    if faults:
        raise BadPrompts(faults)
    return tuple(rows)


class Mix:
    """Draws rows by weight, in the same order for the same seed."""

    def __init__(self, rows: Sequence[Row], *, seed: int, fresh: bool) -> None:
        self._rows = rows
        self._weights = [*accumulate(row.weight for row in rows)]
        self._random = Random(f"prompts {seed}")
        self._all_fresh = fresh
        self._run = secrets.token_hex(3)  # keeps inputs unique across runs, as a cache may be on disk
        self._drawn = 0

    def draw(self) -> Row:
        """Return the next row; if it is fresh, its input is made unique."""
        self._drawn += 1
        (row,) = self._random.choices(self._rows, cum_weights=self._weights)
        if not (row.fresh or self._all_fresh):
            return row
        return msgspec.structs.replace(row, input=_with_suffix(row.input, f" (#{self._run}-{self._drawn})"))


def _with_suffix(input_: str | list[dict[str, Any]], suffix: str) -> str | list[dict[str, Any]]:
    if isinstance(input_, str):
        return input_ + suffix
    last = input_[-1]
    content = last.get("content", "")
    longer = content + suffix if isinstance(content, str) else [*content, {"type": "input_text", "text": suffix}]
    return [*input_[:-1], {**last, "content": longer}]
