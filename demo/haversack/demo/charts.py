"""The dashboard's charts."""

from __future__ import annotations

import altair as alt
import pandas as pd

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which people with any colour vision tell apart.
TARGET_COLORS = {"TFLite": "#E69F00", "Core ML": "#3A8FCB", "ONNX Runtime": "#009E73", "Web": "#CC79A7"}
OTHER_COLOR = "#888888"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
UNTIMED_AREA = 70.0
"""Area of a point whose latency was not measured."""

SIZE, GZIP, BROTLI, LATENCY = "size", "gzip size", "brotli size", "latency"
AXES = {
    SIZE: ("bytes", "size on disk, kB"),
    GZIP: ("gzip_bytes", "size as gzip, kB"),
    BROTLI: ("brotli_bytes", "size as brotli, kB"),
    LATENCY: ("p50", "latency p50"),
}
"""What can stand along the chart's bottom: column and title."""


def tradeoff(table: pd.DataFrame, axis: str = SIZE) -> alt.LayerChart:
    """Size or latency against accuracy (agreement where there are no labels).

    Args:
        table: What `haversack.demo.table.frame` gives.
        axis: A key of `AXES`.

    Returns:
        A chart with the 95 % interval of each accuracy as a rule. Against size, the area of a point is its latency, and
        a point without one is hollow; against latency, such points are left out.
    """
    labelled = bool(table["accuracy"].notna().any())
    column, title = AXES[axis]
    shown = table.assign(
        quality=table["accuracy"] if labelled else table["agreement"],
        timed=table["p50"].notna(),
        how=table["emulated"].map({True: "reference-evaluated", False: "executed by its own engine"}),
    )
    unit, factor = ("µs", 1000.0) if (shown["p50"].max() or 0) < 1 else ("ms", 1.0)
    shown["latency"] = shown["p50"] * factor
    shown["area"] = _areas(shown["p50"])
    shown["across"] = shown["latency"] if axis == LATENCY else shown[column] / 1000
    shown = shown[shown["across"].notna() & shown["quality"].notna()]
    quality = "accuracy, % (bars: 95 % interval)" if labelled else "agreement with the source, %"
    targets, recipes = list(dict.fromkeys(shown["target"])), list(dict.fromkeys(shown["compression"]))
    emulated = sorted({name for name, flag in zip(shown["target"], shown["emulated"], strict=True) if flag})
    named = f"indexof({emulated!r}, datum.label) < 0 ? datum.label : datum.label + ' (reference-evaluated)'"
    color = alt.Color(
        "target:N",
        title=None,
        scale=alt.Scale(domain=targets, range=[TARGET_COLORS.get(name, OTHER_COLOR) for name in targets]),
        legend=alt.Legend(
            orient="top", symbolType="circle", symbolSize=110, symbolOpacity=1, labelExpr=named, labelLimit=240
        ),
    )
    x_title = f"{title}, {unit}" if axis == LATENCY else title
    x = alt.X("across:Q", title=x_title, scale=alt.Scale(zero=True, nice=True), axis=alt.Axis(tickCount=8))
    y = alt.Y("quality:Q", title=quality, scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(tickCount=6))
    base = alt.Chart(shown).encode(x=x, color=color)
    points = base.mark_point(strokeWidth=1.8).encode(
        y=y,
        shape=alt.Shape(
            "compression:N",
            title=None,
            scale=alt.Scale(domain=recipes, range=[SHAPES[index % len(SHAPES)] for index in range(len(recipes))]),
            legend=alt.Legend(orient="top", symbolSize=90, symbolFillColor="transparent", symbolStrokeWidth=1.8),
        ),
        size=alt.Size("area:Q", scale=None, legend=None),
        fillOpacity=alt.condition("datum.timed", alt.value(0.55), alt.value(0.0)),
        fill=color,
        tooltip=[
            alt.Tooltip("name:N", title="variant"),
            alt.Tooltip("bytes:Q", title="bytes", format=",d"),
            alt.Tooltip("gzip_bytes:Q", title="gzip bytes", format=",d"),
            alt.Tooltip("brotli_bytes:Q", title="brotli bytes", format=",d"),
            alt.Tooltip("accuracy:Q", title="accuracy, %", format=".2f"),
            alt.Tooltip("agreement:Q", title="agreement, %", format=".2f"),
            alt.Tooltip("latency:Q", title=f"latency p50, {unit}", format=".3~g"),
            alt.Tooltip("how:N", title="how"),
        ],
    )
    layers: list[alt.Chart] = [points]
    if labelled:
        layers.insert(
            0, base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.3).encode(y="low:Q", y2="high:Q")
        )
    return alt.layer(*layers).properties(height=360)


def _areas(latencies: pd.Series[float]) -> pd.Series[float]:
    """Areas in proportion to latencies, the slowest 500 square pixels and none below 40."""
    slowest = float(latencies.max()) if latencies.notna().any() else 1.0
    return (500 * latencies / max(slowest, 1e-12)).clip(lower=40).fillna(UNTIMED_AREA)


def scores(table: pd.DataFrame) -> alt.LayerChart:
    """Scores of one input: a row a variant, a column a class.

    Args:
        table: Columns `variant`, `label` and `score`.
    """
    classes = list(dict.fromkeys(table["label"]))
    variants = list(dict.fromkeys(table["variant"]))
    low, high = float(table["score"].min()), float(table["score"].max())
    # Names longer than a number would overlap side by side: they stand at an angle, so that every class is named.
    angle = -40 if max((len(str(name)) for name in classes), default=0) > 3 else 0
    names = alt.Axis(labelAngle=angle, labelOverlap=not angle, labelLimit=120, orient="top")
    base = alt.Chart(table).encode(
        x=alt.X("label:N", title="class", sort=classes, axis=names),
        y=alt.Y("variant:N", title=None, sort=variants, axis=alt.Axis(labelLimit=180)),
        tooltip=["variant:N", "label:N", alt.Tooltip("score:Q", format=".5f")],
    )
    cells = base.mark_rect(cornerRadius=3, stroke="#88888833").encode(
        color=alt.Color(
            "score:Q",
            scale=alt.Scale(
                domain=[low, max(high, low + 1e-9)], range=["rgba(11, 110, 94, 0.07)", "rgba(11, 110, 94, 1)"]
            ),
            legend=None,
        )
    )
    dark = f"datum.score > {(low + high) / 2!r}"
    color = alt.condition(dark, alt.value("#ffffff"), alt.value("#7a8784"))
    text = base.mark_text(fontSize=11).encode(text=alt.Text("score:Q", format=".2~f"), color=color)
    return alt.layer(cells, text).properties(height=34 * len(variants) + (110 if angle else 50))
