"""A simple model of a provider's prompt cache and of its input token count."""

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from millrace.simulator.conversation import Message
from millrace.simulator.question import Tool

CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
MEDIA_TOKENS = 765  # of any image, file or recording
CACHEABLE_TOKENS = 256  # shorter prefixes are not cached
CAPACITY = 4096  # prefixes


def count_tokens(chars: int, messages: int) -> int:
    """Return the input tokens of `messages` messages with `chars` characters in total."""
    return -(-chars // CHARS_PER_TOKEN) + TOKENS_PER_MESSAGE * messages


class PromptCache:
    """Remembers prefixes of past prompts, in whole messages."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}  # oldest first

    def charge(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[int, int]:
        """Return the input tokens of a prompt and how many of them were cached; then cache the prompt."""
        *prefixes, (digest_of_all, total) = _prefixes(messages, msgspec.json.encode(tools) if tools else b"")
        # Only proper prefixes count: a provider never reports a whole prompt as cached.
        cached = max((tokens for digest, tokens in prefixes if digest in self._digests), default=0)
        self._cache(digest for digest, tokens in [*prefixes, (digest_of_all, total)] if tokens >= CACHEABLE_TOKENS)
        return total, cached

    def _cache(self, digests: Iterator[bytes]) -> None:
        for digest in digests:
            self._digests.pop(digest, None)
            self._digests[digest] = None
        while len(self._digests) > CAPACITY:
            del self._digests[next(iter(self._digests))]


def _prefixes(messages: Sequence[Message], tools: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield digest and tokens of each prefix: the tools with the first message, with the first two, and so on."""
    digest, chars = tools, len(tools)
    for count, message in enumerate(messages, start=1):
        text = message.text + message.tool_call_text
        media = message.media.total()
        digest = hashlib.sha256(digest + f"{message.role}\0{media}\0{text}".encode()).digest()
        chars += len(text) + media * MEDIA_TOKENS * CHARS_PER_TOKEN
        yield digest, count_tokens(chars, count)
