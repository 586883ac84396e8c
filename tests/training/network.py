"""The verifier in torch: what `millrace.caches.decision.verifier` computes, and its gradient.

Tensors have the names that BERT's have in MiniLM's own file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from millrace.caches.embedders.transformer import HEADS, WIDTH
from millrace.caches.embedders.weights import WORDS, tensors

HIDDEN = 128
BEGIN, BETWEEN = 101, 102  # the tokens [CLS] and [SEP]

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts, or pairs of texts, as tokens; each tensor has a row for each."""

    tokens: Tensor
    side: Tensor  # 1 and 2 for the first and the second text, 0 for what is between
    is_there: Tensor


def batch(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """Return the tokens of pairs; a pair without a second text is one text."""
    count = [len(a) + len(b) + (3 if b else 2) for a, b in rows]
    shape = (len(rows), max(count))
    tokens, side, is_there = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for at, ((a, b), length) in enumerate(zip(rows, count, strict=True)):
        tokens[at, :length] = [BEGIN, *a, BETWEEN, *b, *([BETWEEN] if b else [])]
        side[at, 1 : len(a) + 1] = 1
        side[at, len(a) + 2 : length - 1] = 2 if b else 0
        is_there[at, :length] = True
    return Batch(torch.from_numpy(tokens), torch.from_numpy(side), torch.from_numpy(is_there))


class Embedding:
    """MiniLM's vectors of words and places, which are not trained."""

    def __init__(self, folder: Path) -> None:
        named = tensors(folder)
        self._words = torch.tensor(named[WORDS])
        types = named["embeddings.token_type_embeddings.weight"][0]
        self._places = torch.tensor(named["embeddings.position_embeddings.weight"] + types)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return a vector for each token of each row."""
        return self._words[tokens] + self._places[: tokens.shape[1]]


def start(folder: Path, layers: int) -> Weights:
    """Return MiniLM's layers, and a head that knows nothing."""
    names = ("embeddings.LayerNorm.", *(f"encoder.layer.{index}." for index in range(layers)))
    weights = {name: torch.tensor(value) for name, value in tensors(folder).items() if name.startswith(names)}
    weights["sides"] = torch.zeros(2, WIDTH)
    for name, out, into in (("hidden", HIDDEN, 4 * WIDTH), ("last", 1, HIDDEN)):
        layer = torch.nn.Linear(into, out)
        weights |= {f"{name}.weight": layer.weight.data, f"{name}.bias": layer.bias.data}
    return weights


def means(weights: Weights, embedded: Tensor, given: Batch) -> Tensor:
    """Return the vector of each text, of unit length, as `MiniLM` does."""
    x = _layers(weights, _norm(weights, "embeddings.LayerNorm", embedded), given)
    there = given.is_there[:, :, None].float()
    return functional.normalize((x.float() * there).sum(1) / there.sum(1), dim=1)


def log_odds(weights: Weights, embedded: Tensor, given: Batch, dropout: float = 0.0) -> Tensor:
    """Return, for each pair, the logarithm of the odds that one answer does for both."""
    x = embedded + weights["sides"][(given.side == 2).long()]
    x = _dropped(_norm(weights, "embeddings.LayerNorm", x), dropout)
    x = _layers(weights, x, given).float()
    u, v = (_mean(x, given.side == side) for side in (1, 2))
    pooled = torch.cat([u + v, (u - v).abs(), u * v, x[:, 0]], 1)
    hidden = _dropped(functional.gelu(_linear(weights, "hidden", pooled)), dropout)
    return _linear(weights, "last", hidden)[:, 0].float()


def _layers(weights: Weights, x: Tensor, given: Batch) -> Tensor:
    closed = torch.zeros(given.is_there.shape).masked_fill(~given.is_there, -1e4)[:, None, None, :]
    index = 0
    while f"encoder.layer.{index}.output.dense.weight" in weights:
        name = f"encoder.layer.{index}"
        attended = _attend(weights, name, x, closed)
        x = _norm(weights, f"{name}.attention.output.LayerNorm", x + attended)
        fed = functional.gelu(_linear(weights, f"{name}.intermediate.dense", x))
        x = _norm(weights, f"{name}.output.LayerNorm", x + _linear(weights, f"{name}.output.dense", fed))
        index += 1
    return x


def _attend(weights: Weights, name: str, x: Tensor, closed: Tensor) -> Tensor:
    def heads(part: str) -> Tensor:
        found = _linear(weights, f"{name}.attention.self.{part}", x)
        return found.view(*x.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)

    # The fused attention of torch is several times slower backwards on a CPU.
    scores = heads("query") @ heads("key").transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
    shares = torch.softmax(scores + closed.to(scores.dtype), -1, dtype=scores.dtype)
    joined = (shares @ heads("value")).transpose(1, 2).reshape(x.shape)
    return _linear(weights, f"{name}.attention.output.dense", joined)


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)


def _mean(x: Tensor, chosen: Tensor) -> Tensor:
    share: Any = chosen[:, :, None].float()
    found: Tensor = (x * share).sum(1) / share.sum(1).clamp(min=1)
    return found


def _dropped(x: Tensor, share: float) -> Tensor:
    return functional.dropout(x, share) if share else x
