"""`millrace simulate` with answers of one's own, and what it refuses."""

import json
import urllib.request
from pathlib import Path

import pytest

from tests.cli.test_main import run, server

LINE = '{"questions": ["How tall is it?", "What is its height?"], "strong": "324 m.", "weak": "I am not sure."}\n'


def test_a_simulated_model_answers_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(LINE, "utf-8")
    options = ("--port", "0", "--profile", "small", "--answers", str(file), "--speed", "50", "--stalls", "0.01")
    with server("simulate", *options) as (_, url):
        body = json.dumps({"messages": [{"role": "user", "content": "What is its height?"}]}).encode()
        with urllib.request.urlopen(f"{url}/v1/chat/completions", body) as answer:  # noqa: S310 - our own
            said = json.loads(answer.read())["choices"][0]["message"]["content"]
    assert said == "I am not sure."


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--answers", "missing.jsonl"], "does not exist"),
        (["--speed", "0"], "--speed"),
        (["--stalls", "2"], "--stalls"),
        (["--port", "9001"], "--profile"),
    ],
)
def test_options_with_faults_are_refused_by_name(options: list[str], told: str) -> None:
    ended = run("server", "simulate", *options)
    assert ended.returncode == 2
    assert told in ended.stderr


def test_a_line_of_answers_with_a_fault_is_named(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(LINE + '{"questions": ["x"]}\n', "utf-8")
    ended = run("server", "simulate", "--answers", str(file))
    assert ended.returncode == 2
    assert "line 2: " in ended.stderr
    assert "strong" in ended.stderr
