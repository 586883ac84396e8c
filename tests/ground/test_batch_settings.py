"""The settings of batches that a provider answers."""

from typing import Any

import pytest

from tests.ground.test_settings import build, faults_of

STEP = {"above_tokens": 9, "input": "1", "output": "2"}
MORE = {"upstream": "openai", "base_url": "http://a/v1", "model": "a", "price": {"input": "1", "output": "2"}}


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"models.small.batch": True, "models.small.upstream": "anthropic"}, "models.small.batch", "the Messages API"),
        ({"models.more.other": MORE | {"batch": True}}, "models.more.other.batch", "small or large alone"),
        (
            {"models.small.price_batch": {"input": "1", "output": "2", "steps": [STEP, STEP]}},
            "models.small.price_batch.steps[1].above_tokens",
            "write it once",
        ),
    ],
)
def test_what_no_provider_does_is_a_fault(changes: dict[str, Any], path: str, words: str) -> None:
    (fault,) = faults_of(lambda: build(*changes.items()))
    assert fault.path == path
    assert words in fault.message
