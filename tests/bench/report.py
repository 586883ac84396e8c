"""The table of a benchmark."""

import statistics

from rich.table import Table

from tests.bench.rounds import Load
from tests.bench.targets import RELAY

ROWS = {
    "us_per_token": "CPU, µs a token, paced",
    "delivered": "delivered in time, %",
    "gap_p99_ms": "gap between tokens, p99, ms",
    "ping_p99_ms": "ping of another client, p99, ms",
    "kib_per_stream": "memory, KiB a stream",
    "burst_per_s": "requests a second, in a burst",
    "burst_us_per_request": "CPU, µs a request, in a burst",
    "short_per_s": "requests a second, of one token; repeats with caches",
    "first_p50_ms": "first token, alone, p50, ms",
    "first_p99_at_16_ms": "first token, 16 at once, p99, ms",
    "server_share": "cores of the server, paced",
    "others_share": "cores of clients and provider, at most",
}


def shown(
    medians: dict[str, dict[str, float]], figures: dict[str, list[dict[str, float]]], load: Load, rounds: int, void: int
) -> Table:
    """Return medians, spreads, and the medians of the ratios to the relay's of the same round."""
    title = (
        f"medians of {rounds} interleaved rounds ({void} void); paced: {load.streams} streams of {load.tokens} tokens "
        f"at {load.rate:g} a second; burst: {load.burst_connections} connections, {load.burst_tokens} tokens an answer"
    )
    table = Table("", *medians, title=title)
    for key, name in ROWS.items():
        cells = []
        for target, values in medians.items():
            cell = f"{100 * values[key]:.1f}" if key == "delivered" else f"{values[key]:.2f}"
            if target != RELAY:
                pairs = zip(figures[target], figures[RELAY], strict=True)
                ratio = statistics.median(ours[key] / max(theirs[key], 1e-9) for ours, theirs in pairs)
                cell += f" ({ratio:.2f}×)"
            cells.append(cell)
        table.add_row(name, *cells)
    return table
