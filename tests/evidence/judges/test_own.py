"""Judges that users write."""

import asyncio
import importlib
import re
import sys
import threading
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from millrace.evidence.judges import judges_of, own_judges
from millrace.evidence.judges.own import AT_ONCE, OwnJudge
from millrace.types import Says
from tests.evidence.judges.test_likeness import FixedComparer
from tests.evidence.judges.test_model import Asked
from tests.support.distributions import installed
from tests.support.logs import captured_logs
from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "evidence-judges.md").read_text("utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


async def test_the_example_of_the_page_runs_as_printed(site: Path) -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    points: dict[str, str] = tomllib.loads(toml)["project"]["entry-points"]["millrace.judges"]
    installed(site, "sku_judge", "millrace.judges", points, code)
    (judge,) = own_judges()
    assert judge.name == "sku"
    assert await judge.says("Which?", "Take SKU-12.", "SKU-12 fits.") is Says.SAME
    assert await judge.says("Which?", "Take SKU-12.", "SKU-13 fits.") is Says.DIFFERENT
    assert await judge.says("Which?", "Take that.", "SKU-13 fits.") is Says.UNSURE
    sys.modules.pop("sku_judge", None)


def test_a_broken_judge_does_not_stop_the_start_and_the_warning_says_which(site: Path) -> None:
    code = "WORD = 'no function'\ndef fine(question, earlier, fresh): return True\n"
    points = {
        "gone": "some_judges:gone",
        "word": "some_judges:WORD",
        "facts": "some_judges:fine",
        "ok": "some_judges:fine",
    }
    installed(site, "some_judges", "millrace.judges", points, code)
    with captured_logs() as logs:
        assert [judge.name for judge in own_judges()] == ["ok"]
    for name in ("gone", "word", "facts"):
        assert f"{name} = some_judges:" in logs.text
    assert "uninstall" in logs.text
    sys.modules.pop("some_judges", None)


def raises(question: str, earlier: str, fresh: str) -> bool:
    raise ValueError(f"{question} {earlier} {fresh}")


def stops(question: str, earlier: str, fresh: str) -> bool:
    raise SystemExit(3)


def nonsense(question: str, earlier: str, fresh: str) -> Any:
    return "same"


async def cancels(question: str, earlier: str, fresh: str) -> bool:
    raise asyncio.CancelledError


@pytest.mark.parametrize("function", [raises, stops, nonsense, cancels])
async def test_one_that_fails_says_nothing_and_is_logged_once_without_texts(function: Any) -> None:
    judge = OwnJudge("mine", function)
    with captured_logs() as logs:
        for _ in range(3):
            assert await judge.says("secret question", "secret one", "secret two") is Says.UNSURE
    assert len(logs.from_millrace.getvalue().splitlines()) == 1
    assert "mine" in logs.text
    assert "secret" not in logs.text


async def test_one_that_hangs_says_nothing_and_is_not_called_again_and_again() -> None:
    release, calls = threading.Event(), 0

    def hangs(*_: str) -> bool:
        nonlocal calls
        calls += 1
        release.wait(30)
        return True

    judge = OwnJudge("mine", hangs, within_s=0.02)
    with captured_logs() as logs:
        for _ in range(AT_ONCE + 3):
            assert await judge.says("?", "a", "b") is Says.UNSURE
    release.set()
    assert calls == AT_ONCE
    assert len(logs.from_millrace.getvalue().splitlines()) == 1


async def test_an_async_one_is_awaited_and_another_one_leaves_the_loop() -> None:
    async def awaited(*_: str) -> bool:
        await asyncio.sleep(0)
        return False

    class Judge:
        async def __call__(self, *_: str) -> bool:
            return True

    threads = []

    def threaded(*_: str) -> None:
        threads.append(threading.current_thread())

    assert await OwnJudge("a", awaited).says("?", "a", "b") is Says.DIFFERENT
    assert await OwnJudge("b", Judge()).says("?", "a", "b") is Says.SAME
    assert await OwnJudge("c", threaded).says("?", "a", "b") is Says.UNSURE
    assert threads[0] is not threading.main_thread()


def test_the_order_is_the_cheapest_first() -> None:
    own = own_judges([EntryPoint("mine", "builtins:max", "millrace.judges")])
    names = [judge.name for judge in judges_of(FixedComparer(None), Asked(None), own, "small")]  # type: ignore[arg-type]
    assert names == ["equal", "facts", "likeness", "mine", "model"]
    assert [judge.name for judge in judges_of(None, None)] == ["equal", "facts"]
    assert [judge.name for judge in judges_of(None, Asked(None), (), "none")] == ["equal", "facts"]
