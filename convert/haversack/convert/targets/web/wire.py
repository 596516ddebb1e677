"""What goes over the wire on a first visit: each file as a server sends it, with gzip or brotli."""

from __future__ import annotations

from pathlib import Path

from haversack.convert.report import Part
from haversack.convert.targets.web import folder
from haversack.convert.wire import brotli_size, gzip_size
from haversack.runtimes.engines.browser.vendored import Package

PACKED = (".png",)
"""Compressed already; servers send them as they are."""


def parts(where: Path, package: Package) -> tuple[Part, ...]:
    """Sizes of model, engine and page: all that the service worker fetches, and itself."""
    engine = Part(
        "engine",
        package.bytes,
        sum(file.gzip_bytes or file.bytes for file in package.files),
        sum(file.brotli_bytes or file.bytes for file in package.files),
    )
    page = [
        file for file in sorted(where.iterdir()) if file.is_file() and file.name not in (folder.MODEL, *folder.UNCACHED)
    ]
    return (_part("model", [where / folder.MODEL]), engine, _part("page", page))


def single_part(path: Path) -> tuple[Part, ...]:
    """A single-file page: the model and the engine, gzipped in base64, cannot be told apart on the wire."""
    return (_part("page", [path]),)


def _part(name: str, files: list[Path]) -> Part:
    sizes = [file.stat().st_size for file in files]
    gzips = [None if file.suffix in PACKED else gzip_size(file) for file in files]
    brotlis = [file.stat().st_size if file.suffix in PACKED else brotli_size(file) for file in files]
    return Part(
        name,
        sum(sizes),
        sum(size if packed is None else packed for size, packed in zip(sizes, gzips, strict=True)),
        None if None in brotlis else sum(size or 0 for size in brotlis),
    )
