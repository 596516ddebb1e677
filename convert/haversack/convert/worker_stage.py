"""Copies a model into the worker's private folder, so that no engine ever touches the user's own file.

Only regular files are opened: a FIFO or a device would hang or worse. ONNX files may name siblings that hold their
weights; those are copied too, and none may lie outside the model's own folder.
"""

from __future__ import annotations

import mmap
import os
import shutil
import stat
from pathlib import Path

from haversack.convert.errors import SourceError

MAX_FILES = 10_000
"""A model folder with more files than this is not one."""


def check_model(path: Path) -> None:
    """Refuse, without opening it, a path that cannot be a model.

    Raises:
        SourceError: It is missing, unreadable, empty, or neither a regular file nor a folder.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise SourceError(f"there is no such file: {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is not a regular file")
    if status.st_size == 0:
        raise SourceError(f"{path} is empty")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path} cannot be read: permission denied")


def stage(path: Path, folder: Path) -> Path:
    """Copy the model at `path` into `folder` under its own name and return the copy.

    Raises:
        SourceError: As `check_model`; or a folder holds a link that leaves it or a file that is not regular; or
            external data lies outside the model's folder.
    """
    check_model(path)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / path.name
    if path.is_dir():
        _copy_folder(path, copy)
    else:
        _copy_file(path, copy)
        if path.suffix == ".onnx":
            for location in _external(copy):
                _copy_sibling(path.parent, folder, location)
    return copy


def _copy_file(path: Path, copy: Path) -> None:
    # O_NONBLOCK: should the path have become a FIFO since it was checked, opening it does not hang.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(handle, "rb") as read:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SourceError(f"{path} is not a regular file")
        with copy.open("wb") as write:
            shutil.copyfileobj(read, write, 1 << 20)


def _copy_folder(path: Path, copy: Path) -> None:
    root = path.resolve()
    copy.mkdir()
    for count, entry in enumerate(sorted(path.rglob("*"))):
        if count >= MAX_FILES:
            raise SourceError(f"{path} holds more than {MAX_FILES} files: it is not a model folder")
        to = copy / entry.relative_to(path)
        if entry.is_symlink() and not entry.resolve().is_relative_to(root):
            raise SourceError(f"{entry} is a link that leaves the model's folder")
        if entry.is_dir():
            to.mkdir(exist_ok=True)
        else:
            _copy_file(entry, to)


def _copy_sibling(source_folder: Path, folder: Path, location: str) -> None:
    part = Path(location)
    if part.is_absolute() or ".." in part.parts:
        raise SourceError(f"external data {location!r} lies outside the model's folder")
    path = source_folder / part
    if not path.exists():
        raise SourceError(f"external data {location!r} is not beside the model")
    if not path.resolve().is_relative_to(source_folder.resolve()):
        raise SourceError(f"external data {location!r} is a link that leaves the model's folder")
    (folder / part).parent.mkdir(parents=True, exist_ok=True)
    _copy_file(path, folder / part)


def _external(path: Path) -> list[str]:
    """The files that an ONNX model's tensors name as their data, each once."""
    # `location` is a key that every external tensor spells out (onnx.proto, TensorProto.external_data); a file
    # without it needs no second parse.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"location") < 0:
            return []
    import onnx

    from haversack.convert.sources.onnx import read_graph

    try:
        model = onnx.ModelProto.FromString(read_graph(path))
    except Exception:
        return []  # Not an ONNX file at all: the reader says so in its own words.
    found: dict[str, None] = {}
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            for entry in tensor.external_data:
                if entry.key == "location" and entry.value != path.name:  # `read_graph` refers to the file itself
                    found[entry.value] = None
    return list(found)


def _tensors(graph: "onnx.GraphProto") -> "list[onnx.TensorProto]":  # type: ignore[name-defined]  # noqa: F821, UP037
    """Every tensor of a graph: initializers, attributes, and those of its subgraphs."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found.extend([attribute.t, *attribute.tensors])
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node or inner.initializer:
                    found.extend(_tensors(inner))
    return found
