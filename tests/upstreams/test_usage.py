"""Token counts as providers report them: under any name, in any place, and the last one counts."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.types import Usage
from millrace.upstreams.usage import UsageReader, reports

WHOLE = Usage(input_tokens=100, output_tokens=30, cached_input_tokens=40, reasoning_tokens=20)
OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
DIALECTS: dict[str, dict[str, Any]] = {
    "OpenAI": OPENAI,
    "Responses": {
        "input_tokens": 100,
        "output_tokens": 30,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens_details": {"reasoning_tokens": 20},
    },
    "xAI": OPENAI | {"completion_tokens": 10},
    "Gemini's compatible one": {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 130,
        "cached_tokens": 40,
    },
    "Gemini": {
        "promptTokenCount": 100,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 130,
        "cachedContentTokenCount": 40,
    },
    "DeepSeek": {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "prompt_cache_hit_tokens": 40,
        "prompt_cache_miss_tokens": 60,
        "completion_tokens_details": {"reasoning_tokens": 20},
    },
    "Kimi": {"prompt_tokens": 100, "completion_tokens": 30, "cached_tokens": 40, "reasoning_tokens": 20},
    "Messages": {
        "input_tokens": 60,
        "cache_read_input_tokens": 40,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 20},
    },
    "floats and digits in quotes": OPENAI | {"prompt_tokens": "100", "completion_tokens": 30.0},
    "nonsense beside it": OPENAI | {"prompt_cache_hit_tokens": [], "reasoning_tokens": True, "cached_tokens": "many"},
}
PLACES: dict[str, Any] = {
    "usage": lambda usage: {"choices": [], "usage": usage},
    "the choice": lambda usage: {"choices": [{"index": 0, "usage": usage}]},
    "x_groq": lambda usage: {"choices": [], "x_groq": {"usage": usage}},
    "usageMetadata": lambda usage: {"usageMetadata": usage},
}
NO_COUNTS: tuple[Any, ...] = (None, 3, "many", [], {}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})


def read(*events: dict[str, Any], most: int = 10**9, is_empty: bool = False) -> Usage | None:
    reader = UsageReader()
    for event in events:
        for usage in reports(event):
            reader.take(usage)
    return reader.read(most, is_empty=is_empty)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("place", PLACES)
def test_every_dialect_in_every_place(dialect: str, place: str) -> None:
    """The same counts; reasoning is a part of the output, cached input a part of the input."""
    assert read(PLACES[place](DIALECTS[dialect])) == WHOLE


@given(
    st.lists(st.sampled_from([*NO_COUNTS, {"prompt_tokens": 100, "completion_tokens": 3}]), max_size=6),
    st.sampled_from([*DIALECTS.values()]),
    st.lists(st.sampled_from(NO_COUNTS), max_size=3),
    st.sampled_from([*PLACES.values()]),
)
def test_the_last_count_wins(before: list[Any], last: dict[str, Any], after: list[Any], place: Any) -> None:
    """Whatever came before it; zeros and nonsense after it are no counts."""
    running: list[Any] = [one if "input_tokens" not in last else 3 for one in before]  # one dialect an answer
    assert read(*map(place, [*running, last, *after])) == WHOLE


WRITES: dict[str, dict[str, Any]] = {
    "Messages": {"input_tokens": 20, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 30},
    "LiteLLM": {
        "prompt_tokens": 100,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 50},
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 50,
    },
    "OpenRouter": {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 30}},
    "all of it cached": {"input_tokens": 0, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 30},
}


@pytest.mark.parametrize("dialect", WRITES)
def test_writes_to_the_cache_are_a_part_of_the_input(dialect: str) -> None:
    """Whether a provider counts them within it or beside it."""
    of_cache = 70 if dialect == "all of it cached" else 50
    whole = Usage(input_tokens=100, output_tokens=30, cached_input_tokens=of_cache, cache_write_tokens=30)
    assert read({"usage": WRITES[dialect] | {"output_tokens": 30}}) == whole


def test_what_is_written_for_an_hour_is_told_apart() -> None:
    """It has a price of its own."""
    writes = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    usage = {"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 30, "cache_creation": writes}
    told = Usage(input_tokens=35, output_tokens=1, cache_write_tokens=30, cache_write_1h_tokens=20)
    assert read({"usage": usage}) == told


def test_counts_may_come_one_by_one() -> None:
    """Input at the beginning, output at the end."""
    events: list[dict[str, Any]] = [
        {"message": {"usage": {"input_tokens": 100, "output_tokens": 1}}},
        {"usage": {"output_tokens": 30}},
    ]
    assert read(*events) == Usage(input_tokens=100, output_tokens=30)


@pytest.mark.parametrize("usage", [*NO_COUNTS, {"prompt_tokens": 5}, {"completion_tokens": 5}])
def test_what_is_no_count(usage: Any) -> None:
    """Then the tokens are counted here. An answer that says nothing may have no output."""
    assert read({"usage": usage}) is None
    assert read({"usage": {"prompt_tokens": 5, "completion_tokens": 0}}, is_empty=True) == Usage(input_tokens=5)


def test_counts_are_bounded_by_what_can_be_true() -> None:
    """No more cached than sent, no more of anything than the model can hold, and no number that is none."""
    absurd = {"prompt_tokens": 1e300, "completion_tokens": 10**12, "prompt_tokens_details": {"cached_tokens": 1e300}}
    assert read({"usage": absurd}, most=1000) == Usage(input_tokens=1000, output_tokens=1000, cached_input_tokens=1000)
    assert read({"usage": {"prompt_tokens": float("nan"), "completion_tokens": float("inf")}}) is None
    assert read({"usage": {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 9}}) == Usage(
        input_tokens=5, output_tokens=2, cached_input_tokens=5
    )


def test_a_count_without_end_is_no_fault() -> None:
    """A number of 400 digits beside one in quotes."""
    assert read({"usage": {"prompt_tokens": 10**400, "completion_tokens": "5"}}, most=1000) == Usage(
        input_tokens=1000, output_tokens=5
    )
