"""The directions that the finder keeps of MiniLM's vectors of words.

    python -m tests.training.directions

They follow from the weights alone, and a server would take 0.05 s for them at each start.
"""

import numpy as np
from numpy.typing import NDArray

from millrace.caches.embedders.weights import WORDS, installed, tensors
from millrace.caches.finder import DIRECTIONS, FILE

SPECIAL = 1000  # tokens before this one stand for no text
SAMPLE = 6  # every sixth token tells the directions as well as all do


def directions(words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the words' vectors and then the directions in which they differ most, shape (1 + 96, 384)."""
    sample = words[SPECIAL::SAMPLE]
    mean = sample.mean(axis=0)
    sample = sample - mean
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    _, found = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    leading = found[:, : -DIRECTIONS - 1 : -1]
    leading *= np.sign(leading.sum(axis=0))  # else it is up to the library
    return np.vstack((mean, leading.T.astype(np.float32)))


if __name__ == "__main__":
    np.save(FILE, directions(tensors(installed())[WORDS]))
