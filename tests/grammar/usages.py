"""How providers report the tokens of an answer: under which names, where, and what comes before."""

from random import Random
from typing import Any

from tests.grammar.truth import Truth

Fields = dict[str, Any]
ZEROS: Fields = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def usage(random: Random, truth: Truth) -> Fields:
    """Return a usage object of one of the dialects."""
    prompt, output, cached, thought = (
        truth.input_tokens,
        truth.output_tokens,
        truth.cached_tokens,
        truth.reasoning_tokens,
    )
    total = prompt + output
    plain = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": total}
    details: Fields = {
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    dialects: list[Fields] = [
        plain | details,
        {
            "input_tokens": prompt,
            "output_tokens": output,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens_details": {"reasoning_tokens": thought},
        },
        plain | {"completion_tokens": output - thought} | details,  # xAI
        plain | {"prompt_cache_hit_tokens": cached, "reasoning_tokens": thought},  # DeepSeek
        plain | {"cached_tokens": cached, "reasoning_tokens": thought},  # Kimi
        plain | details | {"prompt_tokens": float(prompt), "completion_tokens": str(output)},
        plain | details | {"cost": "much", "queue_time": None, "prompt_cache_hit_tokens": "?"},
    ]
    return random.choice(dialects)


def report(random: Random, given: Fields) -> Fields:
    """Return an event without an answer that reports a usage."""
    places: list[Fields] = [
        {"choices": [], "usage": given},
        {"choices": None, "usage": given},
        {"choices": [], "x_groq": {"id": "r", "usage": given}},
        {"choices": [{"index": 0, "delta": {}, "usage": given}]},
    ]
    return random.choice(places)
