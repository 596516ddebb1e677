"""The page's part that tries an input on several variants, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from haversack.demo import charts, comparison, inputs, plain
from haversack.demo.table import Row
from haversack.demo.trial import Outcome, run_variants
from haversack.runtimes.bundle import Bundle
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError
from haversack.runtimes.manifest import Manifest

SHOWN_VARIANTS = 4
"""How many variants an input is tried on at first."""

ALL_CLASSES = 12
"""Up to this many classes all are shown; of more, the first variant's best `BEST_CLASSES`."""

BEST_CLASSES = 10
MOST_CLASSES = 100_000
"""An output of more values than this is no class score."""

PICTURES = ["png", "jpg", "jpeg", "bmp"]


def show(bundle: Bundle, rows: Sequence[Row]) -> None:
    """Choose an input and variants, run them, and show what they say."""
    st.markdown("#### Try an input")
    left, right = st.columns([2, 3], gap="large")
    with left:
        sample = _choose(bundle)
    if sample is None:
        return
    with right:
        names = {row.id: row.name for row in rows}
        ids = list(names)
        chosen = st.multiselect(
            "Variants", ids, ids[:SHOWN_VARIANTS], format_func=names.__getitem__, key=f"variants {bundle.path}"
        )
        if not chosen:
            st.info("Choose a variant.")
            return
        outcomes = _outcomes(bundle, chosen, sample.feeds)
        worked = {name: outcome for name, outcome in outcomes.items() if not outcome.error}
        if worked:
            st.html(comparison.tried(_lines(worked, names, bundle.manifest)))
        for name, outcome in outcomes.items():
            if outcome.error:
                st.error(f"{plain.markdown(names[name])}: {plain.markdown(outcome.error)}")
        _chart(worked, names, bundle.manifest)


def _choose(bundle: Bundle) -> inputs.Sample | None:
    """The input that is tried, shown as a picture where it can be."""
    samples = _samples(bundle)
    if not samples:
        return None
    index = 0
    if len(samples) > 1:
        index = int(st.number_input(f"Sample, 0 to {len(samples) - 1}", 0, len(samples) - 1, 0, key="sample"))
    sample = samples[index]
    picture = inputs.as_picture(sample.feeds)
    said = "" if sample.label is None else f"label: {_name(sample.label, bundle.manifest.labels)}"
    if picture is not None:
        st.image(picture, caption=plain.markdown(said) or None, width=min(inputs.SHOWN_PIXELS, picture.shape[1]))
    elif said:
        st.caption(plain.markdown(said))
    return sample


def _samples(bundle: Bundle) -> list[inputs.Sample]:
    """Those of the bundle, or of an upload; where there are none, the page says what to do."""
    manifest = bundle.manifest
    with_picture = manifest.preprocess is not None and len(manifest.inputs) == 1
    kinds = "An .npz or a picture" if with_picture else "An .npz"
    tensor = manifest.inputs[0]
    shape = " × ".join(str(size) for size in tensor.shape)
    uploaded = st.file_uploader(
        f"{kinds}; without one, the inputs that came with the bundle",
        type=["npz", *(PICTURES if with_picture else [])],
        key="input",
        help=plain.markdown(f"Arrays are named like the model's inputs: {tensor.name}, {tensor.dtype}, {shape}"),
    )
    try:
        if uploaded is None:
            samples = inputs.golden(bundle)
        elif uploaded.name.lower().endswith(".npz"):
            samples = inputs.from_npz(uploaded.getvalue(), uploaded.name, manifest)
        else:
            samples = [inputs.from_picture(uploaded.getvalue(), manifest)]
    except HaversackError as error:
        st.error(plain.markdown(str(error)))
        return []
    if not samples:
        st.info("The bundle came without inputs. Upload one.")
    return samples


def _outcomes(bundle: Bundle, chosen: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Outcome]:
    """Outcomes by variant; what this session ran already is not run again."""
    digest = hashlib.sha256(f"{bundle.path} {bundle.path.stat().st_mtime_ns}".encode())
    for name, array in feeds.items():
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    key = digest.hexdigest()
    if st.session_state.get("tried_key") != key:
        st.session_state["tried_key"], st.session_state["tried"] = key, {}
    tried: dict[str, Outcome] = st.session_state["tried"]
    left = [name for name in chosen if name not in tried]
    if left:
        with st.spinner(f"Running {len(left)} variants"):
            tried.update(run_variants(bundle.path, left, feeds))
    return {name: tried[name] for name in chosen}


def _lines(worked: Mapping[str, Outcome], names: Mapping[str, str], manifest: Manifest) -> list[comparison.Tried]:
    """One line a variant: what it says, and how far it is from the first one."""
    first = next(iter(worked.values()))
    lines = []
    for name, outcome in worked.items():
        scores = _class_scores(outcome)
        best = None if scores is None else int(scores.argmax())
        lines.append(
            comparison.Tried(
                id=name,
                name=names[name],
                prediction=None if best is None or scores is None else _name(best, manifest.labels, len(scores)),
                score=None if best is None or scores is None else float(scores[best]),
                difference=_difference(outcome, first),
                engine=outcome.engine,
                emulated=outcome.emulated,
            )
        )
    return lines


def _chart(worked: Mapping[str, Outcome], names: Mapping[str, str], manifest: Manifest) -> None:
    found = {name: scores for name, outcome in worked.items() if (scores := _class_scores(outcome)) is not None}
    if not found:
        return
    first = next(iter(found.values()))
    shown = range(len(first)) if len(first) <= ALL_CLASSES else np.argsort(-first, kind="stable")[:BEST_CLASSES]
    cells = [
        {"variant": names[name], "label": _name(int(i), manifest.labels, len(first)), "score": float(scores[i])}
        for name, scores in found.items()
        for i in shown
        if len(scores) == len(first)
    ]
    st.altair_chart(charts.scores(pd.DataFrame(cells)), width="stretch")


def _class_scores(outcome: Outcome) -> Array | None:
    """The first output as class scores [classes], where it has that form."""
    scores = next(iter(outcome.outputs.values()))
    if (
        scores.ndim != 2
        or len(scores) != 1
        or not 2 <= scores.shape[1] <= MOST_CLASSES
        or scores.dtype.kind not in "fiu"
    ):
        return None
    values = scores[0].astype(np.float64)
    return values if np.isfinite(values).all() else None


def _difference(outcome: Outcome, first: Outcome) -> float | None:
    """Largest absolute difference over all outputs; None where their shapes differ."""
    worst = 0.0
    for name, value in first.outputs.items():
        other = outcome.outputs.get(name)
        if other is None or other.shape != value.shape or value.dtype.kind not in "fiu":
            return None
        worst = max(worst, float(np.abs(other.astype(np.float64) - value.astype(np.float64)).max(initial=0.0)))
    return worst


def _name(index: int, labels: Sequence[str] | None, classes: int | None = None) -> str:
    fits = labels is not None and (len(labels) == classes if classes is not None else index < len(labels))
    return labels[index] if fits and labels is not None else str(index)
