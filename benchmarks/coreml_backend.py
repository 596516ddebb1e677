"""ONNX's own backend tests through the Core ML target: lowering, save, reload, and the reference evaluator.

    python -m benchmarks.coreml_backend                      the baked mode, about two minutes on two cores
    python -m benchmarks.coreml_backend -k resize --list refused

Cases, modes and outcomes are those of `benchmarks.backend_cases`; the package is for iOS 17 in float32. Strict: it has
the inputs and outputs of the model in its order, under its names and with its shapes. Their types are the model's where
Core ML has them at a model's edge, which is float32, float16 and int32; else the nearest, which the target notes:

    float64                                                  float32
    int64, bool and the integers of 8 and 16 bits            int32, equal in value
    a scalar                                                 one axis of one element
    a name that is no MIL identifier, such as `0` or `a:0`   `_0`, `a_0`

A case is skipped only where no MIL tensor can hold an input or output: strings, sequences, optionals, complex and
bfloat16 numbers, float8, 4- and 2-bit types, uint32 and uint64 (whose range is beyond int32, MIL's widest integer), and
more than five axes. Floats agree to RTOL and ATOL, integers exactly.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks.backend_cases import Case, Outcome, difference, main, outcome
from haversack.runtimes.engines import Array

AT_THE_EDGE = {
    "bool": "int32",
    "double": "float32",
    "float": "float32",
    "float16": "float16",
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16"), "int32"),
}
"""ONNX's names of element types to those of the package."""

MAX_RANK = 5


def _unheld(model: onnx.ModelProto) -> Iterator[str]:
    for value in (*model.graph.input, *model.graph.output):
        if value.type.WhichOneof("value") != "tensor_type":
            yield value.type.WhichOneof("value").removesuffix("_type")
            continue
        element = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        if element not in AT_THE_EDGE:
            yield re.sub(r"^(float8).*|^u?(int[24])$", r"\1\2", element)
        if len(value.type.tensor_type.shape.dim) > MAX_RANK:
            yield f"rank above {MAX_RANK}"


def convert_and_run(case: Case, mode: str, path: Path) -> Outcome:
    """Convert and run one case."""
    from haversack.convert.targets import Options, open_target

    return outcome(case, mode, path, open_target("coreml"), Options(deployment_target="iOS17"), _judge)


def _at_the_edge(array: Array) -> Array:
    kind = {"f": "float16" if array.dtype == np.float16 else "float32"}.get(array.dtype.kind, "int32")
    shaped = array.reshape(array.shape or (1,))
    if kind == "int32" and array.dtype == np.int64 and not np.array_equal(shaped.astype(kind), shaped):
        raise ValueError("the case holds integers beyond int32")
    with np.errstate(over="ignore"):
        return shaped.astype(kind)


def _names(names: Iterable[str]) -> list[str]:
    return [re.sub(r"^(?=\d)|[^A-Za-z0-9_]", "_", name) for name in names]


def _judge(path: Path, outputs: Sequence[str], sets: Sequence[tuple[dict[str, Array], list[Array]]]) -> str | None:
    from haversack.runtimes.engines import open_engine

    engine = open_engine(path)
    for what, found, names in (("inputs", engine.inputs, sets[0][0]), ("outputs", engine.outputs, outputs)):
        if [spec.name for spec in found] != _names(names):
            return f"{what} {[spec.name for spec in found]} for {list(names)}"
    for feeds, expected in sets:
        given = {name: _at_the_edge(array) for name, array in zip(_names(feeds), feeds.values(), strict=True)}
        for spec in engine.inputs:
            if spec.dtype != given[spec.name].dtype or spec.shape != given[spec.name].shape:
                return f"input {spec.name} is {spec.dtype}{list(spec.shape)}"
        results = engine.run(given)
        for name, array in zip(_names(outputs), expected, strict=True):
            if reason := difference(results[name], _at_the_edge(np.asarray(array))):
                return f"{name} {reason}"
    return None


if __name__ == "__main__":
    sys.exit(main(str(__doc__), ["baked"], _unheld, convert_and_run, ".mlpackage"))
