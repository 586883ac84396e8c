"""A bill as a waterfall: its steps, their bars in a terminal, and a drawing as SVG or HTML."""

from html import escape

from msgspec import Struct

from millrace.wire import levers as wire

SUFFIXES = (".svg", ".html")
WIDTH = 40  # characters of a bar
STYLES = {"total": "bold", "saving": "green", "waste": "red"}
_COLOURS = {"total": "#52606d", "saving": "#2f9e44", "waste": "#e03131"}
_NAMES = {
    "trimming": "trimming",
    "exact": "exact cache",
    "semantic": "semantic cache",
    "join": "shared generations",
    "routing": "cheaper model",
    "cap": "output caps",
    "batch": "batch price",
    "service_tier": "service tier",
    "prefix": "provider's cache",
    "lost": "lost races and hedges",
    "revised": "drafts taken back",
    "repair": "corrections",
    "failed": "failed calls",
    "cancelled": "cancelled, unanswered",
    "evidence": "shadows and judges",
}
_ALWAYS = ("exact", "semantic", "join", "routing")  # shown also where they are nothing
ROW, LEFT, RIGHT, TOP, ACROSS = 26, 190, 190, 46, 520  # points


class Step(Struct, frozen=True, kw_only=True):
    """One line: a total, or a change from `begin` to `end`, as parts of the longest bar."""

    name: str
    kind: str  # of `STYLES`
    requests: int
    dollars: float  # of a change: negative where it makes the bill smaller
    share: float  # of the baseline
    begin: float
    end: float
    saved_ms: float | None = None  # of all of them together

    @property
    def is_change(self) -> bool:
        """Whether it is no total."""
        return self.kind != "total"


def steps(bill: wire.ShownBill) -> list[Step]:
    """Return the lines of a bill, from what it would have been to what was paid."""
    changes = [
        (each.lever, "saving", each.requests, -each.saved_usd or 0.0, each.saved_ms)
        for each in bill.savings
        if each.saved_usd or each.lever in _ALWAYS
    ]
    changes += [(each.kind, "waste", each.requests, each.cost_usd, None) for each in bill.waste if each.cost_usd]
    at, ends = bill.baseline_usd, [bill.baseline_usd]
    for _, _, _, dollars, _ in changes:
        at += dollars
        ends.append(at)
    longest = max(*ends, bill.cost_usd) or 1.0

    def total(name: str, dollars: float, requests: int) -> Step:
        share = dollars / bill.baseline_usd if bill.baseline_usd else 0.0
        return Step(
            name=name, kind="total", requests=requests, dollars=dollars, share=share, begin=0.0, end=dollars / longest
        )

    return [
        total("all on the large model", bill.baseline_usd, bill.answered),
        *(
            Step(
                name=_NAMES[name],
                kind=kind if (dollars <= 0 or kind == "waste") else "waste",
                requests=requests,
                dollars=dollars,
                share=dollars / bill.baseline_usd if bill.baseline_usd else 0.0,
                begin=begin / longest,
                end=end / longest,
                saved_ms=saved_ms if requests else None,
            )
            for (name, kind, requests, dollars, saved_ms), begin, end in zip(changes, ends, ends[1:], strict=False)
        ),
        total("paid", bill.cost_usd, bill.requests),
    ]


def bar(step: Step) -> str:
    """Return the bar of a step, as it stands in its line. What is not nothing is seen."""
    low, high = sorted((max(step.begin, 0.0), max(step.end, 0.0)))
    begin = min(round(low * WIDTH), WIDTH - 1)
    length = round(high * WIDTH) - begin
    return " " * begin + "█" * max(length, 1 if high > low else 0)


def drawn(report: wire.LeversReport, *, html: bool) -> str:
    """Return the drawing of the whole bill as an SVG, or as a page with its figures."""
    rows = steps(report.total)
    height = TOP + ROW * len(rows) + 12
    width = LEFT + ACROSS + RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="The bill as a waterfall">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="26" font-size="16" fill="#1f2933">{escape(_title(report))}</text>',
    ]
    for at, step in enumerate(rows):
        y = TOP + ROW * at
        low, high = sorted((max(step.begin, 0.0), max(step.end, 0.0)))
        sign = "+" if step.is_change else ""
        label = f"${step.dollars:{sign},.4f}  ({100 * step.share:{sign}.1f} %)"
        x, long = LEFT + low * ACROSS, max((high - low) * ACROSS, 1.0)
        parts += [
            f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end" fill="#1f2933">{escape(step.name)}</text>',
            f'<rect x="{x:.1f}" y="{y + 3}" width="{long:.1f}" height="{ROW - 8}" fill="{_COLOURS[step.kind]}">'
            f"<title>{escape(f'{step.requests:,} requests')}</title></rect>",
            f'<text x="{LEFT + high * ACROSS + 8:.1f}" y="{y + 16}" fill="#52606d">{escape(label)}</text>',
        ]
    svg = "\n".join([*parts, "</svg>", ""])
    return _page(report, svg, rows) if html else svg


def _title(report: wire.LeversReport) -> str:
    total = report.total
    return f"{total.requests:,} requests: ${total.cost_usd:,.4f} paid in place of ${total.baseline_usd:,.4f}"


def _page(report: wire.LeversReport, svg: str, rows: list[Step]) -> str:
    lines = "\n".join(
        f"<tr><td>{escape(step.name)}</td><td>{step.requests:,}</td><td>{step.dollars:,.9f}</td>"
        f"<td>{100 * step.share:.2f}</td></tr>"
        for step in rows
    )
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f"<title>{escape(_title(report))}</title>\n"
        "<style>body{font-family:system-ui,sans-serif;margin:2rem}td,th{padding:.2rem 1rem;text-align:right}"
        "td:first-child{text-align:left}svg{max-width:100%;height:auto}</style>\n"
        f"{svg}<table><tr><th></th><th>requests</th><th>dollars</th><th>%</th></tr>\n{lines}\n</table>\n</html>\n"
    )
