"""Lines over a share from 0 to 1, drawn with characters, for a terminal or a text file."""

from collections.abc import Sequence

from msgspec import Struct

from millrace.funnel.routing.curves import Curve

WIDTH, HEIGHT = 61, 17
STEPS = 4  # of the axes
LEAST_HEIGHT = 0.1  # of the axis of quality


class Line(Struct, frozen=True):
    """A curve, its name and the character that draws it."""

    name: str
    mark: str
    curve: Curve


def drawn(lines: Sequence[Line], share: float | None = None) -> list[str]:
    """Return the rows of the drawing: quality over the share of large calls. Later lines lie over earlier ones.

    `share` is marked by a vertical line.
    """
    columns = [at / (WIDTH - 1) for at in range(WIDTH)]
    heights = [[line.curve.at(column) for column in columns] for line in lines]
    low, high = min(map(min, heights)), max(map(max, heights))
    if high - low < LEAST_HEIGHT:
        low, high = max(0.0, high - LEAST_HEIGHT), max(high, LEAST_HEIGHT)
    step = (high - low) / (HEIGHT - 1)
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]
    if share is not None:
        for row in cells:
            row[round(share * (WIDTH - 1))] = "|"
    for line, values in zip(lines, heights, strict=True):
        for at, value in enumerate(values):
            cells[round((high - value) / step)][at] = line.mark
    every = (HEIGHT - 1) // STEPS
    labels = [f"{100 * (high - step * at):6.1f} %" if at % every == 0 else " " * 8 for at in range(HEIGHT)]
    ticks = "".join(f"{100 * at // STEPS} %".ljust((WIDTH - 1) // STEPS) for at in range(STEPS + 1))
    legend = "   ".join(f"{line.mark} {line.name}" for line in reversed(lines))
    return [
        *(f"{label} │{''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)),
        f"{' ' * 9}└{'─' * WIDTH}",
        f"{' ' * 10}{ticks} of requests to the large model",
        f"{' ' * 10}{legend}",
    ]
