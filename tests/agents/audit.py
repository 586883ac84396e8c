"""What must hold after a run: nothing refused, nothing warned of, and a bill that is equal to the model's own count."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

from tests.agents.agent import Agent
from tests.agents.answers import Tokens
from tests.agents.gateway import Gateway, Row
from tests.agents.model import Model
from tests.agents.work import TURNS

INPUT, CACHED, OUTPUT = Decimal("0.15"), Decimal("0.075"), Decimal("0.60")  # dollars per million, of the configuration


def faults_of(model: Model, ran: Gateway, agent: Agent, home: Path) -> list[str]:
    """Return what was not as it must be."""
    faults = [*model.faults, *(f"the model refused: {words}" for words in model.server.refused)]
    if (turns := model.kinds.count("turn")) != TURNS:
        faults.append(f"{turns} turns were made of {TURNS}")
    if agent.compacts and "summary" not in model.kinds:
        faults.append("the history was not compacted")
    faults += [f"Millrace refused: {answer}" for answer in ran.refusals()]
    faults += [line for line in ran.log.splitlines() if line.startswith("{") and '"level":"info"' not in line]
    return [*faults, *_bill(model, ran.rows()), *_complaints(agent, home)]


def bill_of(rows: list[Row]) -> str:
    """Return what the sessions have cost, in words."""
    bills = [(session, [row for row in rows if row.session == session]) for session in {row.session for row in rows}]
    return "; ".join(
        f"session {session}: {len(of)} requests, {sum(row.input for row in of)} tokens of input"
        f" ({sum(row.read for row in of)} cached), {sum(row.output for row in of)} of output,"
        f" ${sum(row.nanodollars for row in of) / 1e9:.6f}"
        for session, of in bills
    )


def _bill(model: Model, rows: list[Row]) -> list[str]:
    """Compare the ledger with what the model has counted, answer by answer; what was cancelled is estimated there."""
    faults = []
    ended = Counter(row.status for row in rows)
    if ended - Counter(cancelled=model.kinds.count("held")) != Counter(completed=ended["completed"]):
        faults.append(f"the ledger has {dict(ended)}")
    faults += [f"{row} is not marked" for row in rows if row.is_estimated != (row.status == "cancelled")]
    if len(sessions := Counter(row.session for row in rows)) != 1:
        faults.append(f"there is more than one session: {sessions}")
    billed = [row for row in rows if row.status == "completed" and row.nanodollars]
    counted = sorted((one.input, one.read, one.written, one.output, nanodollars(one)) for one in model.used())
    shown = sorted((row.input, row.read, row.written, row.output, row.nanodollars) for row in billed)
    if counted != shown:
        faults.append(f"the model has counted {counted}, the ledger {shown}")
    return faults


def nanodollars(used: Tokens) -> int:
    """Return the price of an answer."""
    dollars_per_million = (used.input - used.read) * INPUT + used.read * CACHED + used.output * OUTPUT
    return int((1000 * dollars_per_million).to_integral_value())


def _complaints(agent: Agent, home: Path) -> list[str]:
    logs = [*home.glob("printed-*.log"), *(home.glob(agent.logs) if agent.logs else ())]
    lines = (line for log in logs for line in log.read_text("utf-8", "replace").splitlines())
    return [line for line in lines if agent.complaint.search(line) and not agent.harmless.search(line)]
