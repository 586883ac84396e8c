"""Embeddings that are made up: the same text has always the same vector, and texts with common words are near."""

import base64
import hashlib
import math
import struct
from typing import Any

import orjson

from millrace import tokens
from millrace.simulator.shapes import BadRequestError

DIMENSIONS = 256
_MOST = 4096  # dimensions


def answer(body: dict[str, Any], model: str) -> tuple[bytes, int]:
    """Return the answer to a request, and the tokens of its input. Raises `BadRequestError`."""
    given, dimensions = body.get("input"), body.get("dimensions", DIMENSIONS)
    is_one = not isinstance(given, list) or (given and isinstance(given[0], int))
    texts: list[Any] = [given] if is_one else given or []
    if not texts or not all(isinstance(text, str | list) and text for text in texts):
        raise BadRequestError("'input' must be a text, or a list of texts or tokens")
    if not (isinstance(dimensions, int) and 0 < dimensions <= _MOST):
        raise BadRequestError(f"'dimensions' must be a number from 1 to {_MOST}")
    counted = sum(tokens.count(text) if isinstance(text, str) else len(text) for text in texts)
    vectors = [_vector(text.lower().split() if isinstance(text, str) else text, dimensions) for text in texts]
    is_packed = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(vector) if is_packed else vector}
        for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": counted, "total_tokens": counted}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage}), counted


def _vector(words: list[Any], dimensions: int) -> list[float]:
    """Return a vector of unit length: each word adds to one place."""
    vector = [0.0] * dimensions
    for word in words:
        digest = int.from_bytes(hashlib.sha256(str(word).encode()).digest()[:8])
        vector[digest % dimensions] += 1.0
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return [number / length for number in vector]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
