"""A Core ML program as plain data, read from a saved package without changing it.

    package = read_package(Path("model.mlpackage"))
    package.functions["main"].block.operations

Only ML programs are read (`mlProgram` in the specification); the older neural-network layers, trees and pipelines are
refused by name. Field semantics are those of Core ML's published `Model.proto`, `FeatureTypes.proto` and `MIL.proto`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.protobuf import Message, decode
from haversack.runtimes.engines.coreml.weights import STORAGE, WeightFile, from_bytes
from haversack.runtimes.errors import EngineError

# MIL.proto's DataType
DATA_TYPES = {
    1: "bool",
    2: "string",
    10: "float16",
    11: "float32",
    12: "float64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}
# FeatureTypes.proto's ArrayDataType
ARRAY_TYPES = {65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8", 65552: "float16"}
COLOR_SPACES = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}


@dataclass(frozen=True)
class ValueType:
    """The declared type of a value.

    Attributes:
        kind: `tensor`, `list`, `tuple`, `dictionary` or `state`.
        dtype: Element type of a tensor (or of the tensor inside a list or state), such as `float16` or `uint4`.
        shape: Sizes of a tensor; None for a dimension known only at run time. None altogether: unknown rank.
    """

    kind: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def storage(self) -> str:
        """NumPy's name of the dtype that holds an element (`int4` is held in `int8`)."""
        return STORAGE[self.dtype][0] if self.dtype in STORAGE else self.dtype

    def __str__(self) -> str:
        shape = "?" if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        text = f"{self.dtype}[{shape}]"
        return text if self.kind == "tensor" else f"{self.kind} of {text}"


@dataclass(frozen=True)
class Named:
    """A value's name with its declared type."""

    name: str
    type: ValueType


@dataclass(frozen=True, eq=False)
class Constant:
    """A value written into the program itself, or into its weight file.

    Attributes:
        type: Its declared type.
        value: An array (rank 0 for a scalar), a `str`, or a list of them. Read-only.
        stored: Bytes it takes in the weight file; 0 when it stands in the program.
    """

    type: ValueType
    value: Any
    stored: int = 0


@dataclass(frozen=True, eq=False)
class Operation:
    """One MIL operation.

    Attributes:
        type: The op, such as `conv`.
        name: Its own name; empty where the package gives none.
        inputs: Parameter → what is bound to it: names of values, or constants. More than one for a tuple.
        outputs: What it produces.
        attributes: Constant attributes (`const` keeps its value here, iOS 16 `constexpr_` ops all parameters).
        blocks: Nested blocks of control flow.
    """

    type: str
    name: str
    inputs: Mapping[str, tuple[str | Constant, ...]]
    outputs: tuple[Named, ...]
    attributes: Mapping[str, Constant]
    blocks: tuple[Block, ...] = ()

    def __str__(self) -> str:
        produced = ", ".join(output.name for output in self.outputs) or self.name
        return f"{self.type} '{produced}'"


@dataclass(frozen=True, eq=False)
class Block:
    """Operations in order of execution, with what they take from and give to the enclosing scope."""

    inputs: tuple[Named, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True, eq=False)
class Function:
    """One function of a program.

    Attributes:
        name: Its name; `main` in a package of one function.
        inputs: Parameters in order, states included.
        opset: The opset its block is written in, such as `CoreML7` (iOS 17).
        block: What it executes.
    """

    name: str
    inputs: tuple[Named, ...]
    opset: str
    block: Block


@dataclass(frozen=True)
class Feature:
    """An input, output or state as the model's description shows it.

    Attributes:
        name: Its name, the same as in the program.
        kind: `tensor`, `image`, `dictionary`, `string`, `int64`, `double` or `state`.
        dtype: Element type of a tensor or state.
        shape: Its (default) shape.
        shapes: All shapes allowed where they are enumerated.
        ranges: (lowest, highest) size of each dimension where a range is allowed; None is no upper bound.
        color_space: Of an image.
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    color_space: str = ""

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether an input may have this shape, where the description enumerates shapes or gives ranges."""
        if self.shapes:
            return shape in self.shapes
        if not self.ranges:
            return True
        return len(shape) == len(self.ranges) and all(
            low <= size and (high is None or size <= high) for size, (low, high) in zip(shape, self.ranges, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Program:
    """A package's program and description.

    Attributes:
        specification_version: 6 is iOS 15, 7 iOS 16, 8 iOS 17, 9 iOS 18.
        functions: By name.
        default_function: The one that runs unless another is asked for.
        inputs: Of the default function, as described.
        outputs: Of the default function, as described.
        states: Of the default function, as described.
        predicted_feature: Name of a classifier's predicted label; empty otherwise.
        predicted_probabilities: Name of a classifier's probabilities; empty otherwise.
    """

    specification_version: int
    functions: Mapping[str, Function]
    default_function: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...] = ()
    predicted_feature: str = ""
    predicted_probabilities: str = ""


def read_package(path: Path) -> Program:
    """Read a `.mlpackage`.

    Args:
        path: The package's folder. Nothing in it is written or touched.

    Raises:
        EngineError: It is not a package, not an ML program, damaged, or points outside itself.
    """
    specification, weights_root = _locate(path)
    try:
        model = decode(specification.read_bytes())
    except OSError as error:
        raise EngineError(f"{path.name}: cannot read its model: {error}") from error
    if "mlProgram" not in model:
        raise EngineError(
            f"{path.name} is not an ML program (specification version {model.get('specificationVersion')}); "
            "neural networks, trees and pipelines are not read"
        )
    return _Reader(path.name, weights_root).program(model)


def _locate(path: Path) -> tuple[Path, Path]:
    """Find the specification and the folder that weight paths start from, both inside the package."""
    try:
        manifest = json.loads((path / "Manifest.json").read_text("utf-8"))
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path.name} is not a Core ML package: its Manifest.json is missing or damaged") from error
    return _inside(path, path / "Data" / item), _inside(path, (path / "Data" / item).parent)


def _inside(package: Path, target: Path) -> Path:
    """Refuse a path that leaves the package: a package from elsewhere must not read other files."""
    resolved = target.resolve()
    if not resolved.is_relative_to(package.resolve()):
        raise EngineError(f"{package.name} points outside itself")
    return resolved


@dataclass
class _Reader:
    """Turns decoded messages into the dataclasses above."""

    package: str
    root: Path
    files: dict[str, WeightFile] = field(default_factory=dict)

    def program(self, model: Message) -> Program:
        description = model.get("description", {})
        functions = {
            name: self.function(name, message) for name, message in model["mlProgram"].get("functions", {}).items()
        }
        default = description.get("defaultFunctionName") or "main"
        if default not in functions:
            raise EngineError(f"{self.package} has no function '{default}'")
        shown = next((f for f in description.get("functions", ()) if f.get("name") == default), description)
        return Program(
            specification_version=model.get("specificationVersion", 0),
            functions=functions,
            default_function=default,
            inputs=tuple(_feature(message) for message in shown.get("input", ())),
            outputs=tuple(_feature(message) for message in shown.get("output", ())),
            states=tuple(_feature(message) for message in shown.get("state", ())),
            predicted_feature=shown.get("predictedFeatureName", ""),
            predicted_probabilities=shown.get("predictedProbabilitiesName", ""),
        )

    def function(self, name: str, message: Message) -> Function:
        opset = message.get("opset", "")
        blocks = message.get("block_specializations", {})
        if opset not in blocks:
            raise EngineError(f"{self.package}: function '{name}' has no block for its opset '{opset}'")
        inputs = tuple(_named(item) for item in message.get("inputs", ()))
        return Function(name, inputs, opset, self.block(blocks[opset]))

    def block(self, message: Message) -> Block:
        return Block(
            inputs=tuple(_named(item) for item in message.get("inputs", ())),
            outputs=tuple(message.get("outputs", ())),
            operations=tuple(self.operation(item) for item in message.get("operations", ())),
        )

    def operation(self, message: Message) -> Operation:
        attributes = {name: self.constant(value) for name, value in message.get("attributes", {}).items()}
        name = attributes.pop("name", None)
        return Operation(
            type=message.get("type", ""),
            name=str(name.value) if name is not None else "",
            inputs={
                parameter: tuple(self.binding(item) for item in argument.get("arguments", ()))
                for parameter, argument in message.get("inputs", {}).items()
            },
            outputs=tuple(_named(item) for item in message.get("outputs", ())),
            attributes=attributes,
            blocks=tuple(self.block(item) for item in message.get("blocks", ())),
        )

    def binding(self, message: Message) -> str | Constant:
        return self.constant(message["value"]) if "value" in message else str(message.get("name", ""))

    def constant(self, message: Message) -> Constant:
        declared = _type(message.get("type", {}))
        if "blobFileValue" in message:
            blob = message["blobFileValue"]
            shape = _static(declared)
            value = self.file(blob.get("fileName", "")).read(blob.get("offset", 0), declared.dtype, shape)
            return Constant(declared, value, math.ceil(value.size * STORAGE[declared.dtype][1] / 8))
        immediate = message.get("immediateValue", {})
        if "tensor" in immediate:
            return Constant(declared, _tensor(immediate["tensor"], declared))
        parts = immediate.get("list", immediate.get("tuple", {})).get("values", ())
        return Constant(declared, [self.constant(part).value for part in parts])

    def file(self, name: str) -> WeightFile:
        if name not in self.files:
            relative = name.removeprefix("@model_path/")
            package = self.root
            while package.name != self.package and package != package.parent:
                package = package.parent
            self.files[name] = WeightFile(_inside(package, self.root / relative))
        return self.files[name]


def _named(message: Message) -> Named:
    return Named(message.get("name", ""), _type(message.get("type", {})))


def _type(message: Message) -> ValueType:
    if "tensorType" in message:
        tensor = message["tensorType"]
        number = tensor.get("dataType", 0)
        if number not in DATA_TYPES:
            raise EngineError(f"the program declares data type number {number}, which this reader does not know")
        dimensions = [_dimension(item) for item in tensor.get("dimensions", ())]
        variadic = any(size == "variadic" for size in dimensions)
        return ValueType("tensor", DATA_TYPES[number], None if variadic else tuple(dimensions))  # type: ignore[arg-type]
    if "listType" in message:
        inner = _type(message["listType"].get("type", {}))
        return ValueType("list", inner.dtype, inner.shape)
    if "stateType" in message:
        inner = _type(message["stateType"].get("wrappedType", {}))
        return ValueType("state", inner.dtype, inner.shape)
    if "tupleType" in message:
        return ValueType("tuple", "", None)
    return ValueType("dictionary", "", None)


def _dimension(message: Message) -> int | str | None:
    if "constant" in message:
        return int(message["constant"].get("size", 0))
    return "variadic" if message.get("unknown", {}).get("variadic") else None


def _static(declared: ValueType) -> tuple[int, ...]:
    """Return the shape of a constant, which must be known."""
    if declared.shape is None or None in declared.shape:
        raise EngineError(f"a constant has the type {declared}, whose shape is not fixed")
    return tuple(size for size in declared.shape if size is not None)


def _tensor(message: Message, declared: ValueType) -> Any:
    """Read an immediate tensor; a scalar string becomes `str`."""
    shape = _static(declared)
    if declared.dtype == "string":
        strings = message.get("strings", {}).get("values", [""])
        return str(strings[0]) if shape == () else np.array(strings, dtype=object).reshape(shape)
    if "bytes" in message:
        return from_bytes(message["bytes"].get("values", b""), declared.dtype, shape)
    for key in ("floats", "ints", "bools", "longInts", "doubles"):
        if key in message:
            values: Array = message[key].get("values", np.zeros(0))
            break
    else:
        values = np.zeros(0)
    if values.size != math.prod(shape):
        raise EngineError(f"a constant of type {declared} has {values.size} values")
    return values.astype(declared.storage).reshape(shape)


def _feature(message: Message) -> Feature:
    name, kinds = message.get("name", ""), message.get("type", {})
    if "imageType" in kinds:
        image = kinds["imageType"]
        size = (image.get("height", 0), image.get("width", 0))
        return Feature(name, "image", shape=size, color_space=COLOR_SPACES.get(image.get("colorSpace", 0), ""))
    if "multiArrayType" in kinds or "stateType" in kinds:
        array = kinds.get("multiArrayType") or kinds.get("stateType", {}).get("arrayType", {})
        enumerated = array.get("enumeratedShapes", {}).get("shapes", ())
        ranges = array.get("shapeRange", {}).get("sizeRanges", ())
        return Feature(
            name,
            "tensor" if "multiArrayType" in kinds else "state",
            ARRAY_TYPES.get(array.get("dataType", 0), ""),
            tuple(int(size) for size in array.get("shape", ())),
            tuple(tuple(int(size) for size in item.get("shape", ())) for item in enumerated),
            tuple(
                (r.get("lowerBound", 0), None if r.get("upperBound", 0) < 0 else r.get("upperBound")) for r in ranges
            ),
        )
    for key, kind in (("dictionaryType", "dictionary"), ("stringType", "string"), ("int64Type", "int64")):
        if key in kinds:
            return Feature(name, kind)
    return Feature(name, "double")
