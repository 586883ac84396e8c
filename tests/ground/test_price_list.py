"""Prices that are looked up by the names of models, and what is said where none is known."""

import builtins
import copy
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from millrace import pricing, settings
from millrace.settings import SettingsError, price_list
from millrace.types import Usage

OPENAI = "https://api.openai.com/v1"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LOCAL = "http://127.0.0.1:9002/v1"
GIVEN = {"input": "1", "output": "2"}


def models(**large: Any) -> dict[str, Any]:
    small = {"upstream": "openai", "base_url": "http://a/v1", "model": "a", "price": GIVEN}
    return {"models": {"small": small, "large": {"upstream": "openai", "base_url": OPENAI, "model": "gpt-4.1"} | large}}


def dollars(*texts: str) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, texts))


def faults_of(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings.build(tree, {})
    return [*map(str, caught.value.faults)]


@pytest.mark.parametrize("given", [{}, {"price": "auto"}])
def test_a_price_is_looked_up_where_none_is_given(given: dict[str, Any]) -> None:
    """By the name of the model and by who serves it, with the service tiers that have prices of their own."""
    large = settings.build(models(**given), {}).models.large
    assert (large.price.input, large.price.output, large.price.cached_input) == dollars("2", "8", "0.5")
    assert large.price.source.startswith("genai-prices ")
    assert large.price.source.endswith(", openai/gpt-4.1")
    assert large.tier_prices["priority"].output == 14
    assert large.tier_prices["batch"].output == 4


def test_what_is_configured_counts_more_than_the_list() -> None:
    """A price that is given is taken as it is, without the list's service tiers; one of a tier replaces the list's."""
    large = settings.build(models(price=GIVEN), {}).models.large
    assert (large.price.output, large.price.source) == (Decimal(2), "")
    assert not large.tier_prices
    large = settings.build(models(tier_prices={"priority": GIVEN}), {}).models.large
    assert (large.price.input, large.tier_prices["priority"].output) == dollars("2", "2")


def test_the_variable_of_a_price_may_say_auto() -> None:
    """As the file may."""
    environ = {"MILLRACE__MODELS__LARGE__PRICE": "auto"}
    assert settings.build(models(price=GIVEN), environ).models.large.price.input == 2


def test_a_provider_is_known_by_its_name_too() -> None:
    """Where the address says nothing, as behind a gateway; and of several deployments the first one counts."""
    large = settings.build(models(base_url=LOCAL, provider="openai"), {}).models.large
    assert large.price.input == 2
    tree = models(deployments=[{"base_url": OPENAI}, {"base_url": "http://b/v1"}])
    del tree["models"]["large"]["base_url"]
    assert settings.build(tree, {}).models.large.price.input == 2


def test_long_input_has_its_own_price() -> None:
    """The list's steps come along, and a call with one token more than the bound costs as the step says, all of it."""
    price = settings.build(models(model="gemini-2.5-pro", provider="gemini"), {}).models.large.price.read()
    (step,) = price.steps
    assert step.above_tokens == 200_000
    assert (step.input, step.output) == dollars("2.5", "15")
    assert price.at(200_000) is price
    up_to, above = (Usage(input_tokens=count, output_tokens=1000) for count in (200_000, 200_001))
    assert pricing.cost(up_to, price) == Decimal("0.26")
    assert pricing.cost(above, price) == Decimal("0.5150025")


def test_of_prices_by_the_hour_the_dearest_counts() -> None:
    """One price holds all day, so that a bill is never too low; where it comes from says so."""
    found = price_list.prices_of("deepseek-flash", "https://api.deepseek.com", now=NOW)[""]
    assert (found["input"], found["output"]) == ("0.3", "1.2")
    assert found["source"].endswith("its dearest hours")


def test_prices_change_on_a_day() -> None:
    """A price that begins later is not charged before."""
    early = price_list.prices_of("gpt-4.1", OPENAI, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert early.keys() == {""}
    assert price_list.prices_of("gpt-4.1", OPENAI, now=NOW).keys() == {"", "priority", "batch"}


@pytest.mark.parametrize(
    ("large", "words"),
    [
        ({"model": "nobody-knows"}, "missing: no model 'nobody-knows' of https://api.openai.com/v1 is in the list"),
        ({"model": "nobody-knows", "price": "auto"}, "not known: no model 'nobody-knows'"),
        ({"base_url": LOCAL}, f'nobody who is listed serves models at {LOCAL}; name who does: provider = "openai"'),
        ({"base_url": LOCAL, "provider": "ollama"}, "a server of one's own (ollama) has no price in a list"),
        ({"base_url": "https://api.githubcopilot.com"}, "without a price for its tokens"),
    ],
)
def test_an_unknown_price_is_a_fault_and_never_zero(large: dict[str, Any], words: str) -> None:
    """It says why, and what to write; a model that is free is said to be."""
    (fault,) = faults_of(models(**large))
    assert fault.startswith("models.large.price: ")
    assert words in fault
    assert 'price = { input = "0.15", output = "0.60" } ("0" if it is free)' in fault


def test_each_model_without_a_price_is_told_once() -> None:
    """Beside other faults; one without a name has that fault alone."""
    tree = models(model="x")
    tree["models"]["more"] = {"spare": copy.deepcopy(tree["models"]["large"])}
    tree["models"]["embeddings"] = {"base_url": OPENAI, "model": "e"}
    del tree["models"]["small"]["model"]
    del tree["models"]["small"]["price"]
    paths = [fault.partition(":")[0] for fault in faults_of(tree)]
    assert sorted(paths) == [
        "models.embeddings.price",
        "models.large.price",
        "models.more.spare.price",
        "models.small.model",
    ]


def test_embeddings_are_looked_up_too() -> None:
    """They have a price of their input alone."""
    tree = models()
    tree["models"]["embeddings"] = {"base_url": OPENAI, "model": "text-embedding-3-small"}
    embeddings = settings.build(tree, {}).models.embeddings
    assert embeddings is not None
    assert embeddings.price.input == Decimal("0.02")
    assert "text-embedding-3-small" in embeddings.price.source


def test_without_the_list_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra may not be installed; a configuration with all prices does without it."""
    imported = builtins.__import__

    def missing(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("genai_prices"):
            raise ImportError(name)
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    (fault,) = faults_of(models())
    assert "pip install 'millrace[prices]'" in fault
    assert settings.build(models(price=GIVEN), {}).models.large.price.input == 1


@pytest.mark.parametrize(
    ("price", "path", "words"),
    [
        ("cheap", "price", 'write dollars per million tokens: price = { input = "0.15", output = "0.60" }, or price ='),
        (GIVEN | {"steps": [GIVEN]}, "price.steps[0].above_tokens", "missing"),
        (GIVEN | {"steps": [GIVEN | {"above_tokens": 0}]}, "price.steps[0].above_tokens", ">= 1"),
        (GIVEN | {"steps": [GIVEN | {"above_tokens": 9}] * 2}, "price.steps[1].above_tokens", "9 is the bound of an"),
        (GIVEN | {"steps": [{"above_tokens": 9, "input": "1"}]}, "price.steps[0].output", "missing"),
    ],
)
def test_a_price_that_cannot_be_meant(price: Any, path: str, words: str) -> None:
    """The fault names the key of the step."""
    (fault,) = faults_of(models(price=price))
    assert fault.startswith(f"models.large.{path}: ")
    assert words in fault


def test_steps_may_be_written_in_any_order() -> None:
    """They are read by their bounds."""
    steps = [{"above_tokens": bound, "input": str(bound), "output": "2"} for bound in (300, 100, 200)]
    price = settings.build(models(price=GIVEN | {"steps": steps}), {}).models.large.price.read()
    assert [int(price.at(count).input) for count in (100, 101, 200, 201, 300, 301)] == [1, 100, 100, 200, 200, 300]
