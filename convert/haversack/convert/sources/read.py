"""Telling formats apart by what a file is, and reading each by its reader."""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from haversack.convert.errors import SourceError
from haversack.convert.hub.load import to_hub
from haversack.convert.sources.classifiers import Restated
from haversack.convert.sources.tensorflow_names import name_after_outputs

READERS = {
    "onnx": ("haversack.convert.sources.onnx", "read_onnx"),
    "tflite": ("haversack.convert.sources.tflite", "read_tflite"),
    "keras": ("haversack.convert.sources.keras", "read_keras"),
    "h5": ("haversack.convert.sources.keras", "read_h5"),
    "savedmodel": ("haversack.convert.sources.savedmodel", "read_savedmodel"),
    "skops": ("haversack.convert.sources.scikit_learn", "read_skops"),
}
SUFFIXES = {
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".lite": "tflite",
    ".keras": "keras",
    ".h5": "h5",
    ".hdf5": "h5",
    ".skops": "skops",
}
PICKLES = (".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class Source:
    """A model that was read.

    Attributes:
        model: The legal hub graph.
        format: Which reader read it: `onnx`, `tflite`, `keras`, `h5`, `savedmodel` or `skops`.
        sha256: Of the file's bytes; of a folder, over its sorted relative paths and each file's bytes.
        name: The file's or folder's name without its suffix.
        restated: Outputs that the file has otherwise (a classifier's dictionaries and strings), by name.
        notes: What the user should know of how it was read, one sentence each.
    """

    model: ir.Model
    format: str
    sha256: str
    name: str
    restated: Mapping[str, Restated] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(path: Path) -> Source:
    """Read a trained model into the hub.

    Args:
        path: A file or a SavedModel folder.

    Returns:
        The hub graph with its provenance. Input and output names, order, dtypes and axis order are the source's.

    Raises:
        SourceError: It is missing, damaged or of an unknown format, or its format needs an extra that is not installed.
        UnsupportedError: It holds operators that the hub cannot say.
    """
    path = Path(path)
    format_ = _format(path)
    module, function = READERS[format_]
    reader: Callable[[Path], ir.Model] = getattr(importlib.import_module(module), function)
    model = reader(path)
    try:
        hub = to_hub(model)
    except SourceError as error:
        raise SourceError(f"{path.name}: {error}") from None
    if format_ != "onnx":
        name_after_outputs(hub)
    name = path.stem if path.is_file() else path.resolve().name
    restated, notes = model.meta.get("haversack.restated", {}), model.meta.get("haversack.notes", ())
    return Source(hub, format_, _sha256(path), name, restated, notes)


def _format(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise SourceError(f"there is no file {path}; check the path") from None
        raise SourceError(f"{path} cannot be opened ({error.strerror}); check its permissions") from None
    if stat.S_ISDIR(mode):
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        if path.suffix == ".mlpackage":
            raise SourceError(
                f"{path.name} is a Core ML package, which can be inspected, run and verified; "
                "convert the model that it was made from"
            )
        raise SourceError(
            f"{path.name} is a folder without saved_model.pb, so no SavedModel; name the model file in it"
        )
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is neither a file nor a folder; name a model file")
    if path.name == "saved_model.pb":
        raise SourceError(f"{path} is part of a SavedModel; name its folder, {path.parent}")
    format_ = SUFFIXES.get(path.suffix.lower())
    if path.suffix.lower() in PICKLES:
        raise SourceError(
            f"{path.name} is a pickle, which runs its author's code while it is read: save the estimator with skops "
            "(skops.io.dump, .skops), or convert it with skl2onnx where it was trained and give the .onnx"
        )
    if format_ is None:
        raise SourceError(
            f"{path.name}: unknown kind of model {path.suffix or '(no suffix)'}; known are {', '.join(SUFFIXES)} and "
            "SavedModel folders"
        )
    check_content(path, format_)
    return format_


def check_content(path: Path, format_: str) -> None:
    """Look at the first bytes before any parser does.

    Args:
        path: A file.
        format_: `onnx`, `tflite`, `keras`, `h5` or `skops`.

    Raises:
        SourceError: It is empty, or plainly another kind of file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if not head:
        raise SourceError(f"{path.name} is empty; export or download it again")
    found = _looks_like(head)
    if found == "keras" and format_ == "skops":  # both are zip archives
        return
    if found != format_ and not (format_ == "onnx" and found is None):
        what = f"looks like {_NAMES[found]}" if found is not None else "does not"
        kind = _NAMES[format_]
        if found is None:
            raise SourceError(f"{path.name} is not {kind}: its first bytes are another kind of file's; export it again")
        raise SourceError(f"{path.name} is not {kind}: it {what}; check which file this is")


_NAMES = {
    "onnx": "an ONNX model",
    "tflite": "a TFLite model",
    "keras": "a .keras archive",
    "h5": "an HDF5 file",
    "skops": "a skops file",
    "lfs": "a Git LFS pointer (run git lfs pull)",
    "text": "a text file",
}


def _looks_like(head: bytes) -> str | None:
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"PK\x03\x04"):
        return "keras"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if head.startswith(b"version https://git-lfs"):
        return "lfs"
    # An ONNX model starts with its ir_version, field 1: byte 0x08. No text does.
    if head[0] != 8 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "text"
    return None


def _sha256(path: Path) -> str:
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    entries = sorted(
        (Path(folder, name).relative_to(path).as_posix(), Path(folder, name))
        for folder, _, files in os.walk(path)
        for name in files
    )
    for relative, file_path in entries:
        # The length keeps a path's end and the content's start apart.
        content = file_path.read_bytes() if file_path.is_file() else b""
        total.update(f"{len(relative)}:{relative}{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()
