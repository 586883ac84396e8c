"""`millrace replay`: how it refuses a setting."""

from pathlib import Path

from tests.cli.test_budgets import MODELS
from tests.cli.test_ledger import command


def test_a_fault_of_a_setting_that_is_tried_names_the_option_that_has_it(tmp_path: Path) -> None:
    config = tmp_path / "millrace.toml"
    config.write_text(MODELS)
    ended = command("replay", "--config", str(config), "--set", "cache.exact=maybe")
    assert ended.exit_code == 2
    assert "cache.exact (from --set): expected true or false, got 'maybe'" in ended.stderr
