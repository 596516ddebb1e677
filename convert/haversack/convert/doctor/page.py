"""A diagnosis as one self-contained HTML page: no script, no network, plots as inline SVG. Free of numpy and engines.

Every layer has its plot: the histogram of its output with the range that was chosen, the range of each channel of that
output and of its weights, and bars of what the weights and the activations cost alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from haversack.convert.diagnosis import Diagnosis, Harm, LayerSign, Ranges, TensorSign, Trial
from haversack.convert.doctor import told

WIDE, TALL = 300, 110
"""Of one plot, in pixels."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5d6b7a; --line: #d5dce3; --back: #fff; --bar: #3b6ea8;
  --bad: #b3402e; --good: #2f7d4f; --range: #c98a1b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa8b6; --line: #36424e; --back: #14191f;
  --bar: #6fa3dc; --bad: #e2806f; --good: #68bd8b; --range: #e0ad4e; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.25rem; } h2 { font-size: 1.05rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p, li { max-width: 60rem; } .soft { color: var(--soft); } .bad { color: var(--bad); } .good { color: var(--good); }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .6rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; }
figcaption { font-size: 12px; color: var(--soft); max-width: 300px; }
svg { display: block; background: color-mix(in srgb, var(--line) 25%, transparent); }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
"""


def page(found: Diagnosis) -> str:
    """The page."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(found.model.name)} as {escape(found.compression)}</title><style>{STYLE}</style></head><body>",
        f"<h1 class='{'good' if found.healthy else 'bad'}'>{escape(found.verdict)}</h1>",
    ]
    parts += _causes(found) + _repairs(found) + _next(found)
    parts += ["<h2>What each layer costs alone</h2>", _summary(found), *_layers(found)]
    parts += _others(found)
    return "".join([*parts, "</body></html>\n"])


def _causes(found: Diagnosis) -> list[str]:
    if found.healthy:
        return [f"<p>{escape(told.largest(found))}</p>"]
    rows = []
    for cause in found.causes:
        cost = (
            ""
            if cause.loss is None
            else f" <span class='bad'>{escape(told.amount(cause.loss, found.harm.unit))}</span>"
        )
        also = "".join(f"<br><span class='soft'>also {escape(each)}</span>" for each in cause.also)
        rows.append(
            f"<li><b>{escape(cause.kind)}</b>: <code>{escape(cause.where)}</code>{cost}<br>{escape(cause.evidence)}"
            f"{also}</li>"
        )
    told_on = f"each alone, everything else in floats, on {found.samples} calibration samples" if found.samples else ""
    return [f"<h2>Why <span class='soft'>{told_on}</span></h2><ol>", *rows, "</ol>"]


def _repairs(found: Diagnosis) -> list[str]:
    if not found.trials:
        return []
    rows = [_trial(each) for each in sorted(found.trials, key=lambda each: (not each.kept, _left(each)))]
    head = "<tr><th>repair</th><th>left</th><th>on the evaluation data</th><th>bytes</th><th>at run time</th></tr>"
    return ["<h2>Repairs that were tried</h2><table>", head, *rows, "</table>"]


def _left(each: Trial) -> float:
    return math.inf if each.harm is None else each.harm.loss


def _trial(each: Trial) -> str:
    name = f"<b class='good'>{escape(each.repair)}</b>" if each.kept else escape(each.repair)
    left = escape(each.reason) if each.harm is None else escape(told.loss(each.harm))
    judged = "" if each.accuracy is None else escape(told.change(each.accuracy))
    return (
        f"<tr><td>{name}</td><td class='n'>{left}</td><td>{judged}</td>"
        f"<td class='n'>{escape(told.size(each.bytes))}</td><td>{escape(each.speed)}</td></tr>"
    )


def _next(found: Diagnosis) -> list[str]:
    steps = "".join(f"<pre>{escape(command)}</pre>" for command in found.commands)
    steps += "".join(f"<p>{escape(each)}</p>" for each in found.advice)
    notes = "".join(f"<li class='soft'>{escape(note)}</li>" for note in found.notes)
    return [*([f"<h2>Next</h2>{steps}"] if steps else []), *([f"<ul>{notes}</ul>"] if notes else [])]


def _costs(found: Diagnosis) -> list[tuple[str, float, float]]:
    return [
        (each.name, _value(each.weights), _value(each.activations))
        for each in found.layers
    ]  # fmt: skip


def _value(harm: Harm | None) -> float:
    return 0.0 if harm is None else harm.loss


def _summary(found: Diagnosis) -> str:
    """Bars of all layers on one logarithmic scale."""
    rows = _costs(found)
    most = max((max(row[1:]) for row in rows), default=0.0)
    if most <= 0:
        return "<p class='soft'>Nothing that can be measured.</p>"
    line, left, wide = 16, 260, 640
    parts = []
    for index, (name, weights, activations) in enumerate(rows):
        y = index * line + 4
        short = name if len(name) <= 40 else "…" + name[-39:]
        parts.append(f"<text x='{left - 6}' y='{y + 9}' text-anchor='end'>{escape(short)}</text>")
        for offset, value, colour in ((0, weights, "var(--bar)"), (5, activations, "var(--range)")):
            width = _log(value, most) * (wide - left - 90)
            parts.append(f"<rect x='{left}' y='{y + offset}' width='{width:.1f}' height='4' fill='{colour}'/>")
        label = told.amount(max(weights, activations), found.harm.unit)
        end = left + _log(max(weights, activations), most) * (wide - left - 90)
        parts.append(f"<text x='{end + 4:.1f}' y='{y + 9}'>{escape(label)}</text>")
    return _svg(
        parts,
        wide,
        len(rows) * line + 8,
        "What the weights (blue) and the activations (yellow) of each layer cost alone, on a logarithmic scale.",
    )


def _log(value: float, most: float) -> float:
    """Four decades below the largest as 0 to 1."""
    return max(0.0, 1 + math.log10(value / most) / 4) if value > 0 else 0.0


def _layers(found: Diagnosis) -> list[str]:
    tensors = {name: each for each in found.tensors for name in each.tensors}
    parts = []
    for layer in found.layers:
        parts.append(
            f"<h3><code>{escape(layer.name)}</code> "
            f"<span class='soft'>{escape(layer.op)}, {escape(layer.bits)}</span></h3>"
        )
        plots = [_cost_plot(layer, found.harm)]
        tensor = tensors.get(layer.output)
        if tensor is not None:
            plots += _tensor_plots(tensor)
        if layer.spread is not None:
            plots.append(
                _ranges_plot(layer.spread, f"Weights: the range of each output channel (axis {layer.spread.axis}).")
            )
        parts.append(f"<div class='plots'>{''.join(plots)}</div>")
    return parts


def _others(found: Diagnosis) -> list[str]:
    shown = {layer.output for layer in found.layers}
    left = [each for each in found.tensors if not shown & set(each.tensors)]
    parts = ["<h2>Other tensors with a scale</h2>"] if left else []
    for each in left:
        more = f" and {len(each.tensors) - 1} more" if len(each.tensors) > 1 else ""
        parts.append(
            f"<h3><code>{escape(each.name)}</code>{more} <span class='soft'>{escape(told.loss(each.harm))}</span></h3>"
        )
        parts.append(f"<div class='plots'>{''.join(_tensor_plots(each))}</div>")
    return parts


def _tensor_plots(tensor: TensorSign) -> list[str]:
    plots = [_histogram_plot(tensor)] if tensor.counts else []
    if tensor.spread is not None:
        said = f"{tensor.name}: the range of each index of axis {tensor.spread.axis}, and the range that was chosen."
        plots.append(_ranges_plot(tensor.spread, said, (tensor.low, tensor.high)))
    return plots


def _cost_plot(layer: LayerSign, whole: Harm) -> str:
    rows = [("weights", layer.weights, "var(--bar)"), ("activations", layer.activations, "var(--range)")]
    parts = []
    for index, (name, harm, colour) in enumerate(rows):
        y = 18 + 44 * index
        value = 0.0 if harm is None else harm.loss
        width = min(1.0, _log(value, max(whole.loss, value))) * (WIDE - 20) if value > 0 else 0.0
        said = "not compressed" if harm is None else told.loss(harm)
        parts.append(f"<text x='10' y='{y}'>{name} alone: {escape(said)}</text>")
        parts.append(f"<rect x='10' y='{y + 6}' width='{width:.1f}' height='10' fill='{colour}'/>")
    return _figure(
        parts, f"Cost alone; a full bar is the whole model's {told.loss(whole)} (logarithmic, four decades)."
    )


def _histogram_plot(tensor: TensorSign) -> str:
    """Counts on a logarithmic scale; what the range leaves out is shaded."""
    first, last = tensor.edges[0], tensor.edges[-1]
    low, high = min(first, tensor.low), max(last, tensor.high)
    most = math.log1p(max(tensor.counts))

    def x(value: float) -> float:
        return (value - low) / max(high - low, 1e-30) * (WIDE - 2) + 1

    parts = []
    for count, left, right in zip(tensor.counts, tensor.edges, tensor.edges[1:], strict=False):
        tall = math.log1p(count) / max(most, 1e-30) * (TALL - 30)
        inside = tensor.low <= (left + right) / 2 <= tensor.high
        colour = "var(--bar)" if inside else "var(--bad)"
        parts.append(
            f"<rect x='{x(left):.1f}' y='{TALL - 16 - tall:.1f}' width='{max(x(right) - x(left) - 0.5, 0.5):.1f}' "
            f"height='{tall:.1f}' fill='{colour}'/>"
        )
    for edge in (tensor.low, tensor.high):
        parts.append(
            f"<line x1='{x(edge):.1f}' y1='6' x2='{x(edge):.1f}' y2='{TALL - 16}' "
            "stroke='var(--range)' stroke-width='2'/>"
        )
    parts += [
        f"<text x='2' y='{TALL - 4}'>{low:.4g}</text>",
        f"<text x='{WIDE - 2}' y='{TALL - 4}' text-anchor='end'>{high:.4g}</text>",
    ]
    clipped = f"; {tensor.clipped:.2%} of the values lie outside" if tensor.clipped else ""
    return _figure(
        parts,
        f"{tensor.name}: values over calibration data (counts logarithmic), range {tensor.low:.4g} to "
        f"{tensor.high:.4g}{clipped}.",
    )


def _ranges_plot(ranges: Ranges, said: str, chosen: tuple[float, float] | None = None) -> str:
    low, high = min(ranges.low), max(ranges.high)
    if chosen is not None:
        low, high = min(low, chosen[0]), max(high, chosen[1])

    def y(value: float) -> float:
        return 6 + (high - value) / max(high - low, 1e-30) * (TALL - 22)

    step = (WIDE - 4) / len(ranges.low)
    parts = [
        f"<rect x='{2 + index * step:.1f}' y='{y(top):.1f}' width='{max(step - 0.5, 0.5):.1f}' "
        f"height='{max(y(bottom) - y(top), 0.8):.1f}' fill='var(--bar)'/>"
        for index, (bottom, top) in enumerate(zip(ranges.low, ranges.high, strict=True))
    ]
    for edge in chosen or ():
        parts.append(
            f"<line x1='0' y1='{y(edge):.1f}' x2='{WIDE}' y2='{y(edge):.1f}' stroke='var(--range)' stroke-width='1.5'/>"
        )
    parts += [f"<text x='2' y='{TALL - 4}'>{low:.3g} … {high:.3g}</text>"]
    return _figure(parts, said)


def _figure(parts: Sequence[str], said: str) -> str:
    return f"<figure>{_svg(parts, WIDE, TALL, said)}<figcaption>{escape(said)}</figcaption></figure>"


def _svg(parts: Sequence[str], wide: int, tall: int, said: str) -> str:
    return (
        f"<svg role='img' aria-label='{escape(said, quote=True)}' width='{wide}' height='{tall}' "
        f"viewBox='0 0 {wide} {tall}'>{''.join(parts)}</svg>"
    )
