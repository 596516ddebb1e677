"""The dashboard's charts."""

from __future__ import annotations

import altair as alt
import pandas as pd

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which people with any colour vision tell apart.
TARGET_COLORS = {"TFLite": "#E69F00", "Core ML": "#0072B2", "ONNX Runtime": "#009E73", "Web": "#CC79A7"}
COMPRESSION_SHAPES = {
    "fp32": "circle",
    "fp16": "square",
    "int8": "triangle-up",
    "int8-weights": "diamond",
    "int8-dynamic": "cross",
}
UNTIMED_AREA = 60.0
"""Area of a point whose latency was not measured."""


def tradeoff(table: pd.DataFrame) -> alt.LayerChart:
    """Size against accuracy (agreement where there are no labels); the area of a point is its latency.

    Args:
        table: What `haversack.demo.table.frame` gives.

    Returns:
        A chart with the 95 % interval of each accuracy as a rule. A point without a latency is hollow.
    """
    labelled = bool(table["accuracy"].notna().any())
    shown = table.assign(
        kilobytes=table["bytes"] / 1000,
        quality=table["accuracy"] if labelled else table["agreement"],
        timed=table["p50"].notna(),
    )
    slowest = float(shown["p50"].max()) if shown["p50"].notna().any() else 1.0
    shown["area"] = (40 + 460 * (shown["p50"] / slowest)).fillna(UNTIMED_AREA)
    quality = "accuracy, % (bars: 95 % interval)" if labelled else "agreement with the source, %"
    targets = [name for name in TARGET_COLORS if name in set(shown["target"])]
    shapes = [name for name in COMPRESSION_SHAPES if name in set(shown["compression"])]
    color = alt.Color(
        "target:N",
        title="target",
        scale=alt.Scale(domain=targets, range=[TARGET_COLORS[name] for name in targets]),
    )
    x = alt.X("kilobytes:Q", title="size on disk, kB", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("quality:Q", title=quality, scale=alt.Scale(zero=False, padding=12))
    base = alt.Chart(shown).encode(x=x, color=color)
    points = base.mark_point(strokeWidth=1.8).encode(
        y=y,
        shape=alt.Shape(
            "compression:N",
            title="compression",
            scale=alt.Scale(domain=shapes, range=[COMPRESSION_SHAPES[name] for name in shapes]),
        ),
        size=alt.Size("area:Q", scale=None, legend=None),
        fillOpacity=alt.condition("datum.timed", alt.value(0.55), alt.value(0.0)),
        fill=color,
        tooltip=[
            alt.Tooltip("id:N", title="variant"),
            alt.Tooltip("bytes:Q", title="bytes", format=",d"),
            alt.Tooltip("gzip_bytes:Q", title="gzip bytes", format=",d"),
            alt.Tooltip("accuracy:Q", title="accuracy, %", format=".2f"),
            alt.Tooltip("agreement:Q", title="agreement, %", format=".2f"),
            alt.Tooltip("p50:Q", title="latency p50, ms", format=".3f"),
            alt.Tooltip("verified:N", title="verified"),
        ],
    )
    intervals = base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.35).encode(y="low:Q", y2="high:Q")
    return alt.layer(intervals if labelled else points, points).properties(height=380)


def scores(table: pd.DataFrame) -> alt.Chart:
    """Class scores of one input, one bar a class, variants side by side in colour.

    Args:
        table: Columns `variant`, `label` and `score`.
    """
    order = list(dict.fromkeys(table["label"]))
    return (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("label:N", title="class", sort=order, axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("variant:N", sort=list(dict.fromkeys(table["variant"]))),
            y=alt.Y("score:Q", title="score"),
            color=alt.Color("variant:N", title="variant", scale=alt.Scale(scheme="tableau20")),
            tooltip=["variant:N", "label:N", alt.Tooltip("score:Q", format=".5f")],
        )
        .properties(height=260)
    )
