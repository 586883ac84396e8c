"""`millrace cache tune`: what it measures, draws and writes."""

import codecs
import json
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from millrace.caches.pairs import PairJudge
from millrace.types import Decision
from tests.support.cache_commands import cache_command
from tests.support.server import configuration_for

SCORES = {"same": 0.9, "likely": 0.55, "near": 0.6, "far": None}


@pytest.fixture(autouse=True)
def decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first word of a pair's `b` says how it is decided."""

    async def decide_all(judge: PairJudge, pairs: list[tuple[str, str]], *, all_compared: bool) -> list[Decision]:
        assert not all_compared, "it takes long"
        scores = [SCORES[b.split()[0]] for _, b in pairs]
        return [Decision(served=False, probability=score, threshold=judge.threshold) for score in scores]

    monkeypatch.setattr(PairJudge, "decide_all", decide_all)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "millrace.toml"
    lines = ["# ours"]
    for name, model in configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")["models"].items():
        lines += [
            f"[models.{name}]",
            *(f"{key} = {json.dumps(model[key])}" for key in ("upstream", "base_url", "model")),
        ]
        lines += ['price = { input = "1", output = "2" }']
    path.write_text("\n".join([*lines, "[cache]  # both", "exact = true", ""]))
    return path


def pairs_of(folder: Path, *rows: dict[str, Any], others: int = 600) -> Path:
    """Write pairs: 20 of the same, one of which scores .55; 30 of others that score .6, and many that are ruled out."""
    path = folder / "pairs.jsonl"
    every = [{"a": "x", "b": f"{'same' if number else 'likely'} {number}", "same": True} for number in range(20)]
    every += [{"a": "x", "b": f"near {number}", "same": False} for number in range(30)]
    every += [{"a": "x", "b": f"far {number}", "duplicate": 0} for number in range(others)]
    path.write_text("\n".join(map(json.dumps, rows or every)))
    return path


def tune(config: Path, pairs: Path, *options: str) -> Result:
    return cache_command(None, "tune", str(pairs), "--config", str(config), *options)


def test_it_shows_the_curve_and_finds_the_threshold_for_a_bound(tmp_path: Path, config: Path) -> None:
    ended = tune(config, pairs_of(tmp_path), "--max-wrong", "0.01")
    assert ended.exit_code == 0, ended.output
    (found,) = [line for line in ended.stdout.splitlines() if "found" in line]
    assert "0.6001 found" in found
    assert "95.0 % (19/20; 75.1-99.9)" in found
    assert "0.0 % (0/630; 0.0-0.6)" in found
    (low,) = [line for line in ended.stdout.splitlines() if "│ 0.5 " in line]
    assert "4.8 % (30/630" in low
    assert "60.0 % (30/50" in low
    assert "semantic_threshold" not in config.read_text()


def test_it_writes_the_threshold_into_the_configuration_where_it_holds(tmp_path: Path, config: Path) -> None:
    before = config.read_text()
    ended = tune(config, pairs_of(tmp_path), "--max-wrong", "0.01", "--write", "--json")
    assert ended.exit_code == 0, ended.output
    written = config.read_text()
    assert written.replace("semantic_threshold = 0.6001\n", "") == before
    assert tomllib.loads(written)["cache"] == {"exact": True, "semantic_threshold": 0.6001}
    again = json.loads(tune(config, pairs_of(tmp_path), "--json").stdout)
    assert (again["threshold"], again["found"], len(again["curve"])) == (0.6001, None, 101)


def test_where_the_pairs_are_too_few_it_says_how_many_are_needed(tmp_path: Path, config: Path) -> None:
    ended = tune(config, pairs_of(tmp_path, others=20), "--max-wrong", "0.01", "--write")
    assert ended.exit_code == 1
    assert "50 pairs that are not the same cannot show it, 368 or more can" in ended.stderr
    assert "semantic_threshold" not in config.read_text()


@pytest.mark.parametrize("name", ["curve.svg", "curve.html"])
def test_the_plot_needs_nothing_else(tmp_path: Path, config: Path, name: str) -> None:
    ended = tune(config, pairs_of(tmp_path), "--max-wrong", "0.01", "--plot", str(tmp_path / name))
    assert ended.exit_code == 0, ended.output
    text = (tmp_path / name).read_text("utf-8")
    drawing = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])  # noqa: S314 - our own
    words = " ".join(element.text or "" for element in drawing.iter())
    assert "pairs.jsonl" in words
    assert "found: 0.6001" in words
    assert text.count("http") == 1  # the name space


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"a": "x", "b": "same", "same": True}], "pairs of both kinds are needed"),
        ([{"a": "x", "b": "same"}], 'line 1: add "same"'),
        ([{"a": "x"}], "line 1: b: missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, config: Path, rows: list[dict[str, Any]], says: str
) -> None:
    ended = tune(config, pairs_of(tmp_path, *rows))
    assert ended.exit_code == 2
    assert says in " ".join(ended.stderr.replace("│", " ").split())


def test_what_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, config: Path) -> None:
    file = pairs_of(tmp_path)
    file.write_bytes(file.read_bytes() + b'\n{"a": "caf\xe9", "b": "y", "same": true}\n')
    ended = tune(config, file)
    assert ended.exit_code == 2
    assert f"line {len(file.read_bytes().splitlines())}" in ended.stderr


def test_a_file_may_begin_with_a_mark_and_have_any_separator_in_its_texts(tmp_path: Path, config: Path) -> None:
    """As editors on Windows write it, and as JSON allows."""
    file = pairs_of(tmp_path)
    rows = (
        file.read_bytes().replace(b"\n", b"\r\n")
        + b"\r\n"
        + '{"a": "x\u2028y", "b": "far 0", "same": false}\r\n'.encode()
    )
    file.write_bytes(codecs.BOM_UTF8 + rows)
    assert tune(config, file).exit_code == 0


@pytest.mark.parametrize("options", [("--write",), ("--max-wrong", "0"), ("--plot", "curve.png")])
def test_options_that_mean_nothing_are_refused(tmp_path: Path, config: Path, options: tuple[str, ...]) -> None:
    assert tune(config, pairs_of(tmp_path), *options).exit_code == 2
