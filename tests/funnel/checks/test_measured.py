"""The script that measures checks on real answers, on a few made-up ones."""

from typing import Any

import numpy as np
import pytest

from tests.measure_checks import auc, measured, share_of_large


def row(at: int) -> dict[str, Any]:
    wrong = at % 3 == 0
    result = at * 12 + (1 if wrong else 0)
    return {
        "prompt": f"Tom has {at} boxes of 12 apples each. How many apples does he have?",
        "small_answer": f"Tom has {at} * 12 = {result} apples.",
        "large_answer": f"{at} * 12 = {at * 12}",
        "small_correct": int(not wrong),
        "large_correct": 1,
    }


def test_it_finds_what_was_planted() -> None:
    found = measured([row(at) for at in range(2, 92)], shuffles=1)
    assert found["rules"]["arithmetic"]["small"] == (1.0, 0.0)
    assert found["rules"]["on at the start"]["large"][1] == 0.0
    assert found["auc"] > 0.99
    assert found["share_alone"] < 0.3


def test_the_measures_are_right() -> None:
    scores, wrong = np.array([0.9, 0.4, 0.6, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert auc(scores, wrong) == pytest.approx(0.75)
    assert share_of_large(scores, 1 - wrong, np.ones(4)) == pytest.approx(0.75)
