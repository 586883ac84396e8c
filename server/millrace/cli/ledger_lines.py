"""How a row of the ledger is shown in a terminal: one line of it, and its parts in words."""

from datetime import UTC, datetime
from decimal import Decimal

from rich.text import Text

from millrace.cli.printed import printable
from millrace.wire.ledger import LedgerEntry

STYLES = {"completed": "green", "incomplete": "yellow", "cancelled": "yellow", "open": "blue"}  # others: red
SHOWN_ID = 17  # characters of an id that tell it from others
SHOWN_NAME = 24
HEAD = (
    f"{'UTC':14} {'id':{SHOWN_ID}} {'answered by':{SHOWN_NAME}} {'in (cached)':>15} {'out':>6}"
    f" {'¢':>9} {'saved ¢':>9} {'first/all ms':>13}  why"
)


def line(row: LedgerEntry) -> Text:
    """Return a row as one line."""
    usage = f"{row.input_tokens:,}" + (f" ({row.cached_input_tokens:,})" if row.cached_input_tokens else "")
    about = "~" if row.estimated else ""
    times = f"{whole(row.ttft_ms)}/{whole(row.latency_ms)}"
    return Text.assemble(
        (f"{at(row.opened_at, '%m-%d %H:%M:%S'):14} ", "dim"),
        f"{row.id[:SHOWN_ID]:{SHOWN_ID}} ",
        (f"{printable(who(row))[:SHOWN_NAME]:{SHOWN_NAME}} ", STYLES.get(row.status, "red")),
        f"{about + usage:>15} {row.output_tokens:>6,} ",
        (f"{cents(row.cost_usd):>9} ", "bold"),
        (f"{cents(row.saved_usd):>9} ", "red" if row.saved_usd < 0 else "green"),
        f"{times:>13}  ",
        (printable(why(row)), "dim"),
    )


def who(row: LedgerEntry) -> str:
    """Return who answered, or why nobody did."""
    if row.status in ("failed", "cancelled"):
        return f"{row.status}: {row.code}" if row.code and row.code != row.status else row.status
    if row.status in ("killed", "open"):
        return row.status
    if row.cache in ("exact", "semantic"):
        return f"{row.cache} cache"
    named = row.model or row.source or "nobody"
    named = f"joined {named}" if row.cache == "joined" else named
    return f"{named}, cut" if row.status == "incomplete" else named


def why(row: LedgerEntry) -> str:
    """Return why it was answered as it was, and what happened on the way."""
    tried = "" if row.failed_check is None else f"{row.failed_check} failed"
    cut = row.code if row.status == "incomplete" and row.code else ""
    return "; ".join(filter(None, (row.reason, tried, cut)))


def cents(dollars: Decimal) -> str:
    """Return an amount in cents, to a ten thousandth of one."""
    return f"{dollars * 100:.4f}"


def whole(length_ms: float | None) -> str:
    """Return milliseconds without a fraction; a dash if they are not known."""
    return "–" if length_ms is None else f"{length_ms:,.0f}"


def at(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
