"""The vocabularies that tokens are counted in. The package carries their ranks, so nothing is fetched (see NOTICE).

Call `encoding(name)` for each that is needed once at startup: building one takes a fifth of a second, which the first
count would otherwise wait.
"""

import hashlib
from functools import cache
from importlib import resources
from io import BytesIO
from types import MappingProxyType

import tiktoken

from millrace.types import Encoding

O200K, CL100K = "o200k_base", "cl100k_base"
ESTIMATE = "estimate"  # the setting of a model whose vocabulary is none of these

_SAME = MappingProxyType({"o200k_harmony": O200K})  # vocabularies that differ in nothing but their special tokens
_SHA256 = MappingProxyType(  # of the ranks
    {
        O200K: "bac143fe7fe950090c6e4ed9a2f80de5412a92495758b52becbbe5a7eea25ecb",
        CL100K: "6bfd43f7b31b50b645b3228413547e662af1ae4801e9b192b9791680a71d650c",
    }
)
_SPECIAL = MappingProxyType(
    {
        O200K: {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018},
        CL100K: {
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    }
)
NAMES = tuple(_SHA256)
# Tokens of a family for one of o200k_base, about: what is assumed until its provider has reported some.
_FACTORS = (("claude", 1.25), ("gemini", 1.05))


@cache
def encoding(name: str = O200K) -> tiktoken.Encoding:
    """Return an encoding, built from the package's data. Raises `RuntimeError` if the data is damaged."""
    folder = resources.files("millrace.ranks")
    packed = folder.joinpath(f"{name}.ranks").read_bytes()  # not compressed: every start would wait for it
    if hashlib.sha256(packed).hexdigest() != _SHA256[name]:
        raise RuntimeError(f"the ranks of {name} are damaged; reinstall millrace")
    pattern = folder.joinpath(f"{name}.pattern").read_text("utf-8")
    ranks = _unpack(packed)
    made = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=_SPECIAL[name])
    ranks.clear()  # over 20 MB, which tiktoken has copied, and would keep to be pickled
    return made


def encoding_of(model: str, setting: str | None = None) -> Encoding:
    """Return how a model's tokens are counted: as the setting says, or else by its name, as tiktoken knows it.

    What stands before a slash is not looked at, since gateways name the provider there. A model that is not known is
    counted in o200k_base, as an estimate.
    """
    name = model.rpartition("/")[2].lower()
    if setting is None:
        try:
            setting = tiktoken.encoding_name_for_model(name)
        except KeyError:
            setting = ESTIMATE
    own = _SAME.get(setting, setting)
    if own in NAMES:
        return Encoding(name=own, is_own=True)
    factor = next((factor for family, factor in _FACTORS if family in name), 1.0)
    return Encoding(name=O200K, factor=factor)


def _unpack(packed: bytes) -> dict[bytes, int]:
    """Return the rank of each token. The data is a sequence of (length byte, token bytes), ordered by rank."""
    ranks: dict[bytes, int] = {}
    read = BytesIO(packed).read
    while size := read(1):
        ranks[read(size[0])] = len(ranks)
    return ranks
