"""Downloads: every artifact and companion of a bundle, checked against the manifest before it is handed out."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import streamlit as st

from haversack.demo import plain
from haversack.demo.table import Row
from haversack.runtimes.bundle import Bundle, open_bundle
from haversack.runtimes.manifest import File

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of what is zipped: the same folder gives the same bytes."""


def show(bundle: Bundle, rows: Sequence[Row]) -> None:
    """Choose one file of the bundle and download it."""
    st.markdown("#### Download")
    files = [(row.id, Path(file.path).name) for row in rows for file in _files(bundle, row.id)]
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    chosen = left.selectbox("Artifact", files, format_func=lambda pair: pair[1], key="artifact")
    variant, name = chosen
    file = next(file for file in _files(bundle, variant) if Path(file.path).name == name)
    file_name, data = _contents(str(bundle.path), bundle.path.stat().st_mtime_ns, variant, name)
    right.download_button(
        f"Download ({plain.size(len(data))})",
        data,
        file_name,
        on_click="ignore",
        type="primary",
        width="stretch",
        icon=":material/download:",
        key="download",
    )
    what = "of the folder in it" if file_name != name else "of the file"
    st.html(f'<p class="hv-sha">sha256 {what}, checked: <span>{file.sha256}</span></p>')


def _files(bundle: Bundle, variant_id: str) -> tuple[File, ...]:
    variant = bundle.variant(variant_id)
    return (variant.file, *variant.companions)


@st.cache_data(max_entries=16, show_spinner=False)
def _contents(path: str, stamp: int, variant: str, name: str) -> tuple[str, bytes]:  # noqa: ARG001  (a cache key)
    """A file of a variant: its name and bytes; a folder (`.mlpackage`) as a zip."""
    with tempfile.TemporaryDirectory(prefix="haversack-demo-") as folder, open_bundle(path) as bundle:
        bundle.artifact(variant, folder)
        artifact = Path(folder) / name
        if artifact.is_file():
            return name, artifact.read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(artifact.rglob("*")):
                if file.is_file():
                    entry = zipfile.ZipInfo(str(PurePosixPath(file.relative_to(folder))), EARLIEST)
                    entry.external_attr = 0o100644 << 16
                    archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
        return f"{name}.zip", packed.getvalue()
