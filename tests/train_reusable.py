"""Trains the learned part of `caches/reusable`, and measures it on requests that it has not seen.

    python -m tests.train_reusable --data FOLDER [--write]

FOLDER/semantic has clinc150_test_intents.jsonl, clinc150_kinds.json, banking77_test_intents.jsonl, adversarial.jsonl,
paraphrases.jsonl and swaps.jsonl, and may have qqp_dev.jsonl, which is only measured; FOLDER/routing has mmlu.jsonl.
tests/data/reusable.jsonl is trained on too, but for its rows with "held_out", and so are the examples of the rules. A
question that is labelled as reusable and that a rule refuses is not trained on: the rule knows better.

Measured are rules and learned part together, each text by weights that were made without it: five folds of the texts,
and for clinc150's `never` also five folds of its intents.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from millrace.caches.reusable import said
from millrace.caches.reusable.features import VERSION
from millrace.caches.reusable.fitting import Example, fit
from millrace.caches.reusable.learned import CLASSES, FILE, Weights, knows
from millrace.caches.reusable.reading import sentences
from millrace.caches.reusable.reusable import RULES, ruled
from millrace.caches.reusable.rule import ASKER, BEFORE, CHANCE, DONE, TIME
from tests.support.paths import REPOSITORY

OWN = REPOSITORY / "tests" / "data" / "reusable.jsonl"
EXAMS, EXAM_WORDS = 1500, 30  # questions of mmlu that train, and words of one, at most
FOLDS = 5
SEED = 20261128
THRESHOLD = 0.38
SHRINK = 0.05
WHY = {"chance": CHANCE, "time": TIME, "asker": ASKER, "done": DONE, "before": BEFORE}
# What clinc150's intents that must never be kept ask for.
INTENTS = {
    CHANCE: "flip_coin fun_fact roll_dice tell_joke",
    TIME: "date gas how_busy time traffic weather",
    ASKER: "account_blocked application_status apr balance bill_balance bill_due calendar "
    "confirm_reservation credit_limit credit_score "
    "current_location expiration_date flight_status income insurance interest_rate last_maintenance "
    "lost_luggage meeting_schedule "
    "min_payment mpg oil_change_when order_status payday pto_balance pto_request_status pto_used "
    "reminder rewards_balance shopping_list "
    "spending_history taxes tire_pressure todo_list transactions user_name what_song",
    DONE: "alarm book_flight book_hotel calendar_update cancel_reservation car_rental change_accent "
    "change_ai_name change_language "
    "change_speed change_user_name change_volume find_phone freeze_account make_call next_song order "
    "order_checks pay_bill pin_change "
    "play_music reminder_update reset_settings restaurant_reservation schedule_maintenance "
    "schedule_meeting share_location "
    "shopping_list_update smart_home sync_device text timer todo_list_update transfer "
    "travel_notification uber update_playlist whisper_mode",
    BEFORE: "cancel maybe no repeat yes",
}
MEANT = {intent: reason for reason, intents in INTENTS.items() for intent in intents.split()}


@dataclass(frozen=True, slots=True)
class Row:
    """A text of one of the files."""

    source: str  # the file, and of clinc150 the kind of its intent
    text: str
    why: str  # the reason why its answer may not be kept, or empty
    group: str = ""  # its intent


def read(folder: Path) -> list[Row]:
    """Return the texts that may train."""
    semantic = folder / "semantic"
    kinds = json.loads((semantic / "clinc150_kinds.json").read_text("utf-8"))
    kind_of = {intent: kind for kind in ("one_answer", "slots", "never") for intent in kinds[kind]}
    rows = [
        Row(kind_of[row["intent"]], row["text"], MEANT.get(row["intent"], ""), row["intent"])
        for row in _lines(semantic / "clinc150_test_intents.jsonl")
        if row["intent"] in kind_of
    ]
    rows += [Row("banking77", row["text"], "") for row in _lines(semantic / "banking77_test_intents.jsonl")]
    for row in _lines(semantic / "adversarial.jsonl"):
        why = _NOT_REUSABLE if row["kind"] == "not_reusable" else ""
        rows += [Row("not_reusable" if why else "adversarial", row[side], why) for side in "ab"]
    for name in ("paraphrases", "swaps"):
        rows += [Row(name, row[side], "") for row in _lines(semantic / f"{name}.jsonl") for side in "ab"]
    exams = [row["prompt"].split("\n")[0].strip() for row in _lines(folder / "routing" / "mmlu.jsonl")]
    questions = [text for text in exams if text.endswith("?") and len(text.split()) <= EXAM_WORDS]
    rows += [Row("mmlu", text, "") for text in random.Random(SEED).sample(questions, EXAMS)]
    rows += [Row("examples", text, rule.reason) for rule in RULES for text in rule.refused]
    rows += [Row("examples", text, "") for rule in RULES for text in rule.kept]
    own = (row for row in _lines(OWN) if "held_out" not in row)
    rows += [Row("own", row["text"], "" if row["reusable"] else WHY[row["why"]]) for row in own]
    return list({(row.text.lower(), bool(row.why)): row for row in rows}.values())


_NOT_REUSABLE = "any"  # of a row that does not say why


# Few rows stand for the many kinds of questions that are reusable.
_WEIGHT = {"own": 3.0, "examples": 8.0, "adversarial": 2.0, "paraphrases": 2.0, "swaps": 2.0}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


@cache
def refusal(text: str) -> str | None:
    """Return the reason that the rules give, or None."""
    parts = sentences(text)
    return said.objection(text, parts) or ruled(parts)


def example(row: Row) -> Example | None:
    """Return what is learned from a row: nothing where the rules and its label do not say the same."""
    by_rule = refusal(row.text)
    parts = sentences(row.text)
    if not knows(parts):
        return None
    if not row.why:
        return None if by_rule else Example.of(row.text, 0, _WEIGHT.get(row.source, 1.0))
    why = row.why if row.why in CLASSES else by_rule
    return Example.of(row.text, CLASSES.index(why)) if why in CLASSES else None


def folds(rows: Sequence[Row], key: Callable[[Row], str]) -> list[int]:
    """Return the fold of each row: equal keys are in one."""
    keys = sorted({key(row) for row in rows})
    random.Random(SEED).shuffle(keys)
    place = {each: number % FOLDS for number, each in enumerate(keys)}
    return [place[key(row)] for row in rows]


def unseen(rows: Sequence[Row], examples: Sequence[Example | None], key: Callable[[Row], str]) -> list[float]:
    """Return how likely each text is not reusable, by weights that were made without its fold."""
    found = [0.0] * len(rows)
    place = folds(rows, key)
    for fold in range(FOLDS):
        chosen = [each for each, at in zip(examples, place, strict=True) if each is not None and at != fold]
        weights = fit(chosen, threshold=THRESHOLD, shrink=SHRINK)
        for number, row in enumerate(rows):
            if place[number] == fold:
                found[number] = likely(weights, row.text)
    return found


def likely(weights: Weights, text: str) -> float:
    """Return how likely a text is not reusable."""
    parts = sentences(text)
    return 1 - float(weights.probabilities(parts)[0]) if knows(parts) else 0.0


def share(refused: Iterable[bool]) -> str:
    """Return how many of all, in percent."""
    given = list(refused)
    return f"{100 * sum(given) / max(len(given), 1):.1f} % ({sum(given)}/{len(given)})"


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True), help="The folder of the files.")
@click.option("--write", is_flag=True, help="Write the weights that the package ships.")
@click.option("--show", help="Print what is judged wrongly of one source.")
def main(data: Path, write: bool, show: str | None) -> None:
    """Print what is refused of each file by unseen weights; make and measure those of all texts."""
    console = Console()
    rows = read(data)
    by_rule = [refusal(row.text) is not None for row in rows]
    examples = [example(row) for row in rows]
    by_text = unseen(rows, examples, lambda row: row.text)
    by_intent = unseen(rows, examples, lambda row: row.group or row.text)
    table = Table("source", "by rules alone", "unseen text", "unseen intent", title=f"refused, above {THRESHOLD}")
    for source in sorted({row.source for row in rows}):
        for wanted in (False, True):
            at = [number for number, row in enumerate(rows) if row.source == source and bool(row.why) == wanted]
            if at:
                rates = [share(by_rule[number] for number in at)]
                rates += [share(by_rule[n] or scores[n] > THRESHOLD for n in at) for scores in (by_text, by_intent)]
                table.add_row(f"{source}, {'not reusable' if wanted else 'reusable'}", *rates)
    weights = fit([each for each in examples if each is not None], threshold=THRESHOLD, shrink=SHRINK)
    held = [row["text"] for row in _lines(OWN) if "held_out" in row]
    judged = {"held out, not reusable": held}
    if (data / "semantic" / "qqp_dev.jsonl").exists():
        texts = [row["a"] for row in _lines(data / "semantic" / "qqp_dev.jsonl")]
        judged["qqp_dev, 500"] = random.Random(SEED).sample(texts, 500)
    for name, texts in judged.items():
        refused = [(refusal(text), likely(weights, text) > THRESHOLD) for text in texts]
        both = share(bool(reason) or learned for reason, learned in refused)
        table.add_row(name, share(bool(reason) for reason, _ in refused), both, "")
    console.print(table)
    for row, ruled_out, score in zip(rows, by_rule, by_text, strict=True):
        if row.source == show and (ruled_out or score > THRESHOLD) != bool(row.why):
            console.print(f"{score:.2f} {'rule' if ruled_out else ''} | {row.text}", markup=False, highlight=False)
    for name, texts in judged.items():
        for text in texts:
            if name.startswith(show or "-") and bool(
                refusal(text) or likely(weights, text) > THRESHOLD
            ) != name.endswith("reusable"):
                console.print(
                    f"{likely(weights, text):.2f} | {refusal(text) or ''} | {text}", markup=False, highlight=False
                )
    if write:
        weights.save(FILE)
        console.print(f"{FILE.name}: {FILE.stat().st_size} bytes, version {VERSION} of the features")


if __name__ == "__main__":
    main()
