"""The dashboard's charts."""

from __future__ import annotations

import altair as alt
import pandas as pd

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which people with any colour vision tell apart.
TARGET_COLORS = {"TFLite": "#E69F00", "Core ML": "#3A8FCB", "ONNX Runtime": "#009E73", "Web": "#CC79A7"}
OTHER_COLOR = "#888888"


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
