"""What must hold after a run: nothing refused, nothing warned of, and a bill that is equal to the model's own count."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

from tests.agents.agent import Agent
from tests.agents.answers import Tokens
from tests.agents.gateway import Gateway
from tests.agents.model import Model
from tests.agents.work import TURNS

PRICE = {"input": Decimal("0.15"), "read": Decimal("0.075"), "output": Decimal("0.60")}  # of the configuration


def faults_of(model: Model, ran: Gateway, agent: Agent, home: Path) -> list[str]:
    """Return what was not as it must be."""
    faults = [*model.faults, *(f"the model refused: {words}" for words in model.server.refused)]
    if (turns := model.kinds.count("turn")) != TURNS:
        faults.append(f"{turns} turns were made of {TURNS}")
    if (summaries := model.kinds.count("summary")) != bool(agent.compacts):
        faults.append(f"the history was compacted {summaries} times")
    return [*faults, *_log(ran), *_bill(model, ran), *_complaints(agent, home)]


def _log(ran: Gateway) -> list[str]:
    return [line for line in ran.log.splitlines() if line.startswith("{") and '"level": "info"' not in line]


def _bill(model: Model, ran: Gateway) -> list[str]:
    rows = ran.rows()
    faults = []
    ended = Counter(row.status for row in rows)
    wanted = Counter({"completed": ended["completed"], "cancelled": model.kinds.count("held")})
    if ended != wanted:
        faults.append(f"the ledger has {ended}")
    if len(sessions := {row.session for row in rows}) != 1:
        faults.append(f"there are {len(sessions)} sessions: {Counter(row.session for row in rows)}")
    billed = [row for row in rows if row.status == "completed" and row.nanodollars]
    counted = sorted(((one.input, one.read, one.written, one.output, nanodollars(one)) for one in model.used()))
    shown = sorted((row.input, row.read, row.written, row.output, row.nanodollars) for row in billed)
    if counted != shown:
        faults.append(f"the model has counted {counted}, the ledger {shown}")
    return faults


def nanodollars(used: Tokens) -> int:
    """Return the price of an answer."""
    plain = (used.input - used.read) * PRICE["input"]
    return int((1000 * (plain + used.read * PRICE["read"] + used.output * PRICE["output"])).to_integral_value())


def _complaints(agent: Agent, home: Path) -> list[str]:
    logs = [*home.glob("printed-*.log"), *(home.glob(agent.logs) if agent.logs else ())]
    lines = (line for log in logs for line in log.read_text("utf-8", "replace").splitlines())
    return [line for line in lines if agent.complaint.search(line) and not agent.harmless.search(line)]
