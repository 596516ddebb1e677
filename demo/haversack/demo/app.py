"""The dashboard's page; `haversack demo BUNDLE...` serves it with Streamlit."""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from haversack.demo import charts, inputs, table
from haversack.runtimes import load
from haversack.runtimes.bundle import Bundle, open_bundle
from haversack.runtimes.errors import HaversackError
from haversack.runtimes.model import Model

SHOWN_VARIANTS = 4
"""How many variants an input is tried on at first."""


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Haversack", page_icon="🎒", layout="wide")
    st.title("Haversack")
    path = choose_bundle()
    if path is None:
        st.info("Give a bundle: `haversack demo model.haversack`, or upload one on the left.")
        return
    try:
        with open_bundle(path) as bundle:
            show(bundle)
    except HaversackError as error:
        st.error(str(error))


def choose_bundle() -> Path | None:
    """The bundle to show: one that the command line named, or one that was uploaded."""
    given = [Path(argument) for argument in sys.argv[1:]]
    with st.sidebar:
        uploaded = st.file_uploader("Another bundle", type=["haversack"])
        choices = [str(path) for path in given]
        if uploaded is not None:
            choices.insert(0, str(_kept(uploaded.getvalue(), uploaded.name)))
        if not choices:
            return None
        chosen: str = st.selectbox("Bundle", choices, format_func=lambda choice: Path(choice).name)
    return Path(chosen)


def show(bundle: Bundle) -> None:
    """One bundle: what it is, the table, the chart, an input to try, artifacts to download."""
    manifest = bundle.manifest
    rows = table.rows(bundle)
    data = table.frame(rows)
    described = ", ".join(f"`{tensor.name}` {tensor.dtype} {list(tensor.shape)}" for tensor in manifest.inputs)
    gives = ", ".join(f"`{tensor.name}` {tensor.dtype} {list(tensor.shape)}" for tensor in manifest.outputs)
    st.subheader(manifest.name)
    st.markdown(f"takes {described} · gives {gives}")

    headline(rows)
    st.markdown("#### Variants")
    show_table(data)
    st.markdown("#### Size, accuracy, latency")
    st.altair_chart(charts.tradeoff(data), width="stretch")
    st.caption(
        "The area of a point is its median latency on the machine that packed the bundle. A hollow point has none: "
        "Core ML artifacts are reference-evaluated here, which shows what they compute and not how fast a phone is."
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        try_input(bundle, rows)
    with right:
        download(bundle, rows)
        provenance(bundle)


def headline(rows: list[table.Row]) -> None:
    """Three numbers: the smallest, the fastest and the most accurate verified variant."""
    verified = [row for row in rows if row.verified != "no"]
    if not verified:
        st.warning("No variant of this bundle was verified.")
        return
    columns = st.columns(3)
    smallest = min(verified, key=lambda row: row.bytes)
    columns[0].metric("Smallest", f"{smallest.bytes / 1000:,.1f} kB", smallest.id, delta_color="off")
    timed = [row for row in verified if row.p50 is not None]
    if timed:
        fastest = min(timed, key=lambda row: row.p50 or 0.0)
        columns[1].metric("Fastest here", f"{1000 * (fastest.p50 or 0.0):,.0f} µs", fastest.id, delta_color="off")
    scored = [row for row in verified if row.accuracy is not None]
    if scored:
        best = max(scored, key=lambda row: (row.accuracy or 0.0, -row.bytes))
        columns[2].metric("Most accurate", f"{best.accuracy:.2f} %", best.id, delta_color="off")


def show_table(data: pd.DataFrame) -> None:
    """The table, without columns that nobody measured."""
    number = st.column_config.NumberColumn
    columns = {
        "target": st.column_config.TextColumn("target", pinned=True),
        "compression": st.column_config.TextColumn("compression", pinned=True),
        "bytes": number("bytes", format="localized"),
        "gzip_bytes": number("gzip bytes", format="localized"),
        "accuracy": number("accuracy, %", format="%.2f"),
        "low": number("95 % from", format="%.2f", help="Lower bound of the accuracy's 95 % interval."),
        "high": number("to", format="%.2f", help="Its upper bound."),
        "difference": number("difference, points", format="%+.2f", help="To the source, on the same samples."),
        "agreement": number("agreement, %", format="%.2f", help="Predictions that are the source's."),
        "p50": number("p50, ms", format="%.3f", help="Median latency of one sample, on the machine that packed."),
        "p95": number("p95, ms", format="%.3f"),
        "p99": number("p99, ms", format="%.3f"),
        "verified": st.column_config.TextColumn("verified", help="The artifact was executed and compared."),
    }
    present = [name for name in columns if data[name].notna().any()]
    st.dataframe(
        data[present], column_config={name: columns[name] for name in present}, hide_index=True, width="stretch"
    )


def try_input(bundle: Bundle, rows: list[table.Row]) -> None:
    """Run chosen variants on one input and show what they say, side by side."""
    st.markdown("#### Try an input")
    manifest = bundle.manifest
    kinds = "a picture or an .npz" if manifest.preprocess is not None else "an .npz"
    uploaded = st.file_uploader(
        f"Upload {kinds}, or take one that came with the bundle", type=["npz", "png", "jpg", "jpeg", "bmp"]
    )
    try:
        if uploaded is None:
            samples = inputs.golden(bundle)
        elif uploaded.name.endswith(".npz"):
            samples = inputs.from_npz(uploaded.getvalue(), manifest)
        else:
            samples = [inputs.from_picture(uploaded.getvalue(), manifest)]
    except HaversackError as error:
        st.error(str(error))
        return
    if not samples:
        st.info("The bundle came without inputs; upload one.")
        return
    index = 0
    if len(samples) > 1:
        index = int(st.number_input(f"Sample (of {len(samples)})", 0, len(samples) - 1, 0))
    feeds = samples[index]
    names = [row.id for row in rows]
    chosen = st.multiselect("Variants", names, default=names[:SHOWN_VARIANTS])
    picture = inputs.as_picture(feeds)
    if picture is not None:
        st.image(np.kron(picture, np.ones((max(1, 96 // picture.shape[0]),) * 2 + (1,), np.uint8)), width=96)
    results, predictions = [], []
    for name in chosen:
        try:
            output = next(iter(_model(str(bundle.path), _stamp(bundle.path), name)(feeds).values()))
        except HaversackError as error:
            st.error(f"{name}: {error}")
            continue
        scores = np.asarray(output, np.float64).reshape(-1)
        labels = manifest.labels or tuple(str(number) for number in range(len(scores)))
        if len(labels) != len(scores):
            labels = tuple(str(number) for number in range(len(scores)))
        best = int(scores.argmax())
        predictions.append({"variant": name, "prediction": labels[best], "score": scores[best]})
        shown = scores.argsort()[::-1][:10] if len(scores) > 12 else range(len(scores))
        results += [{"variant": name, "label": labels[i], "score": float(scores[i])} for i in shown]
    if results:
        st.dataframe(pd.DataFrame(predictions), hide_index=True, width="stretch")
        st.altair_chart(charts.scores(pd.DataFrame(results)), width="stretch")


def download(bundle: Bundle, rows: list[table.Row]) -> None:
    """One variant's artifact, checked against the manifest before it is handed out."""
    st.markdown("#### Download")
    name = st.selectbox("Artifact", [row.id for row in rows])
    file_name, data = _artifact(str(bundle.path), _stamp(bundle.path), name)
    st.download_button(f"{file_name} ({len(data):,} bytes)", data, file_name, on_click="ignore")
    for note in bundle.variant(name).notes:
        st.caption(note)


def provenance(bundle: Bundle) -> None:
    """Where the model comes from."""
    with st.expander("Provenance"):
        source = bundle.manifest.provenance
        facts = {
            "source": f"{source.source} ({source.source_format})",
            "source sha256": source.source_sha256,
            "calibration": source.calibration,
            "evaluation": source.evaluation,
            "training data": source.training_data,
            "code commit": source.code_commit,
            "measured on": f"{bundle.measurements.machine} {bundle.measurements.date}".strip(),
            "tools": ", ".join(f"{name} {version}" for name, version in source.tools.items()),
        }
        st.table(pd.DataFrame([(name, fact) for name, fact in facts.items() if fact], columns=["", "value"]))


def _kept(data: bytes, name: str) -> Path:
    """An uploaded bundle as a file, under a name made of its contents; uploads of one session share one folder."""
    if "uploads" not in st.session_state:
        st.session_state["uploads"] = tempfile.TemporaryDirectory(prefix="haversack-demo-")
    folder = Path(st.session_state["uploads"].name) / hashlib.sha256(data).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    path = folder / Path(name).name
    if not path.exists():
        path.write_bytes(data)
    return path


def _stamp(path: Path) -> int:
    """Changes when the file does, so that what is cached of it does not outlive it."""
    return path.stat().st_mtime_ns


@st.cache_resource(max_entries=16)
def _model(path: str, stamp: int, variant: str) -> Model:  # noqa: ARG001  (the stamp is part of the cache's key)
    return load(path, variant=variant)


@st.cache_data(max_entries=16)
def _artifact(path: str, stamp: int, variant: str) -> tuple[str, bytes]:  # noqa: ARG001  (likewise)
    with tempfile.TemporaryDirectory() as folder, open_bundle(path) as bundle:
        artifact = bundle.artifact(variant, folder)
        if artifact.is_file():
            return artifact.name, artifact.read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(artifact.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
        return f"{artifact.name}.zip", packed.getvalue()


if __name__ == "__main__":
    main()
