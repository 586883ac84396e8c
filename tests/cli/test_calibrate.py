"""`millrace calibrate`: what it measures, finds, writes and refuses."""

import asyncio
import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from millrace import assembly
from millrace.__main__ import main
from millrace.settings import RouterSettings
from tests.support.server import configuration_for

EASY = ("name the capital of", "spell the word", "say hello to", "give a rhyme for")
HARD = ("prove the lemma of", "derive the tensor of", "bound the entropy of", "solve the integral of")
THINGS = ("peru", "cats", "glass", "rivers", "moons", "tea", "wood", "kings", "salt", "clouds")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "millrace.toml"
    lines = ["# ours", "[server]", f"data_dir = {json.dumps(str(tmp_path / 'data'))}"]
    for (name, model), price in zip(
        configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")["models"].items(), (1, 10), strict=True
    ):
        keys = (f"{key} = {json.dumps(model[key])}" for key in ("upstream", "base_url", "model"))
        lines += [f"[models.{name}]", *keys, f'price = {{ input = "{price}", output = "{2 * price}" }}']
    path.write_text("\n".join([*lines, ""]))
    return path


def rows_of(count: int, seed: int = 1, *, answers: bool = False) -> list[dict[str, Any]]:
    """Return rows, half of them hard: the small model gets 30 % of those right, and 90 % of the others; large 95 %."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for at in range(count):
        hard = rng.random() < 0.5
        row = {
            "prompt": f"{rng.choice(HARD if hard else EASY)} {rng.choice(THINGS)} and {rng.choice(THINGS)} {at}",
            "small_correct": int(rng.random() < (0.3 if hard else 0.9)),
            "large_correct": int(rng.random() < 0.95),
            "subject": "hard [ones]" if hard else "easy",
        }
        rows.append(row | ({"small_answer": "yes " * 50, "large_answer": "no " * 50} if answers else {}))
    return rows


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def calibrate(config: Path, pairs: Path, *options: str) -> Result:
    arguments = ["calibrate", str(pairs), "--config", str(config), *options]
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, arguments)


def in_json(config: Path, pairs: Path, *options: str) -> dict[str, Any]:
    ended = calibrate(config, pairs, "--json", *options)
    assert ended.exit_code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_it_shows_what_routing_is_worth(tmp_path: Path, config: Path) -> None:
    ended = calibrate(config, written(tmp_path, rows_of(600)), "--large-share", "0.5")
    assert ended.exit_code == 0, ended.output
    for line in ("small", "large", "router", "length", "random", "oracle", "hard [ones]", "easy"):
        assert f"│ {line}" in ended.stdout
    assert "of requests to the large model" in ended.stdout
    assert "large calls: 50" in ended.stdout
    assert "are few" not in ended.stderr


def test_the_router_is_measured_on_rows_that_it_has_not_learned(tmp_path: Path, config: Path) -> None:
    learnable = in_json(config, written(tmp_path, rows_of(600)))["orders"]
    assert learnable["router"]["apgr"]["value"] > 0.7
    assert learnable["random"]["cpt80"]["value"] == pytest.approx(0.8)
    assert learnable["oracle"]["apgr"]["value"] > learnable["router"]["apgr"]["high"]
    outcomes = rows_of(600, seed=2)
    shuffled = [row | {"prompt": other["prompt"]} for row, other in zip(outcomes, rows_of(600, seed=3), strict=True)]
    noise = in_json(config, written(tmp_path, shuffled))["orders"]["router"]["apgr"]
    assert noise["low"] < 0.5 < noise["high"]


def test_copies_of_a_prompt_do_not_leak_from_one_fold_into_another(tmp_path: Path, config: Path) -> None:
    rng = random.Random(4)
    rows = [
        {"prompt": f"w{at} x{at} y{at}", "small_correct": rng.random() < 0.5, "large_correct": True}
        for at in range(120)
        for _ in range(5)
    ]
    for at in range(0, 600, 5):
        rows[at : at + 5] = [rows[at]] * 5
    found = in_json(config, written(tmp_path, rows))["orders"]["router"]["apgr"]
    assert found["low"] < 0.5 < found["high"] + 0.05


def test_a_quality_is_kept_with_few_large_calls(tmp_path: Path, config: Path) -> None:
    found = in_json(config, written(tmp_path, rows_of(1_500)), "--keep-quality", "0.95")["chosen"]
    assert found["kept"]["value"] >= 0.95
    assert 0.4 < found["share"]["value"] < 0.7
    assert found["share"]["low"] < found["share"]["value"] < found["share"]["high"]


def test_what_comes_of_a_threshold_lies_within_its_intervals(tmp_path: Path, config: Path) -> None:
    """The outcomes of the hard half are known: 30 % and 95 % right; of the easy one 90 % and 95 %."""
    found = in_json(config, written(tmp_path, rows_of(1_500)), "--large-share", "0.5")["chosen"]
    assert found["quality"]["low"] < 0.925 < found["quality"]["high"]
    assert found["share"]["low"] < 0.5 < found["share"]["high"]


def test_a_budget_buys_large_calls_at_the_configured_prices(tmp_path: Path, config: Path) -> None:
    pairs = written(tmp_path, rows_of(600, answers=True))
    least = in_json(config, pairs, "--budget", "0.2")["chosen"]
    found = in_json(config, pairs, "--budget", "0.6")["chosen"]
    assert least["dollars"]["value"] <= 0.2
    assert found["dollars"]["value"] == pytest.approx(0.6, abs=0.01)
    assert least["share"]["value"] < found["share"]["value"] < 1
    ended = calibrate(config, pairs, "--budget", "0.01")
    assert ended.exit_code == 1
    assert "the small model alone costs $0.1" in ended.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--large-share", "0.3"), {"large_share": 0.3}),
        (("--keep-quality", "0.9"), {"keep_quality": 0.9}),
    ],
)
def test_it_writes_what_was_chosen(
    tmp_path: Path, config: Path, options: tuple[str, ...], expected: dict[str, float]
) -> None:
    before = config.read_text()
    ended = calibrate(config, written(tmp_path, rows_of(600)), *options, "--write")
    assert ended.exit_code == 0, ended.output
    assert config.read_text().startswith(before)
    assert tomllib.loads(config.read_text())["router"] == expected


def test_a_budget_is_written_as_the_share_that_it_buys(tmp_path: Path, config: Path) -> None:
    pairs = written(tmp_path, rows_of(600, answers=True))
    found = in_json(config, pairs, "--budget", "0.6", "--write")["chosen"]
    assert tomllib.loads(config.read_text())["router"] == {"large_share": round(found["share"]["value"], 4)}


def test_what_was_learned_is_taken_up_and_what_was_there_stays_as_a_snapshot(tmp_path: Path, config: Path) -> None:
    pairs = written(tmp_path, rows_of(600))
    for number in (1, 2):
        ended = calibrate(config, pairs, "--large-share", "0.3", "--write", "--tenant", "acme")
        assert ended.exit_code == 0, ended.output
        assert f"what was learned is snapshot {number} of 'acme'" in ended.stderr

    async def shown() -> Any:
        async with assembly.router_reports(str(tmp_path / "data"), RouterSettings()) as reports:
            return await reports.report()

    (tenant,) = asyncio.run(shown()).tenants
    assert (tenant.tenant, tenant.labels, tenant.by_length) == ("acme", 600, False)
    assert [(each.number, each.note) for each in tenant.snapshots] == [
        (2, "calibrated by pairs.jsonl"),
        (1, "calibrated by pairs.jsonl"),
    ]


def test_prompts_without_labels_teach_nothing(tmp_path: Path, config: Path) -> None:
    ended = calibrate(config, written(tmp_path, rows_of(20)), "--prompts-only", "--large-share", "0.3", "--write")
    assert ended.exit_code == 0, ended.output
    assert tomllib.loads(config.read_text())["router"] == {"large_share": 0.3}
    assert not (tmp_path / "data").exists()


def test_a_second_promise_is_not_written(tmp_path: Path, config: Path) -> None:
    config.write_text(f"{config.read_text()}[router]\nkeep_quality = 0.9\n")
    before = config.read_bytes()
    ended = calibrate(config, written(tmp_path, rows_of(600)), "--large-share", "0.3", "--write")
    assert ended.exit_code == 2
    assert "keep_quality is set" in ended.stderr
    assert config.read_bytes() == before


def test_a_share_needs_no_labels(tmp_path: Path, config: Path) -> None:
    rows = [{"prompt": "word " * length} for length in range(1, 101)]
    found = in_json(config, written(tmp_path, rows), "--prompts-only", "--large-share", "0.25")
    assert found["chosen"]["share"]["value"] == pytest.approx(0.25)
    ended = calibrate(config, written(tmp_path, rows), "--prompts-only", "--large-share", "0.25")
    assert "large calls: 25.0 %" in ended.stdout
    assert "quality" not in ended.stdout


def test_conversations_are_read_as_chat_completions_are(tmp_path: Path, config: Path) -> None:
    rows = [
        {
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": row.pop("prompt")}],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
            **row,
        }
        for row in rows_of(300)
    ]
    assert in_json(config, written(tmp_path, rows))["orders"]["router"]["apgr"]["value"] > 0.6


def test_few_pairs_are_warned_of(tmp_path: Path, config: Path) -> None:
    ended = calibrate(config, written(tmp_path, rows_of(60)))
    assert ended.exit_code == 0
    assert "60 pairs are few; take 500 or more" in ended.stderr


def test_a_large_model_that_is_no_better_is_said_to_be(tmp_path: Path, config: Path) -> None:
    rows = [row | {"large_correct": 0} for row in rows_of(100)]
    ended = calibrate(config, written(tmp_path, rows), "--large-share", "0.5")
    assert ended.exit_code == 0, ended.output
    assert "there is no gap to recover" in ended.stdout
    assert in_json(config, written(tmp_path, rows))["orders"]["router"]["apgr"]["value"] is None


LABELS = {"small_correct": 1, "large_correct": 0}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "x", "small_correct": 1}, 'add "large_correct": true or false'),
        ({"prompt": "x", "small_correct": 2, "large_correct": 1}, "small_correct: not 2: true or false"),
        ({"prompt": "x", "small_correct": "1", "large_correct": 1}, "small_correct: expected a boolean"),
        ({"prompt": 3, **LABELS}, "prompt: expected a string"),
        ({**LABELS}, 'write either "prompt"'),
        ({"prompt": "x", "messages": [], **LABELS}, 'write either "prompt"'),
        ({"messages": [], **LABELS}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}], **LABELS}, "messages[0].role"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(tmp_path: Path, config: Path, row: dict[str, Any], says: str) -> None:
    ended = calibrate(config, written(tmp_path, [*rows_of(2), row, *rows_of(2)]))
    assert ended.exit_code == 2
    said = " ".join(ended.stderr.replace("│", " ").split())
    assert "line 3: " in said
    assert says in said


@pytest.mark.parametrize("line", ["{", "[1]", '"x"', "NaN", '{"prompt": "\\ud800"}'])
def test_what_is_no_row_is_refused_by_its_line(tmp_path: Path, config: Path, line: str) -> None:
    path = written(tmp_path, rows_of(2))
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    ended = calibrate(config, path)
    assert ended.exit_code == 2
    assert "line 4: " in ended.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--write",),
        ("--prompts-only",),
        ("--large-share", "1.5"),
        ("--keep-quality", "0"),
        ("--budget", "0"),
        ("--large-share", "0.3", "--keep-quality", "0.9"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, config: Path, options: tuple[str, ...]) -> None:
    assert calibrate(config, written(tmp_path, rows_of(2)), *options).exit_code == 2


def test_an_empty_file_is_refused(tmp_path: Path, config: Path) -> None:
    ended = calibrate(config, written(tmp_path, []))
    assert ended.exit_code == 2
    assert "it has no rows" in ended.stderr
