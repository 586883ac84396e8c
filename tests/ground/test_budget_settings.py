"""How budgets are written in a configuration."""

import tomllib

from tests.ground.test_settings import build


def test_shares_of_budgets_may_be_written_with_and_without_quotes() -> None:
    """TOML takes 0.8 apart where it has no quotes."""
    for text in ('{ 0.8 = "warn", 1 = "cache" }', '{ "0.8" = "warn", "1" = "cache" }'):
        found = build(("budgets", tomllib.loads(f"[budgets]\nat = {text}")["budgets"])).budgets.at
        assert found == {"0.8": "warn", "1": "cache"}
    assert build().budgets.at == {"0.8": "warn", "0.9": "small", "1.0": "cache"}
    assert build(("budgets.at", {})).budgets.at == {}
