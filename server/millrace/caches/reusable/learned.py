"""The learned part: how likely it is that an answer must not be kept, by weights that `fitting` has made."""

from functools import cache
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.caches.guards import words
from millrace.caches.reusable import features
from millrace.caches.reusable.reading import Sentence
from millrace.caches.reusable.rule import ASKER, BEFORE, CHANCE, DONE, TIME

CLASSES = ("", CHANCE, TIME, ASKER, DONE, BEFORE)  # the first is of requests whose answer may be kept
LONG = 80  # words; of a longer text, such as a pasted document, the learned part knows nothing
FILE = Path(__file__).with_name("weights.npz")


class Weights(Struct, frozen=True):
    """What was learned. A probability above the threshold refuses a request."""

    of_features: NDArray[np.int8]  # (features.SIZE, len(CLASSES))
    scale: np.float32  # of one unit of `of_features`
    threshold: float

    def probabilities(self, parts: list[Sentence]) -> NDArray[np.float64]:
        """Return one for each class."""
        found = features.features(parts)
        sums = self.of_features.take(found, axis=0).sum(axis=0, dtype=np.int64)
        powers = np.exp(sums * (float(self.scale) / len(found) ** 0.5))
        shares: NDArray[np.float64] = powers / powers.sum()
        return shares

    def save(self, path: Path) -> None:
        """Write the file that `load` reads. The same weights give the same bytes."""
        np.savez_compressed(
            path,
            version=np.int64(features.VERSION),
            of_features=self.of_features,
            scale=self.scale,
            threshold=np.float64(self.threshold),
        )


def load(path: Path = FILE) -> Weights:
    """Read weights. Raises ValueError if they were made for another version of the features."""
    with np.load(path, allow_pickle=False) as file:
        if int(file["version"]) != features.VERSION:
            raise ValueError(f"{path.name} was made for version {int(file['version'])} of the features: train it again")
        return Weights(file["of_features"], np.float32(file["scale"]), float(file["threshold"]))


shipped = cache(load)


_ENGLISH = words.listed(
    "the a an is are was were do does did what how why when where which who can could will "
    "would should i my me you your it to of in on for with "
    "and or not please have has get be at from this that any some all"
)
_OTHER = words.listed(
    "der das ist wie wer wen wo warum wieso kann darf soll muss ein eine einen und nicht "
    "wird ich mein viele le les une est que qui où peut doit quel quelle "
    "pourquoi comment combien du des sont el los las es qué quién cuál cuántos cómo cuánto "
    "una se puede por cos'è um não il che"
)


def knows(parts: list[Sentence]) -> bool:
    """Whether a text is one that the learned part was made for: not long, and in English as far as its words tell."""
    said = [word for part in parts for word in part.words]
    if not 0 < len(said) <= LONG:
        return False
    other = sum(not word.isascii() or word in _OTHER for word in said)
    return not other or (any(word in _ENGLISH for word in said) and other * 3 < len(said))


def objection(parts: list[Sentence]) -> str | None:
    """Return why a request is likely not to be reusable, or None."""
    if not knows(parts):
        return None
    weights = shipped()
    probabilities = weights.probabilities(parts)
    if 1 - probabilities[0] <= weights.threshold:
        return None
    return f"probably {CLASSES[1 + int(probabilities[1:].argmax())]}"
