"""The readers of `manifest.json`, one module a major version of its schema; all give today's `Manifest`."""

from __future__ import annotations

from collections.abc import Callable

from haversack.runtimes.errors import BundleError
from haversack.runtimes.manifest import Manifest
from haversack.runtimes.schemas import v1
from haversack.runtimes.schemas.reader import Reader, load_json

READERS: dict[int, Callable[[Reader, int], Manifest]] = {1: v1.read}


def parse(text: str | bytes) -> Manifest:
    """Read a manifest with the module of its major version.

    Raises:
        BundleError: See `haversack.runtimes.manifest.parse_manifest`.
    """
    document = load_json(text, "manifest.json")
    if not isinstance(document, dict):
        raise BundleError("manifest.json: expected an object")
    version = document.pop("schema", None)
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise BundleError(f"manifest.json: schema must be a version such as 1.0; found {version!r}")
    major, minor = int(parts[0]), int(parts[1])
    if major not in READERS:
        known = ", ".join(map(str, READERS))
        raise BundleError(
            f"manifest.json: schema {version} is unknown to this runtime, which reads version {known}; update haversack"
        )
    return READERS[major](Reader(document, "manifest.json"), minor)
