"""Token counts: tiktoken's o200k_base, exact and without the network, from ranks that the package carries.

Load it once at the start (`encoding()` takes most of a second); until then every count would.
"""

import hashlib
import lzma
from functools import cache
from importlib import resources

import tiktoken

from millrace.types import Prompt

NAME = "o200k_base"
SHA256 = "74c6f5af06dd76707df670b80098f8be24afcd25ffae041f3df869abdcf63f65"  # of the compressed ranks
SPECIAL = {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}
LONG = 8_000  # characters above which a count leaves the loop: it takes more than about a millisecond
BYTES_PER_TOKEN = 3  # where there is no time to count; low on purpose, so that an estimate errs upwards


@cache
def encoding() -> tiktoken.Encoding:
    """Return the encoding, built of the package's own data."""
    folder = resources.files("millrace.ranks")
    packed = folder.joinpath(f"{NAME}.xz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise RuntimeError(f"the ranks of {NAME} are damaged; install millrace again")
    pattern = folder.joinpath(f"{NAME}.pattern").read_text("utf-8")
    return tiktoken.Encoding(
        NAME, pat_str=pattern, mergeable_ranks=_unpack(lzma.decompress(packed)), special_tokens=SPECIAL
    )


def count(text: str) -> int:
    """Return the exact number of tokens; special tokens in a text are text. Off the loop for long ones."""
    return len(encoding().encode_ordinary(text))


def count_prompt(prompt: Prompt) -> int:
    """Return the tokens of all texts of a prompt; what a provider adds per message is not in it."""
    return sum(count(part) for message in prompt.sent for part in message.parts)


def estimate(size: int) -> int:
    """Return ceil(UTF-8 bytes / 3)."""
    return -(-size // BYTES_PER_TOKEN)


def _unpack(packed: bytes) -> dict[bytes, int]:
    """Return token -> rank of a sequence of (length, bytes) in the order of the ranks."""
    ranks: dict[bytes, int] = {}
    at = 0
    while at < len(packed):
        end = at + 1 + packed[at]
        ranks[packed[at + 1 : end]] = len(ranks)
        at = end
    return ranks
