"""Train the verifier of the semantic cache, and write its weights.

    python -m tests.training.verifier DATA [--fold K --scores FILE] [--out FILE]

Torch must be installed. On two cores with matrix units for bfloat16 it takes some ten minutes. With --fold the pairs of
that fold train nothing, and their scores go into a file: `tests.training.mix` fits on those of all folds.
"""

import json
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.nn import functional

from millrace.caches.decision.verifier import FILE, MOST_TOKENS
from millrace.caches.embedders.weights import installed, tokenizer
from tests.training.network import Embedding, Weights, batch, log_odds, means, start
from tests.training.pairs import ARGUABLE, Pair, load

SIZE = 64  # pairs of a step
RATE, DECAY, WARM = 1e-4, 0.01, 0.06  # of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), a linear schedule
DROPOUT = 0.1
DOUBT = 0.02  # of each label, since some are wrong
ALIKE = 40  # steps whose pairs are sorted by length, so that little is padded
# How often a pair is seen in an epoch, by source. Of the intents there are many, and they are much alike.
OFTEN = {
    "banking77": 0.3, "clinc150": 0.45, "banking77_noise": 0.5, "clinc150_noise": 0.6, ARGUABLE: 0.0,
    "paws_wiki_dev": 0.5, "paws_wiki_dev_2": 0.5, "noise": 1.0,
}  # fmt: skip
OFTEN_ELSE = 1.4

Tokens = list[tuple[list[int], list[int]]]


class Trainer:
    """Weights that learn, and the tokenizer."""

    def __init__(self, folder: Path, layers: int) -> None:
        self._tokenizer = tokenizer(folder)
        self._embedding = Embedding(folder)
        self.start = start(folder, layers)

    def tokens(self, pairs: Iterable[tuple[str, str]]) -> Tokens:
        """Return the tokens of both sides of each pair."""
        return [(self._ids(a), self._ids(b)) for a, b in pairs]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids[:MOST_TOKENS]
        return ids

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return MiniLM's vector of each text. Needs all of its layers in `start`."""
        rows: Tokens = [(self._ids(text), []) for text in texts]
        order = sorted(range(len(rows)), key=lambda at: len(rows[at][0]))
        found = np.empty((len(texts), 384), np.float32)
        with torch.no_grad():
            for begin in range(0, len(order), SIZE):
                part = order[begin : begin + SIZE]
                given = batch([rows[at] for at in part])
                found[part] = means(self.start, self._embedding(given.tokens), given).numpy()
        return found

    def train(self, pairs: Sequence[Pair], tokens: Tokens, epochs: float, chance: random.Random) -> Weights:
        """Return the trained weights."""
        weights = {name: value.clone().requires_grad_() for name, value in self.start.items()}
        matrices = [value for value in weights.values() if value.ndim > 1]
        others = [value for value in weights.values() if value.ndim == 1]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
        count = int(sum(OFTEN.get(pair.source, OFTEN_ELSE) for pair in pairs) * epochs / SIZE)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / (WARM * count), max(0.02, (count - step) / (count * (1 - WARM))))
        )
        steps: list[list[int]] = []
        for _ in track(range(count), "training"):
            steps = steps or _epoch(pairs, tokens, chance)
            chosen = steps.pop()
            given = batch([tokens[at] if chance.random() < 1 / 2 else (tokens[at][1], tokens[at][0]) for at in chosen])
            labels = torch.tensor([float(pairs[at].same) for at in chosen])
            with torch.autocast("cpu", torch.bfloat16):
                found = log_odds(weights, self._embedding(given.tokens), given, DROPOUT)
            loss = functional.binary_cross_entropy_with_logits(found, labels * (1 - 2 * DOUBT) + DOUBT)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return {name: value.detach() for name, value in weights.items()}

    def scores(self, weights: Weights, tokens: Tokens) -> NDArray[np.float64]:
        """Return the log odds of each pair, as the service computes them."""
        order = sorted(range(len(tokens)), key=lambda at: sum(map(len, tokens[at])))
        found = np.empty(len(tokens))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for begin in range(0, len(order), SIZE):
                part = order[begin : begin + SIZE]
                given = batch([(min(tokens[at]), max(tokens[at])) for at in part])
                found[part] = log_odds(weights, self._embedding(given.tokens), given).numpy()
        return found


def _epoch(pairs: Sequence[Pair], tokens: Tokens, chance: random.Random) -> list[list[int]]:
    """Return the pairs of each step of an epoch."""
    seen: list[int] = []
    for at, pair in enumerate(pairs):
        often = OFTEN.get(pair.source, OFTEN_ELSE)
        seen += [at] * (int(often) + (chance.random() < often % 1))
    chance.shuffle(seen)
    steps: list[list[int]] = []
    for begin in range(0, len(seen), ALIKE * SIZE):
        near = sorted(seen[begin : begin + ALIKE * SIZE], key=lambda at: sum(map(len, tokens[at])))
        steps += chance.sample(parts := [near[at : at + SIZE] for at in range(0, len(near), SIZE)], len(parts))
    return steps


def save(weights: Weights, file: Path) -> None:
    """Write weights as the service reads them: matrices in int8, with a scale for each row."""
    stored: dict[str, NDArray[np.generic]] = {}
    for name, value in weights.items():
        numbers = value.numpy()
        if numbers.ndim > 1 and name != "sides":
            scales = np.abs(numbers).max(axis=1) / np.float32(127)
            stored[f"{name}.scale"] = scales
            stored[name] = np.rint(numbers / scales[:, None]).astype(np.int8)
        else:
            stored[name] = numbers
    np.savez_compressed(file, allow_pickle=False, **stored)


@click.command(help=__doc__)
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fold", type=int, help="train on all but this fold")
@click.option(
    "--scores", type=click.Path(path_type=Path), help="a file for the scores of the pairs of the fold, of JSON lines"
)
@click.option("--out", type=click.Path(path_type=Path), default=FILE, help="a file for the weights; else the service's")
@click.option("--layers", type=int, default=4, show_default=True)
@click.option("--epochs", type=float, default=2.5, show_default=True)
def main(data: Path, fold: int | None, scores: Path | None, out: Path, layers: int, epochs: float) -> None:
    """See above."""
    torch.manual_seed(7)
    trainer = Trainer(installed(), layers)
    pairs = load(data, Trainer(installed(), 6).embed)
    kept = [pair for pair in pairs if fold not in pair.folds]
    click.echo(f"{len(kept):,} of {len(pairs):,} pairs train")
    began = time.monotonic()
    weights = trainer.train(kept, trainer.tokens((pair.a, pair.b) for pair in kept), epochs, random.Random(7))
    click.echo(f"{time.monotonic() - began:.0f} s")
    save(weights, out)
    if scores is not None:
        held = [pair for pair in pairs if fold in pair.folds]
        found = trainer.scores(weights, trainer.tokens((pair.a, pair.b) for pair in held))
        with scores.open("w", encoding="utf-8") as file:
            for pair, score in zip(held, found, strict=True):
                row = {"a": pair.a, "b": pair.b, "same": pair.same, "source": pair.source, "kind": pair.kind}
                file.write(json.dumps(row | {"log_odds": round(float(score), 4)}) + "\n")


if __name__ == "__main__":
    main()
