"""The files of a web folder: the engine's, the page's, and what says what they are.

`manifest.json` names each file with its SHA-256, and the service worker holds what it caches to the same list, so that
a page is never made of two versions. Nothing depends on when or where the folder is made.
"""

from __future__ import annotations

import hashlib
import html
import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from haversack.convert.report import encode
from haversack.convert.targets import Proof, Written
from haversack.convert.targets.web import icons
from haversack.runtimes.engines import WEB_MODEL, Array, TensorSpec
from haversack.runtimes.engines.browser.vendored import LICENCE, Package

FORMAT = "haversack-web"
VERSION = 1

MODEL = WEB_MODEL
GOLDEN = "golden.bin"
MANIFEST = "manifest.json"
ENGINE = "engine"
WORKER = "sw.js"

PAGE = Path(__file__).resolve().with_name("page")
COPIED = ("app.css", "app.js", "haversack.d.ts", "haversack.js", "serve.txt")
"""Files of the page that are the same for every model."""

UNCACHED = ("haversack.d.ts", "serve.txt")
"""What a browser never asks for."""


def add_engine(where: Path, engine: Path, package: Package) -> None:
    """Copy the vendored files, their licence among them, into `engine/`."""
    (where / ENGINE).mkdir()
    for name in (LICENCE, *(file.name for file in package.files)):
        shutil.copyfile(engine / name, where / ENGINE / name)


def add_page(where: Path, proof: Proof, package: Package, written: Written) -> None:
    """Write everything but model and engine.

    Args:
        where: The folder, with model and engine in it.
        proof: What is known of the model.
        package: The engine.
        written: What the target wrote.
    """
    for name in COPIED:
        shutil.copyfile(PAGE / name, where / name)
    for name, content in icons.icons().items():
        (where / name).write_bytes(content)
    _put(where, "index.html", _filled("index.html", {"NAME": html.escape(proof.name)}))
    _put(where, "manifest.webmanifest", json.dumps(_webmanifest(proof.name), indent=1, ensure_ascii=False) + "\n")
    vectors, content = _golden(proof)
    if vectors:
        (where / GOLDEN).write_bytes(content)
    manifest = _manifest(where, proof, package, written, vectors)
    _put(where, MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    cached = {
        name: digest for name, digest in digests(where).items() if name.split("/")[-1] not in (*UNCACHED, LICENCE)
    }
    listed = json.dumps(cached, indent=1)
    version = hashlib.sha256(listed.encode()).hexdigest()[:16]
    _put(where, WORKER, _filled("sw.js", {"VERSION": version, "FILES": listed}))


def digests(where: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path with forward slashes."""
    return {
        file.relative_to(where).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(where.rglob("*"))
        if file.is_file()
    }


def _manifest(
    where: Path, proof: Proof, package: Package, written: Written, vectors: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": proof.name,
        "recipe": proof.recipe,
        "made_by": f"haversack {_version()}",
        "source_sha256": proof.source_sha256,
        "model": {"file": MODEL, "bytes": (where / MODEL).stat().st_size},
        "inputs": [_tensor(spec) for spec in proof.inputs],
        "outputs": [_tensor(spec) for spec in proof.outputs],
        "labels": None if proof.labels is None else list(proof.labels),
        "preprocess": None if proof.preprocess is None else proof.preprocess.to_json(),
        "engine": {
            "name": package.name,
            "version": package.version,
            "licence": package.licence,
            "folder": ENGINE,
            "bytes": package.bytes,
        },
        "needs": written.min_runtime,
        "verification": _verification(proof),
        "golden": {
            "file": GOLDEN if vectors else None,
            "tolerance": {"absolute": proof.tolerance.absolute, "relative": proof.tolerance.relative},
            "vectors": vectors,
        },
        "notes": list(written.notes),
        "sha256": digests(where),
    }


def _verification(proof: Proof) -> dict[str, Any]:
    """How it was verified, and how far the outputs were from what they must be."""
    said = encode(proof.verification)
    kept = ("verified", "by", "against", "inputs", "samples", "outputs", "agreement")
    return {key: said[key] for key in kept if key in said}


def _golden(proof: Proof) -> tuple[list[dict[str, Any]], bytes]:
    """The golden vectors: where each array lies in one file, and that file (little-endian, at multiples of 8)."""
    content = bytearray()

    def put(arrays: Mapping[str, Array]) -> dict[str, Any]:
        placed = {}
        for name, array in arrays.items():
            content.extend(bytes(-len(content) % 8))
            data = array.astype(array.dtype.newbyteorder("<")).tobytes()
            placed[name] = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": len(content)}
            content.extend(data)
        return placed

    vectors = [{"inputs": put(given), "outputs": put(expected)} for given, expected in proof.golden]
    return vectors, bytes(content)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _webmanifest(name: str) -> dict[str, Any]:
    """The web app manifest (W3C), which makes the page installable."""
    return {
        "name": name,
        "short_name": name[:12],
        "description": f"The model {name}, run in the browser, offline",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": icons.COLOR,
        "icons": [
            {"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"},
            *(
                {"src": f"icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": "any maskable"}
                for size in icons.SIZES
            ),
        ],
    }


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = (PAGE / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"__{key}__", value)
    return text


def _put(where: Path, name: str, text: str) -> None:
    (where / name).write_bytes(text.encode())


def _version() -> str:
    try:
        return metadata.version("haversack")
    except metadata.PackageNotFoundError:
        return "of a checkout"
