"""The page's part on what was asked, what was found, and how: fronts, budget, and what the search executed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from haversack.convert.budget import points
from haversack.convert.engine_sizes import engine_sizes
from haversack.convert.outcome import Outcome, Tried
from haversack.demo import comparison, front_chart, plain, plans, proof
from haversack.demo.candidates import DISK, LATENCY, Choices
from haversack.demo.comparison import DASH
from haversack.runtimes.bundle import Bundle

COLUMNS = 2
"""Panels side by side; on a narrow screen one stands below the other."""

FAMILIES = {"size": "small on disk", "wire": "small over the wire", "weights": "small weights, float arithmetic"}


def fronts(bundle: Bundle, choices: Choices) -> None:
    """A panel a target."""
    heading, choice = st.columns([2, 3], vertical_alignment="bottom")
    heading.markdown("#### What is worth choosing")
    axes = front_chart.axes(choices)
    if not axes:
        st.info("Nothing was measured that could be compared: pack with `--evaluation DATA`.")
        return
    with choice:
        picked = st.segmented_control("Across", axes, default=axes[0], key="axis", label_visibility="collapsed")
    axis = picked or axes[0]
    said = asked(choices.outcome, in_points=choices.in_points)
    if said:
        st.markdown(f"Asked: {plain.markdown(said)}.")
    st.html(_legend(best=any(each.best for each in choices.candidates), budget=bool(said)))
    panels = _panels(str(bundle.path), bundle.path.stat().st_mtime_ns, axis, choices)
    emulated = {each.target for each in choices.candidates if each.variant.verification.label}
    for start in range(0, len(panels), COLUMNS):
        for column, (target, spec) in zip(
            st.columns(COLUMNS, gap="medium"), panels[start : start + COLUMNS], strict=False
        ):
            with column:
                st.html(comparison.panel_title(target, emulated=target in emulated))
                st.vega_lite_chart(spec, width="stretch", key=f"front {target} {axis} {bundle.path}")
    missing = [target for target in choices.targets if target not in dict(panels)]
    notes = []
    if missing:
        notes.append(f"{', '.join(missing)}: not measured ({axis}).")
    if axis == LATENCY:
        notes.append("Latency is one warm call with one sample, on the machine that packed.")
    elif "Web" in choices.targets:
        notes.append("Web variants stand here without the engine, as budgets have it.")
    notes.append("The axis is logarithmic." if axis != DISK else "The axis is logarithmic, the same in every panel.")
    st.caption(" ".join(plain.markdown(note) for note in notes))


@st.cache_data(max_entries=32, show_spinner=False)
def _panels(path: str, stamp: int, axis: str, _choices: Choices) -> list[tuple[str, dict[str, Any]]]:  # noqa: ARG001
    """The pictures as Vega-Lite, a target each; Altair takes its time, and every click draws the page anew."""
    frame = front_chart.framed(_choices, axis)
    found = [(target, front_chart.panel(_choices, target, frame)) for target in _choices.targets]
    return [(target, chart.to_dict()) for target, chart in found if chart is not None]


def details(bundle: Bundle, choices: Choices) -> None:
    """Statistics, plans, bytes and the search, one tab each."""
    names = ["Is the difference real?", "Plans, layer by layer", "Model and engine", "The search"]
    statistics, layers, sizes, search = st.tabs(names)
    with statistics:
        _statistics(choices)
    with layers:
        plans.show(bundle, choices)
    with sizes:
        _sizes(choices)
    with search:
        _search(choices.outcome)


def asked(outcome: Outcome, *, in_points: bool = True) -> str:
    """The budget in words; empty without one."""
    words = []
    if outcome.max_drop is not None:
        bound = ", by the bound of its interval" if outcome.confident else ""
        words.append(f"a drop of at most {points(outcome.max_drop) if in_points else f'{outcome.max_drop:g}'}{bound}")
    if outcome.max_size is not None:
        words.append(f"at most {outcome.max_size:,} bytes on disk")
    if outcome.max_wire is not None:
        words.append(f"at most {outcome.max_wire:,} bytes over the wire")
    if outcome.max_latency is not None:
        where = f" on {outcome.device}" if outcome.device else ""
        words.append(f"at most {outcome.max_latency:g} ms{where}")
    if outcome.objective:
        words.append(f"best at {outcome.objective}")
    return "; ".join(words)


def _legend(*, best: bool, budget: bool) -> str:
    """What the marks of the panels mean."""
    chosen = f"best{' within the budget' if budget else ''}"
    marks = {"front": "on the front: nothing beats it", "beaten": "beaten in everything measured"}
    marks = ({"best": chosen} if best else {}) | marks
    items = "".join(f'<span><i class="hv-mark-{mark}"></i>{words}</span>' for mark, words in marks.items())
    return f'<p class="hv-legend">{items}<span>line: the front in the two things shown; bars: 95 % intervals</span></p>'


def _statistics(choices: Choices) -> None:
    table = proof.statistics(choices)
    if not table:
        st.info("This bundle has no verdicts: it was packed without `--evaluation DATA`, or by an older Haversack.")
        return
    st.html(table)
    counts = {each.variant.accuracy.samples for each in choices.candidates if each.variant.accuracy is not None}
    samples = ", ".join(f"{count:,}" for count in sorted(counts))
    st.caption(
        f"On the same {samples} samples as the source. Only samples on which the two disagree say anything: p is how "
        "often chance alone splits them so unevenly (exact McNemar test). Where it cannot tell, more samples would."
    )


def _sizes(choices: Choices) -> None:
    engines, origin = choices.outcome.engines, "on the machine that packed"
    if not engines:
        engines = engine_sizes(list(dict.fromkeys(each.variant.target for each in choices.candidates)))
        origin = "on this machine, since the bundle does not say"
    if table := proof.added(choices.candidates, engines):
        st.html(table)
        looked = "; ".join(f"{each.engine}: {each.what}" for each in engines.values() if each.what)
        st.caption(
            f"Bytes. Engines as found {origin} ({plain.markdown(looked)}); a phone's library differs by a factor of "
            "about two, and is there once for all models of an app."
        )
    if table := proof.first_visit(choices.candidates):
        st.html(table)
        st.caption("Bytes of a browser's first visit, each file sent by itself; later visits come from its cache.")


def _search(outcome: Outcome) -> None:
    if outcome.relaxing:
        st.markdown("\n".join(f"- {plain.markdown(sentence)}" for sentence in outcome.relaxing))
    if outcome.tried:
        st.html(_tried(outcome.tried))
        st.caption(
            "Each plan was executed as a compressed model; drops in points. Bytes are the search's estimate for the "
            "layers alone; the cost is theirs added up, measured one by one on calibration data."
        )
    else:
        st.info("No search ran, or the bundle does not say: `haversack pack --max-drop 1` searches.")
    if outcome.stages:
        slowest = sorted(outcome.stages.items(), key=lambda stage: -stage[1])
        took = "; ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest)
        st.caption(f"Time by stage: {plain.markdown(took)}.")


def _tried(tried: Sequence[Tried]) -> str:
    body = ""
    for each in tried:
        cells = [f"{each.bytes:,.0f}", f"{each.cost:.3g}", f"{each.drop:+.2f}", f"{each.samples:,}"]
        made = "yes" if each.made else DASH
        body += f"<tr><td>{plain.element(each.name)}</td>"
        body += f'<td class="hv-left">{plain.element(FAMILIES.get(each.family, each.family))}</td>'
        body += "".join(f"<td>{cell}</td>" for cell in cells) + f'<td class="hv-left">{made}</td></tr>'
    names = {
        "plan": "",
        "made for": "hv-left",
        "bytes": "",
        "cost": "",
        "drop": "",
        "samples": "",
        "artifacts": "hv-left",
    }
    head = "".join(f'<th scope="col" class="{css}">{name}</th>' for name, css in names.items())
    return comparison.wrapped(
        "Plans that the search executed",
        f'<table class="hv-table hv-plans"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>',
    )
