"""The layers of BERT (Devlin et al. 2018, arXiv 1810.04805) in numpy, of the width of MiniLM.

Vectors of tokens are columns, so that the products are the shape that BLAS is quickest at. The tokens of all texts of a
batch stand side by side; only attention looks at one text at a time. A batch of 16 short questions takes a quarter of
the time per question.

Matrices are kept as whole numbers, with a scale for each row, and made of float32 one after the other as they are used:
of a short text they are nearly all of the work, and to read four bytes for each number from memory takes longer than to
read one or two and to convert them in the processor's cache.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.caches.embedders.weights import WORDS, Array, tensors

HEADS = 12
WIDTH = 384

_PART = np.float32(1 / WIDTH)
_LAYER_NORM_EPSILON = np.float32(1e-12)
# GELU(x) = x (1 + tanh(x (a + b x^2 + c x^4))) / 2, fitted to the definition with erf: within 2.6e-5 everywhere, with
# half the operations of erf. Cosines change by about 5e-5. x^2 is capped at 16, since beyond it the negative c would
# reverse the sign of the argument of tanh.
_GELU = tuple(np.float32(c) for c in (0.79750787, 0.03700566, -0.00035151890))
_GELU_LIMIT = np.float32(16)

_BLOCK, _FEW = 16, 4  # columns, that BLAS takes together and that may be filled up

SCALE = ".scale"  # after the name of a weight in int8, the name of its scales

Spans = list[tuple[int, int]]  # the columns of each text
Whole = NDArray[np.int8] | NDArray[np.int16]
Tensor = Any  # an array of float32, or of whole numbers


class _Room(threading.local):
    """A thread's place for the numbers of one matrix."""

    def __init__(self) -> None:
        self.numbers = np.empty(4 * WIDTH * WIDTH, np.float32)


_room = _Room()


class Embedding(Struct, frozen=True):
    """The vectors of words and of places in a text."""

    words: Array  # one row per token
    places: Array

    def __call__(self, rows: Sequence[Sequence[int]]) -> Array:
        """Return a row for each token of all texts, one text after the other."""
        tokens = [token for row in rows for token in row]
        places = [place for row in rows for place in range(len(row))]
        embedded: Array = self.words[tokens] + self.places[places]
        return embedded


class Linear(Struct, frozen=True):
    """A matrix of at most 4 * 384 * 384 numbers, and a bias."""

    weight: Whole  # (out, in)
    scale: Array  # (out, 1)
    bias: Array  # (out, 1)

    def __call__(self, x: Array) -> Array:
        """Multiply columns."""
        weight = _room.numbers[: self.weight.size].reshape(self.weight.shape)
        np.copyto(weight, self.weight)
        out: Array = weight @ x
        out *= self.scale
        out += self.bias
        return out


class LayerNorm(Struct, frozen=True):
    """Normalisation of each column."""

    gain: Array  # (384, 1)
    bias: Array

    def __call__(self, x: Array) -> Array:
        """Normalise columns in place."""
        x -= np.add.reduce(x, axis=0) * _PART
        variance = np.einsum("ij,ij->j", x, x) * _PART
        x *= 1 / np.sqrt(variance + _LAYER_NORM_EPSILON)
        x *= self.gain
        x += self.bias
        return x


class Layer(Struct, frozen=True):
    """Attention, then two matrices; each adds to what came in and is normalised."""

    attention_in: Linear  # (1152, 384): queries, keys and values
    attention_out: Linear
    attention_norm: LayerNorm
    feed_in: Linear  # (1536, 384)
    feed_out: Linear
    feed_norm: LayerNorm

    def __call__(self, x: Array, spans: Spans) -> Array:
        """Return the vectors of the tokens, which stand in columns, after this layer."""
        asked = self.attention_in(x)
        query, key, value = asked[:WIDTH], asked[WIDTH : 2 * WIDTH], asked[2 * WIDTH :]
        attended = self.attention_out(_attend(query, key, value, spans))
        attended += x
        x = self.attention_norm(attended)
        fed = self.feed_out(gelu(self.feed_in(x)))
        fed += x
        return self.feed_norm(fed)


def _attend(query: Array, key: Array, value: Array, spans: Spans) -> Array:
    """Return the concatenated outputs of all attention heads, shape (384, tokens) as each of the three."""
    attended = np.zeros_like(query)  # of columns that are no text's too
    for begin, end in spans:
        q, k, v = (x[:, begin:end].reshape(HEADS, WIDTH // HEADS, end - begin) for x in (query, key, value))
        weights: Array = q.transpose(0, 2, 1) @ k
        weights *= np.float32((WIDTH // HEADS) ** -0.5)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        attended[:, begin:end] = (v @ weights.transpose(0, 2, 1)).reshape(WIDTH, end - begin)
    return attended


def gelu(x: Array) -> Array:
    """Return GELU of each number."""
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


def in_columns(rows: Array) -> Array:
    """Return rows as columns, and zeros where a block is nearly full: 16 are done sooner than 12."""
    more = -len(rows) % _BLOCK
    x = np.zeros((WIDTH, len(rows) + (more if more <= _FEW else 0)), np.float32)
    x[:, : len(rows)] = rows.T
    return x


def spans(rows: Sequence[Sequence[int]]) -> Spans:
    """Return the columns of each text, given its tokens."""
    ends = np.cumsum([len(row) for row in rows]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


@cache
def embedding(folder: Path) -> Embedding:
    """Return MiniLM's vectors of words and places, from its folder: one for all networks of a process.

    Raises `WeightsError`.
    """
    named = tensors(folder)
    # Every token has type 0, so the vector of that type is added to every place here, once.
    types = named["embeddings.token_type_embeddings.weight"]
    return Embedding(named[WORDS], named["embeddings.position_embeddings.weight"] + types[0])


def linear(named: Mapping[str, Tensor], *names: str) -> Linear:
    """Return the matrix and bias of this name, or those of several, one below the other. They are copied.

    A weight in float32 is rounded to int16, which changes a product by some 1e-5 of itself.
    """
    weights, scales = zip(*(_whole(named, f"{name}.weight") for name in names), strict=True)
    bias = np.concatenate([named[f"{name}.bias"] for name in names])
    return Linear(np.concatenate(weights), np.concatenate(scales)[:, None], bias[:, None])


def _whole(named: Mapping[str, Tensor], name: str) -> tuple[Whole, Array]:
    """Return a weight as whole numbers, and the scales of its rows."""
    weight = named[name]
    if name + SCALE in named:
        return weight, named[name + SCALE]
    most = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny)  # a row may have nothing but zeros
    scale = most / np.float32(np.iinfo(np.int16).max)
    return np.rint(weight / scale[:, None]).astype(np.int16), scale


def layer_norm(named: Mapping[str, Tensor], name: str) -> LayerNorm:
    """Return the normalisation of this name, copied."""
    return LayerNorm(named[f"{name}.weight"][:, None].copy(), named[f"{name}.bias"][:, None].copy())


def layer(named: Mapping[str, Tensor], name: str) -> Layer:
    """Return the layer of this name."""
    return Layer(
        attention_in=linear(named, *(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))),
        attention_out=linear(named, f"{name}.attention.output.dense"),
        attention_norm=layer_norm(named, f"{name}.attention.output.LayerNorm"),
        feed_in=linear(named, f"{name}.intermediate.dense"),
        feed_out=linear(named, f"{name}.output.dense"),
        feed_norm=layer_norm(named, f"{name}.output.LayerNorm"),
    )
