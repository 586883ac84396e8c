"""What providers call the end of an answer -> `FinishReason`. No I/O."""

import re
from typing import Any

from millrace.types import FinishReason

MAX_WORD = 64  # characters of a provider's own word that are kept
_NO_LETTER = re.compile(r"[^a-z0-9]+")
_PREFIX = "finishreason"  # enums of Python and of Gemini leave it in front
_REASONS = {
    FinishReason.LENGTH: "length max_tokens max_output_tokens max_length model_length token_limit",
    FinishReason.CONTENT_FILTER: (
        "content_filter content_filtered safety recitation blocklist prohibited_content spii image_safety sensitive"
        " refusal guardrail_intervened"
    ),
    FinishReason.TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls",
}
_STOPPED = "stop stopped stop_sequence end end_turn end_of_turn eos eos_token complete completed done finished finish"
_NO_WORDS = ("", "null", "none", "unspecified")
# The provider broke off: what came is a part of an answer.
_BROKEN = (
    "error abort aborted cancelled canceled network_error failed timeout insufficient_system_resource"
    " malformed_function_call malformed_response unexpected_tool_call"  # Gemini
)


def _plain(word: str) -> str:
    return _PLAIN.get(word) or _NO_LETTER.sub("", word.lower()).removeprefix(_PREFIX)


_PLAIN: dict[str, str] = {}  # of the words below, as they stand there: nearly all that come
_BY_WORD = {_plain(word): reason for reason, words in _REASONS.items() for word in words.split()}
_STOP_WORDS = frozenset(map(_plain, _STOPPED.split()))
_BROKEN_WORDS = frozenset(map(_plain, _BROKEN.split()))
_PLAIN |= {word: _plain(word) for words in (*_REASONS.values(), _STOPPED, _BROKEN) for word in words.split()}


def is_word(given: Any) -> bool:
    """Whether a provider has named an end."""
    return isinstance(given, str) and _plain(given) not in _NO_WORDS


def is_broken(word: str) -> bool:
    """Whether a word says that the provider broke off."""
    return _plain(word) in _BROKEN_WORDS


def is_known(word: str) -> bool:
    """Whether it is known what a word means."""
    plain = _plain(word)
    return plain in _BY_WORD or plain in _STOP_WORDS or plain in _BROKEN_WORDS


def reason(word: str) -> FinishReason:
    """Return what a word means. One that is not known means that the model stopped; `Finish` keeps the word."""
    return _BY_WORD.get(_plain(word), FinishReason.STOP)
