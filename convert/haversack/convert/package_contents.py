"""What a Core ML package holds: its operations, the precision they compute in, and how each layer's weights are kept.

Any tool's package is read, by the reader of the reference evaluator. A layer is an operation that takes weights: a
constant from the weight file, as it is or decompressed by `constexpr_` operations (MIL's operator reference,
coremltools 9, describes their parameters).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from haversack.convert.described import Package, PackageLayer, Tensor
from haversack.convert.publish import size
from haversack.runtimes.digest import path_sha256
from haversack.runtimes.engines.coreml.evaluate import Evaluator
from haversack.runtimes.engines.coreml.program import Block, Constant, Feature, Operation, Program, read_package
from haversack.runtimes.errors import EngineError

SYSTEMS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18"}
"""The oldest system that reads a specification version, which later ones do too."""


def package_contents(path: Path) -> Package:
    """Read a package.

    Args:
        path: The `.mlpackage`; nothing in it is changed.

    Raises:
        EngineError: It is not an ML program, damaged, or points outside itself.
    """
    program = read_package(path)
    weights = _Weights()
    layers, ops, precision = [], Counter[str](), Counter[str]()
    for operation in _walk(program.functions[program.default_function].block):
        if operation.type == "const" or operation.type.startswith("constexpr_"):
            weights.learn(operation)
            continue
        ops[operation.type] += 1
        dtype = _precision(operation)
        if dtype.startswith("float"):
            precision[dtype] += 1
        layer = weights.layer(operation, dtype)
        if layer is not None:
            layers.append(layer)
    kept = Counter[str]()
    for layer in layers:
        kept[layer.weights] += layer.bytes
    version = program.specification_version
    return Package(
        name=path.stem,
        bytes=size(path),
        sha256=path_sha256(path),
        system=SYSTEMS.get(version, f"specification version {version}"),
        functions=tuple(program.functions),
        ops=dict(sorted(ops.items())),
        precision=dict(precision.most_common()),
        weights=dict(kept.most_common()),
        layers=tuple(layers),
        inputs=tuple(_tensor(feature, program) for feature in program.inputs),
        outputs=tuple(_tensor(feature, program) for feature in program.outputs),
        states=tuple(_tensor(feature, program) for feature in program.states),
        problem=_problem(program),
    )


def _walk(block: Block) -> Iterator[Operation]:
    """Operations in order, those of nested blocks after the one that holds them."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _walk(inner)


def _precision(operation: Operation) -> str:
    """The dtype of what an operation gives: the first floating one, or the first."""
    dtypes = [output.type.dtype for output in operation.outputs]
    return next((dtype for dtype in dtypes if dtype.startswith("float")), dtypes[0] if dtypes else "")


@dataclass
class _Kept:
    """Weights as one name gives them."""

    how: str
    elements: int
    bytes: int


@dataclass
class _Weights:
    """What is known of constants by name; the bytes of each are counted at its first reader."""

    constants: dict[str, Constant] = field(default_factory=dict)
    kept: dict[str, _Kept] = field(default_factory=dict)

    def learn(self, operation: Operation) -> None:
        """Take in a constant or the decompression of some."""
        if operation.type == "const":
            value, name = operation.attributes.get("val"), operation.outputs[0].name
            if value is not None:
                self.constants[name] = value
                if value.stored:
                    self.kept[name] = _Kept(value.type.dtype, int(np.size(value.value)), value.stored)
            return
        given = self._parameters(operation)
        before = self._taken(operation)
        stored = sum(each.bytes for each in before)
        stored += sum(constant.stored for constant in _constants(operation))
        inner = ", ".join(each.how for each in before if "," in each.how or " " in each.how)
        shape = operation.outputs[0].type.shape if operation.outputs else None
        how = ", ".join(filter(None, (_how(operation, given), inner)))
        kept = _Kept(how, math.prod(each or 1 for each in shape or ()), stored)
        self.kept.update({output.name: kept for output in operation.outputs})

    def layer(self, operation: Operation, dtype: str) -> PackageLayer | None:
        """The layer that an operation is, where it takes weights."""
        own = [
            _Kept(constant.type.dtype, int(np.size(constant.value)), constant.stored)
            for constant in _constants(operation)
            if constant.stored
        ]
        own += self._taken(operation)
        if not own:
            return None
        main = max(own, key=lambda each: each.elements)
        name = operation.outputs[0].name if operation.outputs else operation.name
        return PackageLayer(
            name, operation.type, dtype, main.how, sum(e.elements for e in own), sum(e.bytes for e in own)
        )

    def _taken(self, operation: Operation) -> list[_Kept]:
        """The weights that an operation reads, which are counted with it and no more."""
        found = {id(kept): kept for name in _names(operation) if (kept := self.kept.get(name)) is not None}
        self.kept = {name: kept for name, kept in self.kept.items() if id(kept) not in found}
        return list(found.values())

    def _parameters(self, operation: Operation) -> dict[str, Constant]:
        """The constants that a decompression is given, by parameter."""
        given = dict(operation.attributes)
        for parameter, bound in operation.inputs.items():
            for each in bound:
                constant = self.constants.get(each) if isinstance(each, str) else each
                if constant is not None:
                    given[parameter] = constant
        return given


def _names(operation: Operation) -> list[str]:
    return [each for bound in operation.inputs.values() for each in bound if isinstance(each, str)]


def _constants(operation: Operation) -> list[Constant]:
    bound = [each for values in operation.inputs.values() for each in values if isinstance(each, Constant)]
    return [*operation.attributes.values(), *bound]


def _how(operation: Operation, given: Mapping[str, Constant]) -> str:
    """How a decompression's weights are kept, in words."""
    kind, shapes = operation.type.removeprefix("constexpr_"), {k: np.shape(v.value) for k, v in given.items()}
    result = operation.outputs[0].type.shape if operation.outputs else None
    count = math.prod(each or 1 for each in result or ())
    if kind == "cast":
        return f"{_dtype(given, 'source_val')} as {operation.outputs[0].type.dtype}"
    if kind == "affine_dequantize":
        scales = math.prod(shapes.get("scale", ()))
        return f"{_dtype(given, 'quantized_data')}, {'one scale' if scales == 1 else 'a scale a channel'}"
    if kind == "blockwise_shift_scale":
        return f"{_dtype(given, 'data')}, {_blocks(shapes.get('data', result or ()), shapes.get('scale', ()))}"
    if kind == "sparse_blockwise_shift_scale":
        return f"{_dtype(given, 'nonzero_data')}, {_blocks(result or (), shapes.get('scale', ()))}"
    if kind in ("lut_to_dense", "lut_to_sparse"):
        table = shapes.get("lut", ())
        entries, palettes = (table[0], 1) if len(table) < 3 else (table[-2], math.prod(table[:-2]))
        several = f", {palettes} palettes" if palettes > 1 else ""
        return f"palette of {entries} ({math.ceil(math.log2(max(2, entries)))} bits){several}"
    if kind == "sparse_to_dense":
        if "nonzero_data" in shapes:
            share = 1 - math.prod(shapes["nonzero_data"]) / max(count, 1)
        elif "mask" in shapes and given["mask"].type.dtype == "uint1":
            share = 1 - float(np.mean(given["mask"].value))
        else:
            return "sparse"
        return f"sparse ({share:.0%} zeros)"
    return kind


def _dtype(given: Mapping[str, Constant], parameter: str) -> str:
    return given[parameter].type.dtype if parameter in given else "another's result"


def _blocks(data: tuple[int | None, ...], scale: tuple[int, ...]) -> str:
    """Over how much of the weights one scale goes."""
    if math.prod(scale) == 1:
        return "one scale"
    lengths = [size // parts for size, parts in zip(data, scale, strict=False) if size and 1 < parts < size]
    return f"blocks of {'x'.join(map(str, lengths))}" if lengths else "a scale a channel"


def _tensor(feature: Feature, program: Program) -> Tensor:
    """An input, output or state: a dimension that may vary shows how far."""
    if feature.kind not in ("tensor", "state"):
        return Tensor(feature.name, " ".join(filter(None, (feature.kind, feature.color_space))), feature.shape)
    if feature.shapes:
        sizes = [sorted({shape[axis] for shape in feature.shapes}) for axis in range(len(feature.shapes[0]))]
        return Tensor(
            feature.name,
            feature.dtype,
            tuple(each[0] if len(each) == 1 else "|".join(map(str, each)) for each in sizes),
        )
    if any(low != high for low, high in feature.ranges):
        spans = tuple(low if low == high else f"{low}..{'' if high is None else high}" for low, high in feature.ranges)
        return Tensor(feature.name, feature.dtype, spans)
    shape: tuple[int | str, ...] = feature.shape or _declared(feature.name, program)
    return Tensor(feature.name, feature.dtype, shape)


def _declared(name: str, program: Program) -> tuple[int | str, ...]:
    """The shape that the program gives a result, where the description leaves it out."""
    for operation in program.functions[program.default_function].block.operations:
        for output in operation.outputs:
            if output.name == name and output.type.shape is not None:
                return tuple("?" if size is None else size for size in output.type.shape)
    return ()


def _problem(program: Program) -> str:
    """Why the reference evaluator cannot run it; empty where it can."""
    try:
        Evaluator(program)
    except EngineError as error:
        return str(error)
    return ""
