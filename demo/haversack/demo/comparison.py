"""The comparison of variants as HTML: the headline's cards and the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from haversack.demo import plain
from haversack.demo.charts import TARGET_COLORS
from haversack.demo.table import REFERENCE_EVALUATED, Row

DASH = "–"
BREAKABLE = REFERENCE_EVALUATED.replace("-", "-<wbr>")

SORTS: dict[str, Callable[[Row], float]] = {
    "as packed": lambda _: 0.0,
    "smallest": lambda row: row.bytes,
    "fastest": lambda row: float("inf") if row.p50 is None else row.p50,
    "most accurate": lambda row: -(row.accuracy if row.accuracy is not None else row.agreement or 0.0),
}
"""Orders of the table, by their names on the page."""


@dataclass(frozen=True)
class Tried:
    """What one variant says about one input.

    Attributes:
        id: The variant's id.
        name: Target and compression for people.
        prediction: The class with the highest score; None where the output is no class score.
        score: That score.
        difference: Largest absolute difference to the first variant's outputs; None where they cannot be compared.
        engine: What ran it.
        emulated: That was the reference evaluator.
    """

    id: str
    name: str
    prediction: str | None
    score: float | None
    difference: float | None
    engine: str
    emulated: bool


def cards(rows: Sequence[Row]) -> str:
    """The smallest, the fastest and the most accurate of the verified variants; empty without any."""
    verified = [row for row in rows if row.verified]
    shown = []
    if verified:
        row = min(verified, key=lambda row: row.bytes)
        shown.append(("Smallest", plain.size(row.bytes), row.name))
    timed = [row for row in verified if row.p50 is not None]
    if timed:
        row = min(timed, key=lambda row: row.p50 or 0.0)
        unit, factor = _unit([row])
        shown.append(("Fastest, median of one call", f"{_three((row.p50 or 0.0) * factor)} {unit}", row.name))
    scored = [row for row in verified if row.accuracy is not None]
    if scored:
        best = max(row.accuracy or 0.0 for row in scored)
        equal = sorted((row for row in scored if row.accuracy == best), key=lambda row: row.bytes)
        others = f" and {len(equal) - 1} more" if len(equal) > 1 else ""
        shown.append(("Most accurate", f"{best:.2f} %", equal[0].name + others))
        if equal[0].emulated:
            shown[-1] = (f"Most accurate, {REFERENCE_EVALUATED}", *shown[-1][1:])
    return "".join(
        f'<div class="hv-card"><small>{head}</small><strong>{value}</strong><small>{plain.element(name)}</small></div>'
        for head, value, name in shown
    ).join(('<div class="hv-cards">', "</div>") if shown else ("", ""))


def table(rows: Sequence[Row]) -> str:
    """The table, without columns that nobody measured; the best verified value of a column is bold."""
    unit, factor = _unit(rows)
    best_bytes = _best(rows, lambda row: row.bytes)
    best_gzip = _best(rows, lambda row: row.gzip_bytes)
    best_brotli = _best(rows, lambda row: row.brotli_bytes)
    best_p50 = _best(rows, lambda row: row.p50)
    columns: list[tuple[str, str, Callable[[Row], str]]] = [
        ("target", "hv-left", _target),
        ("compression", "hv-left", lambda row: plain.element(row.compression)),
        ("bytes", "", lambda row: _bold(f"{row.bytes:,}", row.bytes == best_bytes)),
    ]
    if any(row.gzip_bytes is not None for row in rows):
        columns.append(
            ("gzip bytes", "", lambda row: _bold(_number(row.gzip_bytes, ",d"), row.gzip_bytes == best_gzip))
        )
    if any(row.brotli_bytes is not None for row in rows):
        columns.append(
            ("brotli bytes", "", lambda row: _bold(_number(row.brotli_bytes, ",d"), row.brotli_bytes == best_brotli))
        )
    if any(row.accuracy is not None for row in rows):
        columns.append(("accuracy, % <small>95 % interval</small>", "", _accuracy))
        columns.append(("to source, points <small>95 % interval</small>", "", _difference))
    if any(row.agreement is not None for row in rows):
        columns.append(("agreement, %", "", lambda row: _number(row.agreement, ".2f")))
    if any(row.p50 is not None for row in rows):
        columns.append(
            (f"p50, {unit}", "", lambda row: _bold(_time(row.p50, factor), row.p50 is not None and row.p50 == best_p50))
        )
        columns.append((f"p95, {unit}", "", lambda row: _time(row.p95, factor)))
        columns.append((f"p99, {unit}", "", lambda row: _time(row.p99, factor)))
    columns.append(("verified", "hv-left", _verified))
    head = "".join(f'<th scope="col" class="{css}">{name}</th>' for name, css, _ in columns)
    body = "".join(
        f'<tr data-variant="{plain.element(row.id)}">'
        + "".join(f'<td class="{css}">{cell(row)}</td>' for _, css, cell in columns)
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="hv-scroll" tabindex="0" role="region" aria-label="Variants"><table class="hv-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def tried(lines: Sequence[Tried]) -> str:
    """What variants say about one input, as a table."""
    scored = any(line.prediction is not None for line in lines)
    head = "<th scope='col'>variant</th>"
    head += "<th scope='col'>prediction</th><th scope='col'>score</th>" if scored else ""
    head += "<th scope='col'>largest difference to the first</th><th scope='col' class='hv-left'>run by</th>"
    body = ""
    for line in lines:
        body += f'<tr data-variant="{plain.element(line.id)}"><td>{plain.element(line.name)}</td>'
        if scored:
            said = DASH if line.prediction is None else plain.element(line.prediction)
            body += f'<td class="hv-best">{said}</td><td>{_number(line.score, ".4f")}</td>'
        engine = BREAKABLE if line.emulated else plain.element(line.engine)
        body += f'<td>{_number(line.difference, ".2g")}</td><td class="hv-left"><small>{engine}</small></td></tr>'
    return f'<table class="hv-table hv-tried"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def wrapped(label: str, html: str) -> str:
    """A table that scrolls sideways by itself, by the keyboard too, where the window is narrower."""
    return f'<div class="hv-wide" tabindex="0" role="region" aria-label="{plain.element(label)}">{html}</div>'


def dotted(target: str) -> str:
    """A target's name after a dot of its colour."""
    color = TARGET_COLORS.get(target, "currentColor")
    return f'<span class="hv-dot" style="background:{color}"></span>{plain.element(target)}'


def panel_title(target: str, *, emulated: bool) -> str:
    """What stands above one target's picture."""
    return f'<p class="hv-panel">{dotted(target)}{f" <small>{REFERENCE_EVALUATED}</small>" if emulated else ""}</p>'


def _target(row: Row) -> str:
    return dotted(row.target)


def _accuracy(row: Row) -> str:
    if row.accuracy is None:
        return DASH
    interval = "" if row.low is None or row.high is None else f"<small>{row.low:.2f} to {row.high:.2f}</small>"
    return f"{row.accuracy:.2f}{interval}"


def _difference(row: Row) -> str:
    if row.difference is None:
        return DASH
    low, high = row.difference_low, row.difference_high
    interval = "" if low is None or high is None else f"<small>{low:+.2f} to {high:+.2f}</small>"
    return f"{row.difference:+.2f}{interval}"


def _verified(row: Row) -> str:
    mark = '<span class="hv-yes">yes</span>' if row.verified else '<span class="hv-no">no</span>'
    return mark + (f"<small>{BREAKABLE}</small>" if row.emulated else "")


def _unit(rows: Sequence[Row]) -> tuple[str, float]:
    """The unit of the latencies and its number in a millisecond."""
    slowest = max((row.p50 for row in rows if row.p50 is not None), default=1.0)
    return ("µs", 1000.0) if slowest < 1 else ("ms", 1.0)


def _best(rows: Sequence[Row], value: Callable[[Row], float | None]) -> float | None:
    found = [value(row) for row in rows if row.verified]
    return min((number for number in found if number is not None), default=None)


def _bold(text: str, best: bool) -> str:
    return f'<span class="hv-best">{text}</span>' if best else text


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)


def _time(milliseconds: float | None, factor: float) -> str:
    return DASH if milliseconds is None else _three(milliseconds * factor)


def _three(value: float) -> str:
    """At least three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
