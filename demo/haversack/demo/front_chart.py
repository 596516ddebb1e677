"""The picture of one target's Pareto front: what a variant costs against what it loses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from haversack.convert.budget import points
from haversack.demo.candidates import AXES, DISK, LATENCY, WIRE, Candidate, Choices, steps
from haversack.demo.charts import OTHER_COLOR, TARGET_COLORS

HEIGHT = 300
"""Pixels of a panel, its axis included."""

WIDE, HIGH = 330, 225
"""Pixels of the area between the axes that names are placed for: a phone's; where it is wider, there is more room."""

LETTER = 6.3
"""Pixels that a letter of a label takes."""

LINE = 13
"""And a line of it."""

PLACES = {
    "above right": (8, -10, "left", "middle"),
    "below right": (8, 10, "left", "middle"),
    "right": (10, 0, "left", "middle"),
    "above left": (-8, -10, "right", "middle"),
    "below left": (-8, 10, "right", "middle"),
    "above": (0, -14, "center", "middle"),
    "below": (0, 14, "center", "middle"),
    "left": (-10, 0, "right", "middle"),
}
"""Where a label can stand, best first: dx, dy, align, baseline."""

BUDGET_COLOR = "#C4473A"
INK = alt.ExprRef("'currentColor'")
"""The page's own text colour, light or dark."""

MUTED = "#8a8f98"
MARKS = {"best": "diamond", "front": "circle", "beaten": "circle"}


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


@dataclass(frozen=True)
class Frame:
    """What all panels share, so that they can be compared by eye.

    Attributes:
        axis: A key of `AXES`.
        unit: Of what stands along the bottom.
        factor: From bytes or milliseconds to it.
        across: Its range.
        up: The range of the quality.
    """

    axis: str
    unit: str
    factor: float
    across: tuple[float, float]
    up: tuple[float, float]

    @property
    def title(self) -> str:
        """Of the axis along the bottom."""
        said = {DISK: "on disk", WIRE: "over the wire, brotli", LATENCY: "median of one call"}[self.axis]
        return f"{said}, {self.unit}"


def axes(choices: Choices) -> list[str]:
    """The costs that were measured of anything whose quality is known."""
    return [
        axis
        for axis in AXES
        if any(each.cost(axis) is not None and each.gain is not None for each in choices.candidates)
    ]


def framed(choices: Choices, axis: str) -> Frame:
    """The ranges that hold every variant, every interval of a variant that is on a front, and the budget."""
    shown = [each for each in choices.candidates if each.cost(axis) is not None and each.gain is not None]
    costs = [each.cost(axis) or 0.0 for each in shown]
    if axis == LATENCY:
        unit, factor = ("µs", 1000.0) if max(costs) < 1 else ("ms", 1.0)
    else:
        unit, factor = ("kB", 1e-3) if max(costs) < 2e6 else ("MB", 1e-6)
    limit = _limit(choices, axis)
    costs += [] if limit is None else [limit]
    high = [each.gain or 0.0 for each in shown]
    high += [bound for each in shown if each.on_front for bound in (each.gain_low, each.gain_high) if bound is not None]
    if choices.labelled:
        high += [0.0] if choices.outcome.max_drop is None else [0.0, -choices.outcome.max_drop]
    room = 0.08 * (max(high) - min(high)) or 0.5
    # A logarithmic axis has no zero; what costs less than a thousandth of a unit is at its left end.
    left, right = max(min(costs) * factor, 1e-3), max(max(costs) * factor, 2e-3)
    return Frame(axis, unit, factor, (left / 1.25, right * 1.3), (min(high) - room, max(high) + room))


def panel(choices: Choices, target: str, frame: Frame) -> alt.LayerChart | None:
    """The front of one target; None where nothing of it was measured along that axis.

    Returns:
        Points of three kinds: the packer's choice (a diamond), what nothing beats (filled), what is beaten in
        everything measured (hollow and grey). A line joins those that nothing beats in the two things shown; rules
        are the budget and the source.
    """
    own = [
        each
        for each in choices.candidates
        if each.target == target and each.cost(frame.axis) is not None and each.gain is not None
    ]
    if not own:
        return None
    color = TARGET_COLORS.get(target, OTHER_COLOR)
    line = {each.id for each in steps(own, frame.axis)}
    rows: list[dict[str, Any]] = [
        {
            "variant": each.compression,
            "across": max((each.cost(frame.axis) or 0.0) * frame.factor, frame.across[0]),
            "up": each.gain,
            "low": each.gain_low,
            "high": each.gain_high,
            "value": each.value,
            "disk": each.disk,
            "wire": each.wire,
            "took": each.took,
            "kind": kind(each),
            "step": each.id in line,
            "verdict": "" if each.variant.accuracy is None else each.variant.accuracy.verdict,
        }
        for each in own
    ]
    for row, place in zip(rows, placed(rows, frame), strict=True):
        row["place"] = place
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X(
            "across:Q",
            title=frame.title,
            scale=alt.Scale(type="log", domain=list(frame.across), nice=False),
            axis=alt.Axis(values=ticks(*frame.across), format="~r", grid=True),
        ),
        y=alt.Y("up:Q", title=choices.quality, scale=alt.Scale(domain=list(frame.up), nice=False, zero=False)),
    )
    intervals = base.transform_filter("isValid(datum.low) && datum.kind !== 'beaten'").mark_rule(
        color=color, opacity=0.35, clip=True
    )
    stairs = base.transform_filter("datum.step").mark_line(interpolate="step-after", color=color, strokeWidth=1.6)
    told = [
        alt.Tooltip("variant:N"),
        alt.Tooltip("disk:Q", title="bytes on disk", format=",d"),
        alt.Tooltip("wire:Q", title="brotli bytes", format=",d"),
        alt.Tooltip("took:Q", title="latency p50, ms", format=".3~g"),
        alt.Tooltip("up:Q", title=choices.quality, format="+.2f" if choices.labelled else ".2f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.2f"),
        alt.Tooltip("high:Q", title="to", format="+.2f"),
        alt.Tooltip("value:Q", title="metric", format=".2f"),
        alt.Tooltip("verdict:N"),
    ]
    marks = [
        base.transform_filter(f"datum.kind === '{name}'")
        .mark_point(
            shape=shape,
            size={"best": 170, "front": 80, "beaten": 55}[name],
            color=MUTED if name == "beaten" else color,
            fill="transparent" if name == "beaten" else color,
            opacity=0.7 if name == "beaten" else 1,
            strokeWidth=1.6,
        )
        .encode(tooltip=told)
        for name, shape in MARKS.items()
    ]
    labels = [
        base.transform_filter(f"datum.place === '{place}'")
        .mark_text(dx=dx, dy=dy, align=align, baseline=baseline, fontSize=11, color=INK)
        .encode(text="variant:N")
        for place, (dx, dy, align, baseline) in PLACES.items()
        if any(row["place"] == place for row in rows)
    ]
    layers = [*_rules(choices, frame), intervals.encode(y="low:Q", y2="high:Q"), stairs, *marks, *labels]
    return alt.layer(*layers).properties(height=HEIGHT, description=_spoken(choices, target, own, frame))


def kind(candidate: Candidate) -> str:
    """A key of `MARKS`."""
    return "best" if candidate.best else "front" if candidate.on_front else "beaten"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: 1, 2, 5, 10, ... between two values; more where they are close together."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [digit * 10.0**power for power in exponents for digit in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 4:
            break
    return found


def placed(rows: Sequence[Mapping[str, Any]], frame: Frame) -> list[str]:
    """Where each point's name stands: a key of `PLACES`, or empty where there is no room; beaten points have none.

    Names of the packer's choices come first. A name covers no point and no other name, as far as the panel's width can
    be told beforehand, and no line where there is such a place.
    """
    (left, right), (bottom, top) = frame.across, frame.up

    def spot(across: float, up: float) -> tuple[float, float]:
        return math.log(across / left) / math.log(right / left) * WIDE, (top - up) / (top - bottom) * HIGH

    spots = [spot(row["across"], row["up"]) for row in rows]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    source = spot(left, 0.0)[1]
    lines: list[Box] = [(0.0, source - 1, WIDE, source + 1)]
    line = sorted(place for place, row in zip(spots, rows, strict=True) if row["step"])
    for (x, y), (next_x, next_y) in itertools.pairwise(line):
        lines += [(x, y - 1, next_x, y + 1), (next_x - 1, min(y, next_y), next_x + 1, max(y, next_y))]
    found = [""] * len(rows)
    for index in sorted(range(len(rows)), key=lambda index: rows[index]["kind"] != "best"):
        if rows[index]["kind"] == "beaten":
            continue
        (x, y), wide = spots[index], LETTER * len(str(rows[index]["variant"]))
        free: list[tuple[bool, int, str, Box]] = []
        for place, (dx, dy, align, _) in PLACES.items():
            start = x + dx - {"left": 0.0, "center": wide / 2, "right": wide}[align]
            box = (start, y + dy - LINE / 2, start + wide, y + dy + LINE / 2)
            inside = box[0] >= 0 and box[2] <= WIDE and box[1] >= 0 and box[3] <= HIGH
            if inside and not any(_overlap(box, other) for other in taken):
                free.append((any(_overlap(box, other) for other in lines), len(free), place, box))
        if free:
            _, _, found[index], box = min(free)
            taken.append(box)
    return found


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _limit(choices: Choices, axis: str) -> float | None:
    """The budget along the bottom, in bytes or milliseconds."""
    asked = choices.outcome
    if axis == LATENCY:
        return asked.max_latency if asked.device is None else None
    return asked.max_size if axis == DISK else asked.max_wire


def _rules(choices: Choices, frame: Frame) -> list[alt.Chart]:
    """The source and the budget; each says what it is."""
    found = []
    if choices.labelled:
        zero = alt.Chart(pd.DataFrame([{"y": 0.0}])).encode(y="y:Q")
        found.append(zero.mark_rule(color=MUTED, opacity=0.6))
    if choices.labelled and choices.outcome.max_drop is not None:
        drop_words = points(choices.outcome.max_drop) if choices.in_points else f"{choices.outcome.max_drop:g}"
        said = f"budget: drop of {drop_words}"
        said += ", by the interval's bound" if choices.outcome.confident else ""
        drop = alt.Chart(pd.DataFrame([{"y": -choices.outcome.max_drop, "said": said}])).encode(y="y:Q")
        found.append(drop.mark_rule(color=BUDGET_COLOR, strokeDash=[6, 4], strokeWidth=1.4))
        found.append(
            drop.mark_text(align="right", baseline="top", dx=-4, dy=4, fontSize=11, color=INK).encode(
                x=alt.value("width"), text="said:N"
            )
        )
    limit = _limit(choices, frame.axis)
    if limit is not None:
        across = limit * frame.factor
        size = alt.Chart(pd.DataFrame([{"x": across, "said": f"budget: {across:,.4g} {frame.unit}"}])).encode(x="x:Q")
        found.append(size.mark_rule(color=BUDGET_COLOR, strokeDash=[6, 4], strokeWidth=1.4))
        found.append(
            size.mark_text(align="right", baseline="top", dx=-5, dy=3, fontSize=11, color=INK).encode(
                y=alt.value(0), text="said:N"
            )
        )
    return found


def _spoken(choices: Choices, target: str, own: Sequence[Candidate], frame: Frame) -> str:
    """The picture in words, for those who do not see it."""
    told = "; ".join(
        f"{each.compression} at {(each.cost(frame.axis) or 0.0) * frame.factor:.4g} {frame.unit}, {each.gain:.2f}"
        + (", the packer's choice" if each.best else "")
        for each in steps(own, frame.axis)
    )
    return f"{target}, {frame.title} against {choices.quality}. The front: {told}."
