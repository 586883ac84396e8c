"""Reads requests whose answers were judged, for `millrace calibrate`, and says what they cost."""

from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from msgspec import Struct

from millrace import pricing, tokens
from millrace.cli.rows import refused, rows
from millrace.errors import MillraceError
from millrace.funnel.routing.curves import Floats
from millrace.settings import ModelSettings, ModelsSettings
from millrace.types import Message, Prompt, Usage
from millrace.wire.completions import read_completion

OUTPUT = 256  # tokens that are assumed for an answer that a row does not have
LABELS = ("small_correct", "large_correct")


class _Row(msgspec.Struct):
    prompt: str | None = None
    messages: list[Any] | None = None
    tools: list[Any] | None = None  # with messages
    small_correct: bool | int | None = None
    large_correct: bool | int | None = None
    subject: str | None = None
    small_answer: str | None = None
    large_answer: str | None = None


class Asked(Struct, frozen=True, kw_only=True):
    """A prompt, and whether each model's answer to it was right. Where no labels are read, neither was."""

    prompt: Prompt
    small: bool
    large: bool
    subject: str
    answers: tuple[str | None, str | None]  # of the small and the large model


def read(path: Path, *, labels: bool) -> list[Asked]:
    """Return the rows of a file. Raises `click.BadParameter` with the line and what is wrong with it."""
    found = []
    for number, row in rows(path, _Row):
        try:
            prompt = _prompt(row)
            small, large = (_label(row, name) if labels else False for name in LABELS)
        except MillraceError as error:
            raise refused(path, number, error.message) from None
        except ValueError as error:
            raise refused(path, number, str(error)) from None
        answers = (row.small_answer, row.large_answer)
        found.append(Asked(prompt=prompt, small=small, large=large, subject=row.subject or "", answers=answers))
    if not found:
        raise click.BadParameter(f"{path}: it has no rows", param_hint="PAIRS")
    return found


def costs(asked: list[Asked], models: ModelsSettings) -> Floats:
    """Return the dollars of each request with the small and the large model: (2, requests)."""
    return np.array([[_cost(row, at, model) for row in asked] for at, model in enumerate((models.small, models.large))])


def _prompt(row: _Row) -> Prompt:
    if (row.prompt is None) == (row.messages is None):
        raise ValueError('write either "prompt", a string, or "messages", those of a chat completion')
    if row.messages is not None:
        fields = {"model": "auto", "messages": row.messages} | ({} if row.tools is None else {"tools": row.tools})
        return read_completion(fields, ()).prompt
    return Prompt(messages=(Message(role="user", parts=(row.prompt or "",)),))


def _label(row: _Row, name: str) -> bool:
    value = getattr(row, name)
    if value not in (0, 1):
        missing = f'add "{name}"' if value is None else f"{name}: not {value}"
        raise ValueError(f"{missing}: true or false, or 1 or 0")
    return bool(value)


def _cost(row: Asked, at: int, model: ModelSettings) -> float:
    answer = row.answers[at]
    usage = Usage(
        input_tokens=tokens.count_prompt(row.prompt),
        output_tokens=OUTPUT if answer is None else tokens.count(answer),
        estimated=True,
    )
    return float(pricing.cost(usage, model.price.read()))
