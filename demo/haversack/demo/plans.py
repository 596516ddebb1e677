"""The page's part on plans: how a search holds each layer, most bits first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from haversack.demo import comparison, plain
from haversack.demo.candidates import Choices
from haversack.demo.front_chart import INK
from haversack.runtimes.bundle import Bundle

INTEGER, STORED, FLOAT = "integer arithmetic", "float arithmetic, weights compressed", "float arithmetic"
COLORS = {INTEGER: "#3A8FCB", STORED: "#E69F00", FLOAT: "#8a8f98"}

DRAWN = 40
"""Of more layers the picture has those with the most bits; the table has all."""

ROW = 24
"""Pixels of one layer."""

AROUND = 110
"""And of the legend and the axis."""


@dataclass(frozen=True)
class Layer:
    """One layer of a plan.

    Attributes:
        name: Of its node.
        bits: A weight, scales and tables aside.
        weights: How they are held, in one word.
        how: The same with what else is to say.
        kind: A key of `COLORS`.
    """

    name: str
    bits: float
    weights: str
    how: str
    kind: str


def show(bundle: Bundle, choices: Choices) -> None:
    """Choose a planned variant and see its layers."""
    planned = [each for each in choices.candidates if each.planned]
    if not planned:
        st.info("No variant of this bundle was planned layer by layer: pack with a budget, such as `--max-drop 1`.")
        return
    ids = {each.id: each for each in planned}
    first = next((index for index, each in enumerate(planned) if each.best), 0)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    chosen = left.selectbox(
        "Plan of", list(ids), first, format_func=lambda key: ids[key].name, key=f"plan {bundle.path}"
    )
    text = str(bundle.variant(chosen).recipe["plan"])
    try:
        layers, facts = read(text)
    except ValueError as error:
        st.error(plain.markdown(str(error)))
        return
    right.download_button(
        "Download the plan",
        text,
        f"{ids[chosen].compression}.json",
        "application/json",
        on_click="ignore",
        width="stretch",
        icon=":material/download:",
        key="plan_file",
        help="It can be edited and given back: `haversack pack MODEL --plan FILE`.",
    )
    same = len({layer.bits for layer in layers}) < 2
    order = "All have the same bits." if same else "At the top stand the layers that needed the most bits a weight."
    st.caption(f"{plain.markdown(facts)} {order}")
    st.vega_lite_chart(_drawn(text, ids[chosen].name), width="stretch")
    with st.expander(f"All layers ({len(layers)})"):
        st.html(_table(layers))


def read(text: str) -> tuple[list[Layer], str]:
    """The layers of a plan, those with the most bits first, and what holds for all of them in one sentence.

    Raises:
        ValueError: It is no plan that this release knows.
    """
    # Late: reading plans needs what compresses models, which most pages do not.
    from haversack.convert.compress.plan import LayerPlan, Plan
    from haversack.convert.compress.recipes import STORAGES
    from haversack.convert.errors import UsageError

    def bits(layer: LayerPlan) -> float:
        fixed = {"int8": layer.bits, "int4": 4.0, "float32": 32.0, "float16": 16.0, "int8-weights": 8.0}
        if layer.weights in fixed:
            return fixed[layer.weights]
        storage = STORAGES[layer.weights]
        share = storage.sparsity or (storage.pattern[0] / storage.pattern[1] if storage.pattern else 0.0)
        return (1 - share) * (storage.bits or (16.0 if plan.arithmetic == "float16" else 32.0))

    try:
        plan = Plan.from_json(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    found = [
        Layer(
            name,
            bits(layer),
            layer.weights,
            layer.words(),
            INTEGER if layer.integer else FLOAT if layer.weights in ("float32", "float16") else STORED,
        )
        for name, layer in plan.layers.items()
    ]
    facts = [f"Arithmetic in {plan.arithmetic}", f"layers not listed: {plan.default.words()}"]
    if plan.arithmetic.startswith("int"):
        facts.insert(1, f"ranges by {plan.ranges}")
    if plan.methods:
        facts.append(f"methods: {', '.join(plan.methods)}")
    if plan.floats:
        facts.append(f"kept in floats: {', '.join(plan.floats)}")
    return sorted(found, key=lambda layer: -layer.bits), "; ".join(facts) + "."


@st.cache_data(max_entries=32, show_spinner=False)
def _drawn(text: str, name: str) -> dict[str, Any]:
    """The picture of a plan as Vega-Lite; Altair takes its time, and every click draws the page anew."""
    drawn: dict[str, Any] = chart(read(text)[0], name).to_dict()
    return drawn


def chart(layers: list[Layer], name: str) -> alt.LayerChart:
    """A bar a layer: as long as its bits a weight, with how they are held."""
    shown = layers[:DRAWN]
    shared = _shared([each.name for each in shown])
    rows = pd.DataFrame(
        [vars(each) | {"short": each.name[shared:], "said": f"{each.bits:g} bits, {each.weights}"} for each in shown],
        columns=["name", "short", "bits", "weights", "how", "kind", "said"],
    )
    kinds = [name for name in COLORS if any(each.kind == name for each in shown)]
    most = max((each.bits for each in shown), default=8.0)
    base = alt.Chart(rows).encode(
        y=alt.Y(
            "short:N",
            title=None,
            sort=[each.name[shared:] for each in shown],
            # The end of a layer's name tells it from others: `stage_2/block_1/conv2d_7/BiasAdd`.
            axis=alt.Axis(
                labelLimit=170,
                labelExpr="length(datum.label) > 25 ? '…' + slice(datum.label, -24) : datum.label",
                labelOverlap=False,
            ),
        ),
        # Room at the right for the words.
        x=alt.X(
            "bits:Q",
            title="bits a weight",
            scale=alt.Scale(domain=[0, most * 1.6], nice=False),
            axis=alt.Axis(values=[each for each in (0, 2, 4, 6, 8, 16, 32) if each <= most]),
        ),
    )
    bars = base.mark_bar(cornerRadiusEnd=2, height={"band": 0.68}).encode(
        color=alt.Color(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=[COLORS[name] for name in kinds]),
            legend=alt.Legend(orient="top", labelLimit=300) if len(kinds) > 1 else None,
        ),
        tooltip=[
            alt.Tooltip("name:N", title="layer"),
            alt.Tooltip("bits:Q", format="g"),
            alt.Tooltip("how:N", title="held as"),
        ],
    )
    words = base.mark_text(align="left", dx=6, fontSize=11, color=INK).encode(text="said:N")
    spoken = "; ".join(f"{each.name} {each.bits:g}" for each in shown)
    return alt.layer(bars, words).properties(
        height=ROW * max(len(shown), 1) + AROUND,
        description=f"Bits a weight of each layer of {name}, most first: {spoken}.",
    )


def _shared(names: list[str]) -> int:
    """Letters that all names begin with, up to a slash: `functional_1/` tells nothing."""
    count = 0
    for level in zip(*(name.split("/")[:-1] for name in names), strict=False):
        if len(names) < 2 or len(set(level)) > 1:
            break
        count += len(level[0]) + 1
    return count


def _table(layers: list[Layer]) -> str:
    body = "".join(
        f"<tr><td>{plain.element(each.name)}</td><td>{each.bits:g}</td>"
        f'<td class="hv-left">{plain.element(each.how)}</td><td class="hv-left">{each.kind}</td></tr>'
        for each in layers
    )
    return comparison.wrapped(
        "Layers of the plan",
        '<table class="hv-table hv-layers"><thead><tr><th scope="col">layer</th><th scope="col">bits a weight</th>'
        '<th scope="col" class="hv-left">held as</th><th scope="col" class="hv-left">computed in</th></tr></thead>'
        f"<tbody>{body}</tbody></table>",
    )
