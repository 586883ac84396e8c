"""The catalog: what the names of models mean."""

import pytest

from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.types import Strategy
from tests.support.scripted_models import LARGE, SMALL

CATALOG = Catalog(SMALL, LARGE, {"gpt-4o": "auto", "mini": "small"}, Strategy.CASCADE)


@pytest.mark.parametrize(
    ("name", "asked", "resolved"),
    [
        ("auto", None, ("auto", Strategy.CASCADE)),
        ("small", None, ("small", Strategy.SMALL)),
        ("large", None, ("large", Strategy.LARGE)),
        ("small-model", None, ("small-model", Strategy.SMALL)),
        ("large-model", None, ("large-model", Strategy.LARGE)),
        ("gpt-4o", None, ("auto", Strategy.CASCADE)),
        ("small", Strategy.LARGE, ("small", Strategy.LARGE)),
        ("gpt-4o", Strategy.AUTO, ("auto", Strategy.AUTO)),
    ],
)
def test_a_name_means_a_strategy(name: str, asked: Strategy | None, resolved: tuple[str, Strategy]) -> None:
    """The asked strategy goes before the name's, which goes before the configuration's."""
    assert CATALOG.resolve(name, asked) == resolved


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """Aliases included; what was asked for is shown, but not all of it."""
    with pytest.raises(MillraceError) as raised:
        CATALOG.resolve("x" * 5000, None)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert "auto, small, large, small-model, large-model, gpt-4o, mini" in raised.value.message
    assert len(raised.value.message) < 250
    with pytest.raises(MillraceError, match="auto, small, large"):
        CATALOG.resolve("", None)


def test_what_a_catalog_lists() -> None:
    """The models in order, and every name, with the aliases last."""
    assert CATALOG.models == (SMALL, LARGE)
    assert CATALOG.names == ["auto", "small", "large", "small-model", "large-model", "gpt-4o", "mini"]


WILD = Catalog(SMALL, LARGE, {"gpt-4o": "large", "*": "small"}, Strategy.CASCADE)


@pytest.mark.parametrize(
    ("name", "resolved"),
    [
        ("claude-opus-4-8", ("small", Strategy.SMALL)),
        ("gpt-4o", ("large", Strategy.LARGE)),
        ("auto", ("auto", Strategy.CASCADE)),
        ("large-model", ("large-model", Strategy.LARGE)),
        ("*", ("small", Strategy.SMALL)),
        ("", ("small", Strategy.SMALL)),
    ],
)
def test_an_unknown_name_is_what_the_wildcard_stands_for(name: str, resolved: tuple[str, Strategy]) -> None:
    """Models and other aliases go before it."""
    assert WILD.resolve(name, None) == resolved


def test_the_wildcard_is_no_name_to_list() -> None:
    assert WILD.names[-1] == "gpt-4o"
