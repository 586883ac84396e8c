"""Two servers on one data_dir, in processes of their own: refused, or a rolling restart; and what a crash leaves."""

import asyncio
import signal
import sqlite3
import subprocess
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Limits, Role
from millrace.stores.database import FILE
from tests.support.processes import server_process, spawn
from tests.support.waiting import until
from tests.support.wire_client import WireClient, check_response, wire_client

LONG = "go on [tokens=10000] [rate=100]"  # until it is cancelled
ENOUGH_S = 20.0


def statuses(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / FILE)) as file:
        return [status for (status,) in file.execute("SELECT status FROM entries ORDER BY opened_at")]


async def second(folder: Path) -> tuple[int, str]:
    """Start another server with the same configuration; return its exit code and what it printed, once it has ended."""
    with spawn(
        "server",
        "serve",
        "--config",
        str(folder / "millrace.toml"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            printed, _ = await asyncio.to_thread(process.communicate, timeout=ENOUGH_S)
        finally:
            process.kill()
        return process.returncode, printed


async def begin(client: WireClient, folder: Path) -> str:
    """Ask for a long answer that costs up to $0.02; return its id once its row is open."""
    await client.create(LONG, model="small", max_output_tokens=10_000)
    response_id: str = (await client.next())["response"]["id"]
    await until(lambda: statuses(folder) == ["open"])
    return response_id


async def cancel(client: WireClient, response_id: str) -> float:
    """Cancel it; return what it cost in dollars."""
    await client.send({"type": "response.cancel", "response_id": response_id})
    usage = (await client.until("response.incomplete"))[-1]["response"]["usage"]
    return float(usage["cost_usd"])


async def test_a_second_server_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    """In one line; the commands work beside the first one, which is not disturbed."""
    async with server_process(tmp_path, 1.0) as first, wire_client(first.ws_url) as client:
        response_id = await begin(client, tmp_path)
        code, printed = await second(tmp_path)
        assert code == 1
        assert printed.splitlines() == [
            f"cannot serve: data_dir '{tmp_path}' is in use by the server with pid {first.process.pid};"
            " stop it, or name another folder"
        ]
        with spawn("server", "keys", "list", "--data-dir", str(tmp_path), stdout=subprocess.PIPE) as listed:
            assert await asyncio.to_thread(listed.wait, ENOUGH_S) == 0
        assert statuses(tmp_path) == ["open"]
        await cancel(client, response_id)
        await until(lambda: statuses(tmp_path) == ["cancelled"])


async def test_a_rolling_restart_leaves_the_old_ones_rows_alone(tmp_path: Path) -> None:
    """The new one starts at once, and a third is refused; what the old one runs ends as it would have."""
    async with server_process(tmp_path, ENOUGH_S) as old, wire_client(old.ws_url) as client:
        response_id = await begin(client, tmp_path)
        old.stop()
        async with server_process(tmp_path, 1.0) as new, wire_client(new.ws_url):
            assert old.process.poll() is None
            assert statuses(tmp_path) == ["open"]
            code, printed = await second(tmp_path)
            assert code == 1
            assert f"pid {new.process.pid};" in printed
            await cancel(client, response_id)
            assert await old.exited() == -signal.SIGTERM
            assert statuses(tmp_path) == ["cancelled"]


async def test_a_draining_process_that_is_killed_leaves_no_open_row(tmp_path: Path) -> None:
    """The one that has started meanwhile closes it."""
    async with server_process(tmp_path, ENOUGH_S) as old, wire_client(old.ws_url) as client:
        await begin(client, tmp_path)
        old.stop()
        async with server_process(tmp_path, 1.0) as new, wire_client(new.ws_url):
            assert statuses(tmp_path) == ["open"]
            old.stop(signal.SIGKILL)
            await until(lambda: statuses(tmp_path) == ["killed"])


async def test_after_a_crash_the_next_one_starts_at_once_and_closes_the_rows(tmp_path: Path) -> None:
    """No lock outlives its process."""
    async with server_process(tmp_path, ENOUGH_S) as crashed, wire_client(crashed.ws_url) as client:
        await begin(client, tmp_path)
        crashed.stop(signal.SIGKILL)
        await crashed.exited()
        async with server_process(tmp_path, 1.0) as new, wire_client(new.ws_url):
            await until(lambda: statuses(tmp_path) == ["killed"])


async def test_a_budget_holds_over_a_rolling_restart(tmp_path: Path) -> None:
    """What the old one runs is not counted at the most it might cost, but at what it cost, once it has ended."""
    budget = 0.00212  # a request books 1,024 tokens of output at first, $0.00205
    limits = Limits(dollars_per_day=Decimal(str(budget)))
    key, text = keys.make(tenant="t", role=Role.USE, limits=limits, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
    bearer = {"Authorization": f"Bearer {text}"}
    async with (
        server_process(tmp_path, ENOUGH_S) as old,
        wire_client(old.ws_url, additional_headers=bearer) as client,
    ):
        response_id = await begin(client, tmp_path)
        old.stop()
        async with (
            server_process(tmp_path, 1.0) as new,
            wire_client(new.ws_url, additional_headers=bearer) as other,
        ):
            asked = await other.ask("Say so. [tokens=2]", model="small", max_output_tokens=10)
            spent = check_response(asked)["usage"]["cost_usd"]
            cost = await cancel(client, response_id)
            await old.exited()
            assert cost > 0.0001
            await asyncio.sleep(0.6)  # the new one looks four times a second
            last = (await other.ask("talk [tokens=3000]", model="small"))[-1]["response"]
            assert last["incomplete_details"] == {"reason": "budget_exceeded"}
            assert 0.9 * budget < spent + cost + last["usage"]["cost_usd"] <= budget
