"""The learned part of what may be cached: its weights, and how it goes on learning."""

from pathlib import Path

import numpy as np
import pytest

from millrace.caches.reusable import features, learned
from millrace.caches.reusable.fitting import Example, fit
from millrace.caches.reusable.reading import sentences
from millrace.caches.reusable.rule import DONE as DONE_REASON

KEPT, DONE = 0, learned.CLASSES.index(DONE_REASON)
FEW = [
    Example.of("water the plants", DONE),
    Example.of("mow the lawn please", DONE),
    Example.of("how often do plants need water", KEPT),
    Example.of("what is a lawn", KEPT),
]


def likely(weights: learned.Weights, text: str) -> float:
    return 1 - float(weights.probabilities(sentences(text))[KEPT])


def test_the_shipped_weights_are_small_and_of_this_version() -> None:
    assert learned.FILE.stat().st_size <= 200_000
    assert learned.load().of_features.shape == (features.SIZE, len(learned.CLASSES))


def test_the_same_examples_give_the_same_file(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        fit(FEW, threshold=0.5, shrink=0.05).save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert likely(learned.load(tmp_path / "one.npz"), "mow the lawn") > 0.5


def test_it_goes_on_from_what_it_knows() -> None:
    """New examples change what they are about, and little else."""
    before = learned.load()
    after = fit([Example.of("plough the field", DONE)] * 3, threshold=0.5, shrink=0.05, start=before)
    assert likely(after, "plough the field") > max(0.5, likely(before, "plough the field"))
    assert abs(likely(after, "What is the capital of Peru?") - likely(before, "What is the capital of Peru?")) < 0.05


def test_weights_for_other_features_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(FEW, threshold=0.5, shrink=0.05).save(tmp_path / "weights.npz")
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    with pytest.raises(ValueError, match="train it again"):
        learned.load(tmp_path / "weights.npz")


def test_all_features_are_within_the_weights() -> None:
    found = features.features(sentences("Könntest du mir bitte 3 Äpfel kaufen? " + "word " * 500))
    assert found.dtype == np.int64
    assert 0 <= found.min() <= found.max() < features.SIZE
