"""The page's tables on what is proven of each variant, and on what it adds to an app or a page."""

from __future__ import annotations

from collections.abc import Sequence

from haversack.convert.engine_sizes import EngineSize
from haversack.demo import comparison, plain
from haversack.demo.candidates import Candidate, Choices
from haversack.demo.comparison import DASH

SIGNS = {"proven": "hv-yes", "measured": "hv-maybe", "worse": "hv-no"}
"""The first word of a verdict, and the sign before it; the words say the same."""


def statistics(choices: Choices) -> str:
    """What the paired test says of each variant; empty where the bundle has no verdicts."""
    judged = [each for each in choices.candidates if each.variant.accuracy is not None]
    if not any(each.variant.accuracy and each.variant.accuracy.verdict for each in judged):
        return ""
    body = ""
    for each in judged:
        measured = each.variant.accuracy
        assert measured is not None
        sign = SIGNS.get(measured.verdict.split(" ")[0], "")
        said = f'<span class="{sign}">{plain.element(measured.verdict)}</span>' if measured.verdict else DASH
        interval = "" if each.gain_low is None else f"<small>{each.gain_low:+.2f} to {each.gain_high:+.2f}</small>"
        cells = [
            f"{each.gain:+.2f}{interval}",
            DASH if measured.gained is None else f"{measured.gained:,}",
            DASH if measured.lost is None else f"{measured.lost:,}",
            DASH if measured.p_value is None else _probability(measured.p_value),
        ]
        body += f'<tr data-variant="{plain.element(each.id)}"><td>{_name(each)}</td>'
        body += "".join(f"<td>{cell}</td>" for cell in cells) + f'<td class="hv-left hv-words">{said}</td></tr>'
    unit = "points" if any(each.variant.accuracy and each.variant.accuracy.unit == "points" for each in judged) else ""
    head = (
        f'<th scope="col">variant</th><th scope="col">to source{", " + unit if unit else ""} <small>95 % interval'
        '</small></th><th scope="col">samples that only it gets right</th><th scope="col">that only the source does'
        '</th><th scope="col">McNemar p</th><th scope="col" class="hv-left">verdict</th>'
    )
    return comparison.wrapped(
        "What the samples prove",
        f'<table class="hv-table hv-proof"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>',
    )


def added(candidates: Sequence[Candidate], engines: dict[str, EngineSize]) -> str:
    """What each variant adds to an app: the model and its engine; empty without such a variant."""
    shown = [each for each in candidates if not each.variant.parts]
    body = ""
    for each in shown:
        engine = engines.get(each.variant.target)
        if engine is None:
            held, whole = DASH, DASH
        else:
            held = f"{engine.bytes:,}<small>{plain.element(engine.engine)}</small>" if engine.bytes else "in the system"
            whole = f"{each.disk + engine.bytes:,}"
        wire = DASH if each.wire is None else f"{each.wire:,}"
        body += f'<tr data-variant="{plain.element(each.id)}"><td>{_name(each)}</td><td>{each.disk:,}</td>'
        body += f"<td>{wire}</td><td>{held}</td><td>{whole}</td></tr>"
    if not body:
        return ""
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("variant", "model", "model, brotli", "engine", "model and engine")
    )
    return comparison.wrapped(
        "What a variant adds to an app",
        f'<table class="hv-table hv-added"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>',
    )


def first_visit(candidates: Sequence[Candidate]) -> str:
    """What a browser fetches first, part by part; empty without a web variant."""
    body = ""
    for each in candidates:
        parts = each.variant.parts
        if not parts:
            continue
        rows = [(part.name, part.bytes, part.gzip_bytes, part.brotli_bytes) for part in parts]
        brotli = [part.brotli_bytes for part in parts]
        whole = None if None in brotli else sum(count or 0 for count in brotli)
        rows.append(("together", sum(p.bytes for p in parts), sum(p.gzip_bytes for p in parts), whole))
        for index, (name, raw, gzip, wire) in enumerate(rows):
            first = f'<td rowspan="{len(rows)}">{_name(each)}</td>' if not index else ""
            bold = ' class="hv-best"' if name == "together" else ""
            sent = DASH if wire is None else f"{wire:,}"
            body += f'<tr data-variant="{plain.element(each.id)}"{bold}>{first}<td class="hv-left">'
            body += f"{plain.element(name)}</td><td>{raw:,}</td><td>{gzip:,}</td><td>{sent}</td></tr>"
    if not body:
        return ""
    head = '<th scope="col">variant</th><th scope="col" class="hv-left">part</th>'
    head += "".join(f'<th scope="col">{name}</th>' for name in ("bytes", "gzip", "brotli"))
    return comparison.wrapped(
        "What a browser fetches on its first visit",
        f'<table class="hv-table hv-visit"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>',
    )


def _name(candidate: Candidate) -> str:
    return comparison.dotted(candidate.target) + " " + plain.element(candidate.compression)


def _probability(value: float) -> str:
    return "&lt; 0.0001" if value < 1e-4 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"
