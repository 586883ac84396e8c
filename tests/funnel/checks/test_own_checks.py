"""Checks that users write, and the page that tells how."""

import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from millrace.funnel.checks import Candidate, Checks
from millrace.funnel.checks.own import OwnCheck, own_checks
from millrace.funnel.checks.table import NAMES, TABLE
from millrace.settings import SettingsError, build
from millrace.types import Finish, FinishReason
from tests.support.distributions import installed
from tests.support.inline_schemas import InlineSchemas
from tests.support.logs import captured_logs
from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "checks.md").read_text("utf-8")
STOP = Finish(reason=FinishReason.STOP)
ASKED = "Where is ORD-77?"


async def judged(check: OwnCheck, text: str, question: str = ASKED) -> str | None:
    checks = Checks(InlineSchemas(), own=[check])
    return (await checks.judge(Candidate(text=text, finish=STOP, question=question), checks.names)).check


async def test_the_example_of_the_page_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    points: dict[str, str] = tomllib.loads(toml)["project"]["entry-points"]["millrace.checks"]
    installed(tmp_path, "order_check", "millrace.checks", points, code)
    (check,) = own_checks()
    assert check.name == "order_number"
    assert await judged(check, "ORD-77 is on its way.") is None
    assert await judged(check, "It is on its way.") == "order_number"
    assert await judged(check, "It is on its way.", "Where is it?") is None
    sys.modules.pop("order_check", None)


def test_the_table_of_the_page_is_that_of_the_checks() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (hard|firm|soft) \|", PAGE, re.MULTILINE))
    assert rows == {check.name: check.kind.value for check in TABLE} | {"opening": "firm", "learned": "firm"}


def test_names_that_are_taken_or_no_identifiers_are_left_out() -> None:
    points = [EntryPoint(name, "builtins:bool", "millrace.checks") for name in ("form", "passed", "a.b", "mine")]
    with captured_logs() as logs:
        assert [check.name for check in own_checks(points)] == ["mine"]
    assert "the name is taken" in logs.text


async def test_one_that_fails_passes_the_answer_and_is_logged_without_texts() -> None:
    def raises(question: str, answer: str) -> bool:
        raise ValueError(question + answer)

    check = OwnCheck("mine", raises)
    with captured_logs() as logs:
        for _ in range(3):
            assert await judged(check, "secret") is None
    assert len(logs.from_millrace.getvalue().splitlines()) == 1
    assert "secret" not in logs.text


async def test_it_runs_only_where_it_is_wanted_and_nothing_else_has_failed() -> None:
    asked: list[str] = []

    async def mine(question: str, answer: str) -> bool:
        asked.append(answer)
        return False

    checks = Checks(InlineSchemas(), own=[OwnCheck("mine", mine)])
    for names in (("form",), checks.names):
        await checks.judge(Candidate(text="I don't know.", finish=STOP), names)
    assert asked == []
    assert (await checks.judge(Candidate(text="Yes.", finish=STOP), checks.names)).check == "mine"


def test_checks_that_are_off_never_run_and_cannot_be_named() -> None:
    checks = Checks(InlineSchemas(), off=("unsure", "mine"), own=[OwnCheck("mine", bool)])
    assert {*NAMES} - {*checks.names} == {"unsure"}


def test_an_unknown_name_in_the_settings_is_refused_with_those_there_are() -> None:
    model = {"upstream": "openai", "base_url": "http://127.0.0.1:1/v1", "price": {"input": "1", "output": "1"}}
    tree: dict[str, Any] = {
        "models": {"small": model | {"model": "s"}, "large": model | {"model": "l"}},
        "checks": {"off": ["unsur"]},
    }
    with pytest.raises(SettingsError, match=r"checks\.off: 'unsur' is no check; write names of empty, cut_off"):
        build(tree, {})
    tree["checks"] = {"off": ["unsure"]}
    assert build(tree, {}).checks.off == ("unsure",)
