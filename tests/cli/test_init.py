"""`millrace init`: a commented configuration that is sound, and what to do next."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from millrace import settings
from millrace.__main__ import main
from millrace.cli.init import template
from millrace.types import Strategy
from tests.support.paths import REPOSITORY


def init(folder: Path, *arguments: str, key: str | None = None) -> Result:
    environment = {"OPENAI_API_KEY": key, "COLUMNS": "200"}
    return CliRunner(env=environment).invoke(main, ["init", "--config", str(folder / "millrace.toml"), *arguments])


def test_it_writes_the_shipped_configuration_and_prints_the_way_to_an_answer(tmp_path: Path) -> None:
    result = init(tmp_path)
    assert result.exit_code == 0
    assert (tmp_path / "millrace.toml").read_text("utf-8") == (REPOSITORY / "millrace.toml").read_text("utf-8")
    steps = [line.strip() for line in result.stdout.splitlines() if line.startswith("  ")]
    assert [step.split()[1] for step in steps] == ["simulate", "doctor", "serve", "ask"]


def test_a_file_is_never_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "millrace.toml").write_text("mine")
    refused = init(tmp_path)
    assert refused.exit_code == 1
    assert "millrace.toml exists; edit it, or overwrite it with --force" in refused.stderr
    assert (tmp_path / "millrace.toml").read_text() == "mine"
    assert init(tmp_path, "--force").exit_code == 0
    assert "[models.small]" in (tmp_path / "millrace.toml").read_text()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = init(tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


@pytest.mark.parametrize(("arguments", "key"), [([], "sk-1"), (["--models", "openai"], None)])
def test_with_a_providers_key_its_models_are_written(tmp_path: Path, arguments: list[str], key: str | None) -> None:
    """And the key is asked for where it is missing, not written down where it is there."""
    result = init(tmp_path, *arguments, key=key)
    loaded = settings.load(tmp_path / "millrace.toml", {"OPENAI_API_KEY": "sk-1"})
    assert loaded.models.small.base_url == loaded.models.large.base_url == "https://api.openai.com/v1"
    assert loaded.models.small.api_key_env == loaded.models.large.api_key_env == "OPENAI_API_KEY"
    assert ("export OPENAI_API_KEY=..." in result.stdout) is (key is None)
    assert "simulate" not in result.stdout
    assert "sk-1" not in (tmp_path / "millrace.toml").read_text()


@pytest.mark.parametrize("models", ["simulated", "openai"])
def test_what_is_shipped_does_no_harm(models: str, tmp_path: Path) -> None:
    """Nothing is trimmed or capped, small goes first, and any model name is taken."""
    (tmp_path / "millrace.toml").write_text(template(models))
    loaded = settings.load(tmp_path / "millrace.toml", {"OPENAI_API_KEY": "sk-1"})
    assert loaded.funnel.context_budget is None
    assert loaded.funnel.strategy is Strategy.AUTO
    assert loaded.models.small.max_output_tokens is loaded.models.large.max_output_tokens is None
    assert loaded.models.aliases == {"*": "auto"}
