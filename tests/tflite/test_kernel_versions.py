"""Operator versions and the releases that have them: asked of LiteRT's resolver and of TensorFlow's own converter."""

from __future__ import annotations

import ast
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from kernel_cases import FAMILIES, Cell, cells

from haversack.convert.targets import tflite
from haversack.convert.targets.tflite import runtimes, write
from haversack.convert.targets.tflite.kernels import KERNELS, version
from haversack.convert.targets.tflite.schema import OPERATORS

CONTROL = {"IF", "WHILE"}
"""Operators that take whatever their subgraphs take."""


def rows() -> Iterator[tuple[str, str]]:
    """Every row of the table, an element type at a time."""
    for code in FAMILIES:
        kernel = KERNELS[code]
        forms = {"quantized": kernel.int8, "int4": kernel.int4, "quantized int16": kernel.int16}
        for dtype in (*sorted(kernel.plain), *(form for form, held in forms.items() if held)):
            yield code, dtype


def emitted() -> set[str]:
    """Builtin operators that the target's sources name."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    onnx_names = {schema.name for schema in onnx.defs.get_all_schemas()}
    named: set[str] = set()
    tables = ("schema.py", "kernels.py", "runtimes.py")
    for path in (path for path in Path(tflite.__path__[0]).rglob("*.py") if path.name not in tables):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {name for name in named if hasattr(BuiltinOperator, name) and name not in onnx_names}


def test_every_operator_has_a_row_a_number_and_a_release() -> None:
    codes = emitted()
    assert {"ADD", "CONV_2D", "WHILE"} <= codes
    assert codes - set(OPERATORS) == set(), "no number in schema.py"
    assert codes - set(KERNELS) - CONTROL == set(), "no row in kernels.py"
    assert codes - set(runtimes._RELEASES) == set(), "no release in runtimes.py"
    assert set(runtimes._RELEASES) == set(KERNELS) | CONTROL


def test_every_cell_has_a_release() -> None:
    missing = {
        f"{code} {dtype} version {version(cell.graph.operators[0])}"
        for code, dtype in rows()
        for cell in cells(code, dtype)
        if runtimes.minimum(cell.graph.operators) is None
    }
    assert missing == set()


def loads(cell: Cell, number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether LiteRT's resolver knows the operator under that version."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    monkeypatch.setattr(write, "version", lambda _: number)
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        Interpreter(model_content=cell.data, experimental_op_resolver_type=resolver)
    except ValueError as error:
        return "find op for builtin opcode" not in str(error)
    return True


@pytest.mark.parametrize("code", FAMILIES)
def test_the_number_is_looked_at(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT has the versions 1 (BROADCAST_TO: 2) to some last one; every number that is written is among them."""
    every = [cell for row, dtype in rows() if row == code for cell in cells(code, dtype)]
    written = {version(cell.graph.operators[0]) for cell in every}
    known = {number for number in range(20) if loads(every[0], number, monkeypatch)}
    first = 2 if code == "BROADCAST_TO" else 1
    assert known == set(range(first, max(known) + 1))
    assert written <= known
    assert max(known) < 19


ORACLE = """
import json, os, pickle, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from tensorflow.compiler.mlir.lite.python import wrap_converter
from ai_edge_litert import schema_py_generated as schema

def meant(model):
    graph = model.subgraphs[0]
    return [
        [graph.tensors[t].type for t in op.inputs if t >= 0]
        + [getattr(op.builtinOptions, "potScaleInt16", None)]
        for op in graph.operators
    ]

told = {}
for name, data in pickle.load(open(sys.argv[1], "rb")):
    try:
        written = wrap_converter.wrapped_experimental_mlir_sparsify(data)
    except Exception:
        continue
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(written, 0))
    release = [bytes(model.buffers[m.buffer].data) for m in model.metadata if m.name == b"min_runtime_version"]
    given = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    codes = [[c.builtinCode, c.version] for c in model.operatorCodes]
    told[name] = [codes, release[0].rstrip(bytes(1)).decode(), meant(model) == meant(given)]
json.dump(told, open(sys.argv[2], "w"))
"""
"""TensorFlow's converter reads each file and writes it again, with the version and release that it finds right; and
whether that is still the same operator: it makes biases of int64 int32, and forgets that scales need not be powers of
two."""

ANOTHER_OPERATOR = {"ADD": {3}, "CONV_2D": {4, 6}, "DEPTHWISE_CONV_2D": {5}, "FULLY_CONNECTED": {7}, "SUB": {5}}
"""Operators on quantized int16 that the converter makes others of, so that its version is not about ours, and the
versions that TensorFlow's own rules give ours (`lite/tools/versioning/op_version.cc`; a grouped CONV_2D: 6)."""


@pytest.mark.slow
def test_versions_and_releases_are_those_of_tensorflows_converter(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    # That converter crashes on constants of int4.
    given = {cell.name: cell for code, dtype in rows() if dtype != "int4" for cell in cells(code, dtype)}
    asked, told = tmp_path / "cells.pickle", tmp_path / "told.json"
    asked.write_bytes(pickle.dumps([(name, cell.data) for name, cell in given.items()]))
    done = subprocess.run(
        [sys.executable, "-c", ORACLE, str(asked), str(told)],
        capture_output=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compared, differing = set(), {}
    other: dict[str, set[int]] = {}
    for name, (codes, release, same) in json.loads(told.read_text()).items():
        operator = given[name].graph.operators[0]
        if [code for code, _ in codes] != [OPERATORS[operator.code][0]]:
            continue  # an identity, which that converter removes
        compared.add(operator.code)
        published = runtimes.published(operator)
        if (codes[0][1], release) == (version(operator), published) or excepted(name, codes[0][1], given[name]):
            continue
        if not same and "quantized int16" in name:
            other.setdefault(operator.code, set()).add(version(operator))
        else:
            differing[name] = f"{codes[0][1]} {release}, not {version(operator)} {published}"
    assert differing == {}
    assert other == ANOTHER_OPERATOR
    assert len(compared) >= 92, set(FAMILIES) - compared


def excepted(name: str, number: int, cell: Cell) -> bool:
    """Where our number is another one, and why that is right.

    A missing bias is counted as an input by that converter, older kernels do not take it; for quantized int16 it gives
    such an operator the version of int32 biases, which came later, though there is no bias to be of int32 (TensorFlow
    Lite 2.14, which does not know that version, runs it right as ours: `old_runtimes.py`). int16 that stands for itself
    came to ABS one version after quantized int16, and the converter's export has lost which it is.
    """
    code, written = cell.graph.operators[0].code, version(cell.graph.operators[0])
    if code == "FULLY_CONNECTED" and "no bias" in name:
        return (number, written) == (11, 7) if "quantized int16" in name else written == 6 and number < 6
    return name.startswith("ABS int16") and (number, written) == (3, 4)


def minimum(code: str, dtype: str, rank: int, form: str) -> str | None:
    cell = next(cell for cell in cells(code, dtype, [rank]) if cell.name.endswith(form))
    return runtimes.minimum(cell.graph.operators)


def test_what_grew_under_an_old_number_has_the_release_it_was_seen_in() -> None:
    """`old_runtimes.py` beside this runs the cells on old wheels; these are what it found, one a kind."""
    assert minimum("MUL", "float32", 4, "broadcast") == "TensorFlow Lite 1.5.0"
    assert minimum("MUL", "float32", 5, "same") == "TensorFlow Lite 2.9.1"
    assert minimum("MUL", "float32", 5, "broadcast") == "LiteRT 1.0.1"
    assert minimum("ADD", "int64", 6, "broadcast") == "TensorFlow Lite 2.13.0"
    assert minimum("BATCH_MATMUL", "float32", 5, "same") == "TensorFlow Lite 2.10.0"
    assert minimum("FULLY_CONNECTED", "quantized", 2, "bias") == "TensorFlow Lite 1.14.0"
    assert minimum("FULLY_CONNECTED", "quantized", 2, "bias per channel") == "TensorFlow Lite 2.10.0"
    assert minimum("RESHAPE", "uint16", 2, "flatten") == "LiteRT 1.0.1"
