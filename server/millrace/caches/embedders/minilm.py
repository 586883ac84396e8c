"""all-MiniLM-L6-v2 in numpy: no torch, no download.

The network is BERT (Devlin et al. 2018, arXiv 1810.04805) with six layers. The mean of its token vectors is the vector
of the text, as in Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084).

Vectors of tokens are columns, so that the weights are used as they lie in the file, and the products are the shape that
BLAS is quickest at. The tokens of all texts of a batch stand side by side; only attention looks at one text at a time.
A batch of 16 short questions takes a quarter of the time per question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from millrace.caches.embedders.weights import NAME, WORDS, Array, check, installed, tensors, tokenizer

LAYERS = 6
HEADS = 12
WIDTH = 384

_LAYER_NORM_EPSILON = np.float32(1e-12)
# GELU(x) = x (1 + tanh(x (a + b x^2 + c x^4))) / 2, fitted to the definition with erf: within 2.6e-5 everywhere, with
# half the operations of erf. Cosines change by about 5e-5. x^2 is capped at 16, since beyond it the negative c would
# reverse the sign of the argument of tanh.
_GELU = tuple(np.float32(c) for c in (0.79750787, 0.03700566, -0.00035151890))
_GELU_LIMIT = np.float32(16)

_Spans = list[tuple[int, int]]  # the columns of each text


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Array  # (out, in)
    bias: Array  # (out, 1)

    def __call__(self, x: Array) -> Array:
        out: Array = self.weight @ x
        out += self.bias
        return out


@dataclass(frozen=True, slots=True)
class _LayerNorm:
    gain: Array  # (384, 1)
    bias: Array

    def __call__(self, x: Array) -> Array:
        """Normalise columns in place."""
        x -= x.mean(axis=0)
        variance = np.einsum("ij,ij->j", x, x) / np.float32(WIDTH)
        x /= np.sqrt(variance + _LAYER_NORM_EPSILON)
        x *= self.gain
        x += self.bias
        return x


@dataclass(frozen=True, slots=True)
class _Layer:
    query: _Linear
    key: _Linear
    value: _Linear
    attention_out: _Linear
    attention_norm: _LayerNorm
    feed_in: _Linear  # (1536, 384)
    feed_out: _Linear
    feed_norm: _LayerNorm

    def __call__(self, x: Array, spans: _Spans) -> Array:
        attended = self.attention_out(_attend(self.query(x), self.key(x), self.value(x), spans))
        attended += x
        x = self.attention_norm(attended)
        fed = self.feed_out(_gelu(self.feed_in(x)))
        fed += x
        return self.feed_norm(fed)


class MiniLM:
    """The network and its tokenizer. Loading takes about 0.3 s, a short question about 6 ms."""

    name = NAME
    dimensions = WIDTH
    quick = False
    strict = False
    threshold = 0.85  # `tests/measure_semantic.py` prints hits and false hits under it

    def __init__(self, folder: Path | None = None) -> None:
        """Load the installed weights, or a folder's. Raises `WeightsError` if they are not the published ones."""
        folder = folder or installed()
        check(folder)
        self._tokenizer = tokenizer(folder)
        named = tensors(folder)
        self._words = named[WORDS]
        # Every token has type 0, so the vector of that type is added to every position here, once.
        types = named["embeddings.token_type_embeddings.weight"]
        self._positions = named["embeddings.position_embeddings.weight"] + types[0]
        self._norm = _layer_norm(named, "embeddings.LayerNorm")
        self._layers = [_layer(named, f"encoder.layer.{index}") for index in range(LAYERS)]

    def embed(self, text: str) -> Array:
        """Return a vector of unit length, shape (384,). Text after the first 256 tokens is ignored."""
        vector: Array = self.embed_all([text])[0]
        return vector

    def embed_all(self, texts: Sequence[str]) -> Array:
        """Return a vector of unit length for each text, shape (texts, 384)."""
        rows = [self._tokenizer.encode(text).ids for text in texts]
        ends = np.cumsum([len(row) for row in rows]).tolist()
        spans = list(zip([0, *ends[:-1]], ends, strict=True))
        tokens = [token for row in rows for token in row]
        positions = [position for row in rows for position in range(len(row))]
        x = self._norm(np.ascontiguousarray((self._words[tokens] + self._positions[positions]).T))
        for layer in self._layers:
            x = layer(x, spans)
        means: Array = np.stack([x[:, begin:end].mean(axis=1) for begin, end in spans])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means


def _attend(query: Array, key: Array, value: Array, spans: _Spans) -> Array:
    """Return the concatenated outputs of all attention heads, shape (384, tokens) as each of the three."""
    attended = np.empty_like(query)
    for begin, end in spans:
        q, k, v = (x[:, begin:end].reshape(HEADS, WIDTH // HEADS, end - begin) for x in (query, key, value))
        weights: Array = q.transpose(0, 2, 1) @ k
        weights *= np.float32((WIDTH // HEADS) ** -0.5)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        attended[:, begin:end] = (v @ weights.transpose(0, 2, 1)).reshape(WIDTH, end - begin)
    return attended


def _gelu(x: Array) -> Array:
    a, b, c = _GELU
    square = np.minimum(np.square(x), _GELU_LIMIT)
    curve: Array = c * square
    curve += b
    curve *= square
    curve += a
    curve *= x
    np.tanh(curve, out=curve)
    curve += 1
    curve *= x
    curve *= np.float32(0.5)
    return curve


def _linear(named: dict[str, Array], name: str) -> _Linear:
    return _Linear(named[f"{name}.weight"], named[f"{name}.bias"][:, None])


def _layer_norm(named: dict[str, Array], name: str) -> _LayerNorm:
    return _LayerNorm(named[f"{name}.weight"][:, None], named[f"{name}.bias"][:, None])


def _layer(named: dict[str, Array], name: str) -> _Layer:
    return _Layer(
        query=_linear(named, f"{name}.attention.self.query"),
        key=_linear(named, f"{name}.attention.self.key"),
        value=_linear(named, f"{name}.attention.self.value"),
        attention_out=_linear(named, f"{name}.attention.output.dense"),
        attention_norm=_layer_norm(named, f"{name}.attention.output.LayerNorm"),
        feed_in=_linear(named, f"{name}.intermediate.dense"),
        feed_out=_linear(named, f"{name}.output.dense"),
        feed_norm=_layer_norm(named, f"{name}.output.LayerNorm"),
    )
