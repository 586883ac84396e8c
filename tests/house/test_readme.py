"""The examples of README and docs/ run as they are printed, and their tables leave nothing out.

Only addresses are exchanged. What needs more than this repository runs where `python -m tests.stock --prepare` has run;
elsewhere it is parsed.
"""

import ast
import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
import pytest
from playwright.async_api import Page, Route

from millrace import settings
from millrace.__main__ import main
from millrace.web.manual.markdown import anchor_of
from tests.stock import environment
from tests.support.browser import CHROMIUM, launched_browser
from tests.support.paths import REPOSITORY
from tests.support.server import Running

README = (REPOSITORY / "README.md").read_text("utf-8")
PAGES = {file.stem: file.read_text("utf-8") for file in sorted((REPOSITORY / "docs").glob("*.md"))}
ALL = {"": README} | {name: text for name, text in PAGES.items() if name != "README"}
ESBUILD = REPOSITORY / "tests" / "js" / "node_modules" / ".bin" / "esbuild"
OURS = sys.stdlib_module_names | {"millrace_client", "openai"}
SECONDS = 120


def examples(language: str) -> list[Any]:
    """Return all blocks of a language; each is called by its page and its number there."""
    block = re.compile(rf"^ *```{language}\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(code, id=f"{name or 'README'}-{number}")
        for name, text in ALL.items()
        for number, code in enumerate(block.findall(text))
    ]


def imported(program: str) -> set[str]:
    """Return the packages that a Python program imports."""
    tree = ast.parse(program)
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


def needs_only_this(script: str) -> bool:
    """Whether a page's script imports the client alone."""
    sources = re.findall(r'^import .*"(.*)";$', script, re.MULTILINE)
    return bool(sources) and set(sources) == {"/millrace.js"}


PYTHON, JAVASCRIPT = examples("python"), examples("js")
IN_PAGES = [each for each in JAVASCRIPT if needs_only_this(each.values[0])]
OTHER_SCRIPTS = [each for each in JAVASCRIPT if each not in IN_PAGES]


def test_there_are_examples() -> None:
    """Of each kind, so that none passes for lack of its subject."""
    assert (len(PYTHON) >= 12, len(IN_PAGES) >= 2, len(OTHER_SCRIPTS) >= 1) == (True, True, True)
    assert {each.id for each in PYTHON} >= {"README-0", "python-0", "openai-sdks-1", "requests-1", "langchain-1"}


@pytest.mark.parametrize("example", PYTHON)
async def test_a_python_example_runs(millrace: Running, tmp_path: Path, example: str) -> None:
    """Those that only define something, such as a check of one's own, are imported."""
    python = sys.executable
    if imported(example) - OURS:
        if not environment.is_ready():
            return  # it is parsed
        python = str(environment.BIN / "python")
    program = tmp_path / "example.py"
    program.write_text(example.replace("127.0.0.1:8000", millrace.url.removeprefix("http://")), "utf-8")
    folders = os.pathsep.join(str(REPOSITORY / folder) for folder in ("server", "client"))
    process = await asyncio.create_subprocess_exec(
        *(python, *(("-W", "error") if python == sys.executable else ()), str(program)),
        env=os.environ | {"PYTHONPATH": folders, "PYTHONIOENCODING": "utf-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        said, complained = await process.communicate()
    assert (process.returncode, complained.decode()) == (0, "")
    defines = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    if all(isinstance(statement, defines) for statement in ast.parse(example).body):
        return
    assert len(said.split()) > 3
    assert millrace.calls >= 1


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("example", IN_PAGES)
async def test_a_javascript_example_runs(millrace: Running, example: str) -> None:
    """In a page of the server without a policy of its own; the test plays the app's backend."""
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
        await page.goto(f"{millrace.url}/healthz")
        async with page.expect_console_message(lambda message: message.text == "the end", timeout=SECONDS * 1000):
            await page.add_script_tag(url="/example.js", type="module")
    assert [line for line in said if line.startswith("error")] == []
    assert len(said) > 1
    assert millrace.calls == 1


@pytest.mark.parametrize("example", OTHER_SCRIPTS)
async def test_a_script_that_needs_more_is_parsed_or_runs(millrace: Running, tmp_path: Path, example: str) -> None:
    """Whole programs of the OpenAI SDK run; parts, and programs of other packages, are parsed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    runs = 'import OpenAI from "openai"' in example and environment.is_ready()
    file = (environment.HERE if runs else tmp_path) / "example.mjs"
    file.write_text(example.replace("127.0.0.1:8000", millrace.url.removeprefix("http://")), "utf-8")
    try:
        process = await asyncio.create_subprocess_exec(
            *(node, *(() if runs else ("--check",)), str(file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            said, complained = await process.communicate()
    finally:
        file.unlink()
    assert (process.returncode, complained.decode()) == (0, "")
    assert not runs or len(said.split()) > 3


def test_components_are_parsed() -> None:
    components = [str(each.values[0]) for each in examples("jsx")]
    if components and not ESBUILD.exists():
        pytest.skip("esbuild is not installed; install it with: npm ci --prefix tests/js")
    for each in components:
        run = [str(ESBUILD), "--loader=jsx"]
        subprocess.run(run, input=each, text=True, capture_output=True, check=True, timeout=SECONDS)


@pytest.mark.parametrize("example", examples("toml"))
def test_a_part_of_a_configuration_is_valid(example: str) -> None:
    """It is laid over the configuration that is shipped. That of another program is parsed."""
    part = tomllib.loads(example)
    if not set(part) <= {field.name for field in msgspec.structs.fields(settings.Settings)}:
        return
    whole = tomllib.loads((REPOSITORY / "millrace.toml").read_text("utf-8"))
    variables = dict.fromkeys(re.findall(r'_env = "(\w+)"', example), "a key")
    settings.build(_over(whole, part), variables)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {
        name: _over(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict) else value
        for name, value in above.items()
    }


@pytest.mark.parametrize("example", examples("json"))
def test_json_is_parsed(example: str) -> None:
    json.loads(example)


@pytest.mark.parametrize("example", examples("sh"))
def test_a_script_of_a_shell_is_parsed(example: str) -> None:
    subprocess.run(["bash", "-n"], input=example, text=True, check=True, timeout=SECONDS)


def commands() -> list[str]:
    """Return every line of every block of code that calls a command of ours, with its remark."""
    blocks = r"^```(?:sh)?\n(.*?)^```|((?:^ {4}.*\n)+)"
    lines = (
        line.strip()
        for text in ALL.values()
        for fenced, indented in re.findall(blocks, text, re.MULTILINE | re.DOTALL)
        for line in (fenced or indented).replace("\\\n", " ").splitlines()
    )
    return sorted({line for line in lines if re.match(r"(?:\S*bin/)?millrace |\S*python client ", line)})


def test_there_are_commands() -> None:
    assert len(commands()) > 40


@pytest.mark.parametrize("line", commands())
def test_a_command_and_its_options_exist(line: str) -> None:
    """Also the options that the remark behind it names."""
    line = re.sub(r"^\S*bin/python client (load|chat)?", lambda call: f"millrace {call[1] or 'ask'} ", line)
    call, _, remark = line.partition(" # ")
    words = [*shlex.split(call)[1:], *remark.split()]
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        if (found := command.get_command(click.Context(command), words[0])) is None:
            break
        command = found
        words.pop(0)
    assert not isinstance(command, click.Group) or command.invoke_without_command, line
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0].rstrip(",:;") for word in words if re.match(r"--\w", word)}
    assert given <= known | {"--help"}, line


def test_the_table_of_configuration_is_complete() -> None:
    """Every key of the settings is in it."""
    table = [line for line in PAGES["configuration"].splitlines() if line.startswith("| `")]
    documented = {name.rpartition(".")[2] for line in table for name in re.findall(r"`([\w.]+)`", line.split(" | ")[0])}
    assert set(keys(settings.Settings)) <= documented


def test_nothing_is_said_to_be_missing() -> None:
    for text in ALL.values():
        assert "not built yet" not in text
        assert "not yet supported" not in text


def test_the_readme_is_short() -> None:
    """Two screens of what matters; the rest is in docs/."""
    assert README.startswith("# Millrace\n\n    make demo    #")
    assert len([line for line in README.splitlines() if line]) <= 100
    assert "    make bench-savings " in README


@pytest.mark.parametrize("name", ["", *PAGES, "PROTOCOL", "ARCHITECTURE"])
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    """As a code host follows it; tests/web/test_manual.py has those at /docs."""
    file = REPOSITORY / ("docs" if name in PAGES else "") / f"{name or 'README'}.md"
    text = re.sub(r"^```.*?^```", "", file.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [anchor_of(heading) for heading in headings], link


def keys(shape: Any) -> Iterator[str]:
    """Yield the names of a section's keys, and of those below it; a price's are within its own."""
    for field in msgspec.structs.fields(shape):
        if (section := settings.section_of(field.type)) is not None and field.name != "price":
            yield from keys(section)
        else:
            yield field.name
