"""The manifest: what a bundle says it holds. `manifest.json` is the part of a bundle that is hashed and signed.

Dates, machines and measured numbers are not here but in `measurements.json`, so the same model gives the same
manifest. The schema's version is `major.minor`: a reader refuses a major version it does not know and skips keys that
a newer minor version added. Each major version is read by a module of its own in `schemas/`, which never changes
once the next one exists, so that old bundles stay readable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from haversack.runtimes.engines import TensorSpec
from haversack.runtimes.preprocess import Preprocess

SCHEMA = (1, 0)
"""The version that is written."""


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: The model's name for it; in a variant, the artifact's own.
        dtype: NumPy's name of the element type.
        shape: A size an axis, or the name of a symbolic dimension.
        layout: Order of an image's axes, such as `NHWC`; None where it is no image or not known.
        scale: Of a quantized integer tensor, real = (integer - zero_point) * scale; None where it is not quantized.
        zero_point: Likewise.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None
    scale: float | None = None
    zero_point: int | None = None

    @property
    def spec(self) -> TensorSpec:
        """Name, dtype and shape alone."""
        return TensorSpec(self.name, self.dtype, self.shape)


@dataclass(frozen=True)
class File:
    """One file of the bundle, or one folder (of a `.mlpackage`).

    Attributes:
        path: In the bundle, with forward slashes.
        bytes: Its size; of a folder, that of all its files.
        sha256: Of its bytes; of a folder, `haversack.runtimes.digest.tree_sha256`.
    """

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Tolerance:
    """How far an output may lie from the golden one: |found - expected| <= absolute + relative * max|expected|.

    Integer kernels differ by a unit between CPUs, so an exact comparison would refuse a bundle that is right.
    """

    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True)
class GoldenArray:
    """One array of a golden vector: raw little-endian bytes in C order."""

    file: File
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GoldenVector:
    """Inputs and the outputs that the variant gave for them where it was made, by the model's names."""

    inputs: Mapping[str, GoldenArray]
    outputs: Mapping[str, GoldenArray]


@dataclass(frozen=True)
class Variant:
    """One artifact: a (target, compression) pair of the model.

    Attributes:
        id: Unique in the bundle, such as `tflite-int8`.
        target: `tflite`, `coreml`, `onnx` or `web`.
        compression: The recipe's name.
        file: The artifact; its suffix says which engine runs it.
        inputs: As the artifact has them, in the order of the model's.
        outputs: As the artifact has them, in the order of the model's.
        recipe: What the recipe was given, such as `{"ranges": "mse"}`.
        companions: Files that belong to it: an operator config, a `.ort`.
        verified: Whether it was executed and keeps its recipe's contract.
        judged_by: The engine and version that executed it, and what it was compared with; empty without.
        emulated: That engine is not the one a device has.
        min_runtime: The oldest runtime or system that runs it, where known.
        tolerance: For its golden vectors.
        golden: Its golden vectors.
        notes: What a user should know, one sentence each.
    """

    id: str
    target: str
    compression: str
    file: File
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    recipe: Mapping[str, str] = field(default_factory=dict)
    companions: tuple[File, ...] = ()
    verified: bool = False
    judged_by: str = ""
    emulated: bool = False
    min_runtime: str | None = None
    tolerance: Tolerance = Tolerance()
    golden: tuple[GoldenVector, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where the model comes from.

    Attributes:
        source: Name of the source file.
        source_format: Such as `onnx` or `keras`.
        source_sha256: Of the source file or folder.
        tools: Version by the name of each tool that took part.
        calibration: What the calibration data was, in words; None without.
        calibration_sha256: Of that data.
        evaluation: What the evaluation data was; None without.
        evaluation_sha256: Of that data.
        training_data: As the user gives it.
        code_commit: As the user gives it.
        hyperparameters: As the user gives them.
    """

    source: str
    source_format: str
    source_sha256: str
    tools: Mapping[str, str] = field(default_factory=dict)
    calibration: str | None = None
    calibration_sha256: str | None = None
    evaluation: str | None = None
    evaluation_sha256: str | None = None
    training_data: str | None = None
    code_commit: str | None = None
    hyperparameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    Attributes:
        name: The model's.
        inputs: The model's own, before any target.
        outputs: Likewise.
        variants: At least one, of different ids.
        provenance: Where the model comes from.
        labels: Name of each class; None where it has none.
        preprocess: How an image becomes the model's input; None where it is not said.
        schema: The version it was read from.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    variants: tuple[Variant, ...]
    provenance: Provenance
    labels: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    schema: tuple[int, int] = SCHEMA

    def files(self) -> dict[str, File]:
        """Every file that the manifest vouches for, by path."""
        found: dict[str, File] = {}
        for variant in self.variants:
            for file in (variant.file, *variant.companions):
                found[file.path] = file
            for vector in variant.golden:
                for array in (*vector.inputs.values(), *vector.outputs.values()):
                    found[array.file.path] = array.file
        return found

    def to_json(self) -> str:
        """The text of `manifest.json`: keys sorted, the same bytes for the same manifest."""
        values = {key: value for key, value in vars(self).items() if key != "schema"}
        document = {"schema": f"{SCHEMA[0]}.{SCHEMA[1]}", **_plain(values)}
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def parse_manifest(text: str | bytes) -> Manifest:
    """Read a `manifest.json` of any known schema version.

    Raises:
        BundleError: It is no JSON, of an unknown version, or a key is missing, unknown or of the wrong type or value.
    """
    from haversack.runtimes.schemas import parse

    return parse(text)


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them."""
    if isinstance(value, Preprocess):
        return value.to_json()
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(entry) for key, entry in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value
