"""How a row of the ledger is shown in a terminal: one line of it."""

from rich.text import Text

from millrace.accounts.told import at, cents, who, whole, why
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
        (f"{who(row)[:SHOWN_NAME]:{SHOWN_NAME}} ", STYLES.get(row.status, "red")),
        f"{about + usage:>15} {row.output_tokens:>6,} ",
        (f"{cents(row.cost_usd):>9} ", "bold"),
        (f"{cents(row.saved_usd):>9} ", "red" if row.saved_usd < 0 else "green"),
        f"{times:>13}  ",
        (why(row), "dim"),
    )
