"""What a model or a Core ML package is, as plain frozen dataclasses; `report` holds what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tensor:
    """An input or output as the user knows it: name, NumPy dtype, and a size or symbol an axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Model:
    """What was read.

    Attributes:
        name: File name without its suffix.
        format: `onnx`, `tflite`, `keras`, `h5`, `savedmodel` or `skops`.
        sha256: Of the file (of a folder: over sorted relative paths and bytes).
        bytes: Size of the file or folder.
        opset: The pinned opset it is held at.
        nodes: Count of operators after the passes.
        ops: Count of each operator.
        parameters: Elements of all initializers.
        inputs: In the model's order.
        outputs: In the model's order.
        notes: What the user should know of how it was read, one sentence each.
    """

    name: str
    format: str
    sha256: str
    bytes: int
    opset: int
    nodes: int
    ops: dict[str, int]
    parameters: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackageLayer:
    """One operation of a Core ML package that takes weights.

    Attributes:
        name: What it gives.
        op: Its MIL type.
        precision: The dtype of what it gives.
        weights: How the largest of its weights are kept, in words.
        elements: Numbers in all of its weights, decompressed.
        bytes: What they take in the weight file; weights that several operations read count at the first.
    """

    name: str
    op: str
    precision: str
    weights: str
    elements: int
    bytes: int


@dataclass(frozen=True)
class Package:
    """What a Core ML package holds, whoever made it.

    Attributes:
        name: Its name without the suffix.
        bytes: Of all its files.
        sha256: Over sorted relative paths and bytes.
        system: The oldest system that reads it.
        functions: Names of its functions; the rest is about the default one.
        ops: Count of each MIL operation, constants and their decompression left out.
        precision: Count of operations by the floating-point dtype that they give.
        weights: Bytes of weights by how they are kept.
        layers: Operations with weights, in the program's order.
        inputs: As described.
        outputs: As described.
        states: As described.
        problem: Why the reference evaluator cannot run it; empty where it can.
    """

    name: str
    bytes: int
    sha256: str
    system: str
    functions: tuple[str, ...]
    ops: dict[str, int]
    precision: dict[str, int]
    weights: dict[str, int]
    layers: tuple[PackageLayer, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...] = ()
    problem: str = ""
