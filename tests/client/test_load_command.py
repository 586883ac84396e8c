"""The command `load`: its exit codes, its output, Ctrl-C; and which command is meant where none is named."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner

from millrace.__main__ import main as server
from millrace_client.__main__ import main as client
from tests.support.keyed_server import keyed_server
from tests.support.paths import REPOSITORY
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, until


async def load_command(*arguments: str, command: str = "load") -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "client",
        command,
        *arguments,
        cwd=REPOSITORY,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | {"COLUMNS": "120"},
    )


async def ended(*arguments: str, command: str = "load") -> tuple[int | None, str, str]:
    process = await load_command(*arguments, command=command)
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, out.decode(), errors.decode()


async def test_a_good_run_is_0(millrace: Running, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    code, out, errors = await ended("--url", millrace.url, "--requests", "30", "--json", str(file))
    assert (code, errors) == (0, "")
    for word in (
        "TTFT",
        "ITL",
        "TPOT",
        "E2E",
        "seed 0",
        "tokens/s",
        "answered by",
        "cache hits",
        "cost",
        "30 completed",
    ):
        assert word in out
    assert json.loads(file.read_bytes())["ended"] == 30


async def test_a_threshold_decides(millrace: Running, tmp_path: Path) -> None:
    """Crossed, it fails the run and says the value; those about errors decide how many errors are too many."""
    file = tmp_path / "mix.txt"
    file.write_text("x [fault=error]\nWhat is a millrace?\n")
    few = ("--url", millrace.url, "--requests", "12", "--prompts", str(file), "--seed", "3")
    code, out, _ = await ended(*few, "--fail-if", "error_rate>99%", "--slo", "e2e=30s", "--fail-if", "goodput<1%")
    assert code == 0
    assert "goodput" in out
    code, out, _ = await ended(*few, "--fail-if", "error_rate>1%", "--fail-if", "p99_ttft>30s")
    assert (code, out.count("failed: error_rate>1%: it is")) == (1, 1)
    assert "failed: p99_ttft>30s: there are too few samples to tell" in out


async def test_a_comparison_and_its_page(millrace: Running, tmp_path: Path) -> None:
    """Everything at once: two servers, a warm-up, thresholds on a ratio, JSON and the page with both in it."""
    page, figures = tmp_path / "report.html", tmp_path / "figures.json"
    code, out, errors = await ended(
        *("--url", millrace.url, "--compare", millrace.large.base_url, "--rate", "40", "--duration", "1.5"),
        *("--warmup", "0.5", "--slo", "ttft=5s", "--fail-if", "ratio_p50_e2e>1000", "--seed", "7"),
        *("--html", str(page), "--json", str(figures), "--fresh", "--drain", "9"),
    )
    assert (code, errors) == (0, "")
    for words in ("seed 7", "after 0.5 s of warm-up", "the bare upstream", "Millrace / the bare upstream", "goodput"):
        assert words in out
    read = json.loads(figures.read_bytes())
    assert read["course"]["offered"] == read["compare"]["course"]["offered"] == read["ended"]
    assert read["course"]["warmup"] == read["compare"]["course"]["warmup"] > 0
    html = page.read_text("utf-8")
    for words in ("<svg", "TTFT over time", "Requests per second", "the bare upstream", "prefers-color-scheme: dark"):
        assert words in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "").replace("http_", "")  # it needs no network


async def test_no_comparison_is_3(millrace: Running) -> None:
    code, out, errors = await ended("--url", millrace.url, "--compare", "http://127.0.0.1:9")
    assert (code, out) == (3, "")
    assert "nothing answers at http://127.0.0.1:9/v1" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--slo", "speed=5s"], "'speed=5s' is no bound"),
        (["--fail-if", "p99_tfft>5s"], "NAME is STATISTIC_TIME"),
        (["--fail-if", "goodput<9%"], "needs --slo"),
        (["--fail-if", "ratio_p50_ttft>2"], "needs --compare"),
        (["--compare", "ftp://x"], "no http:// or https:// address"),
        (["--concurrency", "5", "--lanes", "5"], "give one of them"),
        (["--concurrency", "500", "--connections", "2"], "raise --connections"),
        (["--warmup", "10"], "leaves nothing to measure"),
        (["--rate", "inf"], "is no number to work with"),
        (["--fail-if", "errors>nan"], "'nan' is no number"),
    ],
)
def test_options_that_cannot_be_are_2(words: list[str], said: str) -> None:
    """Before anything is sent; the message names the option and what to do."""
    done = CliRunner().invoke(client, ["load", "--url", "ws://127.0.0.1:9", *words])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


async def test_json_on_standard_output_is_alone_there(millrace: Running) -> None:
    code, out, errors = await ended("--url", millrace.url, "--requests", "3", "--json", "-")
    assert (code, json.loads(out)["ended"]) == (0, 3)
    assert "TTFT" in errors


async def test_an_unscripted_error_is_1(millrace: Running, tmp_path: Path) -> None:
    file = tmp_path / "mix.txt"
    file.write_text("x [fault=error]\n")
    code, out, _ = await ended("--url", millrace.url, "--requests", "3", "--prompts", str(file))
    assert code == 1
    assert "upstream_error" in out


async def test_a_server_with_keys_wants_one(start: Start, tmp_path: Path) -> None:
    """Of both commands; without it they say what the server said."""
    async with keyed_server(start, tmp_path) as guarded:
        url = ("--url", guarded.running.url)
        for command, arguments, refused in (("load", ("--requests", "3"), 3), ("ask", ("What is 2 + 2?",), 1)):
            code, _, errors = await ended(*arguments, *url, command=command)
            assert (code, "unauthorized" in errors) == (refused, True)
            code, out, _ = await ended(*arguments, *url, "--api-key", guarded.key, command=command)
            assert (code, guarded.key in out) == (0, False)


def test_bad_prompts_are_2(tmp_path: Path) -> None:
    file = tmp_path / "mix.jsonl"
    file.write_text('fine\n{"input": 7}\n')
    done = CliRunner().invoke(client, ["load", "--prompts", str(file)])
    assert done.exit_code == 2
    assert f"{file}:2:" in done.stderr


@pytest.mark.parametrize("words", [["load"], ["ask", "Why?"], ["Why?"], ["--model", "small", "Why?"]])
def test_no_server_is_3(words: list[str]) -> None:
    """For every command, also for the one that is meant where none is named."""
    done = CliRunner(env={"MILLRACE_URL": "ws://127.0.0.1:9"}).invoke(client, words)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no Millrace answers" in done.stderr


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (client, [], "write a QUESTION"),
        (client, ["--help"], "Commands:"),
        (server, ["--help"], "Commands:"),
        (server, [], "Commands:"),
        (server, ["serve", "--config", "nowhere.toml"], "no such file"),
        (server, ["nonsense"], "No such command 'nonsense'"),
        (server, ["serv"], "Did you mean 'serve'?"),
        (server, ["ledger", "exprt"], "Did you mean 'export'?"),
        (server, ["--version"], "millrace, version"),
        (server, ["load", "--help"], "--connections"),
    ],
)
def test_the_command_that_is_meant(command: Group, words: list[str], said: str) -> None:
    """A server says what there is unless told otherwise, a client asks."""
    assert said in CliRunner().invoke(command, words).output


async def test_a_server_that_takes_no_websocket_is_3(millrace: Running) -> None:
    code, _, errors = await ended("--url", f"{millrace.small.base_url}/nowhere")
    assert code == 3
    assert "404" in errors


async def test_ctrl_c_is_130_with_a_table(millrace: Running, tmp_path: Path) -> None:
    """What runs is cancelled and paid for; nothing is left behind."""
    file = tmp_path / "mix.txt"
    file.write_text("x [tokens=900] [rate=100]\nWhat is a millrace?\n")
    process = await load_command("--url", millrace.url, "--prompts", str(file), "--fresh")
    await until(lambda: millrace.small.stats.running > 3)
    process.send_signal(signal.SIGINT)
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, errors) == (130, b"")
    assert b"interrupted" in out
    assert b"cancelled" in out
    assert b"TTFT" in out
    await until(lambda: millrace.small.stats.running == 0)


@pytest.mark.parametrize("words", [["Q", "--url", "U"], ["--url", "U", "Q"], ["ask", "--url", "U", "Q"]])
async def test_a_question_needs_no_command(millrace: Running, words: list[str]) -> None:
    """With its options after it or before it."""
    meant = {"Q": "What is an API?", "U": millrace.url}
    command = [sys.executable, "client", *(meant.get(word, word) for word in words)]
    process = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, stdout=PIPE, stderr=DEVNULL)
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    assert b"application programming interface" in out
