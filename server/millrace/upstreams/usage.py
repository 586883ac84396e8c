"""Reads the token counts that providers report, whatever they call them and wherever they put them. No I/O.

The counts of a stream are cumulative, so the last count of each kind is the right one. Zeros and counts that cannot be
read do not count.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from millrace.types import Usage

MAX_TOKENS = 10**9  # of one call; a provider's count above that is wrong and is clamped

# Names of one count, the first that is given wins: OpenAI's own, then those of the Responses and Messages APIs and of
# Gemini, which compatible servers and gateways let through.
_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
_OUTPUT = ("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count")
_TOTAL = ("total_tokens", "totalTokenCount", "total_token_count")
_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "cached_tokens",  # Kimi
    "prompt_cache_hit_tokens",  # DeepSeek
    "cachedContentTokenCount",
    "cached_content_token_count",
)
_REASONING = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_tokens_details.thinking_tokens",
    "reasoning_tokens",
    "thoughtsTokenCount",
    "thoughts_token_count",
)
# The Messages API counts these beside its `input_tokens`.
_CACHE_READ, _CACHE_WRITE = ("cache_read_input_tokens",), ("cache_creation_input_tokens",)
_CACHE_WRITE_1H = ("cache_creation.ephemeral_1h_input_tokens",)
_WRITTEN = (  # a part of the input
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "prompt_tokens_details.cache_creation_input_tokens",  # Qwen
)
_KINDS = (_INPUT, _OUTPUT, _TOTAL, _CACHED, _REASONING, _CACHE_READ, _CACHE_WRITE, _CACHE_WRITE_1H, _WRITTEN)
_NAMES = tuple(names[0] for names in _KINDS)  # of the kinds
_PATHS = {names[0]: tuple(tuple(name.split(".")) for name in names) for names in _KINDS}
_KINDS_IN: dict[str, list[str]] = {}  # a field of a `usage` object -> the kinds that may be counted there
for _name, _paths in _PATHS.items():
    for _field in dict.fromkeys(path[0] for path in _paths):
        _KINDS_IN.setdefault(_field, []).append(_name)
_PLACES = (("usage",), ("x_groq", "usage"), ("usageMetadata",), ("usage_metadata",), ("message", "usage"))


class UsageReader:
    """Collects what the events of one answer report."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}

    def take(self, given: Any) -> None:
        """Take a `usage` object. What is no object, and counts that are no positive numbers, are ignored."""
        if not isinstance(given, dict):
            return
        for field in given:
            for name in _KINDS_IN.get(field, ()):
                for path in _PATHS[name]:
                    count = given.get(path[0])
                    if count is not None and (count := _number(_at(count, path[1:]))):
                        self._counts[name] = count
                        break

    def read(self, most: int = MAX_TOKENS, *, is_empty: bool = False) -> Usage | None:
        """Return the usage, each count clamped to `most`; None if the input or the output was not counted.

        The output of an answer that is not empty cannot be 0.
        """
        if not (counts := self._counts):
            return None
        input_tokens, output_tokens, total, cached, reasoning, cache_read, cache_write, write_1h, written = [
            counts.get(name, 0) for name in _NAMES
        ]
        if not cached and (cache_read or cache_write):  # counted beside the input, unless the total says otherwise
            cached = cache_read
            if not total or total != input_tokens + output_tokens:
                input_tokens += cache_read + cache_write
        written = written or cache_write
        if not (input_tokens and (output_tokens or reasoning or is_empty)):
            return None
        beside = total - input_tokens - output_tokens
        if beside > 0 and reasoning in (0, beside):  # reasoning that the output count leaves out
            reasoning = beside
            output_tokens += beside
        elif reasoning > output_tokens:
            output_tokens += reasoning
        input_tokens, output_tokens = _clamped(input_tokens, most), _clamped(output_tokens, most)
        if not (cached or written or write_1h or reasoning):
            return Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        cached = _clamped(cached, input_tokens)
        written = _clamped(written, input_tokens - cached)
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=_clamped(write_1h, written),
            reasoning_tokens=_clamped(reasoning, output_tokens),
        )


def input_of(given: Any) -> int | None:
    """Return the tokens of a `usage` object of embeddings, which have no output; None if it has no count."""
    counts = (_number(_at(given, (name,))) for name in (*_INPUT, *_TOTAL))
    return next((_clamped(count, MAX_TOKENS) for count in counts if count), None)


def reports(event: dict[str, Any]) -> Iterator[Any]:
    """Yield all usage objects of an event."""
    for place in _PLACES:
        if (given := _at(event, place)) is not None:
            yield given
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("usage") is not None:  # Kimi
            yield choice["usage"]


def _at(given: Any, path: Iterable[str]) -> Any:
    for name in path:
        given = given.get(name) if isinstance(given, dict) else None
    return given


def _number(given: Any) -> float:
    """Return a count as a number: some servers send floats or digits in quotes. 0 if it is none."""
    if type(given) is int:  # as nearly always
        return min(given, MAX_TOKENS) if given > 0 else 0
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = float(given[:20])
    is_count = isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < float("inf")
    return min(given, MAX_TOKENS) if is_count else 0


def _clamped(tokens: float, most: int) -> int:
    return int(min(tokens, most))
