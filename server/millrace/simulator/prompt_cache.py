"""A simple model of a provider's prompt cache, and of how it counts a prompt."""

import hashlib
from collections.abc import Iterator, Sequence

from millrace.simulator.question import Message

CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
CACHEABLE_TOKENS = 256
CAPACITY = 4096


def count_tokens(chars: int, messages: int) -> int:
    """The input tokens of so many messages with so many characters in all."""
    return -(-chars // CHARS_PER_TOKEN) + TOKENS_PER_MESSAGE * messages


class PromptCache:
    """Remembers the openings of past prompts, in whole messages."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}  # oldest first

    def charge(self, messages: Sequence[Message]) -> tuple[int, int]:
        """The tokens of a prompt and how many of them are cached; the prompt is remembered."""
        *openings, (whole, total) = _prefixes(messages)
        # The last message is new by definition: a provider never finds all of a prompt in its cache.
        cached = max((tokens for digest, tokens in openings if digest in self._seen), default=0)
        self._remember(digest for digest, tokens in [*openings, (whole, total)] if tokens >= CACHEABLE_TOKENS)
        return total, cached

    def _remember(self, digests: Iterator[bytes]) -> None:
        for digest in digests:
            self._seen.pop(digest, None)
            self._seen[digest] = None
        while len(self._seen) > CAPACITY:
            del self._seen[next(iter(self._seen))]


def _prefixes(messages: Sequence[Message]) -> Iterator[tuple[bytes, int]]:
    """The digest and the tokens of the first message, the first two, and so on."""
    digest, chars = b"", 0
    for count, message in enumerate(messages, start=1):
        digest = hashlib.sha256(digest + f"{message.role}\0{message.text}".encode()).digest()
        chars += len(message.text)
        yield digest, count_tokens(chars, count)
