"""What the checks catch of a small model's real answers, and how often they are wrong.

    python -m tests.measure_checks FOLDER

FOLDER has `gsm8k.jsonl`: rows of a prompt, both models' answers and whether they are right. Prints each rule, the
learned check by cross-validation, and how many requests the large model must answer so that 80 % of its lead is kept:
with the learned check alone, and with the router's score beside it. Neither has seen the row that it scores.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from click import echo
from numpy.typing import NDArray

from millrace.funnel.checks import NAMES, Candidate
from millrace.funnel.checks.check import Kind
from millrace.funnel.checks.features import features_of
from millrace.funnel.checks.judge import reasons
from millrace.funnel.checks.learned import FOLDS, matrix, out_of_fold
from millrace.funnel.checks.table import CHECKS
from millrace.funnel.routing.features import features_of_text
from millrace.funnel.routing.heads import Heads
from millrace.types import Finish, FinishReason

STOP = Finish(reason=FinishReason.STOP)
SHUFFLES = 5
RESAMPLED = 1000
KEPT = 0.8  # of the large model's lead

Array = NDArray[np.float64]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the file."""
    with Path(folder, "gsm8k.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def judged(row: dict[str, Any], model: str) -> tuple[dict[str, bool], Candidate]:
    """Return which rules a model's answer fails."""
    candidate = Candidate(text=row[f"{model}_answer"], finish=STOP, question=row["prompt"])
    return {name: bool(reason) for name, reason in reasons(candidate, NAMES).items()}, candidate


def rates(flags: list[bool], wrong: Array) -> tuple[float, float]:
    """Return the shares of the wrong and of the right answers that are flagged."""
    flagged = np.array(flags, float)
    catch, alarms = (float(some.mean()) if len(some) else 0.0 for some in (flagged[wrong == 1], flagged[wrong == 0]))
    return catch, alarms


def auc(scores: Array, wrong: Array) -> float:
    """Return the probability that a wrong answer has the higher score (Mann and Whitney 1947)."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    many, few = float(wrong.sum()), float(len(wrong) - wrong.sum())
    return (float(ranks[wrong == 1].sum()) - many * (many - 1) / 2) / (many * few)


def share_of_large(scores: Array, small: Array, large: Array) -> float:
    """Return the least share of requests that the large model answers, highest scores first, to keep `KEPT`."""
    gains = np.cumsum((large - small)[np.argsort(-scores, kind="stable")])
    return (int(np.argmax(gains >= KEPT * gains[-1])) + 1) / len(scores)


def bootstrap(of: Any, *arrays: Array) -> tuple[float, float]:
    """Return the interval of 95 % of a figure, by resampling rows."""
    chance = np.random.default_rng(1)
    drawn = (chance.integers(0, len(arrays[0]), len(arrays[0])) for _ in range(RESAMPLED))
    low, high = np.percentile([of(*(array[rows] for array in arrays)) for rows in drawn], [2.5, 97.5])
    return float(low), float(high)


def routed(prompts: list[str], small: Array, large: Array, seed: int) -> Array:
    """Return the router's estimate that the large model is right, and the gain, of prompts that it has not seen."""
    features = [features_of_text(prompt) for prompt in prompts]
    order = np.random.default_rng(seed).permutation(len(prompts))
    found = np.zeros((len(prompts), 2))
    for fold in range(FOLDS):
        left_out = order[fold::FOLDS]
        heads = Heads()
        for at in np.setdiff1d(order, left_out):
            heads.learn(features[at], float(small[at]), float(large[at]))
        for at in left_out:
            found[at] = heads.scores(features[at])
    return found


def measured(rows: list[dict[str, Any]], shuffles: int = SHUFFLES) -> dict[str, Any]:
    """Return all figures."""
    small, large = (np.array([row[f"{model}_correct"] for row in rows], float) for model in ("small", "large"))
    wrong = 1 - small
    began = time.perf_counter()
    found = {model: [judged(row, model) for row in rows] for model in ("small", "large")}
    cost_ms = (time.perf_counter() - began) / (2 * len(rows)) * 1e3
    rules: dict[str, Any] = {}
    for model, is_wrong in (("small", wrong), ("large", 1 - large)):
        flags = [flagged for flagged, _ in found[model]]
        for name in flags[0]:
            rules.setdefault(name, {})[model] = rates([each[name] for each in flags], is_wrong)
        for total, kinds in (("on at the start", (Kind.HARD, Kind.FIRM)), ("all rules", tuple(Kind))):
            these = [any(hit and CHECKS[name].kind in kinds for name, hit in each.items()) for each in flags]
            rules.setdefault(total, {})[model] = rates(these, is_wrong)
    features = [{name: float(hit) for name, hit in flagged.items()} | features_of(of) for flagged, of in found["small"]]
    slots = {name: at for at, name in enumerate(sorted({name for each in features for name in each}))}
    table, equal = matrix(features, slots), np.ones(len(rows))
    alone, beside = np.zeros(len(rows)), np.zeros(len(rows))
    areas, shares = [], []
    for seed in range(shuffles):
        scores = out_of_fold(table, wrong, equal, seed)
        areas.append(auc(scores, wrong))
        alone += scores / shuffles
        heads = routed([row["prompt"] for row in rows], small, large, seed)
        # What the large model is expected to gain: P(large is right) - P(the small answer is right).
        gain = heads[:, 1] - 1 / (1 + np.exp(scores))
        beside += gain / shuffles
        shares.append((share_of_large(scores, small, large), share_of_large(gain, small, large)))
        echo(f"\rshuffle {seed + 1} of {shuffles}", nl=False, err=True)
    echo(err=True)
    return {
        "rows": len(rows),
        "wrong": float(wrong.mean()),
        "cost_ms": cost_ms,
        "rules": rules,
        "auc": float(np.mean(areas)),
        "auc_interval": bootstrap(auc, alone, wrong),
        "share_alone": float(np.mean(shares, axis=0)[0]),
        "share": float(np.mean(shares, axis=0)[1]),
        "share_interval": bootstrap(share_of_large, beside, small, large),
    }


def main() -> None:
    """Print them."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = measured(rows_of(Path(sys.argv[1])))
    echo(f"{found['rows']} answers, {found['wrong']:.1%} wrong; all rules take {found['cost_ms']:.2f} ms each\n")
    echo("| rule | small: catch | false alarms | large: catch | false alarms |\n|---|---|---|---|---|")
    for name, by_model in found["rules"].items():
        cells = " | ".join(f"{share:.1%}" for model in ("small", "large") for share in by_model[model])
        echo(f"| {name} | {cells} |")
    low, high = found["auc_interval"]
    echo(f"\nlearned check: AUC {found['auc']:.3f}, 95 % [{low:.3f}, {high:.3f}]")
    low, high = found["share_interval"]
    echo(f"large calls for {KEPT:.0%} of the lead: learned check alone {found['share_alone']:.1%}")
    echo(f"router and checks together {found['share']:.1%}, 95 % [{low:.1%}, {high:.1%}]")


if __name__ == "__main__":
    main()
