"""The files that run models in a browser: which, of which npm package and version, with which checksums.

They are not committed. `python -m haversack.convert.targets.web.vendor` fetches them into `vendor/<package>/` beside
this module, checks them against this table and adds each licence; a wheel that is built afterwards carries them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from haversack.runtimes.errors import EngineError

FETCH = "python -m haversack.convert.targets.web.vendor"
"""The command that fetches them."""

VENDOR = Path(__file__).resolve().with_name("vendor")
"""Where they lie."""

LICENCE = "LICENSE"
"""Name of the licence's text in each package's folder."""


@dataclass(frozen=True)
class File:
    """One file of a package.

    Attributes:
        name: In the package's folder, without folders of its own.
        source: Where it is in the npm package, with forward slashes.
        bytes: Its size.
        sha256: 64 hexadecimal digits.
        gzip_bytes: After gzip at level 9; measured once, for brotli takes a minute for what never changes.
        brotli_bytes: After brotli at quality 11, likewise; a test measures both again.
    """

    name: str
    source: str
    bytes: int
    sha256: str
    gzip_bytes: int | None = None
    brotli_bytes: int | None = None


@dataclass(frozen=True)
class Package:
    """What is taken of one npm package.

    Attributes:
        name: On npm, the scope included.
        version: Exactly this one: another has other checksums.
        licence: SPDX identifier; the text comes with the command that fetches, for the packages carry none.
        copyright: The line that goes with the licence.
        files: What is taken.
    """

    name: str
    version: str
    licence: str
    copyright: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Of all files, the licence aside."""
        return sum(file.bytes for file in self.files)


PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package(
            name="onnxruntime-web",
            version="1.30.0",
            licence="MIT",
            copyright="Copyright (c) Microsoft Corporation",
            files=(
                File(
                    "ort.wasm.min.mjs",
                    "dist/ort.wasm.min.mjs",
                    50_126,
                    "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
                    gzip_bytes=16_141,
                    brotli_bytes=14_543,
                ),
                File(
                    "ort-wasm-simd-threaded.mjs",
                    "dist/ort-wasm-simd-threaded.mjs",
                    24_381,
                    "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
                    gzip_bytes=9_070,
                    brotli_bytes=8_009,
                ),
                File(
                    "ort-wasm-simd-threaded.wasm",
                    "dist/ort-wasm-simd-threaded.wasm",
                    14_239_897,
                    "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
                    gzip_bytes=3_652_765,
                    brotli_bytes=2_355_011,
                ),
            ),
        ),
        Package(
            name="@litertjs/core",
            version="2.5.3",
            licence="Apache-2.0",
            copyright="Copyright 2025 Google LLC",
            files=(
                File(
                    "index.js",
                    "dist/index.js",
                    53_482,
                    "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
                ),
                File(
                    "litert_wasm_internal.js",
                    "wasm/litert_wasm_internal.js",
                    273_035,
                    "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
                ),
                File(
                    "litert_wasm_internal.wasm",
                    "wasm/litert_wasm_internal.wasm",
                    9_367_934,
                    "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
                ),
                File(
                    "litert_wasm_threaded_internal.js",
                    "wasm/litert_wasm_threaded_internal.js",
                    317_475,
                    "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849",
                ),
                File(
                    "litert_wasm_threaded_internal.wasm",
                    "wasm/litert_wasm_threaded_internal.wasm",
                    9_445_834,
                    "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf",
                ),
            ),
        ),
        Package(
            name="@litertjs/wasm-utils",
            version="2.5.3",
            licence="Apache-2.0",
            copyright="Copyright 2025 Google LLC",
            files=(
                File(
                    "index.js",
                    "dist/index.js",
                    1_494,
                    "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
                ),
            ),
        ),
    )
}
"""By name."""


def problems(package: Package, where: Path | None = None) -> list[str]:
    """What is missing or not what the table says, one clause a file; empty where all is well.

    Args:
        package: One of `PACKAGES`.
        where: The folder of its files; by default the one in `VENDOR`.
    """
    where = where or VENDOR / package.name
    found = []
    for file in package.files:
        path = where / file.name
        if not path.is_file():
            found.append(f"{file.name} is missing")
        elif path.stat().st_size != file.bytes:
            found.append(f"{file.name} has {path.stat().st_size:,} bytes, not {file.bytes:,}")
        elif sha256(path) != file.sha256:
            found.append(f"{file.name} has another checksum")
    if not (where / LICENCE).is_file():
        found.append(f"{LICENCE} is missing")
    return found


def folder(name: str, *, verify: bool = True) -> Path:
    """The folder of a package's files.

    Args:
        name: The package's, such as `onnxruntime-web`.
        verify: Read the files and check them (14 MB take 30 ms); otherwise they are only looked for.

    Raises:
        EngineError: They are not there, or are not those of the table: one line, with the command that fetches them.
    """
    package = PACKAGES[name]
    where = VENDOR / package.name
    if not all((where / each).is_file() for each in (LICENCE, *(file.name for file in package.files))):
        raise EngineError(f"{name} {package.version} is not here; fetch it once with `{FETCH}` (needs npm)")
    if verify and (wrong := problems(package)):
        raise EngineError(f"{name} {package.version}: {'; '.join(wrong)}; fetch it anew with `{FETCH}` (needs npm)")
    return where


def is_here(name: str) -> bool:
    """Whether a package's files are there; their checksums are not looked at."""
    try:
        folder(name, verify=False)
    except EngineError:
        return False
    return True


def sha256(path: Path) -> str:
    """Of one file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
