"""The README's examples run as they are printed, and its tables leave nothing out. Only addresses are exchanged."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from playwright.async_api import Page, Route

from millrace import settings
from tests.support.browser import CHROMIUM, launched_browser
from tests.support.paths import REPOSITORY
from tests.support.server import Running

README = (REPOSITORY / "README.md").read_text("utf-8")
SECONDS = 40


def examples(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)


PYTHON, JAVASCRIPT = examples("python"), examples("js")


def test_there_are_examples() -> None:
    """Those for a stock SDK over both transports, for both clients, for tools, resume and tickets."""
    assert (len(PYTHON), len(JAVASCRIPT)) == (6, 2)


@pytest.mark.parametrize("example", PYTHON, ids=range(len(PYTHON)))
async def test_a_python_example_runs(millrace: Running, tmp_path: Path, example: str) -> None:
    program = tmp_path / "example.py"
    program.write_text(example.replace("127.0.0.1:8000", millrace.url.removeprefix("http://")), "utf-8")
    folders = os.pathsep.join(str(REPOSITORY / folder) for folder in ("server", "client"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(program)),
        env=os.environ | {"PYTHONPATH": folders, "PYTHONIOENCODING": "utf-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        said, complained = await process.communicate()
    assert (process.returncode, complained.decode()) == (0, "")
    assert len(said.split()) > 3
    assert millrace.calls >= 1


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("example", JAVASCRIPT, ids=range(len(JAVASCRIPT)))
async def test_a_javascript_example_runs(millrace: Running, example: str) -> None:
    """In a page of the server, which plays the app's backend too."""
    said: list[str] = []
    program = example.replace("wss://millrace.example", millrace.ws_url) + '\nconsole.log("the end");'

    async def ticket(route: Route) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{millrace.url}/v1/tickets", json={"origin": millrace.url}) as answer,
        ):
            await route.fulfill(body=(await answer.json())["ticket"])

    async def script(route: Route) -> None:
        await route.fulfill(body=program, content_type="text/javascript")

    async with launched_browser() as browser:
        page: Page = await browser.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        await page.route("**/ticket", ticket)
        await page.route("**/example.js", script)
        await page.goto(millrace.url)
        async with page.expect_console_message(lambda message: message.text == "the end", timeout=SECONDS * 1000):
            await page.add_script_tag(url="/example.js", type="module")
    assert [line for line in said if line.startswith("error")] == []
    assert len(said) > 1
    assert millrace.calls == 1


def test_the_table_of_configuration_is_complete() -> None:
    """Every key of the settings is in it."""
    table = [line for line in README.partition("## Configuration")[2].splitlines() if line.startswith("| `")]
    documented = {name.rpartition(".")[2] for line in table for name in re.findall(r"`([\w.]+)`", line.split(" | ")[0])}
    assert set(keys(settings.Settings)) <= documented


def test_nothing_is_said_to_be_missing() -> None:
    assert "not built yet" not in README
    assert "not yet supported" not in README


def keys(shape: Any) -> Iterator[str]:
    """Yield the names of a section's keys, and of those below it; a price's are within its own."""
    for field in msgspec.structs.fields(shape):
        if (section := settings.section_of(field.type)) is not None and field.name != "price":
            yield from keys(section)
        else:
            yield field.name
