"""Token counts by tiktoken's o200k_base, exact and without the network: the package contains the ranks.

Call `encoding()` once at startup: building it takes most of a second, which the first count would otherwise wait.
"""

import hashlib
import lzma
import math
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

import msgspec
import tiktoken

from millrace.types import Aside, CallPiece, Media, Message, OwnFields, Prompt, Sealed, Tool

NAME = "o200k_base"
SHA256 = "74c6f5af06dd76707df670b80098f8be24afcd25ffae041f3df869abdcf63f65"  # of the compressed ranks
SPECIAL = {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}
PIECE = 10_000  # characters that are encoded at once; a longer word takes more than its share of time
LONG = 8_000  # characters; counting a longer text takes over about 1 ms, so it runs off the event loop
MEDIA = 765  # tokens assumed for an image, file or recording: those of a 1024x1024 image at OpenAI
SPARSE = 5  # characters per token; high on purpose, so that the estimate is rather too low
BYTES_PER_TOKEN = 3  # for texts too long to count; low on purpose, so that the estimate is rather too high


@cache
def encoding() -> tiktoken.Encoding:
    """Return the encoding, built from the package's data. Raises `RuntimeError` if the data is damaged."""
    folder = resources.files("millrace.ranks")
    compressed = folder.joinpath(f"{NAME}.xz").read_bytes()
    if hashlib.sha256(compressed).hexdigest() != SHA256:
        raise RuntimeError(f"the ranks of {NAME} are damaged; reinstall millrace")
    pattern = folder.joinpath(f"{NAME}.pattern").read_text("utf-8")
    return tiktoken.Encoding(
        NAME, pat_str=pattern, mergeable_ranks=_unpack(lzma.decompress(compressed)), special_tokens=SPECIAL
    )


def count(text: str, most: float = math.inf) -> int:
    """Return the number of tokens. Special tokens count as text. Blocks: see `LONG`.

    Stops once there are more than `most`, and returns how many were counted until then.

    It is exact up to `PIECE` characters. A longer text is counted in pieces, and each border may add a token: the
    splitting expression recurses once per character of a run of white space, and panics after some hundred thousand.
    """
    encode = encoding().encode_ordinary
    if len(text) <= PIECE:
        return len(encode(text))
    counted = 0
    for at in range(0, len(text), PIECE):
        counted += len(encode(text[at : at + PIECE]))
        if counted > most:
            break
    return counted


def count_message(message: Message, most: float = math.inf) -> int:
    """Return the tokens of a message: texts, tool calls, reasoning and refusal, and `MEDIA` for each part without text.

    Stops once there are more than `most`, and returns how many were counted until then.
    """
    counted, texts = 0, []
    for part in message.parts:
        text = part if isinstance(part, str) else part.text
        if text:
            texts.append(text)
        elif isinstance(part, Media):
            counted += MEDIA
    texts += filter(None, (message.reasoning, message.refusal))
    for call in message.calls:
        texts += call.name, call.arguments
    for text in texts:
        if counted > most:
            break
        counted += count(text, most - counted)
    return counted


def count_tools(tools: Iterable[Tool]) -> int:
    """Return the tokens of names, descriptions and JSON schemas. Providers format tools a little differently."""
    return sum(count(text) for tool in tools for text in (tool.name, tool.description or "", _schema(tool)))


def count_prompt(prompt: Prompt) -> int:
    """Return the tokens of all messages and tools, without what providers add per message."""
    return sum(map(count_message, prompt.sent)) + count_tools(prompt.tools)


def count_output(parts: Sequence[str], asides: Sequence[Aside]) -> int:
    """Return the tokens of a model's output, reasoning and tool calls included; an estimate if it is long."""
    text = "".join(parts) + "".join(map(_text, asides))
    return count(text) if len(text) <= LONG else estimate(len(text.encode()))


def running_output(parts: Sequence[str], asides: Sequence[Aside]) -> int:
    """Return a cheap estimate of `count_output`, rarely too high: one token per text delta, asides by length."""
    return len(parts) + sum(len(_text(aside)) for aside in asides) // SPARSE


def _text(aside: Aside) -> str:
    match aside:
        case CallPiece():
            return aside.name + aside.arguments
        case OwnFields() | Sealed():
            return ""
    return aside.text


def _schema(tool: Tool) -> str:
    schemas = (tool.parameters, tool.grammar, None if tool.hosted is None else tool.hosted.fields)
    return "".join(msgspec.json.encode(schema).decode() for schema in schemas if schema is not None)


def estimate(size: int) -> int:
    """Return ceil(UTF-8 bytes / 3)."""
    return -(-size // BYTES_PER_TOKEN)


def _unpack(packed: bytes) -> dict[bytes, int]:
    """Return the rank of each token. The data is a sequence of (length byte, token bytes), ordered by rank."""
    ranks: dict[bytes, int] = {}
    at = 0
    while at < len(packed):
        end = at + 1 + packed[at]
        ranks[packed[at + 1 : end]] = len(ranks)
        at = end
    return ranks
