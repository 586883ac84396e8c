"""Codex CLI, Claude Code and opencode, unmodified, as docs/ sets them up: `python -m tests.agents`, in short.

Each does twenty turns of a scripted piece of work in three processes: it reads, edits, runs commands that fail, is
interrupted, goes on in a second process, and compacts its history.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.agents import environment
from tests.agents.__main__ import apart
from tests.agents.gateway import Gateway
from tests.agents.recipes import recipe
from tests.agents.scenarios import SCENARIOS, SHORT
from tests.agents.work import PHASES, TURNS
from tests.support.paths import REPOSITORY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHORT)
def test_a_coding_agent_does_its_work(name: str) -> None:
    if not os.environ.get("MILLRACE_NO_SKIPS"):
        if reason := environment.missing():
            pytest.skip(reason)
        if not environment.is_ready():
            pytest.skip("the agents are not installed; install them with: python -m tests.agents --prepare")
    ended = subprocess.run(apart(name), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_script_is_as_long_as_it_must_be() -> None:
    assert TURNS == 20
    assert sum(turn.is_held for phase in PHASES for turn in phase) == 1


def test_all_that_are_run_in_short_are_scenarios() -> None:
    assert set(SHORT) <= SCENARIOS.keys()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b'\x81\x7e{"type":"error","error":{}}',
        b'event: error\ndata: {"type":"error"}',
        b'data: {"type":"response.failed"}',
        b'data: {"error":{"message":"No."}}',
    ],
)
def test_whatever_is_refused_is_heard(said: bytes, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.heard += b"HTTP/1.1 200 OK\r\n\r\n" + said
    assert len(gateway.refusals()) == 1


@pytest.mark.parametrize("client", ["Codex CLI", "Claude Code", "opencode"])
def test_a_recipe_has_at_most_five_lines(client: str) -> None:
    assert 0 < len(recipe(client).splitlines()) <= 5
