"""The reader of manifests of schema version 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from haversack.runtimes.errors import FeedError
from haversack.runtimes.manifest import (
    File,
    GoldenArray,
    GoldenVector,
    Manifest,
    Provenance,
    Tensor,
    Tolerance,
    Variant,
)
from haversack.runtimes.preprocess import Preprocess
from haversack.runtimes.schemas.reader import Reader

MINOR = 0
"""The newest minor version that this module knows."""

_DTYPES = frozenset(
    {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"}
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def read(reader: Reader, minor: int) -> Manifest:
    """Read a manifest of version 1.`minor`.

    Raises:
        BundleError: It does not follow the schema.
    """
    v1 = _Version1(tolerant=minor > MINOR)
    return v1.manifest(reader, minor)


class _Version1:
    """One method an object of the schema.

    Args:
        tolerant: Skip unknown keys, which a newer minor version may have added.
    """

    def __init__(self, *, tolerant: bool):
        self._tolerant = tolerant

    def manifest(self, r: Reader, minor: int) -> Manifest:
        inputs, outputs = r.children("inputs", self.tensor), r.children("outputs", self.tensor)
        manifest = Manifest(
            name=r.need("name", str),
            inputs=inputs,
            outputs=outputs,
            variants=r.children("variants", self.variant),
            provenance=r.child("provenance", self.provenance),
            labels=r.sequence("labels", str, optional=True),
            preprocess=_preprocess(r),
            schema=(1, minor),
        )
        if not manifest.variants:
            r.fail("it holds no variant")
        _unique(r, "variant", [variant.id for variant in manifest.variants])
        _unique(r, "input", [tensor.name for tensor in inputs])
        _unique(r, "output", [tensor.name for tensor in outputs])
        _unique(r, "artifact", [variant.file.path for variant in manifest.variants])
        for variant in manifest.variants:
            if len(variant.inputs) != len(inputs) or len(variant.outputs) != len(outputs):
                r.fail(f"{variant.id} has other inputs or outputs than the model")
            for vector in variant.golden:
                if set(vector.inputs) != {t.name for t in inputs} or set(vector.outputs) != {t.name for t in outputs}:
                    r.fail(f"{variant.id}: a golden vector names other inputs or outputs than the model's")
        r.finish(tolerant=self._tolerant)
        return manifest

    def tensor(self, r: Reader) -> Tensor:
        tensor = Tensor(
            name=r.need("name", str),
            dtype=self._dtype(r),
            shape=r.sequence("shape", int, str) or (),
            layout=r.get("layout", str, optional=True),
            scale=r.get("scale", float, optional=True),
            zero_point=r.get("zero_point", int, optional=True),
        )
        if any(isinstance(size, int) and size < 0 for size in tensor.shape):
            r.fail("shape has a negative size")
        if tensor.scale is not None and tensor.scale <= 0:
            r.fail("scale must be above 0")
        r.finish(tolerant=self._tolerant)
        return tensor

    def variant(self, r: Reader) -> Variant:
        variant = Variant(
            id=r.need("id", str),
            target=r.need("target", str),
            compression=r.need("compression", str),
            file=r.child("file", self._file("artifacts")),
            inputs=r.children("inputs", self.tensor),
            outputs=r.children("outputs", self.tensor),
            recipe=r.scalars("recipe", str),
            companions=r.children("companions", self._file("artifacts")),
            verified=r.need("verified", bool),
            judged_by=r.need("judged_by", str),
            emulated=r.need("emulated", bool),
            min_runtime=r.get("min_runtime", str, optional=True),
            tolerance=r.child("tolerance", self.tolerance),
            golden=r.children("golden", self.golden),
            notes=r.sequence("notes", str) or (),
        )
        if not _ID.fullmatch(variant.id):
            r.fail(f"id must be letters, digits, dots, dashes and underscores; found {variant.id!r:.60}")
        r.finish(tolerant=self._tolerant)
        return variant

    def tolerance(self, r: Reader) -> Tolerance:
        tolerance = Tolerance(r.need("absolute", float), r.need("relative", float))
        if tolerance.absolute < 0 or tolerance.relative < 0:
            r.fail("a tolerance is negative")
        r.finish(tolerant=self._tolerant)
        return tolerance

    def golden(self, r: Reader) -> GoldenVector:
        vector = GoldenVector(r.mapping("inputs", self.golden_array), r.mapping("outputs", self.golden_array))
        r.finish(tolerant=self._tolerant)
        return vector

    def golden_array(self, r: Reader) -> GoldenArray:
        shape = r.sequence("shape", int) or ()
        if any(size < 0 for size in shape):
            r.fail("shape has a negative size")
        array = GoldenArray(r.child("file", self._file("golden")), self._dtype(r), shape)
        r.finish(tolerant=self._tolerant)
        return array

    def provenance(self, r: Reader) -> Provenance:
        provenance = Provenance(
            source=r.need("source", str),
            source_format=r.need("source_format", str),
            source_sha256=r.need("source_sha256", str),
            tools=r.scalars("tools", str),
            calibration=r.get("calibration", str, optional=True),
            calibration_sha256=r.get("calibration_sha256", str, optional=True),
            evaluation=r.get("evaluation", str, optional=True),
            evaluation_sha256=r.get("evaluation_sha256", str, optional=True),
            training_data=r.get("training_data", str, optional=True),
            code_commit=r.get("code_commit", str, optional=True),
            hyperparameters=r.scalars("hyperparameters", str, bool, int, float),
        )
        r.finish(tolerant=self._tolerant)
        return provenance

    def _file(self, folder: str) -> Callable[[Reader], File]:
        def read_file(r: Reader) -> File:
            file = File(r.need("path", str), r.need("bytes", int), r.need("sha256", str))
            parts = PurePosixPath(file.path).parts
            if len(parts) != 2 or parts[0] != folder or "/".join(parts) != file.path or parts[1] in (".", ".."):
                r.fail(f"path must be {folder}/NAME, found {file.path!r:.60}")
            if file.bytes < 0 or not _SHA256.fullmatch(file.sha256):
                r.fail("bytes must not be negative, and sha256 64 hexadecimal digits")
            r.finish(tolerant=self._tolerant)
            return file

        return read_file

    def _dtype(self, r: Reader) -> str:
        dtype = r.need("dtype", str)
        if dtype not in _DTYPES:
            r.fail(f"unknown dtype {dtype!r:.60}")
        return dtype


def _preprocess(r: Reader) -> Preprocess | None:
    values = r.raw("preprocess")
    try:
        return None if values is None else Preprocess.from_json(values)
    except FeedError as error:
        r.fail(str(error))


def _unique(r: Reader, kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        r.fail(f"two {kind}s are called {twice[0]}")
