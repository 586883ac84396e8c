"""`millrace ledger` and `millrace explain`: what they print of a server's ledger, beside it and without it."""

import asyncio
import csv
import io
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from click.testing import CliRunner, Result

from millrace import tokens
from millrace.__main__ import main
from millrace.cli import ledger, ledger_export
from millrace.wire.ledger import LedgerEntry
from tests.support.http_client import CHAT, RESPONSES
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S
from tests.web.test_ledger import asked

SECRET = "heron"
QUESTION = f"What does a {SECRET} eat?"


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, arguments)


async def run(folder: Path, *arguments: str) -> Result:
    return await asyncio.to_thread(command, *arguments, "--data-dir", str(folder))


@pytest.fixture
async def server(start: Start, tmp_path: Path) -> AsyncIterator[Running]:
    async with start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running:
        yield running


@pytest.fixture
async def http(server: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def test_tail_shows_who_answered_for_how_much(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The oldest first; only those that are wanted; each as a line of JSON for programs."""
    small, again = await asked(http, QUESTION, QUESTION)
    (large,) = await asked(http, "And an owl? [tokens=10]", millrace={"strategy": "large", "tag": "night"})
    head, *lines = (await run(tmp_path, "ledger", "tail")).stdout.splitlines()
    assert all(word in head for word in ("answered by", "in (cached)", "¢", "saved ¢", "why"))
    assert [line.split()[2] for line in lines] == [small[:17], again[:17], large[:17]]
    assert "small-model" in lines[0]
    assert ("exact cache" in lines[1], "answered before" in lines[1]) == (True, True)
    tagged = await run(tmp_path, "ledger", "tail", "--tag", "night", "--json")
    row = msgspec.json.decode(tagged.stdout, type=LedgerEntry)
    assert (row.id, row.model, row.status) == (large, "large-model", "completed")
    assert (await run(tmp_path, "ledger", "tail", "-n", "1", "--user", "nobody", "--json")).stdout == ""
    assert SECRET not in "".join(lines)


async def test_tail_follows_until_it_is_stopped(
    http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request that ends, once; it stops as quietly as it is told to."""
    first, _ = await asked(http, "One?", "Two?")
    waits, goes_on = threading.Event(), threading.Event()

    async def pause() -> None:
        if waits.is_set():
            raise KeyboardInterrupt
        waits.set()
        await asyncio.to_thread(goes_on.wait, PATIENCE_S)

    monkeypatch.setattr(ledger, "_pause", pause)
    following = asyncio.create_task(run(tmp_path, "ledger", "tail", "-f", "-n", "2", "--json"))
    await asyncio.to_thread(waits.wait, PATIENCE_S)
    ids = await asked(http, "Three?", "Four?")
    goes_on.set()
    ended = await following
    shown = [json.loads(line)["id"] for line in ended.stdout.splitlines()]
    assert (shown[0], shown[2:]) == (first, ids)
    assert (ended.exit_code, ended.stderr) == (130, "")


async def test_one_request_is_shown_and_explained_without_its_text(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """What was cut, what the checks said, each call, the sum: by the beginning of its id."""
    prompt: dict[str, Any] = {
        "input": f"Is a {SECRET} a bird? [weak]",
        "millrace": {"context": [f"{SECRET} " * 50, "wheel " * 90], "context_budget": 60, "cache": "off"},
    }
    async with http.post(RESPONSES, json=prompt) as answer:
        request = (await answer.json())["id"]
    await asked(http, "Another?")
    page = (await run(tmp_path, "explain", request[:14])).stdout
    for words in (request, "tokens of context", "revised", "answered", "failed check", "saved"):
        assert words in page
    shown = (await run(tmp_path, "ledger", "show", request)).stdout
    told = (await run(tmp_path, "explain", request, "--json")).stdout
    row = msgspec.json.decode(told, type=LedgerEntry)
    assert [call.outcome for call in row.calls] == ["revised", "answered"]
    assert sum(call.cost_usd for call in row.calls) == row.cost_usd
    first, second = row.calls
    assert first.started_ms is not None
    assert second.started_ms is not None
    assert first.started_ms < second.started_ms
    for text in (page, shown, told):
        assert SECRET not in text
        assert "wheel" not in text


async def test_names_that_clients_give_are_nothing_that_a_terminal_obeys(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """They are shown without escapes."""
    (request,) = await asked(http, "One?", user="ann\x1b]0;owned\x07", millrace={"tag": "\x1b[2Jnight"})
    for name in ("ledger show", "explain"):
        shown = (await run(tmp_path, *name.split(), request)).stdout
        assert "\x1b" not in shown
        assert "]0;owned" in shown
        assert "[2Jnight" in shown
    grouped = (await run(tmp_path, "levers", "--by", "tag")).stdout
    assert ("\x1b" in grouped, "[2Jnight" in grouped) == (False, True)


@pytest.mark.parametrize("name", ["explain", "ledger show"])
async def test_an_unknown_request_is_told(http: aiohttp.ClientSession, tmp_path: Path, name: str) -> None:
    await asked(http, "One?", "Two?")
    unknown = await run(tmp_path, *name.split(), "resp_zz")
    assert (unknown.exit_code, "no such request" in unknown.stderr) == (1, True)
    several = await run(tmp_path, *name.split(), "resp_")
    assert (several.exit_code, "several requests begin so" in several.stderr) == (1, True)


async def test_an_export_has_every_row_and_every_digit(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """In the order in which they ended, to a file and to standard output."""
    ids = await asked(http, *(f"Number {number}?" for number in range(4)))
    whole = (await run(tmp_path, "ledger", "export", "--format", "jsonl")).stdout
    rows = [msgspec.json.decode(line, type=LedgerEntry) for line in whole.splitlines()]
    assert [row.id for row in rows] == ids
    file = tmp_path / "ledger.csv"
    ended = await run(tmp_path, "ledger", "export", "--format", "csv", "-o", str(file), "--since", "1h")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", f"{file}: 4 requests\n")
    table = list(csv.DictReader(io.StringIO(file.read_text("utf-8"), newline="")))
    assert [row["id"] for row in table] == ids
    assert [Decimal(row["cost_usd"]) for row in table] == [row.cost_usd for row in rows]
    assert "E" not in table[0]["cost_usd"]
    assert table[0]["opened_at"].endswith("+00:00")
    assert json.loads(table[0]["calls"])[0]["model"] == "small-model"
    old = await run(tmp_path, "ledger", "export", "--format", "csv", "--until", "1h")
    assert old.stdout.splitlines() == [",".join(ledger_export.COLUMNS)]
    assert not [*tmp_path.glob("*.unfinished")]  # noqa: ASYNC240


async def test_no_name_of_a_client_is_a_formula(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    await asked(http, "One?", user="=1+1")
    ended = await run(tmp_path, "ledger", "export", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(ended.stdout, newline=""))
    assert row["user"] == "'=1+1"
    assert Decimal(row["saved_usd"]).is_finite()


async def test_what_an_export_cannot_do_is_told(
    http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asked(http, "One?")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    parquet = await run(tmp_path, "ledger", "export", "--format", "parquet", "-o", str(tmp_path / "ledger.parquet"))
    assert (parquet.exit_code, "pip install pyarrow" in parquet.stderr) == (2, True)
    nowhere = await run(tmp_path, "ledger", "export", "--format", "csv", "-o", str(tmp_path / "no" / "such.csv"))
    assert (nowhere.exit_code, "such.csv" in nowhere.stderr) == (1, True)
    when = await run(tmp_path, "ledger", "export", "--format", "csv", "--since", "yesterday")
    assert (when.exit_code, "such as 7d" in when.stderr) == (2, True)


async def test_a_parquet_file_has_exact_dollars(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = await asked(http, "One?", "Two?")
    file = tmp_path / "ledger.parquet"
    assert (await run(tmp_path, "ledger", "export", "--format", "parquet", "-o", str(file))).exit_code == 0
    rows = parquet.read_table(file).to_pylist()
    assert [row["id"] for row in rows] == ids
    assert isinstance(rows[0]["cost_usd"], Decimal)
    assert rows[0]["opened_at"].tzinfo is not None


async def test_old_requests_are_deleted_once_somebody_has_said_yes(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The newest stays."""
    *_, last = await asked(http, "One?", "Two?", "Three?")
    await asyncio.to_thread(time.sleep, 0.01)
    refused = await asyncio.to_thread(
        CliRunner().invoke, main, ["ledger", "prune", "--keep-days", "0", "--data-dir", str(tmp_path)], "n\n"
    )
    assert (refused.exit_code, "Delete 2 requests" in refused.stderr) == (1, True)
    assert "What accounts have spent of their budgets is kept." in refused.stderr
    assert "batches, evidence and routing" in refused.stderr
    done = await run(tmp_path, "ledger", "prune", "--keep-days", "0", "--yes")
    assert done.stdout.startswith("Deleted: 2 requests")
    left = await run(tmp_path, "ledger", "tail", "--json")
    assert [json.loads(line)["id"] for line in left.stdout.splitlines()] == [last]
    for arguments in (("--keep-days", "1", "--before", "1d"), ("--keep-days", "1000000")):
        assert (await run(tmp_path, "ledger", "prune", *arguments)).exit_code == 2


async def test_the_ledger_is_read_where_the_keys_of_models_are_not_set(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It asks no model: of the configuration it needs the folder alone."""
    (only,) = await asked(http, "One?")
    config = tmp_path / "millrace.toml"
    config.write_text(f"""
        server.data_dir = {json.dumps(str(tmp_path))}
        models.small.api_key_env = "A_KEY_OF_THE_SERVER"
    """)
    for arguments in (("ledger", "tail"), ("ledger", "show", only), ("explain", only)):
        ended = await asyncio.to_thread(command, *arguments, "--config", str(config))
        assert (ended.exit_code, only[:17] in ended.stdout) == (0, True), ended.stderr


@pytest.mark.parametrize(
    "arguments", [("ledger", "tail"), ("explain", "resp_1"), ("ledger", "prune", "--before", "1d")]
)
def test_without_a_ledger_there_is_advice(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = command(*arguments, "--data-dir", str(tmp_path))
    assert (ended.exit_code, "start a server there first" in ended.stderr) == (2, True)
    in_memory = command(*arguments, "--data-dir", ":memory:")
    assert (in_memory.exit_code, "GET /v1/ledger" in in_memory.stderr) == (2, True)


async def test_a_repro_has_the_shape_of_the_request_and_none_of_its_text(
    server: Running, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A server takes it: the same roles, about the same tokens, the same options; a tool's result follows a call."""
    schema = {"type": "object", "properties": {SECRET: {"type": "string"}}}
    body: dict[str, Any] = {
        "model": "small",
        "messages": [
            {"role": "system", "content": f"Speak of a {SECRET} alone. " * 20},
            {"role": "user", "content": f"Where is the {SECRET}?"},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "call_a", "type": "function", "function": {"name": SECRET, "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": f"The {SECRET} is at the river."},
            {"role": "user", "content": f"And what does the {SECRET} do there all day long?"},
        ],
        "tools": [{"type": "function", "function": {"name": SECRET, "parameters": schema}}],
        "temperature": 0.5,
        "max_completion_tokens": 500,
        "user": "ann",
        "millrace": {"tag": "night", "cache": "off", "delivery": "final"},
    }
    async with http.post(CHAT, json=body) as answer:
        assert answer.status == 200
    await asked(http, "Another?")
    rows = (await run(tmp_path, "ledger", "tail", "--json", "--tag", "night")).stdout
    request = msgspec.json.decode(rows, type=LedgerEntry)
    file = tmp_path / "repro.json"
    ended = await run(tmp_path, "explain", request.id, "--redacted-repro", str(file))
    assert (ended.exit_code, "names and schemas of its tools" in ended.stderr) == (0, True)
    repro = json.loads(text := file.read_text("utf-8"))
    assert SECRET not in text
    assert "ann" not in text
    kinds = [item.get("role") or item["type"] for item in repro["input"]]
    assert kinds == ["system", "user", "function_call", "function_call_output", "user"]
    assert (repro["temperature"], repro["max_output_tokens"], len(repro["tools"])) == (0.5, 500, 1)
    assert repro["millrace"] == {"strategy": "small", "delivery": "final", "cache": "off"}
    filler = sum(tokens.count(item.get("content") or item.get("output") or "") for item in repro["input"])
    assert filler == pytest.approx(request.input_tokens, rel=0.5)
    async with http.post(RESPONSES, json=repro) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "completed")
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "millrace", "ask", "--repro", str(file), "--url", server.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asking.communicate()
    assert (asking.returncode, b"small" in said) == (0, True)


def test_what_is_no_repro_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "repro.json"
    file.write_text("[]")
    for arguments, words in ((["--repro", str(file)], "is no request"), ([], "write a QUESTION")):
        ended = command("ask", *arguments)
        assert (ended.exit_code, words in ended.stderr) == (2, True)
