"""The command `reload`, beside a server and without one."""

import asyncio
import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from tests.support.live_server import LiveServer, live_server


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["reload", *arguments])


async def beside(live: LiveServer, *arguments: str) -> Result:
    folder = live.configuration["server"]["data_dir"]
    return await asyncio.to_thread(command, "--data-dir", folder, *arguments)


async def test_it_tells_what_has_changed_and_what_needs_a_restart(tmp_path: Path) -> None:
    async with live_server(server={"data_dir": str(tmp_path)}) as live:
        assert (await beside(live)).stdout == "configuration was read: 0 changes\n"
        live.models["small"]["price"]["output"] = "0.61"
        live.configuration["server"]["port"] = 1
        found = await beside(live)
        assert (found.exit_code, found.stderr) == (0, "")
        assert found.stdout.splitlines() == [
            "configuration was read: 1 change",
            "  models.small.price.output",
            "These need a restart; until then they stay as they were:",
            "  server.port",
        ]
        assert json.loads((await beside(live, "--json")).stdout) == {
            "read": "configuration",
            "changed": [],
            "needs_restart": ["server.port"],
            "faults": [],
        }


async def test_faults_are_printed_and_it_fails(tmp_path: Path) -> None:
    """With --json too."""
    async with live_server(server={"data_dir": str(tmp_path)}) as live:
        live.models["small"]["base_url"] = "ftp://models"
        live.configuration["nothing"] = {}
        for arguments in ((), ("--json",)):
            found = await beside(live, *arguments)
            assert found.exit_code == 2
            said = found.stderr.splitlines()
            assert said[0] == "configuration: refused, and nothing has changed: 2 faults"
            assert [line.split(":")[0].strip() for line in said[1:]] == ["nothing", "models.small.base_url"]
        assert len(json.loads(found.stdout)["faults"]) == 2


async def test_a_server_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.stores.reloads.WAIT_S", 0.3)
    monkeypatch.setattr("millrace.stores.reloads.POLL_S", 5.0)
    async with live_server(server={"data_dir": str(tmp_path)}) as live:
        found = await beside(live)
        assert (found.exit_code, found.stdout) == (3, "")
        assert "has not answered within 0.3 s; look at its log" in found.stderr


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    """Nothing is created there."""
    for folder, words in ((tmp_path / "none", "no server uses it"), (Path(":memory:"), "POST /v1/reload")):
        found = command("--data-dir", str(folder))
        assert (found.exit_code, found.stdout) == (2, "")
        assert words in found.stderr
    assert [*tmp_path.iterdir()] == []


def test_the_folder_is_found_whatever_else_is_wrong_with_the_file(tmp_path: Path) -> None:
    """The server says what that is: its environment is another one."""
    file = tmp_path / "millrace.toml"
    file.write_text(f'[server]\ndata_dir = "{tmp_path}/data"\nport = "many"\n')
    assert f"'{tmp_path}/data': no server uses it" in command("--config", str(file)).stderr
    file.write_text("[server\n")
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(file.read_text())
    found = command("--config", str(file))
    assert found.exit_code == 2
    assert "refused, and nothing has changed: 1 fault" in found.stderr
    assert "not read as TOML" in found.stderr
    assert "no such file" in command("--config", str(tmp_path / "none.toml")).stderr
