"""The dashboard's page; `haversack demo BUNDLE...` serves it with Streamlit."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import streamlit as st

from haversack.demo import artifacts, candidates, comparison, plain, searched, table, trying
from haversack.runtimes.bundle import Bundle, open_bundle
from haversack.runtimes.errors import HaversackError
from haversack.runtimes.manifest import Tensor

MISSING_FACTS = "not said"


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Haversack", page_icon="🎒", layout="wide", initial_sidebar_state="collapsed")
    st.html(Path(__file__).with_name("style.css"))
    path = choose_bundle()
    if path is None:
        empty()
        return
    try:
        _intact(str(path), stamp(path))
        with open_bundle(path) as bundle:
            show(bundle)
    except (HaversackError, OSError) as error:
        st.error(plain.markdown(str(error)), icon=":material/error:")


def choose_bundle() -> Path | None:
    """The bundle to show: one that the command line named, or one that was uploaded."""
    brand, chooser, opener = st.columns([5, 4, 2], vertical_alignment="bottom")
    brand.html('<div class="hv-brand"><b>Haversack</b><span>one model, packed for every device</span></div>')
    choices = list(dict.fromkeys(sys.argv[1:]))
    with opener.popover("Open a bundle", width="stretch"):
        uploaded = st.file_uploader("A .haversack file; it stays on this machine.", type=["haversack"], key="bundle")
    if uploaded is not None:
        choices.insert(0, str(_kept(uploaded.getvalue(), uploaded.name)))
    if not choices:
        return None
    chosen: str = chooser.selectbox("Bundle", choices, format_func=lambda choice: Path(choice).name)
    return Path(chosen)


def empty() -> None:
    """What to do where there is no bundle."""
    st.info("No bundle is open. Open one above, or name it on the command line:", icon=":material/backpack:")
    st.code("haversack demo model.haversack", language="bash")
    st.caption("A bundle is made by `haversack pack`:")
    st.code("haversack pack model.onnx --to tflite,coreml,onnx -o model.haversack", language="bash")


def show(bundle: Bundle) -> None:
    """One bundle: what it is, the comparison, the fronts and what led to them, an input to try, downloads."""
    manifest = bundle.manifest
    rows = table.rows(bundle)
    taken = ", ".join(_spelled(tensor) for tensor in manifest.inputs)
    given = ", ".join(_spelled(tensor) for tensor in manifest.outputs)
    st.html(
        f'<div class="hv-model"><h2>{plain.element(manifest.name)}</h2>'
        f"<p>takes {taken} and gives {given}; {len(rows)} variants</p></div>"
    )
    if not any(row.verified for row in rows):
        st.warning("No variant of this bundle was verified: nothing says that these artifacts compute the model.")
    elif cards := comparison.cards(rows):
        st.html(cards)
    show_variants(bundle, rows)
    found = _choices(str(bundle.path), stamp(bundle.path), bundle)
    searched.fronts(bundle, found)
    searched.details(bundle, found)
    trying.show(bundle, rows)
    artifacts.show(bundle, rows)
    provenance(bundle)


def show_variants(bundle: Bundle, rows: list[table.Row]) -> None:
    """The table, in an order that can be chosen."""
    heading, order = st.columns([2, 3], vertical_alignment="bottom")
    heading.markdown("#### Variants")
    with order:
        chosen = st.segmented_control(
            "Order", list(comparison.SORTS), default="as packed", key="order", label_visibility="collapsed"
        )
    st.html(comparison.table(sorted(rows, key=comparison.SORTS[chosen or "as packed"])))
    measured = bundle.measurements
    facts = [f"measured {measured.date[:10]} on {measured.machine}" if measured.machine else "", _samples(bundle)]
    threads = {latency.threads for v in measured.variants.values() for latency in v.latencies}
    if threads:
        facts.append("latency is one call with one sample, " + ("1 thread" if threads == {1} else f"{threads} threads"))
    if any(row.bytes < bundle.variant(row.id).file.bytes for row in rows):
        facts.append("web sizes are without the engine in each folder")
    st.caption("; ".join(plain.markdown(fact) for fact in facts if fact))
    if any(row.emulated for row in rows):
        st.caption(
            "Core ML artifacts are **reference-evaluated**: Haversack's evaluator executed the saved package. It says "
            "what the artifact computes, never how fast an iPhone runs it, so they have no latency here."
        )
    notes = [(row.name, note) for row in rows for note in bundle.variant(row.id).notes]
    if notes:
        with st.expander(f"Notes on variants ({len(notes)})"):
            st.markdown("\n".join(f"- **{plain.markdown(name)}**: {plain.markdown(note)}" for name, note in notes))


def provenance(bundle: Bundle) -> None:
    """Where the model comes from."""
    source = bundle.manifest.provenance
    facts = {
        "source": f"{source.source} ({source.source_format})",
        "source sha256": source.source_sha256,
        "calibration": source.calibration,
        "calibration sha256": source.calibration_sha256,
        "evaluation": source.evaluation,
        "evaluation sha256": source.evaluation_sha256,
        "training data": source.training_data,
        "code commit": source.code_commit,
        "hyperparameters": ", ".join(f"{name}={value}" for name, value in source.hyperparameters.items()),
        "tools": ", ".join(f"{name} {version}" for name, version in source.tools.items()),
    }
    with st.expander("Provenance"):
        lines = "".join(
            f"<dt>{name}</dt><dd>{plain.element(fact or MISSING_FACTS)}</dd>" for name, fact in facts.items()
        )
        st.html(f'<dl class="hv-facts">{lines}</dl>')


def _spelled(tensor: Tensor) -> str:
    shape = " × ".join(str(size) for size in tensor.shape) or "scalar"
    return f"<code>{plain.element(tensor.name)}</code> {plain.element(tensor.dtype)} {plain.element(shape)}"


def _samples(bundle: Bundle) -> str:
    samples = bundle.measurements.facts.get("samples")
    return f"verified on {samples}" if isinstance(samples, str) else ""


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


def stamp(path: Path) -> int:
    """Changes when the file does, so that what is cached of it does not outlive it."""
    return path.stat().st_mtime_ns if path.exists() else 0


@st.cache_data(max_entries=16, show_spinner="Checking the bundle")
def _intact(path: str, stamp: int) -> None:  # noqa: ARG001  (the stamp is part of the cache's key)
    """Check every hash once; an error is not cached."""
    with open_bundle(path) as bundle:
        bundle.verify()


@st.cache_data(max_entries=16, show_spinner=False)
def _choices(path: str, stamp: int, _bundle: Bundle) -> candidates.Choices:  # noqa: ARG001  (the cache's key)
    return candidates.choices(_bundle)


if __name__ == "__main__":
    main()
